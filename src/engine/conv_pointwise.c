/* 1x1 convolutions in training in f32 in vectors of channels by our own kernels (kernel/pointwise.h), each thread by itself: it takes some
 * pixels of its images through the BatchNorm before, the product, and the moments for the BatchNorm behind (backward the other way) while
 * they are in the caches, and waits for nobody. Each has its own gradient of the weights. */
#include "base/compat.h"

#include "engine/conv_slice.h"

#include "base/mem.h"
#include "base/switches.h"
#include "engine/tune.h"
#include "kernel/pointwise.h"

/* Floats of input and output of the pixels that are done at a time; and pixels, fewer than which cost the sums of the weights too much. */
#define MOST_FLOATS  ((size_t)160 << 10)
#define MOST_PIXELS  1024
#define LEAST_PIXELS 128

/* --- pieces ---------------------------------------------------------------------------------- */

/* Some images, or some pixels of one. */
typedef struct piece {
    size_t image, images, first, pixels;
} piece;

static size_t vectors_of(int64_t channels)
{
    return ((size_t)channels + FK_MAX_LANES - 1) / FK_MAX_LANES;
}

static size_t pixels_at_once(const fk_plan *p, const fk_conv_args *a)
{
    size_t each = (vectors_of(a->src.d[1]) + vectors_of(a->dst.d[1])) * FK_MAX_LANES;

    if (p->o.slice_bytes) /* in tests as few as can be */
        return 5;
    return fk_max_size(fk_min_size(MOST_FLOATS / each, MOST_PIXELS), LEAST_PIXELS);
}

/* On to the piece behind z, which begins as {.image = the first one}, of the images before `end`; false: there is none. */
static bool next_piece(piece *z, size_t at_once, size_t pixels, size_t end)
{
    size_t parts = (pixels + at_once - 1) / at_once;

    z->first += z->pixels;
    if (z->first >= pixels) {
        z->first = 0;
        z->image += z->images;
    }
    if (z->image >= end)
        return false;
    z->images = parts > 1 ? 1 : fk_min_size(at_once / pixels, end - z->image);
    z->pixels = fk_min_size((pixels + parts - 1) / parts, pixels - z->first);
    return true;
}

typedef void piece_fn(const fk_plan *p, fk_step *s, const piece *z, bool first, size_t t);

/* All pieces of thread t's images. */
static void by_pieces(const fk_plan *p, fk_step *s, piece_fn *work, size_t t)
{
    const fk_lay *lay = &p->tensors[s->out].lay;
    size_t end = lay->images * (t + 1) / p->threads;
    piece z = {.image = lay->images * t / p->threads};

    for (bool first = true; next_piece(&z, s->rows_at_once, lay->pixels, end); first = false)
        work(p, s, &z, first, t);
}

/* --- where ----------------------------------------------------------------------------------- */

/* Elements before vector v of a piece. */
static size_t before_of(const fk_lay *lay, const piece *z, size_t v)
{
    return z->image * lay->image + v * lay->vector + z->first * lay->pixel;
}

/* A piece in a tensor, whose values begin at `data`. */
static fk_pointwise_map stored(const fk_lay *lay, const piece *z, void *data)
{
    return (fk_pointwise_map){(float *)data + before_of(lay, z, 0), lay->image, lay->vector};
}

/* A piece in a thread's scratch: whole images lie as in the tensor, since the kernels of BatchNorm take both by the same steps. */
static fk_pointwise_map scratch(const fk_plan *p, const fk_step *s, const fk_lay *lay,
                                const piece *z, int buffer, size_t t)
{
    int b = s->buffers[buffer];
    char *mine = (char *)fk_buffer_at(p, b) + t * (p->buffers[b].bytes / p->threads / 64 * 64);
    bool whole = z->pixels == lay->pixels;

    return (fk_pointwise_map){(float *)(void *)mine, lay->image,
                              whole ? lay->vector : z->pixels * lay->pixel};
}

