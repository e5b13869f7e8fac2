/* Matrix products of tokens, with what stands around them: the LayerNorm or activation of their input and, of the
 * output, the activation (inference), the weight of each channel (LayerScale, Touvron et al. 2021), stochastic
 * depth and the residual connection. Each thread takes some rows through all of it, so what is between stays in its
 * cache and has no memory: backward works it out anew. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/rng.h"

#include <omp.h>

enum { SCRATCH, SCRATCH_BACK, PARTS, FACTORS, SCALED, PACKED, PACKED_BACK, ROOM, ROOM_BACK };

enum { PACK, PACK_BACK }; /* weights to bf16, as the products want them */

/* The products: of whole slices, and, one further on, of the last one. */
enum { FORWARD = 0, WEIGHT = 2, DATA = 4, KINDS = 6 };

enum {
    SLICE_BYTES = 5 << 18, /* of the input and the output of some rows */
    LARGE = 1 << 20        /* weights that no cache holds: then many rows for each time they are read */
};

/* --- what belongs to a step ------------------------------------------------------------------ */

bool fk_is_linear(const fk_node *n)
{
    return n->op == FK_DENSE && n->shape.n >= 3;
}

bool fk_is_patches(const fk_plan *p, const fk_node *n)
{
    const fk_window *w = &n->u.conv.window;
    const fk_shape *in = &p->g->nodes[n->in[0]].shape;
    bool fits = n->op == FK_CONV && n->u.conv.groups == 1 && w->kernel[0] * w->kernel[1] > 1;

    for (int i = 0; i < 2 && fits; i++)
        fits = w->kernel[i] == w->stride[i] && w->dilation[i] == 1 && w->begin[i] == 0 &&
               w->end[i] == 0 && in->d[2 + i] % w->kernel[i] == 0;
    return fits;
}

bool fk_linear_takes(const fk_plan *p, int id)
{
    const fk_node *n = &p->g->nodes[id];
    int user = -1;
    const fk_node *next = fk_only_user(p, id, &user);
    bool can = n->op == FK_LAYERNORM || (n->op == FK_ACT && fk_rows_have_act(n->u.act.kind));

    return can && next && fk_is_linear(next) && p->tensor_of[n->in[0]] >= 0;
}

/* The nodes behind product `id` that its step does, too. */
typedef struct tail {
    int id;       /* whose output the step makes */
    int residual; /* tensor, -1: none */
    int scale;    /* parameter that multiplies each channel, -1: none */
    const fk_node *drop;
    fk_post post;
} tail;

/* x times a constant a channel: the parameter, or -1. */
static int channel_scale(const fk_plan *p, const fk_node *n, int x)
{
    if (n->op != FK_BINARY || n->u.binary.kind != FK_MUL)
        return -1;
    const fk_node *other = &p->g->nodes[n->in[n->in[0] == x ? 1 : 0]];
    if (other->op != FK_CONST)
        return -1;
    size_t channels = (size_t)n->shape.d[n->shape.n - 1];
    const fk_shape *s = &other->shape;
    return fk_shape_equal(&n->shape, &p->g->nodes[x].shape) && s->n >= 1 &&
                   s->d[s->n - 1] == (int64_t)channels && fk_shape_count(s) == (int64_t)channels
               ? other->param[0]
               : -1;
}

/* The tensor that node n adds to x, if it is there already. */
static int added(const fk_plan *p, const fk_node *n, int x)
{
    if (n->op != FK_BINARY || n->u.binary.kind != FK_ADD || n->in[0] == n->in[1])
        return -1;
    int other = p->tensor_of[n->in[n->in[0] == x ? 1 : 0]];
    return other >= 0 && p->tensors[other].param < 0 && p->tensors[other].lazy < 0 &&
                   fk_shape_equal(&p->tensors[other].shape, &p->g->nodes[x].shape)
               ? other
               : -1;
}

