/* Attention of all heads (Vaswani et al. 2017, section 3.2) on queries, keys and values as they come out of one
 * product. The scores exist only for one head of one image and some rows of queries at a time, in the caches;
 * backward works them out anew (Dao et al. 2022 do so on other machines). */
#include "base/compat.h"

#include "engine/attention.h"

#include <omp.h>

enum { SCRATCH, SCRATCH_BACK };

#define QUERIES    256  /* rows of scores at a time */
#define LEAST_HALF 2048 /* numbers a head from which on products in bf16 are faster */

static fk_attention sizes_of(const fk_plan *p, const fk_step *s)
{
    const fk_shape *shape = &s->node->shape;
    fk_attention z = {.batch = (size_t)shape->d[0],
                      .tokens = (size_t)shape->d[1],
                      .heads = (size_t)s->node->u.attention.heads};

    z.width = (size_t)shape->d[2] / z.heads;
    z.stride = (z.tokens + 15) / 16 * 16 + 16; /* no power of two between rows */
    size_t blocks = (z.tokens + QUERIES - 1) / QUERIES;
    z.queries = (z.tokens + blocks - 1) / blocks;
    if (s->n_in > 1) {
        z.windows = (size_t)p->tensors[s->in[1]].shape.d[0];
        z.bias_heads = (size_t)p->tensors[s->in[1]].shape.d[1];
    }
    return z;
}

/* Floats that one thread needs: scores and their gradient, and what is bf16 in memory as floats. Behind them is the scratch of
 * products. */
static size_t scratch_floats(const fk_attention *z)
{
    return (2 * z->queries * z->stride + 8 * z->tokens * z->width + 15) / 16 * 16;
}

static size_t scratch_bytes(const fk_attention *z)
{
    size_t longest = fk_max_size(z->tokens, z->width);

    return scratch_floats(z) * sizeof(float) + fk_tiles_room(longest, longest, longest);
}

/* One head of one image. Pointers into tensors if these are f32, else into the thread's scratch. */
typedef struct head {
    size_t image, number;
    float *scores, *dscores; /* [queries][stride] */
    void *room;              /* of products */
    const float *q, *k, *v;  /* [tokens][width], rows `row` apart */
    size_t row;
    float *o, *dq, *dk, *dv; /* o: the output, or its gradient */
    size_t o_row;
    const float *bias; /* [tokens][tokens] or NULL */
} head;

void fk_copy_rows(fk_operand from, size_t at, size_t from_row, fk_operand to, size_t to_at,
                  size_t to_row, size_t rows, size_t n)
{
    fk_row_sum k = {.rows = rows,
                    .n = n,
                    .from_row = from_row,
                    .to_row = to_row,
                    .a = fk_operand_at(from, at),
                    .y = fk_operand_at(to, to_at)};

    fk_rows_best()->combine(&k);
}

const float *fk_attention_bias(const fk_plan *p, const fk_step *s, const fk_attention *z,
                               size_t image, size_t number)
{
    if (s->n_in < 2)
        return NULL;
    size_t at = (image % z->windows) * z->bias_heads + (z->bias_heads > 1 ? number : 0);
    return fk_data(p, s->in[1]) + at * z->tokens * z->tokens;
}

/* Where things of head `task` are; queries, keys and values that are bf16 are converted on the way. */
static head find_head(const fk_plan *p, const fk_step *s, const fk_attention *z, size_t task,
                      float *room)
{
    fk_operand qkv = fk_data_operand(p, s->in[0]);
    size_t d = z->heads * z->width;
    head h = {.image = task / z->heads,
              .number = task % z->heads,
              .scores = room,
              .room = room + scratch_floats(z)};
    size_t at = h.image * z->tokens * 3 * d + h.number * z->width;
    float *free_room = room + 2 * z->queries * z->stride;
    size_t each = z->tokens * z->width;

    h.dscores = room + z->queries * z->stride;
    if (qkv.half) {
        for (size_t i = 0; i < 3; i++)
            fk_copy_rows(qkv, at + i * d, 3 * d, (fk_operand){free_room, false}, i * each, z->width,
                         z->tokens, z->width);
        h.q = free_room;
        h.k = free_room + each;
        h.v = free_room + 2 * each;
        h.row = z->width;
    } else {
        h.q = (const float *)qkv.data + at;
        h.k = h.q + d;
        h.v = h.q + 2 * d;
        h.row = 3 * d;
    }
    h.bias = fk_attention_bias(p, s, z, h.image, h.number);
    return h;
}

