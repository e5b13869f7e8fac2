/* A matrix product of tokens and what stands around it, forward and backward. Each thread takes some rows through all of it, so
 * what is between stays in its cache and has no memory: backward works it out anew. */
#include "base/compat.h"

#include "engine/linear.h"

#include <omp.h>

#include "base/rng.h"

enum {
    SLICE_BYTES = 8 << 18, /* of the input and the output of some rows */
    LARGE = 1 << 20 /* weights that no cache holds: then many rows for each time they are read */
};

/* --- slices ---------------------------------------------------------------------------------- */

bool fk_linear_is_large(const fk_linear *z)
{
    return z->in * z->out > LARGE;
}

fk_linear fk_linear_of(const fk_plan *p, const fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    fk_linear z = {.rows = (size_t)(fk_shape_count(&s->node->shape) / w->d[0]),
                   .in = (size_t)(fk_shape_count(w) / w->d[0]),
                   .out = (size_t)w->d[0]};

    z.slice = SLICE_BYTES / ((z.in + z.out) * sizeof(float));
    z.slice = fk_min_size(fk_max_size(z.slice, fk_linear_is_large(&z) ? 512 : 64), 512);
    size_t turns = (z.rows + z.slice * p->threads - 1) / (z.slice * p->threads);
    z.slice = (z.rows + turns * p->threads - 1) / (turns * p->threads);
    size_t whole = (z.slice + 31) / 32 * 32; /* products work on blocks of 32 rows */
    if (whole <= z.rows && (z.rows + whole - 1) / whole % p->threads == 0)
        z.slice = whole;
    z.rows_each = z.rows / (size_t)s->node->shape.d[0];
    return z;
}

bool fk_linear_is_half(const fk_step *s)
{
    return fk_product_half(s->products[FK_LINEAR_FORWARD]);
}

/* Product `kind` of m rows, by thread t. row: fk_product_run()'s. */
static bool multiply(const fk_plan *p, const fk_step *s, const fk_linear *z, int kind, size_t m,
                     size_t t, const void *a, const void *b, void *c, const float *row)
{
    const fk_product *product = s->products[kind + (m == z->slice ? 0 : 1)];
    int buffer = s->buffers[kind == FK_LINEAR_FORWARD ? FK_LINEAR_ROOM : FK_LINEAR_ROOM_BACK];
    char *room = buffer >= 0 ? fk_buffer_at(p, buffer) : NULL;
    size_t each = room ? p->buffers[buffer].bytes / p->threads : 0;

    return fk_product_run(product, t, a, b, c, row, room ? room + t * each : NULL);
}

/* The rows of thread t. */
static size_t share(const fk_linear *z, size_t threads, size_t t)
{
    size_t slices = (z->rows + z->slice - 1) / z->slice;

    return fk_min_size(slices * t / threads * z->slice, z->rows);
}

const float *fk_linear_weights(const fk_plan *p, const fk_step *s)
{
    return s->scale_param >= 0 ? fk_buffer_at(p, s->buffers[FK_LINEAR_SCALED])
                               : fk_graph_values(p->g, s->node->param[0]);
}

/* As the products want them. */
static const void *factor_of(const fk_plan *p, const fk_step *s, bool back)
{
    int packed = s->buffers[back ? FK_LINEAR_PACKED_BACK : FK_LINEAR_PACKED];

    return packed >= 0 ? fk_buffer_at(p, packed) : (const void *)fk_linear_weights(p, s);
}

static const float *bias_of(const fk_plan *p, const fk_step *s, const fk_linear *z)
{
    if (s->node->param[1] < 0)
        return NULL;
    return s->scale_param >= 0 ? fk_linear_weights(p, s) + z->in * z->out
                               : fk_graph_values(p->g, s->node->param[1]);
}

/* Rows first .. first + m of a patch convolution's input, [C kh kw] each, out of the image or (back) into it. Patches
 * don't overlap, so each pixel has one place. */
