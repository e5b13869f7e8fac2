/* Vision transformers (Dosovitskiy et al. 2020), DeiT (Touvron et al. 2020), and the image towers of DINOv2 (Oquab et al.
 * 2023; with registers: Darcet et al. 2023) and CLIP (Radford et al. 2021), with timm's names. */
#include "net/zoo/zoo.h"

typedef struct form {
    int64_t width, depth, heads, hidden, patch;
} form;

static const form FORMS[] = {
    [FK_VIT_TI_16] = {192, 12, 3, 768, 16},   [FK_VIT_S_16] = {384, 12, 6, 1536, 16},
    [FK_VIT_B_16] = {768, 12, 12, 3072, 16},  [FK_VIT_L_16] = {1024, 24, 16, 4096, 16},
    [FK_VIT_H_14] = {1280, 32, 16, 5120, 14}, [FK_VIT_SMALL_G_14] = {1408, 40, 16, 6144, 14},
    [FK_VIT_G_14] = {1664, 48, 16, 8192, 14}, [FK_VIT_S_14] = {384, 12, 6, 1536, 14},
    [FK_VIT_B_14] = {768, 12, 12, 3072, 14},  [FK_VIT_L_14] = {1024, 24, 16, 4096, 14},
    [FK_VIT_B_32] = {768, 12, 12, 3072, 32},  [FK_VIT_GIANT_14] = {1536, 40, 24, 8192, 14},
};

#define REGISTERS 4 /* tokens */

#define STD 0.02 /* of all matrices */

/* Image to [N, (h w), D]. */
static int patches(fk_builder *b, int x, const form *f, bool bias)
{
    static const int PERM[] = {0, 2, 3, 1};

    int64_t channels = fk_build_channels(b, x);
    x = fk_build_conv(b, x, "patch_embed.proj", f->width, f->patch, f->patch, 0, 1);
    double bound = 1.0 / sqrt((double)(channels * f->patch * f->patch));
    if (bias)
        fk_build_conv_bias(b, x, "patch_embed.proj", bound);
    fk_build_conv_as_torch(b, x);
    fk_shape s = fk_build_shape(b, x);
    x = fk_build_transpose(b, x, 4, PERM);
    return fk_build_reshape(b, x, fk_shape_of(3, s.d[0], s.d[2] * s.d[3], f->width));
}

/* A residual branch, scaled by channel in DINOv2 (LayerScale, Touvron et al. 2021). */
static int branch(fk_builder *b, int x, int y, const char *scale, int64_t width, int traits)
{
    if (traits & FK_VIT_SCALED)
        y = fk_build_binary(b, FK_MUL, y,
                            fk_build_value(b, scale, fk_shape_of(1, width), FK_INIT_CONST, 1e-5));
    return fk_build_add(b, x, y);
}

/* x sigmoid(1.702 x): what OpenAI's CLIP took for GELU. */
static int quick_gelu(fk_builder *b, int x)
{
    int gate = fk_build_act(b, fk_build_times(b, x, 1.702f), FK_SIGMOID, 0, 0);

    return fk_build_binary(b, FK_MUL, x, gate);
}

/* silu(a) b of the two halves of the last dimension (Shazeer 2020). */
static int swiglu(fk_builder *b, int x, int64_t hidden)
{
    int gate = fk_build_act(b, fk_build_slice(b, x, 2, 0, hidden / 2), FK_SILU, 0, 0);

    return fk_build_binary(b, FK_MUL, gate, fk_build_slice(b, x, 2, hidden / 2, hidden / 2));
}

static int block(fk_builder *b, int x, const form *f, int traits)
{
    double eps = traits & FK_VIT_CLIP ? 1e-5 : 1e-6;
    int y = fk_build_layernorm(b, x, "norm1", eps);

    y = fk_build_linear(b, y, "attn.qkv", 3 * f->width, STD, true);
    y = fk_build_attention(b, y, f->heads);
    y = fk_build_linear(b, y, "attn.proj", f->width, STD, true);
    x = branch(b, x, y, "ls1.gamma", f->width, traits);
    y = fk_build_layernorm(b, x, "norm2", eps);
    y = fk_build_linear(b, y, "mlp.fc1", f->hidden, STD, true);
    if (traits & FK_VIT_GATED)
        y = swiglu(b, y, f->hidden);
    else
        y = traits & FK_VIT_QUICK ? quick_gelu(b, y) : fk_build_act(b, y, FK_GELU, 0, 0);
    y = fk_build_linear(b, y, "mlp.fc2", f->width, STD, true);
    return branch(b, x, y, "ls2.gamma", f->width, traits);
}

