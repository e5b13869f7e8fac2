/* Attention with products in bf16: one head of one image by one thread. What oneDNN's products read lies without gaps, so the
 * head's rows of queries, keys and values are put together first; scores and sums are f32. */
#include "base/compat.h"

#include "engine/attention.h"

/* The products: for a block of queries, and, one further on, for the last block. */
enum {
    SCORES = 0,
    OUTPUT = 2,
    D_VALUES = 4,
    D_SOFTMAX = 6,
    D_QUERIES = 8,
    D_KEYS = 10,
    KINDS = 12
};

static size_t last_block(const fk_attention *z)
{
    size_t rest = z->tokens % z->queries;

    return rest ? rest : z->queries;
}

/* Kind of product for m queries. */
static fk_product_args product_of(const fk_attention *z, int kind, size_t m)
{
    size_t t = z->tokens;
    size_t w = z->width;

    switch (kind) {
    case SCORES:    /* Q K' */
    case D_SOFTMAX: /* dO V' */
        return (fk_product_args){.m = m, .n = t, .k = w, .turn_b = true, .half = true};
    case OUTPUT:    /* P V */
    case D_QUERIES: /* dS K */
        return (fk_product_args){.m = m, .n = w, .k = t, .half = true};
    default: /* P' dO, dS' Q: over all queries */
        return (fk_product_args){
            .m = t, .n = w, .k = m, .turn_a = true, .add = z->queries < t, .half = true};
    }
}

ferkd_status fk_attention_half_new(fk_plan *p, fk_step *s, const fk_attention *z)
{
    size_t last = last_block(z);

    for (int kind = 0; kind < (p->o.train ? KINDS : D_VALUES); kind += 2) {
        for (int i = 0; i < (last == z->queries ? 1 : 2); i++) {
            fk_product_args a = product_of(z, kind, i ? last : z->queries);
            TRY(fk_product_new(p->dn, &s->products[kind + i], &a, p->threads));
        }
    }
    return FERKD_OK;
}

/* --- one head -------------------------------------------------------------------------------- */

/* Where a thread has what. */
typedef struct head {
    size_t image, number;
    uint16_t *q, *k, *v, *go; /* [tokens][width]; go: the output's gradient */
    uint16_t *soft, *dsoft;   /* [queries][tokens] */
    float *scores, *dscores;  /* likewise */
    float *o, *dq, *dk, *dv;  /* [tokens][width] */
    char *room;               /* of the products */
    const float *bias;
} head;

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static void *take(char **room, size_t bytes)
{
    void *at = *room;

    *room += rounded(bytes);
    return at;
}

size_t fk_attention_half_bytes(const fk_step *s, const fk_attention *z)
{
    size_t tokens = z->tokens * z->width;
    size_t scores = z->queries * z->tokens;

    return 4 * rounded(tokens * sizeof(uint16_t)) + 2 * rounded(scores * sizeof(uint16_t)) +
           2 * rounded(scores * sizeof(float)) + 4 * rounded(tokens * sizeof(float)) +
           fk_step_product_room(s, 0, KINDS);
}

/* Element of the first row of this head, in rows of heads x width values. */
static size_t place(const fk_attention *z, const head *h)
{
    return (h->image * z->tokens * z->heads + h->number) * z->width;
}

static head find_head(const fk_plan *p, const fk_step *s, const fk_attention *z, size_t task,
                      char *room)
{
    fk_operand qkv = fk_data_operand(p, s->in[0]);
    size_t d = z->heads * z->width;
    size_t tokens = z->tokens * z->width;
    size_t scores = z->queries * z->tokens;
    head h = {.image = task / z->heads, .number = task % z->heads};
    size_t at = h.image * z->tokens * 3 * d + h.number * z->width;
    uint16_t **halves[] = {&h.q, &h.k, &h.v, &h.go};
    float **floats[] = {&h.o, &h.dq, &h.dk, &h.dv};

    for (size_t i = 0; i < 4; i++) {
        *halves[i] = take(&room, tokens * sizeof(uint16_t));
        *floats[i] = take(&room, tokens * sizeof(float));
    }
    h.soft = take(&room, scores * sizeof(uint16_t));
    h.dsoft = take(&room, scores * sizeof(uint16_t));
    h.scores = take(&room, scores * sizeof(float));
    h.dscores = take(&room, scores * sizeof(float));
    h.room = room;
    h.bias = fk_attention_bias(p, s, z, h.image, h.number);
    for (size_t i = 0; i < 3; i++)
        fk_copy_rows(qkv, at + i * d, 3 * d, (fk_operand){*halves[i], true}, 0, z->width, z->tokens,
                     z->width);
    return h;
}

