/* Vision transformers (Dosovitskiy et al. 2020) and DeiT (Touvron et al. 2020), with timm's names. */
#include "net/zoo/zoo.h"

typedef struct form {
    int64_t width, depth, heads, hidden, patch;
} form;

static const form FORMS[] = {
    {192, 12, 3, 768, 16},    {384, 12, 6, 1536, 16},   {768, 12, 12, 3072, 16},
    {1024, 24, 16, 4096, 16}, {1280, 32, 16, 5120, 14}, {1408, 40, 16, 6144, 14},
    {1664, 48, 16, 8192, 14},
};

enum { DISTILLED = 10 }; /* added to a variant: with a distillation token */

#define STD 0.02 /* of all matrices */

/* Image to [N, (h w), D]. */
static int patches(fk_builder *b, int x, const form *f)
{
    static const int PERM[] = {0, 2, 3, 1};

    int64_t channels = fk_build_channels(b, x);
    x = fk_build_conv(b, x, "patch_embed.proj", f->width, f->patch, f->patch, 0, 1);
    double bound = 1.0 / sqrt((double)(channels * f->patch * f->patch));
    fk_build_conv_bias(b, x, "patch_embed.proj", bound);
    fk_build_conv_as_torch(b, x);
    fk_shape s = fk_build_shape(b, x);
    x = fk_build_transpose(b, x, 4, PERM);
    return fk_build_reshape(b, x, fk_shape_of(3, s.d[0], s.d[2] * s.d[3], f->width));
}

static int block(fk_builder *b, int x, const form *f)
{
    int y = fk_build_layernorm(b, x, "norm1", 1e-6);

    y = fk_build_linear(b, y, "attn.qkv", 3 * f->width, STD, true);
    y = fk_build_attention(b, y, f->heads);
    y = fk_build_linear(b, y, "attn.proj", f->width, STD, true);
    x = fk_build_add(b, x, y);
    y = fk_build_layernorm(b, x, "norm2", 1e-6);
    y = fk_build_linear(b, y, "mlp.fc1", f->hidden, STD, true);
    y = fk_build_act(b, y, FK_GELU, 0, 0);
    y = fk_build_linear(b, y, "mlp.fc2", f->width, STD, true);
    return fk_build_add(b, x, y);
}

/* Logits from token number `token`. */
static int head(fk_builder *b, int x, int64_t token, const char *name, int64_t classes)
{
    fk_shape s = fk_build_shape(b, x);

    x = fk_build_slice(b, x, 1, token, 1);
    x = fk_build_reshape(b, x, fk_shape_of(2, s.d[0], s.d[s.n - 1]));
    return fk_build_linear(b, x, name, classes, STD, true);
}

int fk_build_vit(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant % DISTILLED];
    bool distilled = variant >= DISTILLED;
    int64_t extra = distilled ? 2 : 1;
    int tokens[3];
    int n = 0;

    if (o->size % f->patch) {
        b->st = fk_fail(FERKD_USAGE,
                        "%s: a side of %" PRId64 " is no multiple of its patches' %" PRId64,
                        b->g->name, o->size, f->patch);
        return -1;
    }
    fk_shape one = fk_shape_of(3, o->batch, (int64_t)1, f->width);
    fk_shape token = fk_shape_of(3, (int64_t)1, (int64_t)1, f->width);
    tokens[n++] =
        fk_build_expand(b, fk_build_value(b, "cls_token", token, FK_INIT_NORMAL, 1e-6), one);
    if (distilled)
        tokens[n++] =
            fk_build_expand(b, fk_build_value(b, "dist_token", token, FK_INIT_NORMAL, STD), one);
    tokens[n++] = patches(b, x, f);
    x = fk_build_concat(b, n, tokens, 1);
    int64_t side = o->size / f->patch;
    int place =
        fk_build_value(b, "pos_embed", fk_shape_of(3, (int64_t)1, extra + side * side, f->width),
                       FK_INIT_NORMAL, STD);
    x = fk_build_add(b, x, place);
    for (int64_t i = 0; i < f->depth; i++) {
        (void)snprintf(b->prefix, sizeof b->prefix, "blocks.%" PRId64 ".", i);
        x = block(b, x, f);
    }
    b->prefix[0] = '\0';
    x = fk_build_layernorm(b, x, "norm", 1e-6);
    int y = head(b, x, 0, "head", o->classes);
    if (!distilled)
        return y;
    return fk_build_times(b, fk_build_add(b, y, head(b, x, 1, "head_dist", o->classes)), 0.5f);
}