/* Rows of one head of a tensor, from a token on. */
typedef struct rows {
    const float *at;
    size_t row;
} rows;

static rows rows_at(const float *tensor, size_t row, size_t token)
{
    return (rows){tensor + token * row, row};
}

/* Each of m rows with each token's: scores, [m][stride], = alpha A B'. */
static void compare(const fk_attention *z, const head *h, size_t m, float alpha, rows a, rows b,
                    float *scores)
{
    fk_gemm(&(fk_gemm_args){.turn_b = true,
                            .m = m,
                            .n = z->tokens,
                            .k = z->width,
                            .alpha = alpha,
                            .a = a.at,
                            .lda = a.row,
                            .b = b.at,
                            .ldb = b.row,
                            .c = scores,
                            .ldc = z->stride},
            h->room);
}

/* m rows that are sums of all tokens': C = alpha scores B. */
static void sum_up(const fk_attention *z, const head *h, size_t m, float alpha, const float *scores,
                   rows b, float *c, size_t c_row)
{
    fk_gemm(&(fk_gemm_args){.m = m,
                            .n = z->width,
                            .k = z->tokens,
                            .alpha = alpha,
                            .a = scores,
                            .lda = z->stride,
                            .b = b.at,
                            .ldb = b.row,
                            .c = c,
                            .ldc = c_row},
            h->room);
}

/* What m rows are to each token: C = alpha scores' B, added to what earlier rows were unless these are the first. */
static void hand_back(const fk_attention *z, const head *h, size_t m, float alpha,
                      const float *scores, rows b, bool first, float *c)
{
    fk_gemm(&(fk_gemm_args){.turn_a = true,
                            .m = z->tokens,
                            .n = z->width,
                            .k = m,
                            .alpha = alpha,
                            .a = scores,
                            .lda = z->stride,
                            .b = b.at,
                            .ldb = b.row,
                            .beta = first ? 0.0f : 1.0f,
                            .c = c,
                            .ldc = h->row},
            h->room);
}

/* Rows first .. first + m of softmax(scale Q K' + bias). */
static void scores_of(const fk_step *s, const fk_attention *z, const head *h, size_t first,
                      size_t m)
{
    fk_row_softmax soft = {.rows = m,
                           .n = z->tokens,
                           .stride = z->stride,
                           .x = h->scores,
                           .scale = 1.0f,
                           .bias = h->bias ? h->bias + first * z->tokens : NULL,
                           .bias_stride = z->tokens};

    compare(z, h, m, (float)s->node->u.attention.scale, rows_at(h->q, h->row, first),
            rows_at(h->k, h->row, 0), h->scores);
    fk_rows_best()->softmax(&soft);
}

static void head_forward(const fk_step *s, const fk_attention *z, const head *h)
{
    for (size_t first = 0; first < z->tokens; first += z->queries) {
        size_t m = fk_min_size(z->queries, z->tokens - first);
        scores_of(s, z, h, first, m);
        sum_up(z, h, m, 1.0f, h->scores, rows_at(h->v, h->row, 0), h->o + first * h->o_row,
               h->o_row);
    }
}

