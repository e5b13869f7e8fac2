/* 1x1 convolutions in training in f32 on matrix tiles: each pixel's channels are a row, and a vector of 16 channels is a row of a tile,
 * so values are packed from where they are and sums go where they belong. */
#include "base/compat.h"

#include "engine/conv_slice.h"

/* --- which ----------------------------------------------------------------------------------- */

bool fk_conv_is_pointwise(const fk_conv_args *a)
{
    const fk_window *w = &a->window;

    for (int i = 0; i < 2; i++) {
        if (w->kernel[i] != 1 || w->stride[i] != 1 || w->begin[i] || w->end[i])
            return false;
    }
    return a->groups == 1;
}

/* Rows of the products: pixels of all images of a slice, as many as make 16s of each. */
static size_t rows_of(const fk_conv_args *a)
{
    const fk_tiles_images x = {.images = (size_t)a->src.d[0],
                               .pixels = (size_t)(a->src.d[2] * a->src.d[3])};

    return fk_tiles_rows(&x);
}

bool fk_conv_suits_tiles(const fk_plan *p, const fk_conv_args *a)
{
    size_t pixels = (size_t)(a->src.d[0] * a->src.d[2] * a->src.d[3]);
    size_t whole = rows_of(a);
    size_t rows = whole / p->threads / 32 * 32;
    size_t in = (size_t)a->src.d[1];
    size_t out = (size_t)a->dst.d[1];

    if (a->half || p->o.lean || fk_dn_lanes() != 16 || a->bias || !fk_conv_is_pointwise(a) ||
        in % 16 || out % 16 || 3 * whole > 4 * pixels) /* mostly tiles that are not full */
        return false;
    return fk_tiles_pay(rows, out, in) && fk_tiles_pay(rows, in, out) &&
           fk_tiles_pay(out, in, rows);
}

/* --- where ----------------------------------------------------------------------------------- */

bool fk_conv_on_tiles(const fk_step *s)
{
    return s->buffers[FK_CONV_ROOM] >= 0 && !s->rows_at_once;
}

static fk_tiles_images images_of(const fk_step *s, const fk_shape *shape, fk_operand values)
{
    return (fk_tiles_images){.at = values.data,
                             .images = s->slice_images,
                             .channels = (size_t)shape->d[1],
                             .pixels = (size_t)(shape->d[2] * shape->d[3])};
}

/* Part t of n, in whole blocks of 32, of which the last may have less. */
static fk_tiles_range share(const fk_plan *p, size_t n, size_t t)
{
    size_t blocks = (n + 31) / 32;
    size_t first = fk_min_size(blocks * t / p->threads * 32, n);

    return (fk_tiles_range){first, fk_min_size(blocks * (t + 1) / p->threads * 32, n) - first};
}

static void *room_of(const fk_plan *p, const fk_step *s, int buffer, size_t t)
{
    int b = s->buffers[buffer];

    return (char *)fk_buffer_at(p, b) + t * (p->buffers[b].bytes / p->threads);
}

/* --- running --------------------------------------------------------------------------------- */

void fk_conv_tiles_refresh(const fk_plan *p, const fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    const float *values = fk_graph_values(p->g, s->node->param[0]);
    size_t out = (size_t)w->d[0];
    size_t in = (size_t)w->d[1];
    const fk_gemm_args ways[] = {{.b = values, .ldb = in, .turn_b = true, .n = out, .k = in},
                                 {.b = values, .ldb = in, .n = in, .k = out}};
    static const int BUFFERS[] = {FK_CONV_WEIGHTS, FK_CONV_DATA_WEIGHTS};

#pragma omp parallel for schedule(static) num_threads((int)fk_min_size(p->threads, 2))
    for (int i = 0; i < 2; i++) {
        if (s->buffers[BUFFERS[i]] >= 0)
            fk_tiles_pack(&ways[i], fk_buffer_at(p, s->buffers[BUFFERS[i]]));
    }
}

static void multiply(const fk_plan *p, const fk_step *s, const fk_tiles_images *x, int weights,
                     const fk_tiles_images *y, int room)
{
#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++) {
        fk_tiles_range rows = share(p, fk_tiles_rows(x), t);
        fk_tiles_pixels(
            &(fk_tiles_product){
                .x = x, .packed = fk_buffer_at(p, s->buffers[weights]), .y = y, .rows = rows},
            room_of(p, s, room, t));
    }
}

void fk_conv_tiles_forward(const fk_plan *p, const fk_step *s, uint32_t k)
{
    fk_tiles_images x =
        images_of(s, &p->tensors[s->in[0]].shape, fk_slice_input(p, s, FK_CONV_X, k));
    fk_tiles_images y = images_of(s, &s->node->shape, fk_slice_output(p, s, k));

    multiply(p, s, &x, FK_CONV_WEIGHTS, &y, FK_CONV_ROOM);
}

void fk_conv_tiles_data(const fk_plan *p, const fk_step *s, uint32_t k)
{
    fk_tiles_images dx = images_of(s, &p->tensors[s->in[0]].shape, fk_slice_din(p, s, k));
    fk_tiles_images dy = images_of(s, &s->node->shape, fk_slice_gradient(p, s, k));

    multiply(p, s, &dy, FK_CONV_DATA_WEIGHTS, &dx, FK_CONV_ROOM_BACK);
}

/* Threads share the longer side, so that each packs only its own part of that. */
void fk_conv_tiles_weights(const fk_plan *p, const fk_step *s, uint32_t k)
{
    fk_tiles_images x =
        images_of(s, &p->tensors[s->in[0]].shape, fk_slice_input(p, s, FK_CONV_X_BACK, k));
    fk_tiles_images dy = images_of(s, &s->node->shape, fk_slice_gradient(p, s, k));
    float *dw = p->grads + p->g->params[s->node->param[0]].offset;
    bool by_rows = dy.channels >= x.channels;

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++) {
        fk_tiles_range out = {0, dy.channels};
        fk_tiles_range in = {0, x.channels};
        if (by_rows)
            out = share(p, dy.channels, t);
        else
            in = share(p, x.channels, t);
        fk_tiles_weights(&dy, &x, dw, k > 0, out, in, room_of(p, s, FK_CONV_ROOM_BACK, t));
    }
}

/* --- compiling ------------------------------------------------------------------------------- */

ferkd_status fk_compile_conv_tiles(fk_plan *p, fk_step *s, const fk_conv_args *a)
{
    size_t all = rows_of(a);
    size_t rows = (all / p->threads + 64) / 32 * 32;
    size_t in = (size_t)a->src.d[1];
    size_t out = (size_t)a->dst.d[1];
    size_t back = fk_tiles_room(out, in, all);
    bool data = p->tensors[s->in[0]].needs_grad;

    if (data)
        back = fk_max_size(back, fk_tiles_room(rows, in, out));
    TRY(fk_step_buffer(p, s, FK_CONV_WEIGHTS, fk_tiles_packed_bytes(out, in), FK_LIFE_ALWAYS));
    if (data)
        TRY(fk_step_buffer(p, s, FK_CONV_DATA_WEIGHTS, fk_tiles_packed_bytes(in, out),
                           FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, FK_CONV_ROOM, p->threads * fk_tiles_room(rows, out, in),
                       FK_LIFE_FORWARD));
    return fk_step_buffer(p, s, FK_CONV_ROOM_BACK, p->threads * back, FK_LIFE_BACKWARD);
}