static tail absorb_tail(fk_plan *p, int id)
{
    tail t = {.id = id, .residual = -1, .scale = -1};
    int chain[3];
    int n = 0;
    int user = -1;
    int at = id;
    const fk_node *next = fk_only_user(p, at, &user);

    if (!p->o.train && next && next->op == FK_ACT && fk_rows_have_act(next->u.act.kind)) {
        t.post = (fk_post){1, next->u.act.kind, next->u.act.a, next->u.act.b};
        p->absorbed[t.id = user] = true;
        return t;
    }
    int scale = next ? channel_scale(p, next, at) : -1;
    if (scale >= 0) {
        chain[n++] = at = user;
        next = fk_only_user(p, at, &user);
    }
    const fk_node *drop = next && next->op == FK_DROPOUT && next->u.dropout.whole ? next : NULL;
    if (drop) {
        chain[n++] = at = user;
        next = fk_only_user(p, at, &user);
    }
    int residual = next ? added(p, next, at) : -1;
    if (residual < 0)
        return t;
    chain[n++] = user;
    for (int i = 0; i < n; i++)
        p->absorbed[chain[i]] = true;
    t = (tail){.id = user, .residual = residual, .scale = scale};
    t.drop = p->o.train && drop && drop->u.dropout.ratio > 0.0 ? drop : NULL;
    return t;
}

/* --- slices ---------------------------------------------------------------------------------- */

typedef struct sizes {
    size_t rows, in, out; /* of the product */
    size_t slice;         /* rows at a time */
    size_t rows_each;     /* rows an image, for stochastic depth */
} sizes;

static sizes sizes_of(const fk_plan *p, const fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    sizes z = {.rows = (size_t)(fk_shape_count(&s->node->shape) / w->d[0]),
               .in = (size_t)(fk_shape_count(w) / w->d[0]),
               .out = (size_t)w->d[0]};

    z.slice = SLICE_BYTES / ((z.in + z.out) * sizeof(float));
    z.slice = fk_min_size(fk_max_size(z.slice, z.in * z.out > LARGE ? 512 : 64), 512);
    size_t turns = (z.rows + z.slice * p->threads - 1) / (z.slice * p->threads);
    z.slice = (z.rows + turns * p->threads - 1) / (turns * p->threads);
    z.rows_each = z.rows / (size_t)s->node->shape.d[0];
    return z;
}

/* Are the products of a step in bf16? */
static bool is_half(const fk_step *s)
{
    return s->buffers[PACKED] >= 0;
}

/* Product `kind` of m rows, by thread t. */
static bool multiply(const fk_plan *p, const fk_step *s, const sizes *z, int kind, size_t m,
                     size_t t, const void *a, const void *b, void *c)
{
    const fk_product *product = s->products[kind + (m == z->slice ? 0 : 1)];
    int buffer = s->buffers[kind == FORWARD ? ROOM : ROOM_BACK];
    char *room = buffer >= 0 ? fk_buffer_at(p, buffer) : NULL;
    size_t each = room ? p->buffers[buffer].bytes / p->threads : 0;

    return fk_product_run(product, t, a, b, c, room ? room + t * each : NULL);
}

/* The rows of thread t. */
static size_t share(const sizes *z, size_t threads, size_t t)
{
    size_t slices = (z->rows + z->slice - 1) / z->slice;

    return fk_min_size(slices * t / threads * z->slice, z->rows);
}

static const float *weights_of(const fk_plan *p, const fk_step *s)
{
    return s->scale_param >= 0 ? fk_buffer_at(p, s->buffers[SCALED])
                               : fk_graph_values(p->g, s->node->param[0]);
}

/* As the products want them. */
static const void *factor_of(const fk_plan *p, const fk_step *s, bool back)
{
    return is_half(s) ? fk_buffer_at(p, s->buffers[back ? PACKED_BACK : PACKED])
                      : (const void *)weights_of(p, s);
}

static const float *bias_of(const fk_plan *p, const fk_step *s, const sizes *z)
{
    if (s->node->param[1] < 0)
        return NULL;
    return s->scale_param >= 0 ? weights_of(p, s) + z->in * z->out
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
static void take_patches(const fk_plan *p, const fk_step *s, const sizes *z, size_t first, size_t m,
                         void *room, float *floats)
{
    fk_row_sum k = {.rows = m, .n = z->in, .a = {floats, false}, .y = {room, true}};

    copy_patches(p, s, first, m, fk_data(p, s->in[0]), is_half(s) ? floats : room, false);
    if (is_half(s))
        fk_rows_best()->combine(&k);
}

/* The input of the product, rows first .. first + m, in its type: where they are, or in room. floats: as many more, for what
 * is worked out. */
static const void *input_rows(const fk_plan *p, const fk_step *s, const sizes *z, size_t first,
                              size_t m, void *room, float *floats)
{
    const fk_node *before = s->before;
    fk_operand to = {room, is_half(s)};

    if (s->node->op == FK_CONV) {
        take_patches(p, s, z, first, m, room, floats);
        return room;
    }
    fk_operand x = fk_operand_at(fk_data_operand(p, s->in[0]), first * z->in);
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
    } else if (before) {
        fk_rows_best()->act((fk_post){1, before->u.act.kind, before->u.act.a, before->u.act.b}, x,
                            to, m * z->in);
    } else if (x.half != to.half) {
        fk_row_sum k = {.rows = m, .n = z->in, .a = x, .y = to};
        fk_rows_best()->combine(&k);
    } else {
        return x.data;
    }
    return room;
}

