/* 1x1 convolutions in inference in f32 on matrix tiles, in vectors of channels or with channels last. As many pixels at a time as
 * stay in the cache with what they become; there the activation is done on them, and with it the bias where there is a value
 * for the sums to begin with. */
#include "base/compat.h"

#include "engine/conv_slice.h"

enum { WEIGHTS, BIAS, ROOM, NEUTRAL };

/* Floats of input and output of some pixels that the second-level cache holds beside the weights at hand. */
#define SLICE (256 << 10)

typedef struct shape {
    size_t rows, slice; /* pixels, in 16s of each image; at a time */
    size_t in, out;
} shape;

/* Channels last, not in vectors of them? With 16 channels it is the same, but tiles do not pay. */
static bool is_last(const fk_plan *p, int tensor)
{
    return p->tensors[tensor].lay.pixel != 16;
}

static fk_tiles_images images_of(const fk_plan *p, int tensor, bool last)
{
    const fk_shape *s = &p->tensors[tensor].shape;

    return (fk_tiles_images){.images = (size_t)s->d[0],
                             .channels = (size_t)s->d[1],
                             .pixels = (size_t)(s->d[2] * s->d[3]),
                             .last = last};
}

static shape shape_of(const fk_plan *p, int in, const fk_shape *y)
{
    fk_tiles_images all = images_of(p, in, is_last(p, in));
    shape z = {.rows = fk_tiles_rows(&all), .in = all.channels, .out = (size_t)y->d[1]};
    size_t each = ((z.rows + 15) / 16 + p->threads - 1) / p->threads * 16;

    z.slice = fk_max_size(SLICE / (z.in + z.out) / 32 * 32, 128);
    z.slice = fk_min_size(z.slice, each);
    return z;
}

bool fk_conv_suits_tiles_forward(const fk_plan *p, const fk_conv_args *a, int in)
{
    const fk_tensor *x = &p->tensors[in];

    if (p->o.train || a->half || fk_md_half(x->md) || x->lay.lanes != 16 ||
        !fk_conv_is_pointwise(a) || a->src.d[1] % 16 || a->dst.d[1] % 16)
        return false;
    shape z = shape_of(p, in, &a->dst);
    return (!a->post.n || fk_rows_have_act(a->post.kind)) && fk_tiles_pay(z.slice, z.out, z.in);
}

/* --- running --------------------------------------------------------------------------------- */

/* Bias and activation, where y is: of the pixels at `at` in each vector of channels, or, side by side, in all of them at once. */
static void finish_planes(const fk_plan *p, const fk_step *s, const float *bias, fk_planes at)
{
    const fk_lay *lay = &p->tensors[s->out].lay;
    const float *neutral = fk_buffer_at(p, s->buffers[NEUTRAL]);
    const fk_norm_kernels *kernels = fk_norm_for(16);
    fk_operand y = fk_data_operand(p, s->out);
    fk_norm_args k = {.at = at,
                      .y = y,
                      .a = y,
                      .mean = neutral,
                      .scale = neutral + lay->vectors * 16,
                      .shift = bias ? bias : neutral,
                      .act = s->post};

    if (at.vectors > 1) {
        kernels->rows->forward(&k);
        return;
    }
    for (size_t v = 0; v < lay->vectors; v++, k.at.first += lay->vector) {
        kernels->forward(&k);
        k.shift += bias ? 16 : 0;
    }
}

/* The same of rows first .. first + count of the product. */
static void finish(const fk_plan *p, const fk_step *s, const float *bias, size_t first,
                   size_t count)
{
    const fk_lay *lay = &p->tensors[s->out].lay;
    size_t each = (lay->pixels + 15) / 16 * 16; /* rows of an image */

    if (is_last(p, s->in[0])) {
        finish_planes(p, s, bias,
                      (fk_planes){first * lay->pixel, 1, 0, count, lay->pixel, lay->vectors});
        return;
    }
    for (size_t i = first / each; i * each < first + count; i++) {
        size_t from = first > i * each ? first - i * each : 0;
        size_t to = fk_min_size(first + count - i * each, lay->pixels);
        if (from < to)
            finish_planes(p, s, bias,
                          (fk_planes){i * lay->image + from * lay->pixel, 1, lay->image, to - from,
                                      lay->pixel, 1});
    }
}

