/* Networks of inverted residuals, written as timm writes them: a word a block, and what the words mean. EfficientNet (Tan and Le
 * 2019) and its Lite form, EfficientNetV2 (Tan and Le 2021), MobileNetV3 (Howard et al. 2019), MobileNetV4 (Qin et al. 2024),
 * FBNet-C (Wu et al. 2019); parameters have timm's names.
 *
 * A stage is some blocks, a block is TYPE_rN_kN_sN_eX_cN...: type, repeats, kernel, stride, expansion, channels; seX: squeeze and
 * excite; nre: ReLU; aN: of a universal block, the kernel before the expansion (0: none). Types: cn, a convolution; ds, depthwise
 * separable; ir, inverted residual; er, the same with a whole convolution for the first two; uir, universal. */
#include "net/zoo/zoo.h"

#define MAX_STAGES 8

typedef struct form {
    const char *stage[MAX_STAGES]; /* blocks with spaces between */
    int64_t stem, features;
    fk_act act;
    fk_act gate; /* of squeeze and excite */
    bool
        se_of_expanded; /* its width follows from the expanded channels, else from the block's input */
    bool same;          /* TensorFlow's padding */
    bool head_last;     /* the last convolution comes behind the pooling: with bias, */
    bool head_norm;     /* or BatchNorm */
    double eps;
} form;

static const form FORMS[] = {
    [FK_EFFICIENTNET_B0] = {{"ds_r1_k3_s1_e1_c16_se0.25", "ir_r2_k3_s2_e6_c24_se0.25",
                             "ir_r2_k5_s2_e6_c40_se0.25", "ir_r3_k3_s2_e6_c80_se0.25",
                             "ir_r3_k5_s1_e6_c112_se0.25", "ir_r4_k5_s2_e6_c192_se0.25",
                             "ir_r1_k3_s1_e6_c320_se0.25"},
                            32,
                            1280,
                            FK_SILU,
                            FK_SIGMOID,
                            .eps = 1e-5},
    [FK_EFFICIENTNET_LITE0] = {{"ds_r1_k3_s1_e1_c16", "ir_r2_k3_s2_e6_c24", "ir_r2_k5_s2_e6_c40",
                                "ir_r3_k3_s2_e6_c80", "ir_r3_k5_s1_e6_c112", "ir_r4_k5_s2_e6_c192",
                                "ir_r1_k3_s1_e6_c320"},
                               32,
                               1280,
                               FK_CLIP,
                               FK_SIGMOID,
                               .eps = 1e-5},
    [FK_EFFICIENTNETV2_B0] = {{"cn_r1_k3_s1_e1_c16", "er_r2_k3_s2_e4_c32", "er_r2_k3_s2_e4_c48",
                               "ir_r3_k3_s2_e4_c96_se0.25", "ir_r5_k3_s1_e6_c112_se0.25",
                               "ir_r8_k3_s2_e6_c192_se0.25"},
                              32,
                              1280,
                              FK_SILU,
                              FK_SIGMOID,
                              .same = true,
                              .eps = 1e-3},
    [FK_FBNETC_100] = {{"ir_r1_k3_s1_e1_c16", "ir_r1_k3_s2_e6_c24 ir_r2_k3_s1_e1_c24",
                        "ir_r1_k5_s2_e6_c32 ir_r1_k5_s1_e3_c32 ir_r1_k5_s1_e6_c32 "
                        "ir_r1_k3_s1_e6_c32",
                        "ir_r1_k5_s2_e6_c64 ir_r1_k5_s1_e3_c64 ir_r2_k5_s1_e6_c64",
                        "ir_r3_k5_s1_e6_c112 ir_r1_k5_s1_e3_c112", "ir_r4_k5_s2_e6_c184",
                        "ir_r1_k3_s1_e6_c352"},
                       16,
                       1984,
                       FK_RELU,
                       FK_SIGMOID,
                       .eps = 1e-5},
    [FK_MOBILENETV3_SMALL] = {{"ds_r1_k3_s2_e1_c16_se0.25_nre",
                               "ir_r1_k3_s2_e4.5_c24_nre ir_r1_k3_s1_e3.67_c24_nre",
                               "ir_r1_k5_s2_e4_c40_se0.25 ir_r2_k5_s1_e6_c40_se0.25",
                               "ir_r2_k5_s1_e3_c48_se0.25", "ir_r3_k5_s2_e6_c96_se0.25",
                               "cn_r1_k1_s1_c576"},
                              16,
                              1024,
                              FK_HARDSWISH,
                              FK_HARDSIGMOID,
                              .se_of_expanded = true,
                              .head_last = true,
                              .eps = 1e-5},
    [FK_MOBILENETV3_LARGE] = {{"ds_r1_k3_s1_e1_c16_nre",
                               "ir_r1_k3_s2_e4_c24_nre ir_r1_k3_s1_e3_c24_nre",
                               "ir_r3_k5_s2_e3_c40_se0.25_nre",
                               "ir_r1_k3_s2_e6_c80 ir_r1_k3_s1_e2.5_c80 ir_r2_k3_s1_e2.3_c80",
                               "ir_r2_k3_s1_e6_c112_se0.25", "ir_r3_k5_s2_e6_c160_se0.25",
                               "cn_r1_k1_s1_c960"},
                              16,
                              1280,
                              FK_HARDSWISH,
                              FK_HARDSIGMOID,
                              .se_of_expanded = true,
                              .head_last = true,
                              .eps = 1e-5},
    [FK_MOBILENETV4_SMALL] = {{"cn_r1_k3_s2_c32 cn_r1_k1_s1_c32", "cn_r1_k3_s2_c96 cn_r1_k1_s1_c64",
                               "uir_r1_a5_k5_s2_e3_c96 uir_r4_a0_k3_s1_e2_c96 "
                               "uir_r1_a3_k0_s1_e4_c96",
                               "uir_r1_a3_k3_s2_e6_c128 uir_r1_a5_k5_s1_e4_c128 "
                               "uir_r1_a0_k5_s1_e4_c128 uir_r1_a0_k5_s1_e3_c128 "
                               "uir_r2_a0_k3_s1_e4_c128",
                               "cn_r1_k1_s1_c960"},
                              32,
                              1280,
                              FK_RELU,
                              FK_SIGMOID,
                              .head_last = true,
                              .head_norm = true,
                              .eps = 1e-5},
};

