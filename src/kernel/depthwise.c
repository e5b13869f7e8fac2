/* Depthwise convolution of one channel vector. Some rows at a time of the input are brought to a ring of float rows with
 * their padding (and, if lazy, normalised and activated on the way); everything else reads that ring, so
 * there are no loops with tests for borders (depthwise_loops.h). The gradient of the input is the same product of
 * rows with weights, of the output's gradient, one for each remainder by the strides. Results are left as rows of floats,
 * and go to their places from there. */
#include "kernel/depthwise_loops.h"

/* --- rows ------------------------------------------------------------------------------------ */

/* The last rows of a plane as float, with zero pixels around. */
typedef struct ring {
    float *row[FK_DEPTHWISE_ROWS]; /* the newest is the last of `depth` */
    int64_t depth;
    int64_t next;  /* first row not loaded yet */
    size_t padded; /* floats a row */
    int64_t height, width, before;
    fk_operand from;
    size_t at, pixel;         /* of the plane in `from` */
    const fk_norm_args *norm; /* what the rows are worked out by, or NULL: they are copied */
    bool backward;            /* its gradient, or its output */
} ring;

/* The rows from y on, if they are among the last ones. */
FK_INLINE const float *const *rows_from(const ring *r, int64_t y)
{
    return (const float *const *)r->row + (r->depth - (r->next - y));
}

/* n rows of the plane, converted, to the pixels of `to`; and normalised and activated on the way. The rows below, which come next,
 * are fetched meanwhile. */
FK_INLINE void convert_rows(const ring *r, size_t at, int64_t n, float *const *to)
{
    size_t below = (size_t)(n * r->width) * r->pixel;

    for (int64_t y = 0; y < n; y++) {
        float *row = to[y] + r->before * FK_LANES;
        for (int64_t x = 0; x < r->width; x++, at += r->pixel, row += FK_LANES) {
            fk_v_fetch(r->from, at + below);
            fk_v_put(row, fk_v_load(r->from, at));
        }
    }
}

FK_INLINE void normalise_rows(fk_post act, const ring *args, bool half, size_t at, int64_t n,
                              float *const *to)
{
    const ring r = {.width = args->width, .pixel = args->pixel, .before = args->before};
    const fk_norm_args *k = args->norm;
    fk_operand y = {k->y.data, half};
    fk_v mean = fk_v_at(k->mean);
    fk_v scale = fk_v_at(k->scale);
    fk_v shift = fk_v_at(k->shift);
    size_t below = (size_t)(n * r.width) * r.pixel;

    for (int64_t i = 0; i < n; i++) {
        float *row = to[i] + r.before * FK_LANES;
        for (int64_t x = 0; x < r.width; x++, at += r.pixel, row += FK_LANES) {
            fk_v_fetch(y, at + below);
            fk_v_put(row, fk_v_act(act, (fk_v_load(y, at) - mean) * scale + shift));
        }
    }
}

FK_INLINE void rows_before(fk_post act, const ring *r, size_t at, int64_t n, float *const *to)
{
    if (r->norm->y.half)
        normalise_rows(act, r, true, at, n, to);
    else
        normalise_rows(act, r, false, at, n, to);
}

/* The gradient of a BatchNorm's input, from those of its output. */
FK_INLINE void gradient_of_rows(fk_post act, const ring *args, bool half, bool two, size_t at,
                                int64_t n, float *const *to)
{
    const ring r = {.width = args->width, .pixel = args->pixel, .before = args->before};
    const fk_norm_args *norm = args->norm;
    const fk_norm_args k = {
        .y = {norm->y.data, half}, .g = {norm->g.data, half}, .g2 = {norm->g2.data, half}};
    fk_v mean = fk_v_at(norm->mean);
    fk_v scale = fk_v_at(norm->scale);
    fk_v shift = fk_v_at(norm->shift);
    fk_v to_dz = fk_v_at(norm->to_dz);
    fk_v to_y = fk_v_at(norm->to_y);
    fk_v to_1 = fk_v_at(norm->to_1);
    size_t below = (size_t)(n * r.width) * r.pixel;

    for (int64_t i = 0; i < n; i++) {
        float *row = to[i] + r.before * FK_LANES;
        for (int64_t x = 0; x < r.width; x++, at += r.pixel, row += FK_LANES) {
            fk_v_fetch(k.y, at + below);
            fk_v_fetch(k.g, at + below);
            fk_v d = fk_v_load(k.y, at) - mean;
            fk_v dz = fk_v_dz(&k, at, act, two, false, d, scale, shift);
            fk_v_put(row, dz * to_dz + (d * to_y + to_1));
        }
    }
}

