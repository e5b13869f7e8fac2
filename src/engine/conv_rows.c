/* 1x1 convolutions in training in bf16 with channels last, each thread by itself: it takes some pixels of its images through the BatchNorm
 * before, the product, and the moments for the BatchNorm behind (backward the other way) while they are in the caches, and waits for nobody.
 * For weights that are not too many: each has its own gradient of them. */
#include "base/compat.h"

#include "engine/conv_slice.h"

#include "base/mem.h"
#include "engine/tune.h"

enum { FORWARD, DATA, WEIGHT }; /* products */

/* Numbers of the weights, at most (a ResNet-50 was 2% slower with 160 Ki); bytes of the pixels that are done at a time, with all that is
 * made of them; and pixels. Few pixels at a time (400 KB) were slower by a tenth, all of a thread's by a twentieth. */
#define MOST_WEIGHTS ((size_t)1100 << 10)
#define MOST_BYTES   ((size_t)4000 << 10)
#define MOST_PIXELS  4096
#define LEAST_PIXELS 32

/* --- which ----------------------------------------------------------------------------------- */

static size_t pixels_of(const fk_shape *s)
{
    return (size_t)(s->d[0] * s->d[2] * s->d[3]);
}

static size_t pixels_a_thread(const fk_plan *p, const fk_step *s)
{
    return pixels_of(&s->node->shape) / p->threads;
}

/* The most that divide a thread's pixels; 0: too few do. */
static size_t pixels_at_once(const fk_plan *p, const fk_step *s, const fk_conv_args *a)
{
    size_t all = pixels_a_thread(p, s);
    size_t most = MOST_BYTES / (3 * sizeof(uint16_t) * (size_t)(a->src.d[1] + a->dst.d[1]));
    size_t least = p->o.slice_bytes ? 4 : LEAST_PIXELS; /* in tests as few as can be */
    size_t n = p->o.slice_bytes ? 4 * least : fk_min_size(most, MOST_PIXELS);

    n = fk_min_size(n, all);
    while (n >= least && all % n)
        n--;
    return n >= least ? n : 0;
}

size_t fk_conv_rows_at_once(const fk_plan *p, const fk_step *s, const fk_conv_args *a)
{
    size_t weights = p->g->params[s->node->param[0]].count;
    const fk_tensor *in = &p->tensors[s->in[0]];
    int stored = in->lazy >= 0 ? p->steps[in->lazy]->in[0] : s->in[0];
    bool half = p->half_conv && fk_data_type_half(p, stored) && fk_md_half(in->md) &&
                fk_md_half(p->tensors[s->out].md);
    size_t values = pixels_of(&s->node->shape) * (size_t)(a->src.d[1] + a->dst.d[1]);
    bool few = weights <= MOST_WEIGHTS && p->threads * weights <= 2 * values;
    bool suits = half && p->o.layout == FK_LAYOUT_LAST && !p->o.lean && !fk_has_tiles() &&
                 (few || p->o.slice_bytes) && (size_t)s->node->shape.d[0] % p->threads == 0;

    return suits ? pixels_at_once(p, s, a) : 0;
}

/* --- where ----------------------------------------------------------------------------------- */

static size_t channels_of(const fk_plan *p, int tensor)
{
    return (size_t)p->tensors[tensor].shape.d[1];
}

/* Thread t's part of a buffer. */
static void *mine(const fk_plan *p, const fk_step *s, int buffer, size_t t)
{
    int b = s->buffers[buffer];

    return (char *)fk_buffer_at(p, b) + t * (p->buffers[b].bytes / p->threads / 64 * 64);
}

static fk_operand scratch(const fk_plan *p, const fk_step *s, int buffer, size_t t)
{
    return (fk_operand){mine(p, s, buffer, t), true};
}

/* The pixels at hand, of all vectors of channels, in operands that begin with them. */
static fk_planes planes_of(const fk_lay *lay, size_t n)
{
    return (fk_planes){0, 1, 0, n, lay->pixel, lay->vectors};
}

