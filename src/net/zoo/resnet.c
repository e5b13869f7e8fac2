/* ResNets: torchvision's, with its parameter names, the CIFAR form of the paper (He, Zhang, Ren, Sun, "Deep residual
 * learning for image recognition", 2015), and ResNet-D (He, Zhang, Zhang, Zhang, Xie, Li, "Bag of tricks for image
 * classification with convolutional neural networks", 2018, section 4.2) with timm's names. */
#include "net/zoo/zoo.h"

static int conv_norm_relu(fk_builder *b, int x, const char *conv, const char *norm, int64_t out,
                          int64_t k, int64_t s, int64_t groups)
{
    x = fk_build_conv(b, x, conv, out, k, s, k / 2, groups);
    x = fk_build_norm(b, x, norm);
    return fk_build_act(b, x, FK_RELU, 0, 0);
}

typedef struct form {
    int variant, depth[4];
    int64_t groups, group_width; /* of the bottleneck's 3x3 convolution, in the first stage */
    bool d;
} form;

/* 1x1 and BatchNorm where shape changes, else the input itself. ResNet-D takes means of 2x2 pixels first, not every second one. */
static int shortcut(fk_builder *b, int x, const form *f, int64_t out, int64_t s)
{
    if (s == 1 && fk_build_channels(b, x) == out)
        return x;
    if (f->d && s == 2)
        x = fk_build_mean_pool(b, x, 2);
    x = fk_build_conv(b, x, f->d ? "downsample.1" : "downsample.0", out, 1, f->d ? 1 : s, 0, 1);
    return fk_build_norm(b, x, f->d ? "downsample.2" : "downsample.1");
}

/* The BatchNorm that a block ends in. ResNet-D's blocks start as nothing but their shortcuts (section 3.1 there: zero gamma). */
static int last_norm(fk_builder *b, int x, const form *f, const char *name)
{
    x = fk_build_norm(b, x, name);
    if (f->d)
        fk_build_norm_from_zero(b, x);
    return x;
}

static int basic_block(fk_builder *b, int x, const form *f, int64_t width, int64_t s)
{
    int y = conv_norm_relu(b, x, "conv1", "bn1", width, 3, s, 1);

    y = fk_build_conv(b, y, "conv2", width, 3, 1, 1, 1);
    y = last_norm(b, y, f, "bn2");
    y = fk_build_add(b, y, shortcut(b, x, f, width, s));
    return fk_build_act(b, y, FK_RELU, 0, 0);
}

/* ResNeXt (Xie, Girshick, Dollar, Tu, He 2016): the 3x3 convolution in groups; of `inner` channels. */
static int bottleneck(fk_builder *b, int x, const form *f, int64_t width, int64_t inner, int64_t s)
{
    int y = conv_norm_relu(b, x, "conv1", "bn1", inner, 1, 1, 1);

    y = conv_norm_relu(b, y, "conv2", "bn2", inner, 3, s, f->groups);
    y = fk_build_conv(b, y, "conv3", 4 * width, 1, 1, 0, 1);
    y = last_norm(b, y, f, "bn3");
    y = fk_build_add(b, y, shortcut(b, x, f, 4 * width, s));
    return fk_build_act(b, y, FK_RELU, 0, 0);
}

/* 7x7, or, in ResNet-D, three of 3x3. */
static int stem(fk_builder *b, int x, const form *f)
{
    if (!f->d)
        return conv_norm_relu(b, x, "conv1", "bn1", 64, 7, 2, 1);
    x = conv_norm_relu(b, x, "conv1.0", "conv1.1", 32, 3, 2, 1);
    x = conv_norm_relu(b, x, "conv1.3", "conv1.4", 32, 3, 1, 1);
    return conv_norm_relu(b, x, "conv1.6", "bn1", 64, 3, 1, 1);
}

