/* ShuffleNetV2 (Ma, Zhang, Zheng, Sun 2018) with torchvision's names. */
#include "net/zoo/zoo.h"

static const int64_t CHANNELS[][5] = {{24, 48, 96, 192, 1024},
                                      {24, 116, 232, 464, 1024},
                                      {24, 176, 352, 704, 1024},
                                      {24, 244, 488, 976, 2048}};

static int conv_norm(fk_builder *b, int x, const char *name, int first, int64_t out, int64_t k,
                     int64_t s, int64_t groups)
{
    char part[64];

    (void)snprintf(part, sizeof part, "%s.%d", name, first);
    x = fk_build_conv(b, x, part, out, k, s, k / 2, groups);
    fk_build_conv_as_torch(b, x);
    (void)snprintf(part, sizeof part, "%s.%d", name, first + 1);
    return fk_build_norm(b, x, part);
}

static int relu(fk_builder *b, int x)
{
    return fk_build_act(b, x, FK_RELU, 0, 0);
}

/* Channels of two halves side by side become pairs of both. */
static int shuffle(fk_builder *b, int x)
{
    fk_shape s = fk_build_shape(b, x);

    x = fk_build_reshape(b, x, fk_shape_of(5, s.d[0], (int64_t)2, s.d[1] / 2, s.d[2], s.d[3]));
    x = fk_build_transpose(b, x, 5, (int[]){0, 2, 1, 3, 4});
    return fk_build_reshape(b, x, s);
}

static int unit(fk_builder *b, int x, int64_t out, int64_t s)
{
    int64_t half = out / 2;
    int left = x;
    int right = x;

    if (s == 1) {
        left = fk_build_slice(b, x, 1, 0, half);
        right = fk_build_slice(b, x, 1, half, half);
    } else {
        int64_t in = fk_build_channels(b, x);
        left = conv_norm(b, left, "branch1", 0, in, 3, s, in);
        left = relu(b, conv_norm(b, left, "branch1", 2, half, 1, 1, 1));
    }
    right = relu(b, conv_norm(b, right, "branch2", 0, half, 1, 1, 1));
    right = conv_norm(b, right, "branch2", 3, half, 3, s, half);
    right = relu(b, conv_norm(b, right, "branch2", 5, half, 1, 1, 1));
    return shuffle(b, fk_build_concat(b, 2, (int[]){left, right}, 1));
}

int fk_build_shufflenet_v2(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    static const int REPEATS[] = {4, 8, 4};

    const int64_t *c = CHANNELS[variant];

    x = relu(b, conv_norm(b, x, "conv1", 0, c[0], 3, 2, 1));
    x = fk_build_pool(b, x, true, 3, 2, 1);
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0; i < REPEATS[stage]; i++) {
            (void)snprintf(b->prefix, sizeof b->prefix, "stage%d.%d.", stage + 2, i);
            x = unit(b, x, c[stage + 1], i == 0 ? 2 : 1);
        }
    }
    b->prefix[0] = '\0';
    x = relu(b, conv_norm(b, x, "conv5", 0, c[4], 1, 1, 1));
    x = fk_build_global_pool(b, x);
    return fk_build_dense(b, x, "fc", o->classes, 0);
}