static bool multiply(const fk_step *s, const fk_attention *z, const head *h, int kind, size_t m,
                     size_t t, const void *a, const void *b, float *c)
{
    return fk_product_run(s->products[kind + (m == z->queries ? 0 : 1)], t, a, b, c, NULL, h->room);
}

/* Rows first .. first + m of softmax(scale Q K' + bias), in f32 and in bf16. */
static bool scores_of(const fk_step *s, const fk_attention *z, const head *h, size_t first,
                      size_t m, size_t t)
{
    fk_row_softmax soft = {.rows = m,
                           .n = z->tokens,
                           .stride = z->tokens,
                           .x = h->scores,
                           .scale = (float)s->node->u.attention.scale,
                           .bias = h->bias ? h->bias + first * z->tokens : NULL,
                           .bias_stride = z->tokens,
                           .copy = {h->soft, true}};

    if (!multiply(s, z, h, SCORES, m, t, h->q + first * z->width, h->k, h->scores))
        return false;
    fk_rows_best()->softmax(&soft);
    return true;
}

bool fk_attention_half_forward(const fk_plan *p, const fk_step *s, const fk_attention *z,
                               size_t task, size_t t, char *room)
{
    head h = find_head(p, s, z, task, room);

    for (size_t first = 0; first < z->tokens; first += z->queries) {
        size_t m = fk_min_size(z->queries, z->tokens - first);
        if (!scores_of(s, z, &h, first, m, t) ||
            !multiply(s, z, &h, OUTPUT, m, t, h.soft, h.v, h.o + first * z->width))
            return false;
    }
    fk_copy_rows((fk_operand){h.o, false}, 0, z->width, fk_data_operand(p, s->out), place(z, &h),
                 z->heads * z->width, z->tokens, z->width);
    return true;
}

/* With P the softmax and dO the output's gradient: dV = P' dO, dP = dO V', dS = P (dP - sum(dP P)),
 * dQ = scale dS K, dK = scale dS' Q. */
static bool block_backward(const fk_step *s, const fk_attention *z, const head *h, size_t first,
                           size_t m, size_t t, float *dbias)
{
    const uint16_t *go = h->go + first * z->width;
    fk_row_softmax soft = {.rows = m,
                           .n = z->tokens,
                           .stride = z->tokens,
                           .x = h->scores,
                           .dy = h->dscores,
                           .scale = (float)s->node->u.attention.scale,
                           .copy = {h->dsoft, true}};

    if (!scores_of(s, z, h, first, m, t) ||
        !multiply(s, z, h, D_VALUES, m, t, h->soft, go, h->dv) ||
        !multiply(s, z, h, D_SOFTMAX, m, t, go, h->v, h->dscores))
        return false;
    fk_rows_best()->softmax_back(&soft);
    for (size_t i = 0; dbias && i < m * z->tokens; i++)
        dbias[first * z->tokens + i] += h->dscores[i];
    return multiply(s, z, h, D_QUERIES, m, t, h->dsoft, h->k, h->dq + first * z->width) &&
           multiply(s, z, h, D_KEYS, m, t, h->dsoft, h->q + first * z->width, h->dk);
}

bool fk_attention_half_backward(const fk_plan *p, const fk_step *s, const fk_attention *z,
                                size_t task, size_t t, char *room, float *dbias)
{
    head h = find_head(p, s, z, task, room);
    fk_operand go = fk_buffer_operand(p, p->tensors[s->out].grad, fk_data_type_half(p, s->out));
    fk_operand din = fk_buffer_operand(p, s->din[0], fk_data_type_half(p, s->in[0]));
    const float *parts[] = {h.dq, h.dk, h.dv};
    size_t d = z->heads * z->width;
    size_t tokens = z->tokens * z->width;

    fk_copy_rows(go, place(z, &h), d, (fk_operand){h.go, true}, 0, z->width, z->tokens, z->width);
    if (z->queries < z->tokens) { /* the blocks add up */
        memset(h.dk, 0, tokens * sizeof *h.dk);
        memset(h.dv, 0, tokens * sizeof *h.dv);
    }
    for (size_t first = 0; first < z->tokens; first += z->queries) {
        size_t m = fk_min_size(z->queries, z->tokens - first);
        if (!block_backward(s, z, &h, first, m, t, dbias))
            return false;
    }
    for (size_t i = 0; i < 3; i++)
        fk_copy_rows((fk_operand){(void *)(uintptr_t)parts[i], false}, 0, z->width, din,
                     h.image * z->tokens * 3 * d + i * d + h.number * z->width, 3 * d, z->tokens,
                     z->width);
    return true;
}