static size_t scratch_bytes(const fk_plan *p, const fk_step *s, int64_t channels)
{
    size_t pixels = p->tensors[s->out].lay.pixels;
    size_t most =
        fk_max_size(s->rows_at_once / pixels * pixels, fk_min_size(s->rows_at_once, pixels));

    return p->threads * (vectors_of(channels) * FK_MAX_LANES * most * sizeof(float) + 64);
}

static fk_operand vector_of(const fk_pointwise_map *m, size_t v)
{
    return (fk_operand){m->data + v * m->vector, false};
}

/* Vector v of a piece, as the kernels of BatchNorm take it. */
static fk_norm_args norm_of(const fk_plan *p, const fk_step *norm, const fk_lay *lay,
                            const piece *z, size_t v)
{
    fk_norm_args a = fk_norm_moved_args(p, norm, v, before_of(lay, z, v));

    a.at = (fk_planes){0, z->images, lay->image, z->pixels, lay->pixel, 1};
    return a;
}

/* A thread's sums of vector v. */
static double *sums_of(const fk_plan *p, const fk_step *norm, const fk_lay *lay, size_t v, size_t t)
{
    return fk_norm_part_of(p, norm, v, t * fk_parts_of(lay) / p->threads);
}

/* What the product reads: the input as it is stored, or worked out into scratch. */
static fk_pointwise_map input(const fk_plan *p, const fk_step *s, const piece *z, int buffer,
                              size_t t)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    const fk_lay *lay = &p->tensors[before ? before->in[0] : s->in[0]].lay;

    if (!before)
        return stored(lay, z, fk_data(p, s->in[0]));
    fk_pointwise_map x = scratch(p, s, lay, z, buffer, t);
    for (size_t v = 0; v < lay->vectors; v++) {
        fk_norm_args a = norm_of(p, before, lay, z, v);
        a.residual = (fk_operand){0};
        a.a = vector_of(&x, v);
        fk_norm_kernels_of(lay)->forward(&a);
    }
    return x;
}

static fk_pointwise_map gradient(const fk_plan *p, const fk_step *s, const piece *z, size_t t)
{
    const fk_tensor *out = &p->tensors[s->out];
    const fk_step *behind = fk_slice_norm_behind(p, s);

    if (out->grad >= 0)
        return stored(&out->lay, z, fk_buffer_at(p, out->grad));
    fk_pointwise_map dy = scratch(p, s, &out->lay, z, FK_CONV_DY, t);
    for (size_t v = 0; v < out->lay.vectors; v++) {
        fk_norm_args a = norm_of(p, behind, &out->lay, z, v);
        a.dy = vector_of(&dy, v);
        fk_norm_kernels_of(&out->lay)->backward(&a);
    }
    return dy;
}

/* --- forward --------------------------------------------------------------------------------- */

/* Vectors of y from v to end: their moments. */
static void take_moments(const fk_plan *p, const fk_step *behind, const fk_lay *lay, const piece *z,
                         size_t v, size_t end, size_t t)
{
    for (; v < end; v++) {
        double *sums = sums_of(p, behind, lay, v, t);
        fk_norm_args a = norm_of(p, behind, lay, z, v);
        fk_norm_kernels_of(lay)->moments(&a, sums, sums + lay->lanes);
    }
}

/* A block of y's vectors; gives the vector behind it. */
static size_t multiply(const fk_plan *p, fk_step *s, const fk_pointwise *k, int weights, size_t v,
                       size_t t)
{
    double start = fk_slice_begin(p, t);

    fk_pointwise_best()->multiply(k, fk_buffer_at(p, s->buffers[weights]), v / FK_POINTWISE_BLOCK);
    fk_slice_end(p, s, t, start);
    return fk_min_size(v + FK_POINTWISE_BLOCK, k->out);
}