static void copy_patches(const fk_plan *p, const fk_step *s, size_t first, size_t m, float *image,
                         float *rows, bool back)
{
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    const fk_shape *out = &s->node->shape;
    const int64_t *k = s->node->u.conv.window.kernel;
    bool last = !p->tensors[s->in[0]].plain;
    size_t channels = (size_t)in->d[1];
    size_t pixel = last ? channels : 1;
    size_t channel = last ? 1 : (size_t)(in->d[2] * in->d[3]);

    for (size_t r = first; r < first + m; r++) {
        size_t x = r % (size_t)out->d[3];
        size_t y = r / (size_t)out->d[3] % (size_t)out->d[2];
        size_t n = r / (size_t)(out->d[2] * out->d[3]);
        size_t at = n * channels * (size_t)(in->d[2] * in->d[3]) +
                    (y * (size_t)(k[0] * in->d[3]) + x * (size_t)k[1]) * pixel;
        for (size_t c = 0; c < channels; c++) {
            for (size_t i = 0; i < (size_t)k[0]; i++) {
                float *line = image + at + c * channel + i * (size_t)in->d[3] * pixel;
                for (size_t j = 0; j < (size_t)k[1]; j++, rows++) {
                    if (back)
                        line[j * pixel] = *rows;
                    else
                        *rows = line[j * pixel];
                }
            }
        }
    }
}

/* Patches, in the type of the products; floats go through `floats`. */
static void take_patches(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first,
                         size_t m, void *room, float *floats)
{
    fk_row_sum k = {.rows = m, .n = z->in, .a = {floats, false}, .y = {room, true}};

    copy_patches(p, s, first, m, fk_data(p, s->in[0]), fk_linear_is_half(s) ? floats : room, false);
    if (fk_linear_is_half(s))
        fk_rows_best()->combine(&k);
}

static fk_post act_before(const fk_step *s)
{
    const fk_node *n = s->before;

    return (fk_post){1, n->u.act.kind, n->u.act.a, n->u.act.b};
}

/* The input of the product, rows first .. first + m, in its type: where they are, or in room. x: what the step reads of them.
 * floats: as many more, for what is worked out. slope: where backward wants that of the activation before. */
static const void *input_rows(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first,
                              size_t m, fk_operand x, void *room, float *floats, fk_operand slope)
{
    const fk_node *before = s->before;
    fk_operand to = {room, fk_linear_is_half(s)};

    if (s->node->op == FK_CONV) {
        take_patches(p, s, z, first, m, room, floats);
        return room;
    }
    if (before && before->op == FK_LAYERNORM) {
        fk_row_norm k = {
            .rows = m,
            .n = z->in,
            .eps = (float)before->u.norm.eps,
            .x = x,
            .y = to,
            .weight = before->param[0] >= 0 ? fk_graph_values(p->g, before->param[0]) : NULL,
            .bias = before->param[1] >= 0 ? fk_graph_values(p->g, before->param[1]) : NULL};
        fk_rows_best()->norm(&k);
    } else if (before && slope.data) {
        fk_rows_best()->act_slope(act_before(s), x, to, slope, m * z->in);
    } else if (before) {
        fk_rows_best()->act(act_before(s), x, to, m * z->in);
    } else if (x.half != to.half) {
        fk_row_sum k = {.rows = m, .n = z->in, .a = x, .y = to};
        fk_rows_best()->combine(&k);
    } else {
        return x.data;
    }
    return room;
}

/* --- forward --------------------------------------------------------------------------------- */

bool fk_linear_is_direct(const fk_plan *p, const fk_step *s)
{
    return !fk_data_type_half(p, s->out) && !s->post.n && !s->drop;
}

static fk_operand rows_of(const fk_plan *p, int tensor, size_t first, size_t width)
{
    return fk_operand_at(fk_data_operand(p, tensor), first * width);
}

static float *scratch_of(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t t)
{
    return (float *)fk_buffer_at(p, s->buffers[FK_LINEAR_SCRATCH]) + t * fk_linear_scratch(z);
}

