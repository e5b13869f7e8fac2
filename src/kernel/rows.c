/* Loops over rows of values that lie side by side, as transformers have them: LayerNorm, activations, softmax,
 * sums of columns, additions; each with its gradient. Rows need not be whole vectors long. */
#include "kernel/lanes.h"

#define AHEAD (16 * FK_LANES) /* elements from what is read to what is fetched */

/* --- parts of vectors ------------------------------------------------------------------------ */

/* The first `count` lanes; the others are 0. */
FK_INLINE fk_v load_part(fk_operand o, size_t i, size_t count)
{
    float f[FK_LANES] = {0};
    uint16_t h[FK_LANES] = {0};

    if (count >= FK_LANES)
        return fk_v_load(o, i);
    if (o.half) {
        for (size_t k = 0; k < count; k++)
            h[k] = ((const uint16_t *)o.data)[i + k];
        return fk_v_load((fk_operand){h, true}, 0);
    }
#if defined(__AVX512F__) && FK_LANES == 16
    (void)f;
    return (fk_v)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), (const float *)o.data + i);
#else
    memcpy(f, (const float *)o.data + i, count * sizeof *f);
    return fk_v_at(f);
#endif
}

FK_INLINE void store_part(fk_operand o, size_t i, fk_v v, size_t count)
{
    uint16_t h[FK_LANES];

    if (count >= FK_LANES) {
        fk_v_store(o, i, v);
        return;
    }
    if (o.half) {
        fk_v_store((fk_operand){h, true}, 0, v);
        memcpy((uint16_t *)o.data + i, h, count * sizeof *h);
        return;
    }
#if defined(__AVX512F__) && FK_LANES == 16
    _mm512_mask_storeu_ps((float *)o.data + i, (__mmask16)((1u << count) - 1u), (__m512)v);
#else
    for (size_t k = 0; k < count; k++)
        ((float *)o.data)[i + k] = v[k];
#endif
}

FK_INLINE fk_v row_at(const float *row, size_t i, size_t count)
{
    return load_part((fk_operand){(void *)(uintptr_t)row, false}, i, count);
}

FK_INLINE float total(fk_v v)
{
#if defined(__AVX512F__) && FK_LANES == 16
    return _mm512_reduce_add_ps((__m512)v);
#else
    float sum = 0.0f;
    for (int i = 0; i < FK_LANES; i++)
        sum += v[i];
    return sum;
#endif
}

FK_INLINE float largest(fk_v v)
{
    float top = v[0];

    for (int i = 1; i < FK_LANES; i++)
        top = v[i] > top ? v[i] : top;
    return top;
}

/* --- LayerNorm ------------------------------------------------------------------------------- */

typedef struct moments {
    float mean, rstd;
} moments;

/* Two passes: the row is in the nearest cache. */
FK_INLINE moments moments_of(fk_operand x, size_t at, size_t n, float eps)
{
    fk_v sum = {0};
    fk_v squares = {0};

    for (size_t i = 0; i < n; i += FK_LANES) {
        fk_v_fetch(x, at + n + i);
        sum += load_part(x, at + i, n - i);
    }
    float mean = total(sum) / (float)n;
    size_t i = 0;
    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v d = fk_v_load(x, at + i) - mean;
        squares += d * d;
    }
    float rest = 0.0f;
    if (i < n) {
        fk_v d = load_part(x, at + i, n - i) - mean;
        for (size_t k = 0; k < n - i; k++)
            rest += d[k] * d[k];
    }
    float variance = (total(squares) + rest) / (float)n;
    return (moments){mean, 1.0f / sqrtf(variance + eps)};
}