/* Logits from token number `token`. */
static int head(fk_builder *b, int x, int64_t token, const char *name, int64_t classes)
{
    fk_shape s = fk_build_shape(b, x);

    x = fk_build_slice(b, x, 1, token, 1);
    x = fk_build_reshape(b, x, fk_shape_of(2, s.d[0], s.d[s.n - 1]));
    return fk_build_linear(b, x, name, classes, STD, true);
}

/* `count` tokens of that name before the others. */
static int token(fk_builder *b, const char *name, int64_t count, const form *f, int64_t batch,
                 double std)
{
    fk_shape own = fk_shape_of(3, (int64_t)1, count, f->width);
    int x = fk_build_value(b, name, own, FK_INIT_NORMAL, std);

    return fk_build_expand(b, x, fk_shape_of(3, batch, count, f->width));
}

static int add_positions(fk_builder *b, int x, int64_t tokens, const form *f)
{
    fk_shape s = fk_shape_of(3, (int64_t)1, tokens, f->width);

    return fk_build_add(b, x, fk_build_value(b, "pos_embed", s, FK_INIT_NORMAL, STD));
}

/* Tokens of the image behind the class token and what others there are, with their positions. With registers only the
 * image has positions. */
static int embed(fk_builder *b, int x, const fk_zoo_options *o, const form *f, int traits)
{
    int64_t side = o->size / f->patch;
    int tokens[3];
    int n = 0;

    tokens[n++] = token(b, "cls_token", 1, f, o->batch, 1e-6);
    if (traits & FK_VIT_DISTILLED)
        tokens[n++] = token(b, "dist_token", 1, f, o->batch, STD);
    if (traits & FK_VIT_REGISTERS)
        tokens[n++] = token(b, "reg_token", REGISTERS, f, o->batch, 1e-6);
    tokens[n] = patches(b, x, f, !(traits & FK_VIT_CLIP));
    if (traits & FK_VIT_REGISTERS) {
        tokens[n] = add_positions(b, tokens[n], side * side, f);
        return fk_build_concat(b, n + 1, tokens, 1);
    }
    x = fk_build_concat(b, n + 1, tokens, 1);
    return add_positions(b, x, n + side * side, f);
}

int fk_build_vit(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant % FK_VIT_FORMS];
    int traits = variant / FK_VIT_FORMS * FK_VIT_FORMS;
    double eps = traits & FK_VIT_CLIP ? 1e-5 : 1e-6;

    if (o->size % f->patch) {
        b->st = fk_fail(FERKD_USAGE,
                        "%s: a side of %" PRId64 " is no multiple of its patches' %" PRId64,
                        b->g->name, o->size, f->patch);
        return -1;
    }
    x = embed(b, x, o, f, traits);
    if (traits & FK_VIT_CLIP)
        x = fk_build_layernorm(b, x, "norm_pre", eps);
    for (int64_t i = 0; i < f->depth; i++) {
        (void)snprintf(b->prefix, sizeof b->prefix, "blocks.%" PRId64 ".", i);
        x = block(b, x, f, traits);
    }
    b->prefix[0] = '\0';
    x = fk_build_layernorm(b, x, "norm", eps);
    int y = head(b, x, 0, "head", o->classes);
    if (!(traits & FK_VIT_DISTILLED))
        return y;
    int heads[2] = {y, head(b, x, 1, "head_dist", o->classes)};
    y = fk_build_concat(b, 2, heads, 1);
    if (o->heads_apart)
        return y;
    y = fk_build_reshape(b, y, fk_shape_of(3, o->batch, (int64_t)2, o->classes));
    return fk_build_mean(b, y, 1u << 1, false);
}