static void forward_piece(const fk_plan *p, fk_step *s, const piece *z, bool first, size_t t)
{
    const fk_step *behind = p->redoing ? NULL : fk_slice_norm_behind(p, s);
    const fk_lay *lay = &p->tensors[s->out].lay;
    fk_pointwise k = {.images = z->images,
                      .pixels = z->pixels,
                      .in = p->tensors[s->in[0]].lay.vectors,
                      .out = lay->vectors,
                      .x = input(p, s, z, FK_CONV_X, t),
                      .y = stored(lay, z, fk_data(p, s->out))};

    (void)first;
    for (size_t v = 0, next; v < k.out; v = next) {
        next = multiply(p, s, &k, FK_CONV_WEIGHTS, v, t);
        if (behind)
            take_moments(p, behind, lay, z, v, next, t);
    }
}

ferkd_status fk_conv_pointwise_forward(fk_plan *p, fk_step *s)
{
    const fk_step *behind = p->redoing ? NULL : fk_slice_norm_behind(p, s);

    if (behind)
        fk_norm_begin_moments(p, behind);
#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++)
        by_pieces(p, s, forward_piece, t);
    return FERKD_OK;
}

/* --- backward -------------------------------------------------------------------------------- */

/* Vectors of the input's gradient from v to end, to where it is stored: before the activation, with its sums. */
static void take_sums(const fk_plan *p, const fk_step *s, const fk_pointwise_map *dx,
                      const piece *z, size_t v, size_t end, size_t t)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_operand din = fk_buffer_operand(p, s->din[0], false);

    for (; v < end; v++) {
        double *sums = sums_of(p, before, lay, v, t);
        fk_norm_args a = norm_of(p, before, lay, z, v);
        a.g = vector_of(dx, v);
        a.g2 = a.residual = (fk_operand){0};
        a.dz = fk_operand_at(din, before_of(lay, z, v));
        fk_norm_kernels_of(lay)->sums(&a, sums, sums + lay->lanes);
    }
}

static void data_of(const fk_plan *p, fk_step *s, const piece *z, const fk_pointwise_map *dy,
                    size_t t)
{
    bool before = fk_slice_norm_before(p, s) != NULL;
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_pointwise k = {.images = z->images,
                      .pixels = z->pixels,
                      .in = p->tensors[s->out].lay.vectors,
                      .out = lay->vectors,
                      .x = *dy,
                      .y = before ? scratch(p, s, lay, z, FK_CONV_DX, t)
                                  : stored(lay, z, fk_buffer_at(p, s->din[0]))};

    for (size_t v = 0, next; v < k.out; v = next) {
        next = multiply(p, s, &k, FK_CONV_DATA_WEIGHTS, v, t);
        if (before)
            take_sums(p, s, &k.y, z, v, next, t);
    }
}

static size_t sums_floats(const fk_plan *p, const fk_step *s)
{
    return fk_pointwise_packed(p->tensors[s->in[0]].lay.vectors, p->tensors[s->out].lay.vectors);
}

static void backward_piece(const fk_plan *p, fk_step *s, const piece *z, bool first, size_t t)
{
    fk_pointwise_map dy = gradient(p, s, z, t);
    fk_pointwise k = {.images = z->images,
                      .pixels = z->pixels,
                      .in = p->tensors[s->in[0]].lay.vectors,
                      .out = p->tensors[s->out].lay.vectors,
                      .x = input(p, s, z, FK_CONV_X_BACK, t),
                      .y = dy};
    double start = fk_slice_begin(p, t);

    fk_pointwise_best()->outer(
        &k, (float *)fk_buffer_at(p, s->buffers[FK_CONV_SUMS]) + t * sums_floats(p, s), !first);
    fk_slice_end(p, s, t, start);
    if (fk_wants_din(p, s, 0))
        data_of(p, s, z, &dy, t);
}

/* The gradient of the weights, from the sums of all threads, in their order. */
static void collect(const fk_plan *p, const fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    size_t row = p->tensors[s->in[0]].lay.vectors * FK_MAX_LANES;
    size_t in = (size_t)w->d[1];
    size_t each = sums_floats(p, s);
    const float *sums = fk_buffer_at(p, s->buffers[FK_CONV_SUMS]);
    float *dw = p->grads + p->g->params[s->node->param[0]].offset;

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t o = 0; o < (size_t)w->d[0]; o++)
        for (size_t i = 0; i < in; i++) {
            float sum = sums[o * row + i];
            for (size_t t = 1; t < p->threads; t++)
                sum += sums[t * each + o * row + i];
            dw[o * in + i] = sum;
        }
}