/* Rows first .. first + m of x to out. Scratch: the input, the output, patches. */
static bool forward_rows(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first,
                         size_t m, size_t t, fk_operand read, fk_operand out)
{
    float *room = scratch_of(p, s, z, t);
    const float *factors = s->drop ? fk_buffer_at(p, s->buffers[FK_LINEAR_FACTORS]) : NULL;
    const float *bias = bias_of(p, s, z);
    fk_operand residual = {0};
    const fk_product *product = s->products[FK_LINEAR_FORWARD];
    bool direct = fk_linear_is_direct(p, s) || fk_product_finishes(product);
    bool adds = fk_product_adds(product);
    fk_operand sum = {direct ? out.data : room + m * z->in, false};
    fk_row_sum k = {.rows = m, .n = z->out, .y = sum, .row = bias};

    if (s->residual >= 0)
        residual = rows_of(p, s->residual, first, z->out);
    if (direct && adds) {
        k.b = residual;
        fk_rows_best()->combine(&k);
    }
    const void *x =
        input_rows(p, s, z, first, m, read, room, room + m * (z->in + z->out), (fk_operand){0});
    if (!multiply(p, s, z, FK_LINEAR_FORWARD, m, t, x, factor_of(p, s, false), sum.data,
                  direct && !adds ? bias : NULL))
        return false;
    if (direct)
        return true;
    k.a = sum;
    if (s->post.n) {
        k.act = s->post;
        k.y = out;
        fk_rows_best()->combine(&k);
        return true;
    }
    if (bias && factors) { /* these come behind the bias */
        fk_rows_best()->combine(&k);
        k.row = NULL;
    }
    k.b = residual;
    k.y = out;
    k.factors = factors;
    k.first = first;
    k.rows_each = z->rows_each;
    fk_rows_best()->combine(&k);
    return true;
}

/* The rows of a step and, where it has one, first those of its feeder, which nobody else reads: they stay in the scratch. */
static bool fed_rows(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first, size_t m,
                     size_t t)
{
    fk_operand x = rows_of(p, s->in[0], first, z->in);

    if (s->feeder) {
        const fk_step *f = s->feeder;
        fk_linear feeds = fk_linear_of(p, f);
        float *between = scratch_of(p, s, z, t) + m * (z->in + z->out);
        fk_operand y = {between, fk_data_type_half(p, f->out)};
        if (!forward_rows(p, f, &feeds, first, m, t, rows_of(p, s->in[0], first, feeds.in), y))
            return false;
        x = y;
    }
    return forward_rows(p, s, z, first, m, t, x, rows_of(p, s->out, first, z->out));
}

/* Stochastic depth: which images the branch exists for, from (seed, step, node), as dropout. */
static void draw_factors(fk_plan *p, const fk_step *s)
{
    float *factors = fk_buffer_at(p, s->buffers[FK_LINEAR_FACTORS]);
    double ratio = s->drop->u.dropout.ratio;
    fk_rng r = fk_rng_at(p->o.seed, FK_RNG_DROPOUT, (uint32_t)p->step, (uint32_t)s->number);

    for (int64_t i = 0; i < s->node->shape.d[0]; i++)
        factors[i] = fk_rng_unit(&r) < ratio ? 0.0f : (float)(1.0 / (1.0 - ratio));
}

size_t fk_linear_scratch(const fk_linear *z)
{
    return z->slice * (3 * z->in + z->out);
}

ferkd_status fk_linear_forward(fk_plan *p, fk_step *s)
{
    fk_linear z = fk_linear_of(p, s);
    bool ok = true;

    if (fk_linear_is_half(s) && p->o.lean)
        TRY(fk_run(p, s, FK_LINEAR_PACK));
    if (s->drop)
        draw_factors(p, s);
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++) {
        size_t end = share(&z, p->threads, t + 1);
        for (size_t r = share(&z, p->threads, t); r < end; r += z.slice)
            ok = fed_rows(p, s, &z, r, fk_min_size(z.slice, end - r), t) && ok;
    }
    return ok ? FERKD_OK : fk_fail(FERKD_BUG, "node %s: a product failed", s->node->name);
}

/* --- backward -------------------------------------------------------------------------------- */