static void forward_task(const fk_plan *p, const fk_step *s, const fk_attention *z, size_t task,
                         float *room)
{
    size_t d = z->heads * z->width;
    fk_operand out = fk_data_operand(p, s->out);
    head h = find_head(p, s, z, task, room);
    size_t at = h.image * z->tokens * d + h.number * z->width;

    h.o = out.half ? room + scratch_floats(z) - z->tokens * z->width : (float *)out.data + at;
    h.o_row = out.half ? z->width : d;
    head_forward(s, z, &h);
    if (out.half)
        fk_copy_rows((fk_operand){h.o, false}, 0, z->width, out, at, d, z->tokens, z->width);
}

/* Are the products in bf16? */
static bool is_half(const fk_step *s)
{
    return s->products[0] != NULL;
}

/* Scratch of the calling thread. */
static char *room_of(const fk_plan *p, int buffer)
{
    size_t each = p->buffers[buffer].bytes / p->threads;

    return (char *)fk_buffer_at(p, buffer) + (size_t)omp_get_thread_num() * each;
}

static ferkd_status checked(const fk_step *s, bool ok)
{
    return ok ? FERKD_OK : fk_fail(FERKD_BUG, "node %s: a product failed", s->node->name);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    fk_attention z = sizes_of(p, s);
    bool ok = true;

#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t task = 0; task < z.batch * z.heads; task++) {
        char *room = room_of(p, s->buffers[SCRATCH]);
        if (is_half(s))
            ok =
                fk_attention_half_forward(p, s, &z, task, (size_t)omp_get_thread_num(), room) && ok;
        else
            forward_task(p, s, &z, task, (float *)room);
    }
    return checked(s, ok);
}

/* --- backward -------------------------------------------------------------------------------- */

/* With P the softmax and dO the output's gradient: dV = P' dO, dP = dO V', dS = P (dP - sum(dP P)),
 * dQ = scale dS K, dK = scale dS' Q. dbias: [tokens][tokens], added to, or NULL. */
static void head_backward(const fk_step *s, const fk_attention *z, const head *h, float *dbias)
{
    float scale = (float)s->node->u.attention.scale;

    for (size_t first = 0; first < z->tokens; first += z->queries) {
        size_t m = fk_min_size(z->queries, z->tokens - first);
        rows go = rows_at(h->o, h->o_row, first);
        fk_row_softmax soft = {
            .rows = m, .n = z->tokens, .stride = z->stride, .x = h->scores, .dy = h->dscores};

        scores_of(s, z, h, first, m);
        hand_back(z, h, m, 1.0f, h->scores, go, !first, h->dv);
        compare(z, h, m, 1.0f, go, rows_at(h->v, h->row, 0), h->dscores);
        fk_rows_best()->softmax_back(&soft);
        sum_up(z, h, m, scale, h->dscores, rows_at(h->k, h->row, 0), h->dq + first * h->row,
               h->row);
        hand_back(z, h, m, scale, h->dscores, rows_at(h->q, h->row, first), !first, h->dk);
        for (size_t r = 0; dbias && r < m; r++) {
            for (size_t i = 0; i < z->tokens; i++)
                dbias[(first + r) * z->tokens + i] += h->dscores[r * z->stride + i];
        }
    }
}