/* A thread's pixels have their sums in the first part of its images. */
static double *sums_of(const fk_plan *p, const fk_step *norm, size_t t)
{
    size_t parts = fk_parts_of(&p->tensors[norm->in[0]].lay);

    return fk_norm_part_of(p, norm, 0, t * parts / p->threads);
}

/* What the product reads: pixels from r on, as they are stored or worked out into scratch. */
static fk_operand input(const fk_plan *p, const fk_step *s, int buffer, size_t r, size_t t)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    size_t by = r * channels_of(p, s->in[0]);

    if (!before)
        return fk_operand_at(fk_data_operand(p, s->in[0]), by);
    const fk_lay *lay = &p->tensors[before->in[0]].lay;
    fk_norm_args a = fk_norm_moved_args(p, before, 0, by);
    a.at = planes_of(lay, s->rows_at_once);
    a.residual = (fk_operand){0};
    a.a = scratch(p, s, buffer, t);
    fk_norm_kernels_of(lay)->forward(&a);
    return a.a;
}

static fk_operand gradient(const fk_plan *p, const fk_step *s, size_t r, size_t t)
{
    const fk_tensor *out = &p->tensors[s->out];
    size_t by = r * channels_of(p, s->out);

    if (out->grad >= 0)
        return fk_operand_at(fk_buffer_operand(p, out->grad, true), by);
    fk_norm_args a = fk_norm_moved_args(p, fk_slice_norm_behind(p, s), 0, by);
    a.at = planes_of(&out->lay, s->rows_at_once);
    a.dy = scratch(p, s, FK_CONV_DY, t);
    fk_norm_kernels_of(&out->lay)->backward(&a);
    return a.dy;
}

/* --- forward --------------------------------------------------------------------------------- */

static void take_moments(const fk_plan *p, const fk_step *s, fk_operand y, size_t t)
{
    const fk_step *behind = fk_slice_norm_behind(p, s);
    const fk_lay *lay = &p->tensors[s->out].lay;
    double *sums = sums_of(p, behind, t);
    fk_norm_args a = {.at = planes_of(lay, s->rows_at_once),
                      .y = y,
                      .mean = fk_norm_vector_of(p, behind, FK_NORM_MEAN, 0),
                      .sums_step = fk_norm_sums_step(lay)};

    fk_norm_kernels_of(lay)->moments(&a, sums, sums + lay->lanes);
}

static bool multiply(const fk_plan *p, fk_step *s, int product, size_t t, const void *a,
                     const void *b, void *c)
{
    int room = product == FORWARD ? FK_CONV_ROOM : FK_CONV_ROOM_BACK;
    double start = fk_slice_begin(p, t);
    bool ok = fk_product_run(s->products[product], t, a, b, c, NULL, mine(p, s, room, t));

    fk_slice_end(p, s, t, start);
    return ok;
}

static bool forward_by(const fk_plan *p, fk_step *s, bool moments, size_t t)
{
    size_t all = pixels_a_thread(p, s);
    bool ok = true;

    for (size_t r = t * all; r < (t + 1) * all; r += s->rows_at_once) {
        fk_operand x = input(p, s, FK_CONV_X, r, t);
        fk_operand y = fk_operand_at(fk_data_operand(p, s->out), r * channels_of(p, s->out));
        ok = multiply(p, s, FORWARD, t, x.data, fk_buffer_at(p, s->buffers[FK_CONV_WEIGHTS]),
                      y.data) &&
             ok;
        if (moments)
            take_moments(p, s, y, t);
    }
    return ok;
}

static ferkd_status done(const fk_step *s, bool ok)
{
    return ok ? FERKD_OK : fk_fail(FERKD_BUG, "node %s: a product failed", s->node->name);
}