FK_INLINE void rows_behind(fk_post act, const ring *r, size_t at, int64_t n, float *const *to)
{
    const fk_norm_args *k = r->norm;

    if (k->g2.data)
        gradient_of_rows(act, r, k->y.half, true, at, n, to);
    else if (k->y.half)
        gradient_of_rows(act, r, true, false, at, n, to);
    else
        gradient_of_rows(act, r, false, false, at, n, to);
}

/* Rows y to y + n - 1, which are inside of the plane. */
static void load_inside(const ring *r, int64_t y, int64_t n, float *const *to)
{
    size_t at = r->at + (size_t)y * (size_t)r->width * r->pixel;

    if (!r->norm)
        convert_rows(r, at, n, to);
    else if (r->backward)
        FK_BY_ACT(r->norm->act, rows_behind, r, at, n, to);
    else
        FK_BY_ACT(r->norm->act, rows_before, r, at, n, to);
}

/* n rows from y on, zeros outside of the plane. The zero pixels at both ends are there from the start. */
static void load_rows(const ring *r, int64_t y, int64_t n, float *const *to)
{
    int64_t end = y + n < r->height ? y + n : r->height;
    int64_t begin = y > 0 ? y : 0;

    if (begin < end)
        load_inside(r, begin, end - begin, to + (begin - y));
    for (int64_t i = 0; i < n; i++)
        if (y + i < 0 || y + i >= r->height)
            memset(to[i] + r->before * FK_LANES, 0, (size_t)r->width * FK_LANES * sizeof(float));
}

/* Load up to and including row `last`. */
static void advance(ring *r, int64_t last)
{
    while (r->next <= last) {
        float *oldest[FK_DEPTHWISE_ROWS];
        int64_t n = last + 1 - r->next < r->depth ? last + 1 - r->next : r->depth;
        memcpy(oldest, r->row, (size_t)n * sizeof *oldest);
        memmove(r->row, r->row + n, (size_t)(r->depth - n) * sizeof *oldest);
        memcpy(r->row + r->depth - n, oldest, (size_t)n * sizeof *oldest);
        load_rows(r, r->next, n, oldest);
        r->next += n;
    }
}

/* Padding after the input that the windows reach. */
static int64_t pad_after(const fk_depthwise_args *k, int axis)
{
    int64_t out = axis ? k->out_width : k->out_height;
    int64_t in = axis ? k->width : k->height;
    int64_t reach = (out - 1) * k->stride[axis] + k->kernel[axis] - k->pad[axis] - in;

    return reach > 0 ? reach : 0;
}

/* The rows of a ring, of zeros, in `room`; gives what is left of it. */
static float *make_rows(ring *r, float *room)
{
    for (int64_t i = 0; i < r->depth; i++)
        r->row[i] = room + (size_t)i * r->padded;
    memset(room, 0, (size_t)r->depth * r->padded * sizeof *room);
    return room + (size_t)r->depth * r->padded;
}

static ring input_ring(const fk_depthwise_args *k)
{
    return (ring){.depth = k->kernel[0] + (fk_depthwise_band(k) - 1) * k->stride[0],
                  .padded = (size_t)(k->width + k->pad[1] + pad_after(k, 1)) * FK_LANES,
                  .height = k->height,
                  .width = k->width,
                  .before = k->pad[1],
                  .from = k->x,
                  .norm = k->before,
                  .pixel = k->in.pixel};
}

static ring gradient_ring(const fk_depthwise_args *k)
{
    return (ring){.depth = k->kernel[0] + fk_depthwise_band(k) - 1,
                  .padded = (size_t)(k->out_width + 2 * k->kernel[1]) * FK_LANES,
                  .height = k->out_height,
                  .width = k->out_width,
                  .before = k->kernel[1],
                  .from = k->dy,
                  .norm = k->behind,
                  .backward = true,
                  .pixel = k->out.pixel};
}

/* Image n comes next. */
static void start(ring *r, const fk_planes *planes, size_t n, int64_t first)
{
    r->at = planes->first + n * planes->image;
    r->next = first;
}

/* --- sums ------------------------------------------------------------------------------------ */

#define TALLIED 128

/* Two sums over pixels, in float as long as they are few; each in two parts, since an addition waits for the one before. */
typedef struct pair_of_sums {
    fk_v first[2], second[2];
    size_t pixels;
} pair_of_sums;

