/* ConvNeXt (Liu et al. 2022) with timm's names. Between the depthwise convolutions values are rows of channels, so the
 * matrix products take LayerNorm, GELU, the weight of each channel and the residual connection into their step. */
#include "net/zoo/zoo.h"

typedef struct form {
    int64_t depth[4], width[4];
} form;

static const form FORMS[] = {
    {{2, 2, 6, 2}, {40, 80, 160, 320}},  {{2, 2, 6, 2}, {48, 96, 192, 384}},
    {{2, 2, 6, 2}, {64, 128, 256, 512}}, {{2, 2, 8, 2}, {80, 160, 320, 640}},
    {{3, 3, 9, 3}, {96, 192, 384, 768}},
};

#define STD 0.02

static int to_rows(fk_builder *b, int x)
{
    return fk_build_transpose(b, x, 4, (int[]){0, 2, 3, 1});
}

static int to_maps(fk_builder *b, int x)
{
    return fk_build_transpose(b, x, 4, (int[]){0, 3, 1, 2});
}

static int conv(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                int64_t p, int64_t groups)
{
    x = fk_build_conv(b, x, name, out, k, s, p, groups);
    fk_build_conv_bias(b, x, name, 0.0);
    if (b->st == FERKD_OK)
        b->g->params[b->g->nodes[x].param[0]].scale = STD;
    return x;
}

static int block(fk_builder *b, int x, int64_t width)
{
    int y = conv(b, to_maps(b, x), "conv_dw", width, 7, 1, 3, width);

    y = fk_build_layernorm(b, to_rows(b, y), "norm", 1e-6);
    y = fk_build_linear(b, y, "mlp.fc1", 4 * width, STD, true);
    y = fk_build_act(b, y, FK_GELU, 0, 0);
    y = fk_build_linear(b, y, "mlp.fc2", width, STD, true);
    int gamma = fk_build_value(b, "gamma", fk_shape_of(1, width), FK_INIT_CONST, 1e-6);
    y = fk_build_binary(b, FK_MUL, y, gamma);
    return fk_build_add(b, x, y);
}

int fk_build_convnext(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant];

    x = to_rows(b, conv(b, x, "stem.0", f->width[0], 4, 4, 0, 1));
    x = fk_build_layernorm(b, x, "stem.1", 1e-6);
    for (int stage = 0; stage < 4; stage++) {
        (void)snprintf(b->prefix, sizeof b->prefix, "stages.%d.", stage);
        if (stage) {
            x = fk_build_layernorm(b, x, "downsample.0", 1e-6);
            x = to_rows(b, conv(b, to_maps(b, x), "downsample.1", f->width[stage], 2, 2, 0, 1));
        }
        for (int64_t i = 0; i < f->depth[stage]; i++) {
            (void)snprintf(b->prefix, sizeof b->prefix, "stages.%d.blocks.%" PRId64 ".", stage, i);
            x = block(b, x, f->width[stage]);
        }
    }
    b->prefix[0] = '\0';
    x = fk_build_mean(b, x, 1u << 1 | 1u << 2, false);
    x = fk_build_layernorm(b, x, "head.norm", 1e-6);
    return fk_build_linear(b, x, "head.fc", o->classes, STD, true);
}