/* --- forward --------------------------------------------------------------------------------- */

/* Is the product's result what the step makes, its bias and the residual added to before? */
static bool is_direct(const fk_plan *p, const fk_step *s)
{
    return !fk_data_type_half(p, s->out) && !s->post.n && !s->drop;
}

/* Scratch: the input, the output, patches. */
static bool forward_rows(const fk_plan *p, const fk_step *s, const sizes *z, size_t first, size_t m,
                         size_t t, float *room)
{
    const float *factors = s->drop ? fk_buffer_at(p, s->buffers[FACTORS]) : NULL;
    const float *bias = bias_of(p, s, z);
    fk_operand out = fk_operand_at(fk_data_operand(p, s->out), first * z->out);
    fk_operand residual = {0};
    bool direct = is_direct(p, s);
    fk_operand sum = {direct ? out.data : room + m * z->in, false};
    fk_row_sum k = {.rows = m, .n = z->out, .y = sum, .row = bias};

    if (s->residual >= 0)
        residual = fk_operand_at(fk_data_operand(p, s->residual), first * z->out);
    if (direct) {
        k.b = residual;
        fk_rows_best()->combine(&k);
    }
    const void *x = input_rows(p, s, z, first, m, room, room + m * (z->in + z->out));
    if (!multiply(p, s, z, FORWARD, m, t, x, factor_of(p, s, false), sum.data))
        return false;
    if (direct)
        return true;
    k.a = sum;
    if (bias && (s->post.n || factors)) { /* these come behind the bias */
        fk_rows_best()->combine(&k);
        k.row = NULL;
    }
    if (s->post.n) {
        fk_rows_best()->act(s->post, sum, out, m * z->out);
        return true;
    }
    k.b = residual;
    k.y = out;
    k.factors = factors;
    k.first = first;
    k.rows_each = z->rows_each;
    fk_rows_best()->combine(&k);
    return true;
}

/* Stochastic depth: which images the branch exists for, from (seed, step, node), as dropout. */
static void draw_factors(fk_plan *p, const fk_step *s)
{
    float *factors = fk_buffer_at(p, s->buffers[FACTORS]);
    double ratio = s->drop->u.dropout.ratio;
    fk_rng r = fk_rng_at(p->o.seed, FK_RNG_DROPOUT, (uint32_t)p->step, (uint32_t)s->number);

    for (int64_t i = 0; i < s->node->shape.d[0]; i++)
        factors[i] = fk_rng_unit(&r) < ratio ? 0.0f : (float)(1.0 / (1.0 - ratio));
}

static size_t scratch_floats(const sizes *z)
{
    return z->slice * (2 * z->in + z->out);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    sizes z = sizes_of(p, s);
    float *scratch = fk_buffer_at(p, s->buffers[SCRATCH]);

    bool ok = true;

    if (is_half(s) && p->o.lean)
        TRY(fk_run(p, s, PACK));
    if (s->drop)
        draw_factors(p, s);
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++) {
        size_t end = share(&z, p->threads, t + 1);
        for (size_t r = share(&z, p->threads, t); r < end; r += z.slice)
            ok = forward_rows(p, s, &z, r, fk_min_size(z.slice, end - r), t,
                              scratch + t * scratch_floats(&z)) &&
                 ok;
    }
    return ok ? FERKD_OK : fk_fail(FERKD_BUG, "node %s: a product failed", s->node->name);
}

/* --- backward -------------------------------------------------------------------------------- */

/* One thread's sums: of the weights' gradient, the bias's, and those of the LayerNorm before. */
typedef struct parts {
    float *weight, *bias, *norm_weight, *norm_bias;
} parts;

static size_t part_floats(const sizes *z)
{
    return z->in * z->out + z->out + 2 * z->in;
}

static parts parts_of(const fk_plan *p, const fk_step *s, const sizes *z, size_t t)
{
    float *at = (float *)fk_buffer_at(p, s->buffers[PARTS]) + t * part_floats(z);

    return (parts){at, at + z->in * z->out, at + (z->in + 1) * z->out,
                   at + (z->in + 1) * z->out + z->in};
}