/* Into the totals, if there are many pixels in it or `all` is done. */
static void flush_sums(pair_of_sums *s, bool all, double *first, double *second)
{
    if (s->pixels < TALLIED && !all)
        return;
    fk_v_add_to(first, s->first[0] + s->first[1]);
    fk_v_add_to(second, s->second[0] + s->second[1]);
    *s = (pair_of_sums){.pixels = 0};
}

/* --- forward --------------------------------------------------------------------------------- */

/* What results need on their way out. */
typedef struct way_out {
    fk_operand y;
    size_t below; /* elements to the rows that come next */
    fk_v bias, origin;
} way_out;

FK_INLINE void put_result(fk_post act, const way_out *e, bool sums, fk_v v, size_t at, fk_v *sum,
                          fk_v *squares)
{
    v += e->bias;
    if (sums) {
        fk_v d = v - e->origin;
        *sum += d;
        *squares += d * d;
    }
    fk_v_fetch(e->y, at + e->below);
    fk_v_store(e->y, at, fk_v_act(act, v));
}

FK_INLINE void put_pixels_as(fk_post act, const fk_depthwise_args *k, bool half, bool sums,
                             const float *row, size_t n, size_t at, pair_of_sums *to)
{
    size_t pixel = k->out.pixel;
    const way_out e = {.y = {k->y.data, half},
                       .below = n * pixel,
                       .bias = k->bias ? fk_v_at(k->bias) : (fk_v){0},
                       .origin = sums ? fk_v_at(k->origin) : (fk_v){0}};
    pair_of_sums s = *to;
    size_t x = 0;

    for (; x + 2 <= n; x += 2, at += 2 * pixel, row += 2 * FK_LANES) {
        put_result(act, &e, sums, fk_v_at(row), at, &s.first[0], &s.second[0]);
        put_result(act, &e, sums, fk_v_at(row + FK_LANES), at + pixel, &s.first[1], &s.second[1]);
    }
    if (x < n)
        put_result(act, &e, sums, fk_v_at(row), at, &s.first[0], &s.second[0]);
    s.pixels += n;
    *to = s;
}

FK_INLINE void put_pixels(fk_post act, const fk_depthwise_args *k, const float *row, size_t n,
                          size_t at, pair_of_sums *s)
{
    if (k->sum && k->y.half)
        put_pixels_as(act, k, true, true, row, n, at, s);
    else if (k->sum)
        put_pixels_as(act, k, false, true, row, n, at, s);
    else if (k->y.half)
        put_pixels_as(act, k, true, false, row, n, at, s);
    else
        put_pixels_as(act, k, false, false, row, n, at, s);
}

/* Rows y to y + n - 1 of the output are x's newest, times the weights. */
static void forward_band(const fk_depthwise_args *k, const ring *x, int64_t y, int64_t n,
                         float *room)
{
    multiply(&(products){.rows = rows_from(x, y * k->stride[0] - k->pad[0]),
                         .lines = (size_t)n,
                         .next_line = (size_t)k->stride[0],
                         .weights = k->weights,
                         .next_row = (ptrdiff_t)k->kernel[1] * FK_LANES,
                         .next_tap = FK_LANES,
                         .n = k->kernel[0],
                         .taps = k->kernel[1],
                         .step = (size_t)k->stride[1],
                         .to = room,
                         .results = (size_t)k->out_width,
                         .apart = FK_LANES,
                         .line_apart = (size_t)k->out_width * FK_LANES});
}

/* Last row that output row y is made of. */
static int64_t last_row(const fk_depthwise_args *k, int64_t y)
{
    return y * k->stride[0] - k->pad[0] + k->kernel[0] - 1;
}

static void forward(const fk_depthwise_args *k)
{
    int64_t band = fk_depthwise_band(k);
    ring x = input_ring(k);
    float *room = make_rows(&x, k->room);
    pair_of_sums s = {.pixels = 0};

    for (size_t image = 0; image < k->images; image++) {
        size_t at = k->out.first + image * k->out.image;
        start(&x, &k->in, image, -k->pad[0]);
        for (int64_t y = 0; y < k->out_height; y += band) {
            int64_t rows = y + band <= k->out_height ? band : k->out_height - y;
            size_t n = (size_t)(rows * k->out_width);
            advance(&x, last_row(k, y + rows - 1));
            forward_band(k, &x, y, rows, room);
            FK_BY_ACT(k->post, put_pixels, k, room, n, at, &s);
            at += n * k->out.pixel;
            if (k->sum)
                flush_sums(&s, false, k->sum, k->squares);
        }
    }
    if (k->sum)
        flush_sums(&s, true, k->sum, k->squares);
}