static void norm(const fk_row_norm *k)
{
    for (size_t r = 0; r < k->rows; r++) {
        size_t at = r * k->n;
        moments m = moments_of(k->x, at, k->n, k->eps);
        for (size_t i = 0; i < k->n; i += FK_LANES) {
            size_t part = k->n - i;
            fk_v v = (load_part(k->x, at + i, part) - m.mean) * m.rstd;
            if (k->weight)
                v *= row_at(k->weight, i, part);
            if (k->bias)
                v += row_at(k->bias, i, part);
            store_part(k->y, at + i, v, part);
        }
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight; dweight += dy xhat, dbias += dy. */
static void norm_back(const fk_row_norm *k)
{
    for (size_t r = 0; r < k->rows; r++) {
        size_t at = r * k->n;
        moments m = moments_of(k->x, at, k->n, k->eps);
        fk_v sum = {0};
        fk_v product = {0};
        for (size_t i = 0; i < k->n; i += FK_LANES) {
            size_t part = k->n - i;
            fk_v_fetch(k->dx, at + i);
            fk_v dy = load_part(k->dy, at + i, part);
            fk_v xhat = (load_part(k->x, at + i, part) - m.mean) * m.rstd;
            fk_v g = k->weight ? dy * row_at(k->weight, i, part) : dy;
            sum += g; /* beyond the row dy is 0 */
            product += g * xhat;
            if (k->dweight)
                store_part((fk_operand){k->dweight, false}, i,
                           row_at(k->dweight, i, part) + dy * xhat, part);
            if (k->dbias)
                store_part((fk_operand){k->dbias, false}, i, row_at(k->dbias, i, part) + dy, part);
        }
        if (!k->dx.data)
            continue;
        float mean_g = total(sum) / (float)k->n;
        float mean_gx = total(product) / (float)k->n;
        for (size_t i = 0; i < k->n; i += FK_LANES) {
            size_t part = k->n - i;
            fk_v dy = load_part(k->dy, at + i, part);
            fk_v xhat = (load_part(k->x, at + i, part) - m.mean) * m.rstd;
            fk_v g = k->weight ? dy * row_at(k->weight, i, part) : dy;
            store_part(k->dx, at + i, (g - mean_g - xhat * mean_gx) * m.rstd, part);
        }
    }
}

/* --- activations ----------------------------------------------------------------------------- */

FK_INLINE void act_as(fk_post act, fk_operand x, fk_operand y, size_t n)
{
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v_fetch(x, i + AHEAD);
        fk_v_store(y, i, fk_v_act(act, fk_v_load(x, i)));
    }
    if (i < n)
        store_part(y, i, fk_v_act(act, load_part(x, i, n - i)), n - i);
}

FK_INLINE fk_v act_and_slope(fk_post act, fk_v x, fk_v *slope)
{
    fk_v density;

    if (act.kind == FK_GELU) {
        fk_v half = 0.5f + 0.5f * fk_v_erf_half(x, &density);
        *slope = half + x * density;
        return x * half;
    }
    *slope = fk_v_slope(act, x, fk_v_of(1.0f));
    return fk_v_act(act, x);
}

FK_INLINE void act_slope_as(fk_post act, fk_operand x, fk_operand y, fk_operand slope, size_t n)
{
    fk_v steep;
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v_fetch(x, i + AHEAD);
        fk_v_store(y, i, act_and_slope(act, fk_v_load(x, i), &steep));
        fk_v_store(slope, i, steep);
    }
    if (i < n) {
        store_part(y, i, act_and_slope(act, load_part(x, i, n - i), &steep), n - i);
        store_part(slope, i, steep, n - i);
    }
}

static void act(fk_post post, fk_operand x, fk_operand y, size_t n)
{
    if (post.kind == FK_GELU)
        act_as((fk_post){1, FK_GELU, 0, 0}, x, y, n);
    else if (post.kind == FK_GELU_TANH)
        act_as((fk_post){1, FK_GELU_TANH, 0, 0}, x, y, n);
    else if (post.kind == FK_RELU)
        act_as((fk_post){1, FK_RELU, 0, 0}, x, y, n);
    else
        act_as(post, x, y, n);
}

static void act_slope(fk_post post, fk_operand x, fk_operand y, fk_operand slope, size_t n)
{
    if (post.kind == FK_GELU)
        act_slope_as((fk_post){1, FK_GELU, 0, 0}, x, y, slope, n);
    else if (post.kind == FK_GELU_TANH)
        act_slope_as((fk_post){1, FK_GELU_TANH, 0, 0}, x, y, slope, n);
    else
        act_slope_as(post, x, y, slope, n);
}

static void times(fk_operand a, fk_operand b, fk_operand y, size_t n)
{
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES)
        fk_v_store(y, i, fk_v_load(a, i) * fk_v_load(b, i));
    if (i < n)
        store_part(y, i, load_part(a, i, n - i) * load_part(b, i, n - i), n - i);
}

/* --- softmax --------------------------------------------------------------------------------- */

/* exp(x), and 0 below 1e-20: beside a largest of 1 no sum in f32 sees the difference, but what is masked (Swin adds -100) would come to
 * denormal numbers, with which products take ten times as long. */