/* One thread's sums: of the weights' gradient, the bias's, and those of the LayerNorm before. */
typedef struct parts {
    float *weight, *bias, *norm_weight, *norm_bias;
} parts;

size_t fk_linear_part(const fk_linear *z)
{
    return z->in * z->out + z->out + 2 * z->in;
}

static parts parts_of(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t t)
{
    float *at = (float *)fk_buffer_at(p, s->buffers[FK_LINEAR_PARTS]) + t * fk_linear_part(z);

    return (parts){at, at + z->in * z->out, at + (z->in + 1) * z->out,
                   at + (z->in + 1) * z->out + z->in};
}

/* The gradient of the product's output, in the type of the products; writes the residual's, where that is another's
 * memory. */
static fk_operand output_gradient(const fk_plan *p, const fk_step *s, const fk_linear *z,
                                  size_t first, size_t m, void *room)
{
    const fk_tensor *out = &p->tensors[s->out];
    const float *factors = s->drop ? fk_buffer_at(p, s->buffers[FK_LINEAR_FACTORS]) : NULL;
    bool half = fk_data_type_half(p, s->out);
    size_t at = first * z->out;
    fk_operand g = fk_operand_at(fk_buffer_operand(p, out->grad, half), at);
    fk_operand g2 = fk_operand_at(fk_buffer_operand(p, out->grad2, half), at);
    fk_row_sum k = {.rows = m, .n = z->out, .a = g, .b = g2, .y = {room, fk_linear_is_half(s)}};

    if (s->residual >= 0 && s->din[1] >= 0 && s->din[1] != out->grad) {
        k.y = fk_operand_at(fk_buffer_operand(p, s->din[1], fk_data_type_half(p, s->residual)), at);
        fk_rows_best()->combine(&k);
        k = (fk_row_sum){.rows = m, .n = z->out, .a = k.y, .y = {room, fk_linear_is_half(s)}};
    }
    if (k.a.half == fk_linear_is_half(s) && !k.b.data && !factors)
        return k.a;
    if (factors && k.b.data) { /* (a + b) factor */
        fk_rows_best()->combine(&k);
        k.a = k.y;
        k.b = (fk_operand){0};
    }
    k.factors = factors;
    k.first = first;
    k.rows_each = z->rows_each;
    fk_rows_best()->combine(&k);
    return k.y;
}

/* From the gradient of the product's input to that of what stands before. */
static void input_gradient(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first,
                           size_t m, float *dh, fk_operand slope, const parts *sums)
{
    const fk_node *before = s->before;
    bool half = fk_data_type_half(p, s->in[0]);
    size_t at = first * z->in;

    if (s->node->op == FK_CONV) {
        copy_patches(p, s, first, m, fk_din(p, s, 0), dh, true);
        return;
    }
    fk_operand x = rows_of(p, s->in[0], first, z->in);
    fk_operand dx = {0};

    if (fk_wants_din(p, s, 0))
        dx = fk_operand_at(fk_buffer_operand(p, s->din[0], half), at);
    if (before && before->op == FK_LAYERNORM) {
        fk_row_norm k = {.rows = m,
                         .n = z->in,
                         .eps = (float)before->u.norm.eps,
                         .x = x,
                         .dy = {dh, false},
                         .dx = dx,
                         .weight =
                             before->param[0] >= 0 ? fk_graph_values(p->g, before->param[0]) : NULL,
                         .dweight = before->param[0] >= 0 ? sums->norm_weight : NULL,
                         .dbias = before->param[1] >= 0 ? sums->norm_bias : NULL};
        fk_rows_best()->norm_back(&k);
    } else if (before) {
        fk_rows_best()->times((fk_operand){dh, false}, slope, dx, m * z->in);
    } else if (dx.data && dx.data != dh) {
        fk_row_sum k = {.rows = m, .n = z->in, .a = {dh, false}, .y = dx};
        fk_rows_best()->combine(&k);
    }
}