static const form FORMS[] = {
    {18, {2, 2, 2, 2}, 0, 0, false},
    {34, {3, 4, 6, 3}, 0, 0, false},
    {50, {3, 4, 6, 3}, 1, 64, false},
    {101, {3, 4, 23, 3}, 1, 64, false},
    {152, {3, 8, 36, 3}, 1, 64, false},
    {FK_RESNEXT50_32X4D, {3, 4, 6, 3}, 32, 4, false},
    {FK_RESNEXT101_32X8D, {3, 4, 23, 3}, 32, 8, false},
    {FK_RESNET_D + 18, {2, 2, 2, 2}, 0, 0, true},
    {FK_RESNET_D + 34, {3, 4, 6, 3}, 0, 0, true},
    {FK_RESNET_D + 50, {3, 4, 6, 3}, 1, 64, true},
    {FK_RESNET_D + 101, {3, 4, 23, 3}, 1, 64, true},
};

int fk_build_resnet(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = FORMS;

    while (f->variant != variant)
        f++;
    x = stem(b, x, f);
    x = fk_build_pool(b, x, true, 3, 2, 1);
    for (int stage = 0; stage < 4; stage++) {
        for (int i = 0; i < f->depth[stage]; i++) {
            int64_t width = (int64_t)64 << stage;
            int64_t s = stage > 0 && i == 0 ? 2 : 1;
            (void)snprintf(b->prefix, sizeof b->prefix, "layer%d.%d.", stage + 1, i);
            x = f->groups == 0 ? basic_block(b, x, f, width, s)
                               : bottleneck(b, x, f, width, f->groups * f->group_width << stage, s);
        }
    }
    b->prefix[0] = '\0';
    x = fk_build_global_pool(b, x);
    return fk_build_dense(b, x, "fc", o->classes, 0);
}

/* Shortcut A: every second pixel, and zeros for the new channels; it has no parameters. */
static int shortcut_a(fk_builder *b, int x, int64_t out)
{
    for (int axis = 2; axis < 4 && b->st == FERKD_OK; axis++) {
        fk_node n = {.op = FK_SLICE,
                     .name = "shortcut.slice",
                     .in = &x,
                     .n_in = 1,
                     .param = {-1, -1, -1, -1},
                     .shape = fk_shape_of(1, (b->g->nodes[x].shape.d[axis] + 1) / 2),
                     .u.axis = {.axis = axis, .start = 0, .step = 2}};
        b->st = fk_graph_add(b->g, &n, &x);
    }
    int64_t more = out - fk_build_channels(b, x);
    fk_node pad = {.op = FK_PAD,
                   .name = "shortcut.pad",
                   .in = &x,
                   .n_in = 1,
                   .param = {-1, -1, -1, -1},
                   .u.pad = {.begin = {0, more / 2}, .end = {0, more - more / 2}}};
    if (b->st == FERKD_OK)
        b->st = fk_graph_add(b->g, &pad, &x);
    return x;
}

static int cifar_block(fk_builder *b, int x, int64_t width, int64_t s)
{
    int y = conv_norm_relu(b, x, "conv1", "bn1", width, 3, s, 1);

    y = fk_build_conv(b, y, "conv2", width, 3, 1, 1, 1);
    y = fk_build_norm(b, y, "bn2");
    y = fk_build_add(b, y, s == 2 ? shortcut_a(b, x, width) : x);
    return fk_build_act(b, y, FK_RELU, 0, 0);
}

int fk_build_resnet_cifar(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    int depth = (variant - 2) / 6;

    x = conv_norm_relu(b, x, "conv1", "bn1", 16, 3, 1, 1);
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0; i < depth; i++) {
            (void)snprintf(b->prefix, sizeof b->prefix, "layer%d.%d.", stage + 1, i);
            x = cifar_block(b, x, (int64_t)16 << stage, stage > 0 && i == 0 ? 2 : 1);
        }
    }
    b->prefix[0] = '\0';
    x = fk_build_global_pool(b, x);
    return fk_build_dense(b, x, "linear", o->classes, 0);
}
