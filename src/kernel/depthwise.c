/* Depthwise convolution of one channel vector. Rows of the input are brought to a ring of float rows with
 * their padding (and, if lazy, normalised and activated on the way); everything else reads that ring, so
 * there is one inner loop without any test for borders. The gradient of the input is the same loop over
 * rows of the output's gradient, one for each remainder by the stride. */
#include "kernel/lanes.h"

#define TILE 8

/* One input of the inner loop: where it starts, and its weight. */
typedef struct tap {
    const float *src, *weight;
} tap;

/* TILE results, `step` floats apart, from result number `at`. In variables of their own: an array would
 * live in memory. */
FK_INLINE void eight_of(const tap *t, int taps, size_t at, size_t step, fk_v *to)
{
    fk_v a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, a4 = {0}, a5 = {0}, a6 = {0}, a7 = {0};

    for (int k = 0; k < taps; k++) {
        fk_v w = fk_v_at(t[k].weight);
        const float *s = t[k].src + at * step;
        a0 += fk_v_at(s) * w;
        a1 += fk_v_at(s + step) * w;
        a2 += fk_v_at(s + 2 * step) * w;
        a3 += fk_v_at(s + 3 * step) * w;
        a4 += fk_v_at(s + 4 * step) * w;
        a5 += fk_v_at(s + 5 * step) * w;
        a6 += fk_v_at(s + 6 * step) * w;
        a7 += fk_v_at(s + 7 * step) * w;
    }
    to[0] = a0, to[1] = a1, to[2] = a2, to[3] = a3;
    to[4] = a4, to[5] = a5, to[6] = a6, to[7] = a7;
}

FK_INLINE void four_of(const tap *t, int taps, size_t at, size_t step, fk_v *to)
{
    fk_v a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};

    for (int k = 0; k < taps; k++) {
        fk_v w = fk_v_at(t[k].weight);
        const float *s = t[k].src + at * step;
        a0 += fk_v_at(s) * w;
        a1 += fk_v_at(s + step) * w;
        a2 += fk_v_at(s + 2 * step) * w;
        a3 += fk_v_at(s + 3 * step) * w;
    }
    to[0] = a0, to[1] = a1, to[2] = a2, to[3] = a3;
}

/* One result in two sums, since each addition waits for the one before. */
FK_INLINE fk_v one_of(const tap *t, int taps, size_t at, size_t step)
{
    fk_v a0 = {0}, a1 = {0};
    int k = 0;

    for (; k + 2 <= taps; k += 2) {
        a0 += fk_v_at(t[k].src + at * step) * fk_v_at(t[k].weight);
        a1 += fk_v_at(t[k + 1].src + at * step) * fk_v_at(t[k + 1].weight);
    }
    if (k < taps)
        a0 += fk_v_at(t[k].src + at * step) * fk_v_at(t[k].weight);
    return a0 + a1;
}

/* As many of the `left` results as are worked out at once, at most TILE; gives how many. */
FK_INLINE size_t tile_of(const tap *t, int taps, size_t at, size_t step, size_t left, fk_v *to)
{
    if (left >= TILE) {
        eight_of(t, taps, at, step, to);
        return TILE;
    }
    if (left >= 4) {
        four_of(t, taps, at, step, to);
        return 4;
    }
    to[0] = one_of(t, taps, at, step);
    return 1;
}

/* --- rows ------------------------------------------------------------------------------------ */

/* Rows of a plane as float, with `before` and `after` zero pixels around. */
typedef struct ring {
    float *rows;
    int depth;     /* rows kept */
    int64_t next;  /* first row not loaded yet */
    size_t padded; /* floats a row */
    int64_t height, width, before;
    fk_operand from;
    size_t at, pixel;         /* of the plane in `from` */
    const fk_norm_args *norm; /* what the rows are worked out by, or NULL: they are copied */
    bool backward;            /* its gradient, or its output */
} ring;

static float *ring_row(const ring *r, int64_t y)
{
    int64_t slot = (y % r->depth + r->depth) % r->depth;

    return r->rows + (size_t)slot * r->padded;
}