/* The gradient of the product's output, in the type of the products; writes the residual's, where that is another's
 * memory. */
static fk_operand output_gradient(const fk_plan *p, const fk_step *s, const sizes *z, size_t first,
                                  size_t m, void *room)
{
    const fk_tensor *out = &p->tensors[s->out];
    const float *factors = s->drop ? fk_buffer_at(p, s->buffers[FACTORS]) : NULL;
    bool half = fk_data_type_half(p, s->out);
    size_t at = first * z->out;
    fk_operand g = fk_operand_at(fk_buffer_operand(p, out->grad, half), at);
    fk_operand g2 = fk_operand_at(fk_buffer_operand(p, out->grad2, half), at);
    fk_row_sum k = {.rows = m, .n = z->out, .a = g, .b = g2, .y = {room, is_half(s)}};

    if (s->residual >= 0 && s->din[1] >= 0 && s->din[1] != out->grad) {
        k.y = fk_operand_at(fk_buffer_operand(p, s->din[1], fk_data_type_half(p, s->residual)), at);
        fk_rows_best()->combine(&k);
        k = (fk_row_sum){.rows = m, .n = z->out, .a = k.y, .y = {room, is_half(s)}};
    }
    if (k.a.half == is_half(s) && !k.b.data && !factors)
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
static void input_gradient(const fk_plan *p, const fk_step *s, const sizes *z, size_t first,
                           size_t m, float *dh, const parts *sums)
{
    const fk_node *before = s->before;
    bool half = fk_data_type_half(p, s->in[0]);
    size_t at = first * z->in;

    if (s->node->op == FK_CONV) {
        copy_patches(p, s, first, m, fk_din(p, s, 0), dh, true);
        return;
    }
    fk_operand x = fk_operand_at(fk_data_operand(p, s->in[0]), at);
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
        fk_rows_best()->act_back((fk_post){1, before->u.act.kind, before->u.act.a, before->u.act.b},
                                 x, (fk_operand){dh, false}, dx, m * z->in);
    } else if (dx.data && dx.data != dh) {
        fk_row_sum k = {.rows = m, .n = z->in, .a = {dh, false}, .y = dx};
        fk_rows_best()->combine(&k);
    }
}

/* Scratch: the input, its gradient, the output's gradient. */
static bool backward_rows(const fk_plan *p, const fk_step *s, const sizes *z, size_t first,
                          size_t m, size_t t, float *room, const parts *sums)
{
    float *dh = room + m * z->in;
    fk_operand dy = output_gradient(p, s, z, first, m, room + 2 * m * z->in);
    const void *x = input_rows(p, s, z, first, m, room, dh);

    if (!multiply(p, s, z, WEIGHT, m, t, dy.data, x, sums->weight))
        return false;
    if (s->node->param[1] >= 0)
        fk_rows_best()->column_sums(dy, m, z->out, sums->bias);
    bool wants = fk_wants_din(p, s, 0);
    if (!wants && !(s->before && s->before->op == FK_LAYERNORM))
        return true;
    if (wants && !s->before && s->node->op == FK_DENSE && !fk_data_type_half(p, s->in[0]))
        dh = (float *)fk_buffer_at(p, s->din[0]) + first * z->in;
    if (!multiply(p, s, z, DATA, m, t, dy.data, factor_of(p, s, true), dh))
        return false;
    input_gradient(p, s, z, first, m, dh, sums);
    return true;
}

/* to[i] = sum over threads of from[t stride + i]; param -1: nothing. */
void fk_add_parts(fk_plan *p, int param, const float *from, size_t stride, size_t threads)
{
    if (param < 0 || p->g->params[param].kind == FK_BUFFER)
        return;
    float *to = p->grads + p->g->params[param].offset;
    size_t n = p->g->params[param].count;

#pragma omp parallel for simd schedule(static) num_threads((int)p->threads)
    for (size_t i = 0; i < n; i++) {
        float sum = from[i];
        for (size_t t = 1; t < threads; t++)
            sum += from[t * stride + i];
        to[i] = sum;
    }
}

/* With weights W and scale c the product was of c W: its gradient G makes that of W c G, and of each c the product of
 * the rows of W and G. */