/* Scratch: the input, its gradient, the output's gradient, the slope of the activation before. */
static bool backward_rows(const fk_plan *p, const fk_step *s, const fk_linear *z, size_t first,
                          size_t m, size_t t, float *room, const parts *sums)
{
    float *dh = room + m * z->in;
    fk_operand slope = {room + m * (2 * z->in + z->out), fk_linear_is_half(s)};
    fk_operand dy = output_gradient(p, s, z, first, m, room + 2 * m * z->in);
    fk_operand in = rows_of(p, s->in[0], first, z->in);
    const void *x = input_rows(p, s, z, first, m, in, room, dh, slope);

    if (!multiply(p, s, z, FK_LINEAR_WEIGHT, m, t, dy.data, x, sums->weight, NULL))
        return false;
    if (s->node->param[1] >= 0)
        fk_rows_best()->column_sums(dy, m, z->out, sums->bias);
    bool wants = fk_wants_din(p, s, 0);
    if (!wants && !(s->before && s->before->op == FK_LAYERNORM))
        return true;
    if (wants && !s->before && s->node->op == FK_DENSE && !fk_data_type_half(p, s->in[0]))
        dh = (float *)fk_buffer_at(p, s->din[0]) + first * z->in;
    if (!multiply(p, s, z, FK_LINEAR_DATA, m, t, dy.data, factor_of(p, s, true), dh, NULL))
        return false;
    input_gradient(p, s, z, first, m, dh, slope, sums);
    return true;
}

/* With weights W and scale c the product was of c W: its gradient G makes that of W c G, and of each c the product of
 * the rows of W and G. */
static void unscale(fk_plan *p, const fk_step *s, const fk_linear *z)
{
    const float *w = fk_graph_values(p->g, s->node->param[0]);
    const float *c = fk_graph_values(p->g, s->scale_param);
    int bias = s->node->param[1];
    float *dw = p->grads + p->g->params[s->node->param[0]].offset;
    float *db = bias >= 0 ? p->grads + p->g->params[bias].offset : NULL;
    bool trained = p->g->params[s->scale_param].kind != FK_BUFFER;

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t j = 0; j < z->out; j++) {
        double dot = db ? (double)db[j] * (double)fk_graph_values(p->g, bias)[j] : 0.0;
        for (size_t i = 0; i < z->in; i++) {
            dot += (double)w[j * z->in + i] * (double)dw[j * z->in + i];
            dw[j * z->in + i] *= c[j];
        }
        if (db)
            db[j] *= c[j];
        if (trained)
            p->grads[p->g->params[s->scale_param].offset + j] = (float)dot;
    }
}

ferkd_status fk_linear_backward(fk_plan *p, fk_step *s)
{
    fk_linear z = fk_linear_of(p, s);
    float *scratch = fk_buffer_at(p, s->buffers[FK_LINEAR_SCRATCH_BACK]);
    size_t stride = fk_linear_part(&z);
    bool ok = true;

    if (fk_linear_is_half(s) && p->o.lean)
        TRY(fk_run(p, s, FK_LINEAR_PACK_BACK));

#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++) {
        parts sums = parts_of(p, s, &z, t);
        size_t end = share(&z, p->threads, t + 1);
        memset(sums.weight, 0, stride * sizeof(float));
        for (size_t r = share(&z, p->threads, t); r < end; r += z.slice)
            ok = backward_rows(p, s, &z, r, fk_min_size(z.slice, end - r), t,
                               scratch + t * fk_linear_scratch(&z), &sums) &&
                 ok;
    }
    if (!ok)
        return fk_fail(FERKD_BUG, "node %s: a product failed", s->node->name);
    parts first = parts_of(p, s, &z, 0);
    fk_add_parts(p, s->node->param[0], first.weight, stride, p->threads);
    fk_add_parts(p, s->node->param[1], first.bias, stride, p->threads);
    if (s->before && s->before->op == FK_LAYERNORM) {
        fk_add_parts(p, s->before->param[0], first.norm_weight, stride, p->threads);
        fk_add_parts(p, s->before->param[1], first.norm_bias, stride, p->threads);
    }
    if (s->scale_param >= 0)
        unscale(p, s, &z);
    return FERKD_OK;
}