/* A row of the plane, converted; and normalised and activated on the way. The row below, which comes next, is fetched meanwhile. */
FK_INLINE void convert_row(fk_operand from, size_t at, size_t pixel, int64_t width, float *to)
{
    size_t below = (size_t)width * pixel;

    for (int64_t x = 0; x < width; x++, at += pixel, to += FK_LANES) {
        fk_v_fetch(from, at + below);
        fk_v_put(to, fk_v_load(from, at));
    }
}

FK_INLINE void normalise_row(const fk_norm_args *args, size_t at, size_t pixel, int64_t width,
                             float *to, fk_post act)
{
    const fk_norm_args k = *args;
    fk_v mean = fk_v_at(k.mean);
    fk_v scale = fk_v_at(k.scale);
    fk_v shift = fk_v_at(k.shift);
    size_t below = (size_t)width * pixel;

    for (int64_t x = 0; x < width; x++, at += pixel, to += FK_LANES) {
        fk_v_fetch(k.y, at + below);
        fk_v_put(to, fk_v_act(act, (fk_v_load(k.y, at) - mean) * scale + shift));
    }
}

/* The gradient of a BatchNorm's input, from those of its output. */
FK_INLINE void gradient_of_row(const fk_norm_args *args, size_t at, size_t pixel, int64_t width,
                               float *to, fk_post act, bool two)
{
    const fk_norm_args k = *args;
    fk_v mean = fk_v_at(k.mean);
    fk_v scale = fk_v_at(k.scale);
    fk_v shift = fk_v_at(k.shift);
    fk_v to_dz = fk_v_at(k.to_dz);
    fk_v to_y = fk_v_at(k.to_y);
    fk_v to_1 = fk_v_at(k.to_1);
    size_t below = (size_t)width * pixel;

    for (int64_t x = 0; x < width; x++, at += pixel, to += FK_LANES) {
        fk_v_fetch(k.y, at + below);
        fk_v_fetch(k.g, at + below);
        fk_v d = fk_v_load(k.y, at) - mean;
        fk_v dz = fk_v_dz(&k, at, act, two, false, d, scale, shift);
        fk_v_put(to, dz * to_dz + (d * to_y + to_1));
    }
}

static void row_before(const fk_norm_args *k, size_t at, size_t pixel, int64_t width, float *to)
{
    if (k->act.n && k->act.kind == FK_CLIP)
        normalise_row(k, at, pixel, width, to, (fk_post){1, FK_CLIP, k->act.a, k->act.b});
    else if (k->act.n && k->act.kind == FK_RELU)
        normalise_row(k, at, pixel, width, to, (fk_post){1, FK_RELU, 0, 0});
    else
        normalise_row(k, at, pixel, width, to, k->act);
}

static void row_behind(const fk_norm_args *k, size_t at, size_t pixel, int64_t width, float *to)
{
    if (k->g2.data)
        gradient_of_row(k, at, pixel, width, to, k->act, true);
    else if (k->act.n && k->act.kind == FK_CLIP)
        gradient_of_row(k, at, pixel, width, to, (fk_post){1, FK_CLIP, k->act.a, k->act.b}, false);
    else if (k->act.n && k->act.kind == FK_RELU)
        gradient_of_row(k, at, pixel, width, to, (fk_post){1, FK_RELU, 0, 0}, false);
    else
        gradient_of_row(k, at, pixel, width, to, k->act, false);
}

/* Row y of the plane, zeros outside of it. The zero pixels at both ends are there from the start. */
static void load_row(const ring *r, int64_t y)
{
    float *to = ring_row(r, y) + r->before * FK_LANES;
    size_t at = r->at + (size_t)y * (size_t)r->width * r->pixel;

    if (y < 0 || y >= r->height)
        memset(to, 0, (size_t)r->width * FK_LANES * sizeof *to);
    else if (!r->norm)
        convert_row(r->from, at, r->pixel, r->width, to);
    else if (r->backward)
        row_behind(r->norm, at, r->pixel, r->width, to);
    else
        row_before(r->norm, at, r->pixel, r->width, to);
}

/* Load up to and including row `last`. */
static void advance(ring *r, int64_t last)
{
    for (; r->next <= last; r->next++)
        load_row(r, r->next);
}