FK_INLINE fk_v exp_below_1(fk_v x)
{
    return fk_v_if(fk_v_of(-46.0f), x, fk_v_of(0.0f), fk_v_exp(x));
}

/* The largest of factor x + bias; where there is a bias, x becomes this. */
FK_INLINE float highest_score(fk_operand x, const float *bias, float factor, size_t n)
{
    fk_operand b = {(void *)(uintptr_t)bias, false};
    fk_v top = fk_v_of(-INFINITY);
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v v = fk_v_load(x, i) * factor;
        if (bias) {
            v += fk_v_load(b, i);
            fk_v_store(x, i, v);
        }
        top = fk_v_max(top, v);
    }
    if (i < n) {
        fk_v v = load_part(x, i, n - i) * factor;
        if (bias) {
            v += row_at(bias, i, n - i);
            store_part(x, i, v, n - i);
        }
        for (size_t k = n - i; k < FK_LANES; k++)
            v[k] = -INFINITY;
        top = fk_v_max(top, v);
    }
    return largest(top);
}

/* x = exp(factor x - highest); their sum */
FK_INLINE float exp_scores(fk_operand x, float factor, float highest, size_t n)
{
    fk_v sum = {0};
    float rest = 0.0f;
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v e = exp_below_1(fk_v_load(x, i) * factor - highest);
        fk_v_store(x, i, e);
        sum += e;
    }
    if (i < n) {
        fk_v e = exp_below_1(load_part(x, i, n - i) * factor - highest);
        store_part(x, i, e, n - i);
        for (size_t k = 0; k < n - i; k++)
            rest += e[k];
    }
    return total(sum) + rest;
}

FK_INLINE void scale_scores(fk_operand x, float scale, fk_operand copy, size_t n)
{
    size_t i = 0;

    for (; i + FK_LANES <= n; i += FK_LANES) {
        fk_v y = fk_v_load(x, i) * scale;
        fk_v_store(x, i, y);
        if (copy.data)
            fk_v_store(copy, i, y);
    }
    if (i < n) {
        fk_v y = load_part(x, i, n - i) * scale;
        store_part(x, i, y, n - i);
        if (copy.data)
            store_part(copy, i, y, n - i);
    }
}

static void softmax_row(float *x, const float *bias, float factor, fk_operand copy, size_t n)
{
    fk_operand o = {x, false};
    float highest = bias ? highest_score(o, bias, factor, n) : highest_score(o, NULL, factor, n);
    float scale = 1.0f / exp_scores(o, bias ? 1.0f : factor, highest, n);

    if (copy.half)
        scale_scores(o, scale, (fk_operand){copy.data, true}, n);
    else
        scale_scores(o, scale, (fk_operand){copy.data, false}, n);
}

static void softmax(const fk_row_softmax *k)
{
    for (size_t r = 0; r < k->rows; r++)
        softmax_row(k->x + r * k->stride, k->bias ? k->bias + r * k->bias_stride : NULL, k->scale,
                    fk_operand_at(k->copy, r * k->n), k->n);
}

/* dx = y (dy - sum(y dy)), in the place of dy. */
static void softmax_back(const fk_row_softmax *k)
{
    for (size_t r = 0; r < k->rows; r++) {
        const float *y = k->x + r * k->stride;
        fk_operand dy = {k->dy + r * k->stride, false};
        fk_v dot = {0};
        for (size_t i = 0; i < k->n; i += FK_LANES)
            dot += row_at(y, i, k->n - i) * load_part(dy, i, k->n - i);
        float all = total(dot);
        for (size_t i = 0; i < k->n; i += FK_LANES) {
            size_t part = k->n - i;
            fk_v dx = row_at(y, i, part) * (load_part(dy, i, part) - all);
            store_part(dy, i, dx, part);
            if (k->copy.data)
                store_part(k->copy, r * k->n + i, dx * k->scale, part);
        }
    }
}

/* --- sums ------------------------------------------------------------------------------------ */

static void column_sums(fk_operand x, size_t rows, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i += FK_LANES) {
        size_t part = n - i;
        fk_v s[4] = {{0}};
        size_t r = 0;
        for (; r + 4 <= rows; r += 4) {
            for (size_t k = 0; k < 4; k++)
                s[k] += load_part(x, (r + k) * n + i, part);
        }
        for (; r < rows; r++)
            s[0] += load_part(x, r * n + i, part);
        store_part((fk_operand){sum, false}, i,
                   row_at(sum, i, part) + ((s[0] + s[1]) + (s[2] + s[3])), part);
    }
}

