/* MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen, 2018) with torchvision's names, and the small
 * network for 28x28 images. */
#include "net/zoo/zoo.h"

int64_t fk_zoo_round_channels(double v)
{
    int64_t n = (int64_t)(v + 4) / 8 * 8;

    n = n < 8 ? 8 : n;
    return (double)n < 0.9 * v ? n + 8 : n;
}

static int conv_norm_relu6(fk_builder *b, int x, const char *name, int64_t out, int64_t k,
                           int64_t s, int64_t groups)
{
    char part[96];

    (void)snprintf(part, sizeof part, "%s.0", name);
    x = fk_build_conv(b, x, part, out, k, s, k / 2, groups);
    (void)snprintf(part, sizeof part, "%s.1", name);
    x = fk_build_norm(b, x, part);
    return fk_build_act(b, x, FK_CLIP, 0, 6);
}

static int inverted_residual(fk_builder *b, int x, int64_t expand, int64_t out, int64_t s)
{
    int64_t in = fk_build_channels(b, x);
    int y = x;
    int part = 0;
    char name[64];

    if (expand != 1) {
        y = conv_norm_relu6(b, y, "conv.0", in * expand, 1, 1, 1);
        part = 1;
    }
    (void)snprintf(name, sizeof name, "conv.%d", part);
    y = conv_norm_relu6(b, y, name, in * expand, 3, s, in * expand);
    (void)snprintf(name, sizeof name, "conv.%d", part + 1);
    y = fk_build_conv(b, y, name, out, 1, 1, 0, 1);
    (void)snprintf(name, sizeof name, "conv.%d", part + 2);
    y = fk_build_norm(b, y, name);
    return s == 1 && in == out ? fk_build_add(b, x, y) : y;
}

int fk_build_mobilenet_v2(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    static const int STAGES[][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                                    {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    double width = variant / 100.0;
    int block = 1;

    x = conv_norm_relu6(b, x, "features.0", fk_zoo_round_channels(32 * width), 3, 2, 1);
    for (size_t i = 0; i < FK_COUNT(STAGES); i++) {
        for (int k = 0; k < STAGES[i][2]; k++, block++) {
            (void)snprintf(b->prefix, sizeof b->prefix, "features.%d.", block);
            x = inverted_residual(b, x, STAGES[i][0], fk_zoo_round_channels(STAGES[i][1] * width),
                                  k == 0 ? STAGES[i][3] : 1);
        }
    }
    b->prefix[0] = '\0';
    x = conv_norm_relu6(b, x, "features.18", fk_zoo_round_channels(1280 * fmax(1.0, width)), 1, 1,
                        1);
    x = fk_build_global_pool(b, x);
    x = fk_build_dropout(b, x, 0.2);
    return fk_build_dense(b, x, "classifier.1", o->classes, 0.01);
}

int fk_build_small28(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    static const int64_t WIDTH[] = {8, 16, 16, 32};
    static const int64_t STRIDE[] = {1, 2, 1, 2};

    for (int i = 0; i < 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "conv%d", i + 1);
        x = fk_build_conv(b, x, name, WIDTH[i] * variant, 3, STRIDE[i], 1, 1);
        (void)snprintf(name, sizeof name, "bn%d", i + 1);
        x = fk_build_norm(b, x, name);
        x = fk_build_act(b, x, FK_RELU, 0, 0);
    }
    x = fk_build_global_pool(b, x);
    return fk_build_dense(b, x, "fc", o->classes, 0);
}