/* Padding after the input that the windows reach. */
static int64_t pad_after(const fk_depthwise_args *k, int axis)
{
    int64_t out = axis ? k->out_width : k->out_height;
    int64_t in = axis ? k->width : k->height;
    int64_t reach = (out - 1) * k->stride[axis] + k->kernel[axis] - k->pad[axis] - in;

    return reach > 0 ? reach : 0;
}

static ring input_ring(const fk_depthwise_args *k, size_t image, float *room)
{
    ring r = {.rows = room,
              .depth = k->kernel[0],
              .next = -k->pad[0],
              .height = k->height,
              .width = k->width,
              .before = k->pad[1],
              .from = k->x,
              .norm = k->before,
              .at = k->in.first + image * k->in.image,
              .pixel = k->in.pixel};

    r.padded = (size_t)(k->width + k->pad[1] + pad_after(k, 1)) * FK_LANES;
    return r;
}

static ring gradient_ring(const fk_depthwise_args *k, size_t image, float *room)
{
    ring r = {.rows = room,
              .depth = k->kernel[0],
              .next = 0,
              .height = k->out_height,
              .width = k->out_width,
              .before = k->kernel[1],
              .from = k->dy,
              .norm = k->behind,
              .backward = true,
              .at = k->out.first + image * k->out.image,
              .pixel = k->out.pixel};

    r.padded = (size_t)(k->out_width + 2 * k->kernel[1]) * FK_LANES;
    return r;
}

/* --- forward --------------------------------------------------------------------------------- */

/* One row of results; what is done to them on their way out is constant where this is called. */
FK_INLINE void forward_row(const fk_depthwise_args *args, const tap *taps, int n, size_t at)
{
    const fk_depthwise_args k = *args;
    size_t step = (size_t)k.stride[1] * FK_LANES;
    size_t width = (size_t)k.out_width;
    fk_v origin = k.sum ? fk_v_at(k.origin) : (fk_v){0};
    fk_v bias = k.bias ? fk_v_at(k.bias) : (fk_v){0};
    fk_v sum = {0};
    fk_v squares = {0};

    for (size_t x = 0; x < width;) {
        fk_v acc[TILE];
        size_t count = tile_of(taps, n, x, step, width - x, acc);
        for (size_t i = 0; i < count; i++) {
            fk_v v = acc[i] + bias;
            if (k.sum) {
                fk_v d = v - origin;
                sum += d;
                squares += d * d;
            }
            fk_v_fetch(k.y, at + (x + i + width) * k.out.pixel);
            fk_v_store(k.y, at + (x + i) * k.out.pixel, fk_v_act(k.post, v));
        }
        x += count;
    }
    if (k.sum) {
        fk_v_add_to(k.sum, sum);
        fk_v_add_to(k.squares, squares);
    }
}

static int forward_taps(const fk_depthwise_args *k, const ring *r, int64_t y, tap *taps)
{
    int n = 0;

    for (int i = 0; i < k->kernel[0]; i++) {
        const float *row = ring_row(r, y * k->stride[0] - k->pad[0] + i);
        for (int j = 0; j < k->kernel[1]; j++, n++)
            taps[n] = (tap){row + (size_t)j * FK_LANES, k->weights + (size_t)n * FK_LANES};
    }
    return n;
}

static void forward(const fk_depthwise_args *k)
{
    for (size_t n = 0; n < k->images; n++) {
        ring r = input_ring(k, n, k->room);
        if (n == 0) /* the zero pixels at both ends of the rows */
            memset(r.rows, 0, (size_t)r.depth * r.padded * sizeof *r.rows);
        for (int64_t y = 0; y < k->out_height; y++) {
            tap taps[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE];
            size_t at = k->out.first + n * k->out.image + (size_t)(y * k->out_width) * k->out.pixel;
            advance(&r, y * k->stride[0] - k->pad[0] + k->kernel[0] - 1);
            int count = forward_taps(k, &r, y, taps);
            forward_row(k, taps, count, at);
        }
    }
}

/* --- backward -------------------------------------------------------------------------------- */

/* Pixels x = first, first + stride, ... of one row of dx: they all use the same taps. With a BatchNorm before, what
 * is stored is the gradient before its activation, and its sums are taken. */
