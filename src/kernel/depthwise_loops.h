/* The inner loops of a depthwise convolution: rows of float vectors and a few weights, neither borders nor divisions. What a row
 * is made of and what becomes of it is depthwise.c's. */
#ifndef FK_DEPTHWISE_LOOPS_H
#define FK_DEPTHWISE_LOOPS_H

#include "kernel/lanes.h"

enum {
    TILE = 8 /* results that are worked out together */
};

/* Rows times weights. Result u of a line is the sum over its n rows, i, and taps, j, of rows[i][u * step + j] weights[i, j]. */
typedef struct products {
    const float *const *rows;     /* of the first line */
    size_t lines, next_line;      /* rows from a line's first to the next one's */
    size_t from;                  /* floats of a row that come before */
    const float *weights;         /* of the first row's first tap */
    ptrdiff_t next_row, next_tap; /* floats to other weights */
    int n, taps;
    size_t step; /* vectors from a result's first input to the next one's */
    float *to;
    size_t results;           /* a line */
    size_t apart, line_apart; /* floats from a result to the next, and from line to line */
} products;

/* `count` results from number u on of a line, with all of the constants known: an input is read once for all the results that it is in. */
FK_INLINE void few_products(const products *p, const float *const *rows, size_t u, int count,
                            int taps, int step, fk_v *sum)
{
    const float *weights = p->weights;

    for (int i = 0; i < p->n; i++, weights += p->next_row) {
        const float *x = fk_held(rows[i] + p->from + u * (size_t)step * FK_LANES);
        fk_v w[FK_MAX_DEPTHWISE];
#pragma GCC unroll 7
        for (int j = 0; j < taps; j++)
            w[j] = fk_v_held(fk_v_at(weights + j * p->next_tap));
#pragma GCC unroll 19
        for (int c = 0; c < (count - 1) * step + taps; c++) {
            fk_v v = fk_v_held(fk_v_at(x + (size_t)c * FK_LANES));
#pragma GCC unroll 7
            for (int j = 0; j < taps; j++)
                if (c >= j && (c - j) % step == 0 && (c - j) / step < count)
                    sum[(c - j) / step] += v * w[j];
        }
    }
}

/* The same of any number of taps and any step. */
FK_INLINE void any_products(const products *p, const float *const *rows, size_t u, int count,
                            fk_v *sum)
{
    size_t step = p->step * FK_LANES;

    for (int i = 0; i < p->n; i++) {
        const float *x = rows[i] + p->from + u * step;
        for (int j = 0; j < p->taps; j++, x += FK_LANES) {
            fk_v w = fk_v_at(p->weights + i * p->next_row + j * p->next_tap);
#pragma GCC unroll 8
            for (int t = 0; t < count; t++)
                sum[t] += fk_v_at(x + (size_t)t * step) * w;
        }
    }
}

FK_INLINE void products_of(const products *p, const float *const *rows, float *to, size_t u,
                           int count, int taps, int step)
{
    fk_v sum[TILE];

#pragma GCC unroll 8
    for (int t = 0; t < count; t++)
        sum[t] = (fk_v){0};
    if (taps)
        few_products(p, rows, u, count, taps, step, sum);
    else
        any_products(p, rows, u, count, sum);
    to += u * p->apart;
#pragma GCC unroll 8
    for (int t = 0; t < count; t++, to += p->apart)
        fk_v_put(to, sum[t]);
}

/* The n results of a line, `count` at a time; the last ones together with some of those before, again. */
FK_INLINE void products_along(const products *p, const float *const *rows, float *to, size_t count,
                              int taps, int step)
{
    size_t n = p->results;

    for (size_t u = 0; u < n; u += count)
        products_of(p, rows, to, u + count <= n ? u : n - count, (int)count, taps, step);
}

FK_INLINE void all_products(const products *args, int taps, int step)
{
    const products p = *args; /* which what is written does not change */
    const float *const *rows = p.rows;
    float *to = p.to;

    for (size_t line = 0; line < p.lines; line++, rows += p.next_line, to += p.line_apart) {
        if (p.results >= TILE)
            products_along(&p, rows, to, TILE, taps, step);
        else if (p.results >= TILE / 2)
            products_along(&p, rows, to, TILE / 2, taps, step);
        else
            products_along(&p, rows, to, 1, taps, step);
    }
}

/* Steps and taps as one number, for the forms that have loops of their own: 13 is step 1 and 3 taps. */
FK_INLINE int form_of(size_t step, int taps)
{
    return step <= 2 ? 10 * (int)step + taps : 0;
}