static void unscale(fk_plan *p, const fk_step *s, const sizes *z)
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

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    sizes z = sizes_of(p, s);
    float *scratch = fk_buffer_at(p, s->buffers[SCRATCH_BACK]);
    size_t stride = part_floats(&z);
    bool ok = true;

    if (is_half(s) && p->o.lean)
        TRY(fk_run(p, s, PACK_BACK));

#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++) {
        parts sums = parts_of(p, s, &z, t);
        size_t end = share(&z, p->threads, t + 1);
        memset(sums.weight, 0, stride * sizeof(float));
        for (size_t r = share(&z, p->threads, t); r < end; r += z.slice)
            ok = backward_rows(p, s, &z, r, fk_min_size(z.slice, end - r), t,
                               scratch + t * scratch_floats(&z), &sums) &&
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

/* --- compiling ------------------------------------------------------------------------------- */

/* Weights and bias times the scale of their channel. */
static void scale_weights(fk_plan *p, fk_step *s)
{
    sizes z = sizes_of(p, s);
    const float *w = fk_graph_values(p->g, s->node->param[0]);
    const float *c = fk_graph_values(p->g, s->scale_param);
    int bias = s->node->param[1];
    float *to = fk_buffer_at(p, s->buffers[SCALED]);

    for (size_t j = 0; j < z.out; j++) {
        for (size_t i = 0; i < z.in; i++)
            to[j * z.in + i] = c[j] * w[j * z.in + i];
        to[z.in * z.out + j] = bias >= 0 ? c[j] * fk_graph_values(p->g, bias)[j] : 0.0f;
    }
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    if (s->scale_param >= 0)
        scale_weights(p, s);
    if (is_half(s) && !p->o.lean)
        TRY(fk_run(p, s, PACK));
    return s->prims[PACK_BACK].prim && !p->o.lean ? fk_run(p, s, PACK_BACK) : FERKD_OK;
}

/* The products, for whole slices and for the last one. */
static ferkd_status make_products(fk_plan *p, fk_step *s, const sizes *z, bool half)
{
    size_t rest = z->rows % z->slice ? z->rows % z->slice : z->slice;

    for (int i = 0; i < (rest == z->slice ? 1 : 2); i++) {
        size_t m = i ? rest : z->slice;
        fk_product_args forward_args = {.m = m,
                                        .n = z->out,
                                        .k = z->in,
                                        .turn_b = !half,
                                        .packed = half,
                                        .add = is_direct(p, s),
                                        .half = half};
        fk_product_args weight_args = {
            .m = z->out, .n = z->in, .k = m, .turn_a = true, .add = true, .half = half};
        fk_product_args data_args = {.m = m, .n = z->in, .k = z->out, .packed = half, .half = half};
        TRY(fk_product_new(p->dn, &s->products[FORWARD + i], &forward_args, p->threads));
        if (!p->o.train)
            continue;
        TRY(fk_product_new(p->dn, &s->products[WEIGHT + i], &weight_args, p->threads));
        TRY(fk_product_new(p->dn, &s->products[DATA + i], &data_args, p->threads));
    }
    return FERKD_OK;
}

/* The weights in bf16 for a product, and what makes them so. Where memory is scarce they exist while the step runs. */
static ferkd_status pack_weights(fk_plan *p, fk_step *s, const sizes *z, bool back)
{
    const fk_md *packed = fk_product_b(s->products[back ? DATA : FORWARD]);
    int buffer = back ? PACKED_BACK : PACKED;
    fk_ref from = {FK_REF_VALUES, s->node->param[0]};
    int64_t dims[2] = {(int64_t)z->in, (int64_t)z->out};
    int64_t turned[2] = {(int64_t)z->out, (int64_t)z->in};
    int64_t strides[2] = {1, (int64_t)z->in};
    int64_t straight[2] = {(int64_t)z->in, 1};
    fk_pd *pd = NULL;
    fk_md *md = NULL;

    if (s->scale_param >= 0)
        from = (fk_ref){FK_REF_BUFFER, SCALED};
    TRY(fk_step_buffer(p, s, buffer, fk_md_bytes(packed),
                       !p->o.lean ? FK_LIFE_ALWAYS
                       : back     ? FK_LIFE_BACKWARD
                                  : FK_LIFE_FORWARD));
    TRY(fk_md_strided(&md, 2, back ? turned : dims, back ? straight : strides));
    ferkd_status st = fk_pd_reorder(p->dn, &pd, md, packed);
    fk_md_free(md);
    TRY(st);
    return fk_step_prim(p, s, back ? PACK_BACK : PACK, pd, "weights of a product",
                        (fk_arg[]){{FK_SRC, from}, {FK_DST, {FK_REF_BUFFER, buffer}}}, 2);
}