FK_INLINE void gradient_phase(const fk_depthwise_args *k, const tap *taps, int n, int64_t first,
                              size_t row, const fk_norm_args *norm, fk_post act)
{
    size_t count = (size_t)((k->width - first + k->stride[1] - 1) / k->stride[1]);
    size_t stride = (size_t)k->stride[1] * k->in.pixel;
    size_t at = row + (size_t)first * k->in.pixel;
    size_t below = (size_t)k->width * k->in.pixel;
    fk_operand dx = k->dx;
    fk_operand y = norm ? norm->y : (fk_operand){0};
    fk_v mean = norm ? fk_v_at(norm->mean) : (fk_v){0};
    fk_v scale = norm ? fk_v_at(norm->scale) : (fk_v){0};
    fk_v shift = norm ? fk_v_at(norm->shift) : (fk_v){0};
    fk_v sum = {0};
    fk_v product = {0};

    for (size_t i = 0; i < count;) {
        fk_v acc[TILE];
        size_t done = tile_of(taps, n, i, FK_LANES, count - i, acc);
        for (size_t t = 0; t < done; t++) {
            fk_v v = acc[t];
            if (norm) {
                fk_v d = fk_v_load(y, at + (i + t) * stride) - mean;
                v = fk_v_slope(act, d * scale + shift, v);
                sum += v;
                product += v * d;
            }
            fk_v_fetch(dx, at + (i + t) * stride + below);
            fk_v_store(dx, at + (i + t) * stride, v);
        }
        i += done;
    }
    if (norm) {
        fk_v_add_to(k->sum_dz, sum);
        fk_v_add_to(k->product_dz, product);
    }
}

static void gradient_phase_as(const fk_depthwise_args *k, const tap *taps, int n, int64_t first,
                              size_t row)
{
    const fk_norm_args *norm = k->before;

    if (!norm)
        gradient_phase(k, taps, n, first, row, NULL, (fk_post){0});
    else if (norm->act.n && norm->act.kind == FK_CLIP)
        gradient_phase(k, taps, n, first, row, norm,
                       (fk_post){1, FK_CLIP, norm->act.a, norm->act.b});
    else if (norm->act.n && norm->act.kind == FK_RELU)
        gradient_phase(k, taps, n, first, row, norm, (fk_post){1, FK_RELU, 0, 0});
    else
        gradient_phase(k, taps, n, first, row, norm, norm->act);
}

/* Row y of dx: output pixel (v, u) read input (v s - p + i, u s - p + j) with weight (i, j). */
static void gradient_row(const fk_depthwise_args *k, const ring *dy, int64_t y, size_t image)
{
    tap taps[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE];
    size_t row = k->in.first + image * k->in.image + (size_t)(y * k->width) * k->in.pixel;

    for (int64_t first = 0; first < k->stride[1] && first < k->width; first++) {
        int n = 0;
        for (int i = 0; i < k->kernel[0]; i++) {
            int64_t v = y + k->pad[0] - i;
            if (v % k->stride[0] || v < 0 || v / k->stride[0] >= k->out_height)
                continue;
            const float *from = ring_row(dy, v / k->stride[0]);
            for (int j = 0; j < k->kernel[1]; j++) {
                int64_t u = first + k->pad[1] - j;
                if (u % k->stride[1])
                    continue;
                taps[n++] = (tap){from + (u / k->stride[1] + dy->before) * FK_LANES,
                                  k->weights + (size_t)(i * k->kernel[1] + j) * FK_LANES};
            }
        }
        gradient_phase_as(k, taps, n, first, row);
    }
}

/* Sums of the gradients of the weights, in float as long as they are of few pixels. */
typedef struct tally {
    fk_v sums[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE];
    size_t pixels;
} tally;

#define TALLIED 128

/* Into the totals, if there are many pixels in it or `all` is done. */
static void flush_tally(tally *t, const fk_depthwise_args *k, bool all)
{
    int taps = k->kernel[0] * k->kernel[1];

    if (t->pixels < TALLIED && !all)
        return;
    for (int i = 0; i < taps; i++) {
        fk_v_add_to(k->dweights + (size_t)i * FK_LANES, t->sums[i]);
        t->sums[i] = (fk_v){0};
    }
    t->pixels = 0;
}