ferkd_status fk_conv_rows_forward(fk_plan *p, fk_step *s)
{
    const fk_step *behind = p->redoing ? NULL : fk_slice_norm_behind(p, s);
    bool ok = true;

    if (behind)
        fk_norm_begin_moments(p, behind);
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++)
        ok = forward_by(p, s, behind != NULL, t);
    return done(s, ok);
}

/* --- backward -------------------------------------------------------------------------------- */

/* The gradient of the input, to where it is stored: before the activation, with its sums, if the BatchNorm there is ours. */
static bool data_by(const fk_plan *p, fk_step *s, fk_operand dy, size_t r, size_t t)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t by = r * channels_of(p, s->in[0]);
    fk_operand to = fk_operand_at(fk_buffer_operand(p, s->din[0], true), by);
    fk_operand dx = before ? scratch(p, s, FK_CONV_DX, t) : to;
    bool ok = multiply(p, s, DATA, t, dy.data, fk_buffer_at(p, s->buffers[FK_CONV_DATA_WEIGHTS]),
                       dx.data);

    if (!before)
        return ok;
    double *sums = sums_of(p, before, t);
    fk_norm_args a = fk_norm_moved_args(p, before, 0, by);
    a.at = planes_of(lay, s->rows_at_once);
    a.g = dx;
    a.g2 = a.residual = (fk_operand){0};
    a.dz = to;
    a.sums_step = fk_norm_sums_step(lay);
    fk_norm_kernels_of(lay)->sums(&a, sums, sums + lay->lanes);
    return ok;
}

static bool weights_by(const fk_plan *p, fk_step *s, fk_operand x, fk_operand dy, bool add,
                       size_t t)
{
    if (s->buffers[FK_CONV_SUMS] >= 0) {
        fk_outer_values z = {&p->tensors[s->in[0]].shape, &s->node->shape, x.data, dy.data};
        double start = fk_slice_begin(p, t);
        fk_outer_sums_by(&z, s->rows_at_once, add, t, fk_buffer_at(p, s->buffers[FK_CONV_SUMS]));
        fk_slice_end(p, s, t, start);
        return true;
    }
    size_t n = p->g->params[s->node->param[0]].count;
    float *sum = (float *)fk_buffer_at(p, s->buffers[FK_CONV_DIFF_WEIGHTS]) + t * n;
    if (!add)
        memset(sum, 0, n * sizeof *sum);
    return multiply(p, s, WEIGHT, t, dy.data, x.data, sum);
}

static bool backward_by(const fk_plan *p, fk_step *s, size_t t)
{
    size_t all = pixels_a_thread(p, s);
    bool ok = true;

    for (size_t r = t * all; r < (t + 1) * all; r += s->rows_at_once) {
        fk_operand x = input(p, s, FK_CONV_X_BACK, r, t);
        fk_operand dy = gradient(p, s, r, t);
        ok = weights_by(p, s, x, dy, r > t * all, t) && ok;
        if (fk_wants_din(p, s, 0))
            ok = data_by(p, s, dy, r, t) && ok;
    }
    return ok;
}

ferkd_status fk_conv_rows_backward(fk_plan *p, fk_step *s)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    bool ok = true;

    if (before)
        fk_norm_begin_sums(p, before);
#pragma omp parallel for schedule(static) num_threads((int)p->threads) reduction(&& : ok)
    for (size_t t = 0; t < p->threads; t++)
        ok = backward_by(p, s, t);
    fk_finish_last_weights(p, s);
    return done(s, ok);
}

/* --- compiling ------------------------------------------------------------------------------- */