ferkd_status fk_conv_pointwise_backward(fk_plan *p, fk_step *s)
{
    const fk_step *before = fk_slice_norm_before(p, s);

    if (before)
        fk_norm_begin_sums(p, before);
#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++)
        by_pieces(p, s, backward_piece, t);
    collect(p, s);
    return FERKD_OK;
}

/* --- weights --------------------------------------------------------------------------------- */

static void pack(size_t threads, fk_pointwise_pack k, bool turned, float *to)
{
    size_t made = vectors_of((int64_t)(turned ? k.inputs : k.outputs));

    k.turned = turned;
    k.to = to;
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t v = 0; v < made; v++)
        fk_pointwise_best()->pack(&k, v);
}

void fk_conv_pointwise_refresh(const fk_plan *p, const fk_step *s)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    fk_pointwise_pack k = {.weights = fk_graph_values(p->g, s->node->param[0]),
                           .outputs = (size_t)w->d[0],
                           .inputs = (size_t)w->d[1]};

    pack(p->threads, k, false, fk_buffer_at(p, s->buffers[FK_CONV_WEIGHTS]));
    if (s->buffers[FK_CONV_DATA_WEIGHTS] >= 0)
        pack(p->threads, k, true, fk_buffer_at(p, s->buffers[FK_CONV_DATA_WEIGHTS]));
}

/* --- when it is faster ----------------------------------------------------------------------- */

/* Memory for all directions of a convolution that is only measured. */
typedef struct trial {
    float *x, *y, *packed, *sums;
} trial;

static void free_trial(trial *t)
{
    free(t->x), free(t->y), free(t->packed), free(t->sums);
}

static ferkd_status new_trial(const fk_plan *p, const fk_conv_args *a, trial *t)
{
    static const char WHAT[] = "measuring convolutions";
    size_t in = vectors_of(a->src.d[1]);
    size_t out = vectors_of(a->dst.d[1]);
    size_t pixels = (size_t)(a->src.d[0] * a->src.d[2] * a->src.d[3]);

    TRY(fk_calloc_aligned(&t->x, pixels * in * FK_MAX_LANES * sizeof *t->x, WHAT));
    TRY(fk_calloc_aligned(&t->y, pixels * out * FK_MAX_LANES * sizeof *t->y, WHAT));
    TRY(fk_calloc_aligned(&t->packed, fk_pointwise_packed(in, out) * sizeof *t->packed, WHAT));
    return fk_calloc_aligned(&t->sums, p->threads * fk_pointwise_packed(in, out) * sizeof *t->sums,
                             WHAT);
}

/* All directions of thread t's images, piece by piece. */
static void run_trial(const fk_plan *p, const fk_conv_args *a, const trial *m, size_t t)
{
    const fk_pointwise_kernels *kernels = fk_pointwise_best();
    size_t pixels = (size_t)(a->src.d[2] * a->src.d[3]);
    size_t images = (size_t)a->src.d[0];
    size_t in = vectors_of(a->src.d[1]);
    size_t out = vectors_of(a->dst.d[1]);
    fk_lay x = {FK_MAX_LANES, images, in, pixels, in * pixels * 16, pixels * 16, 16};
    fk_lay y = {FK_MAX_LANES, images, out, pixels, out * pixels * 16, pixels * 16, 16};
    size_t end = images * (t + 1) / p->threads;
    piece z = {.image = images * t / p->threads};

    for (bool add = false; next_piece(&z, pixels_at_once(p, a), pixels, end); add = true) {
        fk_pointwise k = {z.images, z.pixels, in, out, stored(&x, &z, m->x), stored(&y, &z, m->y)};
        fk_pointwise back = {z.images, z.pixels, out, in, k.y, k.x};
        for (size_t b = 0; b * FK_POINTWISE_BLOCK < out; b++)
            kernels->multiply(&k, m->packed, b);
        kernels->outer(&k, m->sums + t * fk_pointwise_packed(in, out), add);
        for (size_t b = 0; b * FK_POINTWISE_BLOCK < in; b++)
            kernels->multiply(&back, m->packed, b);
    }
}