/* Row y of the output's gradient times row i of its windows, `side` taps wide. */
FK_INLINE void weight_row(const float *x, const float *dy, size_t width, size_t step, int side,
                          fk_v *dw)
{
    fk_v acc[2][FK_MAX_DEPTHWISE] = {{{0}}};
    size_t u = 0;

    for (; u + 2 <= width; u += 2) {
        for (size_t half = 0; half < 2; half++) {
            fk_v g = fk_v_at(dy + (u + half) * FK_LANES);
            const float *s = x + (u + half) * step;
            for (int j = 0; j < side; j++)
                acc[half][j] += g * fk_v_at(s + (size_t)j * FK_LANES);
        }
    }
    if (u < width) {
        fk_v g = fk_v_at(dy + u * FK_LANES);
        for (int j = 0; j < side; j++)
            acc[0][j] += g * fk_v_at(x + u * step + (size_t)j * FK_LANES);
    }
    for (int j = 0; j < side; j++)
        dw[j] += acc[0][j] + acc[1][j];
}

/* All nine taps of a 3x3 at once: one load of the gradient for nine products. */
static void weight_rows_3x3(const float *const *x, const float *dy, size_t width, size_t step,
                            fk_v *dw)
{
    fk_v acc[9];

    memcpy(acc, dw, sizeof acc);
    for (size_t u = 0; u < width; u++) {
        fk_v g = fk_v_at(dy + u * FK_LANES);
        for (int i = 0; i < 3; i++) {
            const float *s = x[i] + u * step;
            for (int j = 0; j < 3; j++)
                acc[3 * i + j] += g * fk_v_at(s + (size_t)j * FK_LANES);
        }
    }
    memcpy(dw, acc, sizeof acc);
}

static void weight_rows(const fk_depthwise_args *k, const ring *x, const ring *dy, int64_t y,
                        tally *t)
{
    const float *g = ring_row(dy, y) + dy->before * FK_LANES;
    const float *rows[FK_MAX_DEPTHWISE];
    size_t step = (size_t)k->stride[1] * FK_LANES;
    size_t width = (size_t)k->out_width;
    int side = k->kernel[1];

    t->pixels += width;
    for (int i = 0; i < k->kernel[0]; i++)
        rows[i] = ring_row(x, y * k->stride[0] - k->pad[0] + i);
    if (k->kernel[0] == 3 && side == 3) {
        weight_rows_3x3(rows, g, width, step, t->sums);
        return;
    }
    for (int i = 0; i < k->kernel[0]; i++) {
        fk_v *dw = t->sums + (size_t)(i * side);
        if (side == 5)
            weight_row(rows[i], g, width, step, 5, dw);
        else
            weight_row(rows[i], g, width, step, side, dw);
    }
}

/* Rows of dx whose last contribution comes from row y of the gradient. */
static void finish_rows(const fk_depthwise_args *k, const ring *dy, int64_t y, int64_t *done,
                        size_t image)
{
    bool last = y + 1 == k->out_height;
    int64_t until = last ? k->height : (y + 1) * k->stride[0] - k->pad[0];

    for (; *done < until && *done < k->height; (*done)++)
        gradient_row(k, dy, *done, image);
}

static void backward(const fk_depthwise_args *k)
{
    ring shape = input_ring(k, 0, k->room);
    float *second = k->room + (size_t)shape.depth * shape.padded;
    tally t = {.pixels = 0};

    for (size_t n = 0; n < k->images; n++) {
        ring x = input_ring(k, n, k->room);
        ring dy = gradient_ring(k, n, second);
        int64_t done = 0;
        if (n == 0) {
            memset(x.rows, 0, (size_t)x.depth * x.padded * sizeof *x.rows);
            memset(dy.rows, 0, (size_t)dy.depth * dy.padded * sizeof *dy.rows);
        }
        for (int64_t y = 0; y < k->out_height; y++) {
            advance(&x, y * k->stride[0] - k->pad[0] + k->kernel[0] - 1);
            advance(&dy, y);
            weight_rows(k, &x, &dy, y, &t);
            flush_tally(&t, k, false);
            if (k->dx.data)
                finish_rows(k, &dy, y, &done, n);
        }
    }
    flush_tally(&t, k, true);
}

const fk_depthwise_kernels FK_TABLE(fk_depthwise) = {FK_LANES, forward, backward};