/* The gradients of one head; bf16 ones by way of the scratch. */
static bool backward_task(const fk_plan *p, const fk_step *s, const fk_attention *z, size_t task,
                          float *dbias)
{
    float *room = (float *)room_of(p, s->buffers[SCRATCH_BACK]);

    if (is_half(s))
        return fk_attention_half_backward(p, s, z, task, (size_t)omp_get_thread_num(), (char *)room,
                                          dbias);
    size_t d = z->heads * z->width;
    size_t each = z->tokens * z->width;
    head h = find_head(p, s, z, task, room);
    fk_operand go = fk_buffer_operand(p, p->tensors[s->out].grad, fk_data_type_half(p, s->out));
    fk_operand din = fk_buffer_operand(p, s->din[0], fk_data_type_half(p, s->in[0]));
    size_t at = h.image * z->tokens * d + h.number * z->width;
    size_t at3 = h.image * z->tokens * 3 * d + h.number * z->width;
    float *own = room + scratch_floats(z) - 4 * each;

    h.o = go.half ? own : (float *)go.data + at;
    h.o_row = go.half ? z->width : d;
    if (go.half)
        fk_copy_rows(go, at, d, (fk_operand){own, false}, 0, z->width, z->tokens, z->width);
    h.dq = din.half ? own + each : (float *)din.data + at3;
    h.dk = din.half ? h.dq + each : h.dq + d;
    h.dv = din.half ? h.dk + each : h.dk + d;
    head_backward(s, z, &h, dbias);
    for (size_t i = 0; din.half && i < 3; i++)
        fk_copy_rows((fk_operand){h.dq + i * each, false}, 0, z->width, din, at3 + i * d, 3 * d,
                     z->tokens, z->width);
    return true;
}

/* What is added to the scores has a gradient, too: summed over the images of each window, so a task is all
 * images of a window, or of a window and a head. */
static bool backward_with_bias(fk_plan *p, fk_step *s, const fk_attention *z)
{
    float *dbias = fk_din(p, s, 1);
    size_t area = z->tokens * z->tokens;
    bool ok = true;

    memset(dbias, 0, fk_floats(p, s->in[1]) * sizeof *dbias);
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t task = 0; task < z->windows * z->bias_heads; task++) {
        size_t window = task / z->bias_heads;
        size_t first = z->bias_heads > 1 ? task % z->bias_heads : 0;
        size_t last = z->bias_heads > 1 ? first + 1 : z->heads;
        for (size_t image = window; image < z->batch; image += z->windows) {
            for (size_t k = first; k < last; k++)
                ok = backward_task(p, s, z, image * z->heads + k, dbias + task * area) && ok;
        }
    }
    return ok;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    fk_attention z = sizes_of(p, s);
    bool ok = true;

    if (s->n_in > 1 && fk_wants_din(p, s, 1))
        return checked(s, backward_with_bias(p, s, &z));
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t task = 0; task < z.batch * z.heads; task++)
        ok = backward_task(p, s, &z, task, NULL) && ok;
    return checked(s, ok);
}

/* In bf16 where that is how this processor multiplies, oneDNN has such products, and they are not so small (windows of 7 x 7) that
 * calling them takes longer than f32. */
static ferkd_status add_products(fk_plan *p, fk_step *s, const fk_attention *z)
{
    bool half = p->half_conv && z->tokens * z->width >= LEAST_HALF;
    ferkd_status st = half ? fk_attention_half_new(p, s, z) : FERKD_OK;

    if (st != FERKD_UNSUPPORTED)
        return st;
    fk_step_drop_products(s);
    return FERKD_OK;
}

ferkd_status fk_compile_attention(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    int in[2] = {-1, -1};

    TRY(fk_want_rows(p, p->tensor_of[n->in[0]], &in[0]));
    if (n->n_in > 1)
        TRY(fk_want_plain(p, p->tensor_of[n->in[1]], &in[1]));
    TRY(fk_step_new(p, &s, n, n->n_in));
    memcpy(s->in, in, (size_t)n->n_in * sizeof *in);
    s->kind = FK_KIND_ATTENTION;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_rows_md(p, &n->shape, id, &md));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    for (int i = 0; i < n->n_in; i++)
        fk_step_keep(p, in[i], s);
    fk_attention z = sizes_of(p, s);
    TRY(add_products(p, s, &z));
    size_t scratch = p->threads * (is_half(s) ? fk_attention_half_bytes(s, &z) : scratch_bytes(&z));
    TRY(fk_step_buffer(p, s, SCRATCH, scratch, FK_LIFE_FORWARD));
    return p->o.train ? fk_step_buffer(p, s, SCRATCH_BACK, scratch, FK_LIFE_BACKWARD) : FERKD_OK;
}