static void run_rows(const fk_plan *p, const fk_step *s, size_t first, size_t count, void *room)
{
    bool last = is_last(p, s->in[0]);
    fk_tiles_images x = images_of(p, s->in[0], last);
    fk_tiles_images y = images_of(p, s->out, last);
    const float *bias = fk_conv_bias(p, s, BIAS);
    bool adds = s->residual >= 0; /* it is where the output goes */

    x.at = fk_data_operand(p, s->in[0]).data;
    y.at = fk_data_operand(p, s->out).data;
    fk_tiles_pixels(&(fk_tiles_product){.x = &x,
                                        .packed = fk_buffer_at(p, s->buffers[WEIGHTS]),
                                        .y = &y,
                                        .row = adds ? NULL : bias,
                                        .add = adds,
                                        .rows = {first, count}},
                    room);
    if (s->post.n || (adds && bias))
        finish(p, s, adds ? bias : NULL, first, count);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    shape z = shape_of(p, s->in[0], &s->node->shape);
    size_t slices = (z.rows + z.slice - 1) / z.slice;
    size_t each = p->buffers[s->buffers[ROOM]].bytes / p->threads;

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++) {
        char *room = (char *)fk_buffer_at(p, s->buffers[ROOM]) + t * each;
        for (size_t i = slices * t / p->threads; i < slices * (t + 1) / p->threads; i++)
            run_rows(p, s, i * z.slice, fk_min_size(z.rows - i * z.slice, z.slice), room);
    }
    return FERKD_OK;
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;

    fk_load_conv_weights(p, s, s->folded ? fk_buffer_at(p, s->buffers[BIAS]) : NULL);
    float *neutral = fk_buffer_at(p, s->buffers[NEUTRAL]);
    for (size_t c = 0; c < 2 * (size_t)w->d[0]; c++)
        neutral[c] = c < (size_t)w->d[0] ? 0.0f : 1.0f;
    fk_tiles_pack(&(fk_gemm_args){.b = p->scratch,
                                  .ldb = (size_t)w->d[1],
                                  .turn_b = true,
                                  .n = (size_t)w->d[0],
                                  .k = (size_t)w->d[1]},
                  fk_buffer_at(p, s->buffers[WEIGHTS]));
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

ferkd_status fk_compile_tiles_conv(fk_plan *p, const fk_node *n, int in, const fk_tail *tail,
                                   const fk_node *norm)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    int residual = tail->residual;
    shape z = shape_of(p, in, &n->shape);

    if (is_last(p, in))
        TRY(fk_md_last(&md, &n->shape, false));
    else
        TRY(fk_md_lanes(&md, &n->shape, 16, false));
    ferkd_status st = residual < 0 ? FERKD_OK : fk_want(p, residual, md, &residual);
    if (st == FERKD_OK)
        st = fk_step_new(p, &s, n, residual >= 0 ? 2 : 1);
    if (st != FERKD_OK) {
        fk_md_free(md);
        return st;
    }
    s->in[0] = in;
    if (residual >= 0)
        s->in[1] = s->residual = residual;
    s->kind = FK_KIND_CONV;
    s->forward = forward;
    s->refresh = refresh;
    s->folded = norm;
    s->post = tail->post;
    if (residual >= 0)
        TRY(fk_step_output_in(p, s, md, &n->shape, tail->id, residual));
    else
        TRY(fk_step_output(p, s, md, &n->shape, tail->id));
    if (norm)
        TRY(fk_step_buffer(p, s, BIAS, z.out * sizeof(float), FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, NEUTRAL, 2 * z.out * sizeof(float), FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, WEIGHTS, fk_tiles_packed_bytes(z.out, z.in), FK_LIFE_ALWAYS));
    return fk_step_buffer(p, s, ROOM, p->threads * fk_tiles_room(z.slice, z.out, z.in),
                          FK_LIFE_FORWARD);
}
