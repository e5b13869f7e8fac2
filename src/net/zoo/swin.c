/* Swin transformers (Liu et al. 2021) with timm's names. Values are [N, H, W, C]; attention is within windows of 7 x 7, every second
 * block's shifted by half a window, with a bias for each offset of two tokens. */
#include "net/zoo/zoo.h"

#include "base/mem.h"

typedef struct form {
    int64_t width, depth[4], heads[4];
} form;

static const form FORMS[] = {{96, {2, 2, 6, 2}, {3, 6, 12, 24}},
                             {96, {2, 2, 18, 2}, {3, 6, 12, 24}},
                             {128, {2, 2, 18, 2}, {4, 8, 16, 32}}};

enum { PATCH = 4, WINDOW = 7 };

#define STD    0.02
#define EPS    1e-5
#define MASKED (-100.0f) /* added to the scores of tokens that are no neighbours */

/* How one block sees its tokens. */
typedef struct windows {
    int64_t h, w;    /* tokens */
    int64_t side[2]; /* of a window */
    int64_t shift[2];
    int64_t n[2]; /* windows */
} windows;

static windows windows_of(int64_t h, int64_t w, bool shifted)
{
    windows v = {.h = h, .w = w};
    const int64_t size[2] = {h, w};

    for (int i = 0; i < 2; i++) {
        v.side[i] = size[i] <= WINDOW ? size[i] : WINDOW;
        v.shift[i] = shifted && size[i] > WINDOW ? WINDOW / 2 : 0;
        v.n[i] = (size[i] + v.side[i] - 1) / v.side[i];
    }
    return v;
}

/* --- the bias of scores --------------------------------------------------------------------------- */

/* Which row of the table the offset of tokens i and j of a window has. */
static int offsets(fk_builder *b, const windows *v, int table)
{
    int64_t n = v->side[0] * v->side[1];
    float *index = NULL;

    if (b->st == FERKD_OK)
        b->st = fk_calloc(&index, (size_t)(n * n), sizeof *index, "a window");
    if (b->st != FERKD_OK)
        return -1;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            int64_t dy = i / v->side[1] - j / v->side[1] + v->side[0] - 1;
            int64_t dx = i % v->side[1] - j % v->side[1] + v->side[1] - 1;
            index[i * n + j] = (float)(dy * (2 * v->side[1] - 1) + dx);
        }
    }
    table = fk_build_gather(b, table, "index", 0, fk_shape_of(1, n * n), index);
    free(index);
    return table;
}

/* The part of the image, of three along each axis, that a token of the shifted image is from. */
static int64_t part_of(int64_t at, int64_t padded, int64_t side, int64_t shift)
{
    return at < padded - side ? 0 : at < padded - shift ? 1 : 2;
}

static int64_t token_part(const windows *v, int64_t window, int64_t token)
{
    int64_t y = window / v->n[1] * v->side[0] + token / v->side[1];
    int64_t x = window % v->n[1] * v->side[1] + token % v->side[1];

    return 3 * part_of(y, v->n[0] * v->side[0], v->side[0], v->shift[0]) +
           part_of(x, v->n[1] * v->side[1], v->side[1], v->shift[1]);
}

/* [windows, 1, T, T]: MASKED where a window holds what was not side by side. */
static int mask(fk_builder *b, const windows *v)
{
    int64_t n = v->side[0] * v->side[1];
    int64_t all = v->n[0] * v->n[1];
    float *m = NULL;

    if (b->st == FERKD_OK)
        b->st = fk_calloc(&m, (size_t)(all * n * n), sizeof *m, "a window");
    if (b->st != FERKD_OK)
        return -1;
    for (int64_t w = 0; w < all; w++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++)
                m[(w * n + i) * n + j] = token_part(v, w, i) == token_part(v, w, j) ? 0 : MASKED;
        }
    }
    int id = fk_build_constant(b, "attn_mask", fk_shape_of(4, all, (int64_t)1, n, n), m);
    free(m);
    return id;
}

static int bias(fk_builder *b, const windows *v, int64_t heads)
{
    int64_t n = v->side[0] * v->side[1];
    int64_t rows = (2 * v->side[0] - 1) * (2 * v->side[1] - 1);
    int x = fk_build_value(b, "attn.relative_position_bias_table", fk_shape_of(2, rows, heads),
                           FK_INIT_NORMAL, STD);

    x = fk_build_reshape(b, offsets(b, v, x), fk_shape_of(3, n, n, heads));
    x = fk_build_transpose(b, x, 3, (int[]){2, 0, 1});
    x = fk_build_reshape(b, x, fk_shape_of(4, (int64_t)1, heads, n, n));
    return v->shift[0] || v->shift[1] ? fk_build_add(b, x, mask(b, v)) : x;
}

/* --- blocks --------------------------------------------------------------------------------------- */

/* Move everything by n places to the front; what falls off comes back at the end. */
static int roll(fk_builder *b, int x, int axis, int64_t n)
{
    int64_t size = fk_build_shape(b, x).d[axis];

    if (n == 0)
        return x;
    int parts[] = {fk_build_slice(b, x, axis, n, size - n), fk_build_slice(b, x, axis, 0, n)};
    return fk_build_concat(b, 2, parts, axis);
}