/* --- backward: the input --------------------------------------------------------------------- */

/* Output pixel u reads inputs u s - p + j with weights j. So input x is read with weights `rest`, rest + s, ..., the `last`, of output
 * pixels (x + p - rest) / s, ..., `from`, one less each time. */
typedef struct phase {
    int taps, last;
    int64_t from;
} phase;

static phase phase_of(const fk_depthwise_args *k, int axis, int64_t x)
{
    int64_t reach = x + k->pad[axis];
    int stride = k->stride[axis];
    int rest = (int)(reach % stride);
    phase f = {.taps = (k->kernel[axis] - rest + stride - 1) / stride};

    f.last = rest + (f.taps - 1) * stride;
    f.from = (reach - f.last) / stride;
    return f;
}

/* `rows` rows of dx from y on, as floats. Rows and pixels one stride apart use the same weights. */
static void gradient_band(const fk_depthwise_args *k, ring *dy, int64_t y, int64_t rows,
                          float *room)
{
    int sy = k->stride[0];
    int sx = k->stride[1];

    advance(dy, (y + rows - 1 + k->pad[0]) / sy);
    for (int64_t i = 0; i < sy && i < rows; i++) {
        phase down = phase_of(k, 0, y + i);
        for (int64_t j = 0; j < sx && j < k->width; j++) {
            phase along = phase_of(k, 1, j);
            bool any = down.taps > 0 && along.taps > 0;
            multiply(&(products){
                .rows = any ? rows_from(dy, down.from) : NULL,
                .lines = (size_t)((rows - i + sy - 1) / sy),
                .next_line = 1,
                .from = any ? (size_t)(along.from + dy->before) * FK_LANES : 0,
                .weights =
                    any ? k->weights + (down.last * k->kernel[1] + along.last) * FK_LANES : NULL,
                .next_row = -(ptrdiff_t)sy * k->kernel[1] * FK_LANES,
                .next_tap = -(ptrdiff_t)sx * FK_LANES,
                .n = any ? down.taps : 0,
                .taps = along.taps,
                .step = 1,
                .to = room + (i * k->width + j) * FK_LANES,
                .results = (size_t)((k->width - j + sx - 1) / sx),
                .apart = (size_t)sx * FK_LANES,
                .line_apart = (size_t)(sy * k->width) * FK_LANES});
        }
    }
}

/* What gradients need on their way out: with a BatchNorm before, what is stored is the gradient before its activation, and its
 * sums are taken. */
typedef struct way_in {
    fk_operand dx, y;
    size_t below;
    fk_v mean, scale, shift;
} way_in;

FK_INLINE void put_gradient(fk_post act, const way_in *e, fk_v v, size_t at, fk_v *sum,
                            fk_v *product)
{
    fk_v d = fk_v_load(e->y, at) - e->mean;

    v = fk_v_slope(act, d * e->scale + e->shift, v);
    *sum += v;
    *product += v * d;
    fk_v_fetch(e->dx, at + e->below);
    fk_v_store(e->dx, at, v);
}

FK_INLINE void put_gradients_as(fk_post act, const fk_depthwise_args *k, bool half,
                                const float *row, size_t n, size_t at, pair_of_sums *to)
{
    const fk_norm_args *norm = k->before;
    size_t pixel = k->in.pixel;
    const way_in e = {.dx = {k->dx.data, half},
                      .below = n * pixel,
                      .y = {norm->y.data, half},
                      .mean = fk_v_at(norm->mean),
                      .scale = fk_v_at(norm->scale),
                      .shift = fk_v_at(norm->shift)};
    pair_of_sums s = *to;
    size_t x = 0;

    for (; x + 2 <= n; x += 2, at += 2 * pixel, row += 2 * FK_LANES) {
        put_gradient(act, &e, fk_v_at(row), at, &s.first[0], &s.second[0]);
        put_gradient(act, &e, fk_v_at(row + FK_LANES), at + pixel, &s.first[1], &s.second[1]);
    }
    if (x < n)
        put_gradient(act, &e, fk_v_at(row), at, &s.first[0], &s.second[0]);
    s.pixels += n;
    *to = s;
}

FK_INLINE void put_gradients(fk_post act, const fk_depthwise_args *k, const float *row, size_t n,
                             size_t at, pair_of_sums *s)
{
    if (k->dx.half)
        put_gradients_as(act, k, true, row, n, at, s);
    else
        put_gradients_as(act, k, false, row, n, at, s);
}