static ferkd_status pack(fk_plan *p, fk_step *s, int product, int buffer, int role)
{
    const fk_md *packed = fk_product_b(s->products[product]);
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    fk_shape weights = fk_shape_of(2, w->d[0], w->d[1]);
    fk_pd *pd = NULL;
    fk_md *md = NULL;

    TRY(fk_step_buffer(p, s, buffer, fk_md_bytes(packed), FK_LIFE_ALWAYS));
    TRY(product == DATA ? fk_md_plain(&md, &weights) : fk_md_transposed(&md, &weights));
    ferkd_status st = fk_pd_reorder(p->dn, &pd, md, packed);
    fk_md_free(md);
    TRY(st);
    return fk_step_prim(
        p, s, role, pd, "weights of a product",
        (fk_arg[]){{FK_SRC, {FK_REF_VALUES, s->node->param[0]}}, {FK_DST, {FK_REF_BUFFER, buffer}}},
        2);
}

static ferkd_status make_products(fk_plan *p, fk_step *s, const fk_conv_args *a, bool outer)
{
    size_t in = (size_t)a->src.d[1];
    size_t out = (size_t)a->dst.d[1];
    size_t n = s->rows_at_once;
    const fk_product_args args[] = {
        {.m = n, .n = out, .k = in, .half = true, .finish = true, .packed = true},
        {.m = n, .n = in, .k = out, .half = true, .finish = true, .packed = true},
        {.m = out, .n = in, .k = n, .half = true, .turn_a = true, .add = true}};

    for (int i = FORWARD; i <= WEIGHT; i++) {
        if ((i == DATA && !fk_wants_din(p, s, 0)) || (i == WEIGHT && outer))
            continue;
        ferkd_status st = fk_product_new(p->dn, &s->products[i], &args[i], p->threads);
        if (st != FERKD_OK) {
            fk_step_drop_products(s);
            return st;
        }
    }
    return FERKD_OK;
}

static ferkd_status compile_scratch(fk_plan *p, fk_step *s, const fk_conv_args *a)
{
    size_t x = p->threads * s->rows_at_once * (size_t)a->src.d[1] * sizeof(uint16_t);
    size_t room = p->threads * fk_step_product_room(s, FORWARD, 1);
    size_t room_back = p->threads * fk_step_product_room(s, DATA, 2);

    s->gradient_bytes =
        p->threads * (s->rows_at_once * (size_t)a->dst.d[1] * sizeof(uint16_t) + 64);
    x += p->threads * 64; /* each begins at a line of the cache */
    if (p->tensors[s->in[0]].lazy >= 0) {
        TRY(fk_step_buffer(p, s, FK_CONV_X, x, FK_LIFE_FORWARD));
        TRY(fk_step_buffer(p, s, FK_CONV_X_BACK, x, FK_LIFE_BACKWARD));
        if (fk_wants_din(p, s, 0))
            TRY(fk_step_buffer(p, s, FK_CONV_DX, x, FK_LIFE_BACKWARD));
    }
    TRY(fk_step_buffer(p, s, FK_CONV_ROOM, room, FK_LIFE_FORWARD));
    return fk_step_buffer(p, s, FK_CONV_ROOM_BACK, room_back, FK_LIFE_BACKWARD);
}

ferkd_status fk_compile_conv_rows(fk_plan *p, fk_step *s, fk_conv_args *a, const int roles[2])
{
    size_t weights = p->g->params[s->node->param[0]].count * sizeof(float);
    bool outer = false;

    a->prop = FK_BACKWARD_WEIGHTS;
    TRY(fk_outer_wins(p, a, &outer));
    TRY(make_products(p, s, a, outer));
    TRY(outer ? fk_step_buffer(p, s, FK_CONV_SUMS, fk_outer_bytes(p, &a->src, &a->dst),
                               FK_LIFE_BACKWARD)
              : fk_step_buffer(p, s, FK_CONV_DIFF_WEIGHTS, p->threads * weights, FK_LIFE_BACKWARD));
    TRY(compile_scratch(p, s, a));
    TRY(pack(p, s, FORWARD, FK_CONV_WEIGHTS, roles[0]));
    return s->products[DATA] ? pack(p, s, DATA, FK_CONV_DATA_WEIGHTS, roles[1]) : FERKD_OK;
}