static int attention(fk_builder *b, int x, const windows *v, int64_t heads)
{
    static const int SWAP[] = {0, 1, 3, 2, 4, 5};

    fk_shape s = fk_build_shape(b, x);
    int64_t width = s.d[3];
    int64_t tokens = v->side[0] * v->side[1];
    int scores = bias(b, v, heads);

    for (int i = 0; i < 2; i++) {
        x = roll(b, x, 1 + i, v->shift[i]);
        x = fk_build_pad(b, x, 1 + i, v->n[i] * v->side[i] - s.d[1 + i]);
    }
    x = fk_build_reshape(b, x,
                         fk_shape_of(6, s.d[0], v->n[0], v->side[0], v->n[1], v->side[1], width));
    x = fk_build_transpose(b, x, 6, SWAP);
    x = fk_build_reshape(b, x, fk_shape_of(3, s.d[0] * v->n[0] * v->n[1], tokens, width));
    x = fk_build_linear(b, x, "attn.qkv", 3 * width, STD, true);
    x = fk_build_attention_biased(b, x, scores, heads);
    x = fk_build_linear(b, x, "attn.proj", width, STD, true);
    x = fk_build_reshape(b, x,
                         fk_shape_of(6, s.d[0], v->n[0], v->n[1], v->side[0], v->side[1], width));
    x = fk_build_transpose(b, x, 6, SWAP);
    x = fk_build_reshape(b, x,
                         fk_shape_of(4, s.d[0], v->n[0] * v->side[0], v->n[1] * v->side[1], width));
    for (int i = 0; i < 2; i++) {
        if (v->n[i] * v->side[i] != s.d[1 + i])
            x = fk_build_slice(b, x, 1 + i, 0, s.d[1 + i]);
        x = roll(b, x, 1 + i, v->shift[i] ? s.d[1 + i] - v->shift[i] : 0);
    }
    return x;
}

static int block(fk_builder *b, int x, bool shifted, int64_t heads)
{
    fk_shape s = fk_build_shape(b, x);
    windows v = windows_of(s.d[1], s.d[2], shifted);

    x = fk_build_add(b, x, attention(b, fk_build_layernorm(b, x, "norm1", EPS), &v, heads));
    int y = fk_build_layernorm(b, x, "norm2", EPS);
    y = fk_build_linear(b, y, "mlp.fc1", 4 * s.d[3], STD, true);
    y = fk_build_act(b, y, FK_GELU, 0, 0);
    y = fk_build_linear(b, y, "mlp.fc2", s.d[3], STD, true);
    return fk_build_add(b, x, y);
}

/* Four neighbours become one token of twice the width. */
static int merge(fk_builder *b, int x)
{
    fk_shape s = fk_build_shape(b, x);

    for (int i = 0; i < 2; i++)
        x = fk_build_pad(b, x, 1 + i, s.d[1 + i] % 2);
    s = fk_build_shape(b, x);
    x = fk_build_reshape(
        b, x, fk_shape_of(6, s.d[0], s.d[1] / 2, (int64_t)2, s.d[2] / 2, (int64_t)2, s.d[3]));
    x = fk_build_transpose(b, x, 6, (int[]){0, 1, 3, 4, 2, 5});
    x = fk_build_reshape(b, x, fk_shape_of(4, s.d[0], s.d[1] / 2, s.d[2] / 2, 4 * s.d[3]));
    x = fk_build_layernorm(b, x, "downsample.norm", EPS);
    return fk_build_linear(b, x, "downsample.reduction", 2 * s.d[3], STD, false);
}

int fk_build_swin(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant];
    double bound = 1.0 / sqrt((double)(o->channels * PATCH * PATCH));

    x = fk_build_conv(b, x, "patch_embed.proj", f->width, PATCH, PATCH, 0, 1);
    fk_build_conv_as_torch(b, x);
    fk_build_conv_bias(b, x, "patch_embed.proj", bound);
    x = fk_build_transpose(b, x, 4, (int[]){0, 2, 3, 1});
    x = fk_build_layernorm(b, x, "patch_embed.norm", EPS);
    for (int stage = 0; stage < 4; stage++) {
        (void)snprintf(b->prefix, sizeof b->prefix, "layers.%d.", stage);
        if (stage)
            x = merge(b, x);
        for (int64_t i = 0; i < f->depth[stage]; i++) {
            (void)snprintf(b->prefix, sizeof b->prefix, "layers.%d.blocks.%" PRId64 ".", stage, i);
            x = block(b, x, i % 2 == 1, f->heads[stage]);
        }
    }
    b->prefix[0] = '\0';
    x = fk_build_layernorm(b, x, "norm", EPS);
    x = fk_build_mean(b, x, 1u << 1 | 1u << 2, false);
    return fk_build_linear(b, x, "head.fc", o->classes, STD, true);
}