static ferkd_status time_own(fk_plan *p, const fk_conv_args *a, double *seconds)
{
    trial m = {0};
    ferkd_status st = new_trial(p, a, &m);

    *seconds = INFINITY;
    for (int i = 0; st == FERKD_OK && i < 4; i++) {
        double start = fk_now_s();
#pragma omp parallel for schedule(static) num_threads((int)p->threads)
        for (size_t t = 0; t < p->threads; t++)
            run_trial(p, a, &m, t);
        *seconds = i ? fmin(*seconds, fk_now_s() - start) : *seconds; /* the first one only warms */
    }
    free_trial(&m);
    return st;
}

/* Else it is used where it is faster. */
static bool is_said(const char *word)
{
    return fk_switch_is("FERKD_POINTWISE", word);
}

/* Each thread has its own gradient of the weights: they should not be more than the values. */
static bool suits(const fk_plan *p, const fk_step *s, const fk_conv_args *a)
{
    size_t weights = p->g->params[s->node->param[0]].count;
    const fk_shape *shape = &s->node->shape;
    size_t values = (size_t)(shape->d[0] * shape->d[2] * shape->d[3] * (a->src.d[1] + a->dst.d[1]));
    bool few = p->threads * weights <= 2 * values || p->o.slice_bytes;

    return !p->half_conv && !p->o.half && !p->o.direct && p->o.layout != FK_LAYOUT_LAST &&
           fk_pointwise_best() && fk_dn_lanes() == fk_pointwise_best()->lanes && !a->bias &&
           fk_conv_is_pointwise(a) && !fk_conv_suits_tiles(p, a) && !is_said("never") && few &&
           (size_t)shape->d[0] >= p->threads;
}

static ferkd_status is_faster(fk_plan *p, const fk_conv_args *a, bool *wins)
{
    *wins = true;
    if (is_said("always") || fk_tuner_mode(p->o.tuner) == FK_TUNE_OFF)
        return FERKD_OK;
    return fk_conv_against(p, a, "own products", time_own, wins);
}

ferkd_status fk_conv_pointwise_at_once(fk_plan *p, const fk_step *s, const fk_conv_args *slice,
                                       size_t *pixels)
{
    fk_conv_args a = *slice;
    bool wins = false;

    a.src.d[0] = a.dst.d[0] = s->node->shape.d[0];
    if (suits(p, s, &a))
        TRY(is_faster(p, &a, &wins));
    *pixels = wins ? pixels_at_once(p, &a) : 0;
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

ferkd_status fk_compile_conv_pointwise(fk_plan *p, fk_step *s)
{
    const fk_tensor *in = &p->tensors[s->in[0]];
    size_t packed = sums_floats(p, s) * sizeof(float);
    size_t x = scratch_bytes(p, s, in->shape.d[1]);
    bool data = fk_wants_din(p, s, 0);

    s->gradient_bytes = scratch_bytes(p, s, s->node->shape.d[1]);
    TRY(fk_step_buffer(p, s, FK_CONV_WEIGHTS, packed, FK_LIFE_ALWAYS));
    if (data)
        TRY(fk_step_buffer(p, s, FK_CONV_DATA_WEIGHTS, packed, FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, FK_CONV_SUMS, p->threads * packed, FK_LIFE_BACKWARD));
    if (in->lazy < 0)
        return FERKD_OK;
    TRY(fk_step_buffer(p, s, FK_CONV_X, x, FK_LIFE_FORWARD));
    TRY(fk_step_buffer(p, s, FK_CONV_X_BACK, x, FK_LIFE_BACKWARD));
    return data ? fk_step_buffer(p, s, FK_CONV_DX, x, FK_LIFE_BACKWARD) : FERKD_OK;
}