/* What a sum has, as constants: which parts, and their types. */
typedef struct parts {
    bool a, b, row;
} parts;

FK_INLINE fk_v sum_at(const fk_row_sum *k, parts has, size_t a, size_t b, size_t i, float factor,
                      size_t part)
{
    fk_v v = {0};

    if (has.a)
        v = load_part(k->a, a + i, part) * factor;
    if (has.b)
        v += load_part(k->b, b + i, part);
    if (has.row)
        v += row_at(k->row, i, part);
    return v;
}

FK_INLINE void combine_as(fk_row_sum k, parts has)
{
    size_t from = k.from_row ? k.from_row : k.n;
    size_t to = k.to_row ? k.to_row : k.n;

    for (size_t r = 0; r < k.rows; r++) {
        float factor = k.factors ? k.factors[(k.first + r) / k.rows_each] : 1.0f;
        size_t i = 0;
        for (; i + FK_LANES <= k.n; i += FK_LANES) {
            if (has.b)
                fk_v_fetch(k.b, r * to + i + AHEAD);
            fk_v_fetch(k.y, r * to + i + AHEAD);
            fk_v_store(k.y, r * to + i, sum_at(&k, has, r * from, r * to, i, factor, FK_LANES));
        }
        if (i < k.n)
            store_part(k.y, r * to + i, sum_at(&k, has, r * from, r * to, i, factor, k.n - i),
                       k.n - i);
    }
}

FK_INLINE void combine_from(fk_row_sum k, bool half_y)
{
    k.y.half = half_y;
    if (!k.a.data)
        combine_as(k, (parts){false, k.b.data != NULL, k.row != NULL});
    else if (k.b.data)
        combine_as(k, (parts){true, true, k.row != NULL});
    else if (k.row)
        combine_as(k, (parts){true, false, true});
    else
        combine_as(k, (parts){true, false, false});
}

FK_INLINE void act_sum_as(fk_post act, const fk_row_sum *k, fk_operand a, fk_operand y)
{
    for (size_t r = 0; r < k->rows; r++) {
        size_t i = 0;
        size_t at = r * k->n;
        for (; i + FK_LANES <= k->n; i += FK_LANES) {
            fk_v_fetch(a, at + i + AHEAD);
            fk_v_fetch(y, at + i + AHEAD);
            fk_v_store(y, at + i,
                       fk_v_act(act, fk_v_load(a, at + i) + row_at(k->row, i, FK_LANES)));
        }
        if (i < k->n)
            store_part(y, at + i,
                       fk_v_act(act, load_part(a, at + i, k->n - i) + row_at(k->row, i, k->n - i)),
                       k->n - i);
    }
}

/* y = act(a + row) */
static void act_sum(const fk_row_sum *k)
{
    fk_operand a = {k->a.data, false};
    fk_operand y = {k->y.data, true};

    if (!k->row)
        act(k->act, k->a, k->y, k->rows * k->n);
    else if (k->a.half || !k->y.half)
        act_sum_as(k->act, k, k->a, k->y);
    else if (k->act.kind == FK_GELU)
        act_sum_as((fk_post){1, FK_GELU, 0, 0}, k, a, y);
    else if (k->act.kind == FK_GELU_TANH)
        act_sum_as((fk_post){1, FK_GELU_TANH, 0, 0}, k, a, y);
    else
        act_sum_as(k->act, k, a, y);
}

/* y = a factor + b + row, where each may be absent, or act(a + row) */
static void combine(const fk_row_sum *k)
{
    fk_row_sum s = *k;

    if (k->act.n) {
        act_sum(k);
        return;
    }
    if (s.y.half && s.a.half && (!s.b.data || s.b.half)) {
        s.a.half = s.b.half = true;
        combine_from(s, true);
    } else if (s.y.half && !s.a.half && (!s.b.data || s.b.half)) {
        s.a.half = false;
        s.b.half = true;
        combine_from(s, true);
    } else if (!s.y.half && !s.a.half && !s.b.half) {
        s.a.half = s.b.half = false;
        combine_from(s, false);
    } else {
        combine_from(s, s.y.half);
    }
}

extern const fk_row_kernels FK_TABLE(fk_rows);
const fk_row_kernels FK_TABLE(fk_rows) = {
    FK_LANES, norm, norm_back, act, act_slope, times, softmax, softmax_back, column_sums, combine,
};