typedef struct block {
    char type[8];
    int64_t repeats, kernel, stride, channels, before;
    double expand, squeeze;
    fk_act act;
} block;

/* --- reading the words --------------------------------------------------------------------------- */

static bool begins(const char *word, const char *with)
{
    return strncmp(word, with, strlen(with)) == 0;
}

/* One block's word, which ends at a space or with the text; gives what follows. */
static const char *read_block(const char *text, block *out, fk_act act)
{
    size_t n = strcspn(text, " ");
    char word[64];
    char *rest = NULL;

    (void)snprintf(word, sizeof word, "%.*s", (int)n, text);
    *out = (block){.repeats = 1, .kernel = 1, .stride = 1, .expand = 1.0, .act = act};
    const char *part = strtok_r(word, "_", &rest);
    (void)snprintf(out->type, sizeof out->type, "%s", part);
    while ((part = strtok_r(NULL, "_", &rest))) {
        double v = strtod(part + 1 + begins(part, "se"), NULL);
        if (strcmp(part, "nre") == 0)
            out->act = FK_RELU;
        else if (begins(part, "se"))
            out->squeeze = v;
        else if (*part == 'e')
            out->expand = v;
        else
            *(*part == 'r'   ? &out->repeats
              : *part == 'k' ? &out->kernel
              : *part == 's' ? &out->stride
              : *part == 'a' ? &out->before
                             : &out->channels) = (int64_t)v;
    }
    text += n;
    return text + strspn(text, " ");
}

/* --- layers --------------------------------------------------------------------------------------- */

static int act(fk_builder *b, int x, fk_act kind)
{
    return kind == FK_CLIP          ? fk_build_act(b, x, kind, 0, 6)
           : kind == FK_HARDSIGMOID ? fk_build_act(b, x, kind, 1.0f / 6, 0.5f)
                                    : fk_build_act(b, x, kind, 0, 0);
}

static int norm(fk_builder *b, int x, const char *name, const form *f)
{
    x = fk_build_norm(b, x, name);
    if (b->st == FERKD_OK)
        b->g->nodes[x].u.norm.eps = f->eps;
    return x;
}

static int conv_norm(fk_builder *b, int x, const char *conv, const char *bn, int64_t out, int64_t k,
                     int64_t s, int64_t groups, const form *f)
{
    x = f->same ? fk_build_conv_same(b, x, conv, out, k, s, groups)
                : fk_build_conv(b, x, conv, out, k, s, k / 2, groups);
    return norm(b, x, bn, f);
}

/* A 1x1 convolution with a bias that starts at 0. */
static int conv_bias(fk_builder *b, int x, const char *name, int64_t out)
{
    x = fk_build_conv(b, x, name, out, 1, 1, 0, 1);
    fk_build_conv_bias(b, x, name, 0.0);
    return x;
}

static int squeeze_excite(fk_builder *b, int x, int64_t in, const block *k, const form *f)
{
    int64_t channels = fk_build_channels(b, x);
    int64_t width = f->se_of_expanded ? fk_zoo_round_channels((double)channels * k->squeeze)
                                      : (int64_t)rint((double)in * k->squeeze);

    int y = fk_build_mean(b, x, 1u << 2 | 1u << 3, true);
    y = conv_bias(b, y, "se.conv_reduce", width);
    y = act(b, y, f->se_of_expanded ? FK_RELU : k->act);
    y = conv_bias(b, y, "se.conv_expand", channels);
    return fk_build_binary(b, FK_MUL, x, act(b, y, f->gate));
}