static size_t room_of(const fk_step *s, int first, int n)
{
    size_t most = 64;

    for (int i = first; i < first + n; i++)
        most = fk_max_size(most, s->products[i] ? fk_product_room(s->products[i]) : 0);
    return most;
}

/* In bf16 where that is how this processor multiplies, and oneDNN has such products. */
static ferkd_status add_products(fk_plan *p, fk_step *s)
{
    sizes z = sizes_of(p, s);
    bool half = p->half_conv;
    ferkd_status st = make_products(p, s, &z, half);

    if (st == FERKD_UNSUPPORTED && half) {
        for (int i = 0; i < KINDS; i++) {
            fk_product_free(s->products[i]);
            s->products[i] = NULL;
        }
        half = false;
        st = make_products(p, s, &z, half);
    }
    TRY(st);
    if (!half)
        return FERKD_OK;
    TRY(fk_step_buffer(p, s, ROOM, p->threads * room_of(s, FORWARD, 2), FK_LIFE_FORWARD));
    TRY(pack_weights(p, s, &z, false));
    if (!p->o.train)
        return FERKD_OK;
    TRY(fk_step_buffer(p, s, ROOM_BACK, p->threads * room_of(s, WEIGHT, 4), FK_LIFE_BACKWARD));
    return pack_weights(p, s, &z, true);
}

static ferkd_status add_buffers(fk_plan *p, fk_step *s)
{
    sizes z = sizes_of(p, s);
    size_t scratch = p->threads * scratch_floats(&z) * sizeof(float);

    s->refresh = refresh;
    TRY(fk_step_buffer(p, s, SCRATCH, scratch, FK_LIFE_FORWARD));
    if (s->scale_param >= 0)
        TRY(fk_step_buffer(p, s, SCALED, (z.in + 1) * z.out * sizeof(float), FK_LIFE_ALWAYS));
    TRY(add_products(p, s));
    if (!p->o.train)
        return FERKD_OK;
    if (s->drop)
        TRY(fk_step_buffer(p, s, FACTORS, (size_t)s->node->shape.d[0] * sizeof(float),
                           FK_LIFE_BOTH));
    TRY(fk_step_buffer(p, s, SCRATCH_BACK, scratch, FK_LIFE_BACKWARD));
    return fk_step_buffer(p, s, PARTS, p->threads * part_floats(&z) * sizeof(float),
                          FK_LIFE_BACKWARD);
}

static void begin_step(fk_plan *p, fk_step *s)
{
    s->kind = FK_KIND_DENSE;
    s->takes_two = true;
    s->forward = forward;
    s->backward = backward;
    fk_step_keep(p, s->in[0], s);
}

/* The image row-major or with channels last, whichever it has; the output with channels last: rows. */
ferkd_status fk_compile_patches(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *last = NULL;
    int in = p->tensor_of[n->in[0]];
    fk_shape shape = p->tensors[in].shape;

    TRY(fk_md_last(&last, &shape, false));
    bool has = fk_md_equal(last, p->tensors[in].md);
    fk_md_free(last);
    if (!has)
        TRY(fk_want_plain(p, in, &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    TRY(fk_md_last(&last, &n->shape, p->o.train && p->o.half));
    TRY(fk_step_output(p, s, last, &n->shape, id));
    begin_step(p, s);
    return add_buffers(p, s);
}

ferkd_status fk_compile_linear(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    const fk_node *before = NULL;
    int from = n->in[0];
    int in;

    if (p->tensor_of[from] < 0) {
        before = &p->g->nodes[from];
        from = before->in[0];
    }
    TRY(fk_want_rows(p, p->tensor_of[from], &in));
    tail t = absorb_tail(p, id);
    if (t.residual >= 0)
        TRY(fk_want_rows(p, t.residual, &t.residual));
    TRY(fk_step_new(p, &s, n, t.residual >= 0 ? 2 : 1));
    s->in[0] = in;
    if (t.residual >= 0)
        s->in[1] = s->residual = t.residual;
    s->passes = t.residual >= 0 ? 1 : -1;
    s->before = before;
    s->drop = t.drop;
    s->scale_param = t.scale;
    s->post = t.post;
    TRY(fk_rows_md(p, &n->shape, &md));
    TRY(fk_step_output(p, s, md, &n->shape, t.id));
    begin_step(p, s);
    return add_buffers(p, s);
}