/* n pixels of dx from element `at` on. */
static void store_gradients(const fk_depthwise_args *k, const float *room, size_t n, size_t at,
                            pair_of_sums *s)
{
    if (k->before) {
        FK_BY_ACT(k->before->act, put_gradients, k, room, n, at, s);
        flush_sums(s, false, k->sum_dz, k->product_dz);
        return;
    }
    for (size_t i = 0; i < n; i++, at += k->in.pixel)
        fk_v_store(k->dx, at, fk_v_at(room + i * FK_LANES));
}

/* Rows `done` to until - 1 of dx of an image. */
static void gradient_rows(const fk_depthwise_args *k, ring *dy, size_t image, int64_t done,
                          int64_t until, float *room, pair_of_sums *s)
{
    int64_t band = fk_depthwise_band(k) * k->stride[0];

    for (; done < until; done += band) {
        int64_t rows = done + band <= until ? band : until - done;
        size_t at = k->in.first + image * k->in.image + (size_t)(done * k->width) * k->in.pixel;
        gradient_band(k, dy, done, rows, room);
        store_gradients(k, room, (size_t)(rows * k->width), at, s);
    }
}

/* Rows of dx whose last contribution comes from row y of the gradient. */
static int64_t finished_rows(const fk_depthwise_args *k, int64_t y)
{
    int64_t until = (y + 1) * k->stride[0] - k->pad[0];

    return y + 1 == k->out_height || until > k->height ? k->height : until;
}

/* --- backward: the weights ------------------------------------------------------------------- */

/* Sums of the gradients of the weights, in float as long as they are of few pixels. */
typedef struct weight_sums {
    size_t pixels;
    fk_v sums[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE];
} weight_sums;

/* Into the totals, if there are many pixels in it or `all` is done. */
static void flush_weights(weight_sums *t, const fk_depthwise_args *k, bool all)
{
    if (t->pixels < TALLIED && !all)
        return;
    for (int i = 0; i < k->kernel[0] * k->kernel[1]; i++) {
        fk_v_add_to(k->dweights + (size_t)i * FK_LANES, t->sums[i]);
        t->sums[i] = (fk_v){0};
    }
    t->pixels = 0;
}

/* Rows y to y + n - 1 of dy times the rows of x that they came from. */
static void weight_band(const fk_depthwise_args *k, const ring *x, const ring *dy, int64_t y,
                        int64_t n, weight_sums *t)
{
    correlate(&(correlation){.rows = rows_from(x, y * k->stride[0] - k->pad[0]),
                             .dy = rows_from(dy, y),
                             .lines = (size_t)n,
                             .next_line = (size_t)k->stride[0],
                             .from = (size_t)dy->before * FK_LANES,
                             .n = k->kernel[0],
                             .taps = k->kernel[1],
                             .step = (size_t)k->stride[1],
                             .width = (size_t)k->out_width,
                             .sums = t->sums});
    t->pixels += (size_t)(n * k->out_width);
    flush_weights(t, k, false);
}

static void backward(const fk_depthwise_args *k)
{
    int64_t band = fk_depthwise_band(k);
    ring x = input_ring(k);
    ring dy = gradient_ring(k);
    float *room = make_rows(&dy, make_rows(&x, k->room));
    size_t taps = (size_t)(k->kernel[0] * k->kernel[1]);
    weight_sums t;
    pair_of_sums s = {.pixels = 0};

    memset(&t, 0, offsetof(weight_sums, sums) + taps * sizeof *t.sums);
    for (size_t image = 0; image < k->images; image++) {
        int64_t done = 0;
        start(&x, &k->in, image, -k->pad[0]);
        start(&dy, &k->out, image, -k->kernel[0]);
        for (int64_t y = 0; y < k->out_height; y += band) {
            int64_t rows = y + band <= k->out_height ? band : k->out_height - y;
            int64_t until = finished_rows(k, y + rows - 1);
            advance(&x, last_row(k, y + rows - 1));
            advance(&dy, y + rows - 1);
            weight_band(k, &x, &dy, y, rows, &t);
            if (k->dx.data && until > done)
                gradient_rows(k, &dy, image, done, until, room, &s);
            done = until > done ? until : done;
        }
    }
    flush_weights(&t, k, true);
    if (k->before && k->dx.data)
        flush_sums(&s, true, k->sum_dz, k->product_dz);
}

const fk_depthwise_kernels FK_TABLE(fk_depthwise) = {FK_LANES, forward, backward};