static void multiply(const products *p)
{
    switch (form_of(p->step, p->taps)) {
    case 11:
        all_products(p, 1, 1);
        break;
    case 12:
        all_products(p, 2, 1);
        break;
    case 13:
        all_products(p, 3, 1);
        break;
    case 15:
        all_products(p, 5, 1);
        break;
    case 17:
        all_products(p, 7, 1);
        break;
    case 23:
        all_products(p, 3, 2);
        break;
    case 25:
        all_products(p, 5, 2);
        break;
    default:
        all_products(p, 0, 0);
    }
}

/* The gradients of the weights: sums[i][j] += rows[i][u * step + j] dy[u], over lines and their pixels u. */
typedef struct correlation {
    const float *const *rows; /* of the first line */
    const float *const *dy;   /* one a line */
    size_t lines, next_line;  /* rows from a line's first to the next one's */
    size_t from;              /* floats of a row of dy that come before */
    int n, taps;
    size_t step, width;
    fk_v *sums; /* [n][taps] */
} correlation;

/* `count` pixels from u on into `sum`, [n][taps]; all constant but u. */
FK_INLINE void correlate_pixels(const float *const *rows, const float *dy, size_t u, int count,
                                int n, int taps, int step, fk_v *sum)
{
    fk_v g[4];

#pragma GCC unroll 4
    for (int t = 0; t < count; t++)
        g[t] = fk_v_held(fk_v_at(dy + (u + (size_t)t) * FK_LANES));
#pragma GCC unroll 3
    for (int i = 0; i < n; i++) {
        const float *x = fk_held(rows[i] + u * (size_t)step * FK_LANES);
#pragma GCC unroll 11
        for (int c = 0; c < (count - 1) * step + taps; c++) {
            fk_v v = fk_v_held(fk_v_at(x + (size_t)c * FK_LANES));
#pragma GCC unroll 7
            for (int j = 0; j < taps; j++)
                if (c >= j && (c - j) % step == 0 && (c - j) / step < count)
                    sum[i * taps + j] += v * g[(c - j) / step];
        }
    }
}

/* n rows of taps from row `first` on, at most ten sums: each addition waits for the one before. */
FK_INLINE void correlate_few(const correlation *k, int first, int n, int taps, int step)
{
    fk_v sum[10];
    fk_v *to = k->sums + first * taps;

#pragma GCC unroll 10
    for (int i = 0; i < n * taps; i++)
        sum[i] = to[i];
    for (size_t line = 0; line < k->lines; line++) {
        const float *const *rows = k->rows + line * k->next_line + first;
        const float *dy = k->dy[line] + k->from;
        size_t u = 0;
        for (; u + 4 <= k->width; u += 4)
            correlate_pixels(rows, dy, u, 4, n, taps, step, sum);
        for (; u < k->width; u++)
            correlate_pixels(rows, dy, u, 1, n, taps, step, sum);
    }
#pragma GCC unroll 10
    for (int i = 0; i < n * taps; i++)
        to[i] = sum[i];
}

FK_INLINE void correlate_3x3(const correlation *k, int step)
{
    correlate_few(k, 0, 3, 3, step);
}

FK_INLINE void correlate_5x5(const correlation *k, int step)
{
    correlate_few(k, 0, 2, 5, step);
    correlate_few(k, 2, 2, 5, step);
    correlate_few(k, 4, 1, 5, step);
}

FK_INLINE void correlate_7x7(const correlation *k)
{
    for (int i = 0; i < 7; i++)
        correlate_few(k, i, 1, 7, 1);
}

static void correlate_any(const correlation *k)
{
    for (size_t line = 0; line < k->lines; line++) {
        const float *dy = k->dy[line] + k->from;
        for (int i = 0; i < k->n; i++) {
            for (int j = 0; j < k->taps; j++) {
                const float *x = k->rows[line * k->next_line + (size_t)i] + (size_t)j * FK_LANES;
                fk_v sum[2] = {{0}};
                for (size_t u = 0; u < k->width; u++, x += k->step * FK_LANES)
                    sum[u % 2] += fk_v_at(x) * fk_v_at(dy + u * FK_LANES);
                k->sums[i * k->taps + j] += sum[0] + sum[1];
            }
        }
    }
}

static void correlate(const correlation *k)
{
    switch (k->n == k->taps ? form_of(k->step, k->taps) : 0) {
    case 13:
        correlate_3x3(k, 1);
        break;
    case 15:
        correlate_5x5(k, 1);
        break;
    case 17:
        correlate_7x7(k);
        break;
    case 23:
        correlate_3x3(k, 2);
        break;
    case 25:
        correlate_5x5(k, 2);
        break;
    default:
        correlate_any(k);
    }
}

#endif