/* --- blocks --------------------------------------------------------------------------------------- */

static int depthwise_separable(fk_builder *b, int x, const block *k, int64_t s, const form *f)
{
    int64_t in = fk_build_channels(b, x);

    x = act(b, conv_norm(b, x, "conv_dw", "bn1", in, k->kernel, s, in, f), k->act);
    if (k->squeeze > 0)
        x = squeeze_excite(b, x, in, k, f);
    return conv_norm(b, x, "conv_pw", "bn2", k->channels, 1, 1, 1, f);
}

static int inverted_residual(fk_builder *b, int x, const block *k, int64_t s, const form *f)
{
    int64_t in = fk_build_channels(b, x);
    int64_t wide = fk_zoo_round_channels((double)in * k->expand);

    x = act(b, conv_norm(b, x, "conv_pw", "bn1", wide, 1, 1, 1, f), k->act);
    x = act(b, conv_norm(b, x, "conv_dw", "bn2", wide, k->kernel, s, wide, f), k->act);
    if (k->squeeze > 0)
        x = squeeze_excite(b, x, in, k, f);
    return conv_norm(b, x, "conv_pwl", "bn3", k->channels, 1, 1, 1, f);
}

static int edge_residual(fk_builder *b, int x, const block *k, int64_t s, const form *f)
{
    int64_t wide = fk_zoo_round_channels((double)fk_build_channels(b, x) * k->expand);

    x = act(b, conv_norm(b, x, "conv_exp", "bn1", wide, k->kernel, s, 1, f), k->act);
    return conv_norm(b, x, "conv_pwl", "bn2", k->channels, 1, 1, 1, f);
}

static int universal(fk_builder *b, int x, const block *k, int64_t s, const form *f)
{
    int64_t in = fk_build_channels(b, x);
    int64_t wide = fk_zoo_round_channels((double)in * k->expand);

    if (k->before)
        x = conv_norm(b, x, "dw_start.conv", "dw_start.bn", in, k->before, k->kernel ? 1 : s, in,
                      f);
    x = act(b, conv_norm(b, x, "pw_exp.conv", "pw_exp.bn", wide, 1, 1, 1, f), k->act);
    if (k->kernel)
        x = act(b, conv_norm(b, x, "dw_mid.conv", "dw_mid.bn", wide, k->kernel, s, wide, f),
                k->act);
    return conv_norm(b, x, "pw_proj.conv", "pw_proj.bn", k->channels, 1, 1, 1, f);
}

static int one_block(fk_builder *b, int x, const block *k, int64_t s, const form *f)
{
    bool same = s == 1 && fk_build_channels(b, x) == k->channels;
    int y;

    if (strcmp(k->type, "cn") == 0)
        return act(b, conv_norm(b, x, "conv", "bn1", k->channels, k->kernel, s, 1, f), k->act);
    if (strcmp(k->type, "ds") == 0)
        y = depthwise_separable(b, x, k, s, f);
    else if (strcmp(k->type, "ir") == 0)
        y = inverted_residual(b, x, k, s, f);
    else if (strcmp(k->type, "er") == 0)
        y = edge_residual(b, x, k, s, f);
    else
        y = universal(b, x, k, s, f);
    return same ? fk_build_add(b, y, x) : y;
}

static int head(fk_builder *b, int x, const form *f)
{
    if (!f->head_last) {
        x = act(b, conv_norm(b, x, "conv_head", "bn2", f->features, 1, 1, 1, f), f->act);
        return fk_build_global_pool(b, x);
    }
    x = fk_build_mean(b, x, 1u << 2 | 1u << 3, true);
    if (f->head_norm)
        x = conv_norm(b, x, "conv_head", "norm_head", f->features, 1, 1, 1, f);
    else
        x = conv_bias(b, x, "conv_head", f->features);
    x = act(b, x, f->act);
    return fk_build_reshape(b, x, fk_shape_of(2, fk_build_shape(b, x).d[0], f->features));
}

int fk_build_efficientnet(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant];

    x = act(b, conv_norm(b, x, "conv_stem", "bn1", f->stem, 3, 2, 1, f), f->act);
    for (int stage = 0; stage < MAX_STAGES && f->stage[stage]; stage++) {
        const char *text = f->stage[stage];
        for (int n = 0; *text;) {
            block k;
            text = read_block(text, &k, f->act);
            for (int64_t i = 0; i < k.repeats; i++, n++) {
                (void)snprintf(b->prefix, sizeof b->prefix, "blocks.%d.%d.", stage, n);
                x = one_block(b, x, &k, i == 0 ? k.stride : 1, f);
            }
        }
    }
    b->prefix[0] = '\0';
    x = head(b, x, f);
    return fk_build_linear_uniform(b, x, "classifier", o->classes, 1.0 / sqrt((double)o->classes));
}
