/* A vector of channels, in GCC's and clang's own vector types: one source for every instruction set. The
 * files that include this are compiled once for each (see CMakeLists.txt), with FK_LANES and
 * FK_VARIANT defined. */
#ifndef FK_LANES_H
#define FK_LANES_H

#include "kernel/kernel.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef FK_LANES
#define FK_LANES   16
#define FK_VARIANT plain16
#endif

/* The name of a table in this variant: fk_norm_avx2. */
#define FK_JOIN(name, variant) name##_##variant
#define FK_NAME(name, variant) FK_JOIN(name, variant)
#define FK_TABLE(name)         FK_NAME(name, FK_VARIANT)

#define FK_INLINE static inline __attribute__((always_inline))

typedef float fk_v __attribute__((vector_size(FK_LANES * 4)));
typedef int32_t fk_vi __attribute__((vector_size(FK_LANES * 4)));
typedef uint32_t fk_vu __attribute__((vector_size(FK_LANES * 4)));
typedef uint16_t fk_vh __attribute__((vector_size(FK_LANES * 2)));

FK_INLINE fk_v fk_v_of(float x)
{
    return x - (fk_v){0};
}

FK_INLINE fk_v fk_v_at(const float *p)
{
    fk_v v;

    memcpy(&v, p, sizeof v);
    return v;
}

FK_INLINE void fk_v_put(float *p, fk_v v)
{
    memcpy(p, &v, sizeof v);
}

/* A vector of bf16. For __builtin_convertvector() GCC 12 halves vectors of 16 and puts them together again. */
FK_INLINE fk_v fk_v_at_half(const uint16_t *p)
{
    fk_vh h;

    memcpy(&h, p, sizeof h);
#if defined(__AVX512F__) && FK_LANES == 16
    return (fk_v)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#elif defined(__AVX2__) && FK_LANES == 8
    return (fk_v)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
#else
    return (fk_v)(__builtin_convertvector(h, fk_vu) << 16);
#endif
}

FK_INLINE fk_v fk_v_load(fk_operand o, size_t i)
{
    return o.half ? fk_v_at_half((const uint16_t *)o.data + i) : fk_v_at((const float *)o.data + i);
}

/* Element i, if there is such a one, will be read or written soon. Several streams at once, or rows with gaps, are more than the
 * processor sees coming. */
FK_INLINE void fk_v_fetch(fk_operand o, size_t i)
{
    size_t by = i * (o.half ? sizeof(uint16_t) : sizeof(float));

    __builtin_prefetch(
        (const void *)((uintptr_t)o.data + by)); /* no pointer: it may be beyond its array */
}

/* a > b ? yes : no */
FK_INLINE fk_v fk_v_if(fk_v a, fk_v b, fk_v yes, fk_v no)
{
#if defined(__AVX512F__) && FK_LANES == 16
    return (fk_v)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ),
                                      (__m512)no, (__m512)yes);
#elif defined(__AVX2__) && FK_LANES == 8
    return (fk_v)_mm256_blendv_ps((__m256)no, (__m256)yes,
                                  _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
#else
    fk_vi where = a > b;
    return (fk_v)(((fk_vi)yes & where) | ((fk_vi)no & ~where));
#endif
}

FK_INLINE fk_v fk_v_max(fk_v a, fk_v b)
{
#if defined(__AVX512F__) && FK_LANES == 16
    return (fk_v)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__) && FK_LANES == 8
    return (fk_v)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return fk_v_if(a, b, a, b);
#endif
}

FK_INLINE fk_v fk_v_min(fk_v a, fk_v b)
{
#if defined(__AVX512F__) && FK_LANES == 16
    return (fk_v)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__) && FK_LANES == 8
    return (fk_v)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return fk_v_if(b, a, a, b);
#endif
}

/* Keeps v, which comes from memory, in a register: GCC 12 would rather read it again wherever it is used. */
FK_INLINE fk_v fk_v_held(fk_v v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__AVX2__)
    __asm__("" : "+x"(v));
#endif
    return v;
}

/* The same of an address, from which others are then told by constants. */
FK_INLINE const float *fk_held(const float *p)
{
#if defined(__AVX2__)
    __asm__("" : "+r"(p));
#endif
    return p;
}

/* The bits of the nearest bf16, ties to even, in the lower half; NaN stays NaN. */
FK_INLINE fk_vu fk_v_rounded(fk_v v)
{
    fk_vu u = (fk_vu)v;
    fk_vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    fk_vu nan = (fk_vu)(v != v);

    return (rounded & ~nan) | (nan & 0x7fc0u);
}

/* The lower halves. */
FK_INLINE fk_vh fk_v_low(fk_vu u)
{
#if defined(__AVX512F__) && FK_LANES == 16
    return (fk_vh)_mm512_cvtepi32_epi16((__m512i)u);
#elif defined(__AVX2__) && FK_LANES == 8
    __m256i all = (__m256i)u;
    return (fk_vh)_mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
#else
    return __builtin_convertvector(u, fk_vh);
#endif
}

/* To the nearest bf16. */
FK_INLINE void fk_v_store(fk_operand o, size_t i, fk_v v)
{
    if (!o.half) {
        fk_v_put((float *)o.data + i, v);
        return;
    }
#if defined(__AVX512BF16__) && FK_LANES == 16
    __m256bh h = _mm512_cvtneps_pbh((__m512)v);
#elif defined(__AVX512BF16__)
    __m128bh h = _mm256_cvtneps_pbh((__m256)v);
#else
    fk_vh h = fk_v_low(fk_v_rounded(v));
#endif
    memcpy((uint16_t *)o.data + i, &h, sizeof h);
}

/* exp(x) = 2^n exp(r), r = x - n ln 2 within half of ln 2; a polynomial of degree 6 for exp(r): relative
 * error below 3e-7. */
FK_INLINE fk_v fk_v_exp(fk_v x)
{
    const fk_v magic = fk_v_of(12582912.0f); /* 1.5 2^23: adding it rounds to a whole number */

    x = fk_v_min(fk_v_of(88.0f), fk_v_max(fk_v_of(-87.0f), x)); /* so, NaN stays */
    fk_v shifted = x * 1.44269504f + magic;
    fk_v n = shifted - magic;
    fk_v r = x - n * 0.693359375f + n * 2.12194440e-4f;
    fk_v p = fk_v_of(1.9875691e-4f);
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 5.0000001e-1f;
    p = p * r * r + r + 1.0f;
    fk_vi scale = (((fk_vi)shifted << 23) + (127 << 23));
    return p * (fk_v)scale;
}

/* 1 / x for x of 1 and more: an estimate of 14 bits and a step of Newton's are faster than a division, and about as exact. */
FK_INLINE fk_v fk_v_reciprocal(fk_v x)
{
#if defined(__AVX512F__) && FK_LANES == 16
    fk_v r = (fk_v)_mm512_rcp14_ps((__m512)x);
    return r * (2.0f - x * r);
#elif defined(__AVX512VL__) && FK_LANES == 8
    fk_v r = (fk_v)_mm256_rcp14_ps((__m256)x);
    return r * (2.0f - x * r);
#else
    return 1.0f / x;
#endif
}

FK_INLINE fk_v fk_v_sigmoid(fk_v x)
{
    return fk_v_reciprocal(1.0f + fk_v_exp(-x));
}

/* x / sqrt(2) into erf() and the normal density at x: Abramowitz and Stegun 7.1.26, error below 1.5e-7; both
 * have the same exponential. */
FK_INLINE fk_v fk_v_erf_half(fk_v x, fk_v *density)
{
    fk_v size = fk_v_max(x, -x) * 0.70710678f;
    fk_v t = fk_v_reciprocal(1.0f + 0.3275911f * size);
    fk_v e = fk_v_exp(-size * size);
    fk_v p = fk_v_of(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    *density = e * 0.39894228f;
    fk_v high = 1.0f - p * t * e;
    return fk_v_if(x, fk_v_of(0.0f), high, -high);
}

FK_INLINE fk_v fk_v_tanh(fk_v x)
{
    return 1.0f - 2.0f * fk_v_reciprocal(1.0f + fk_v_exp(2.0f * x));
}

/* tanh of this is the heart of GELU's approximation. */
FK_INLINE fk_v fk_v_gelu_inner(fk_v x)
{
    return x * (0.79788456f + 0.035677408f * x * x);
}

/* Mish (Misra 2019) is x tanh(ln(1 + e^x)) = x n / (n + 2) with w = e^x, n = w (w + 2); from 20 on it is x in all digits. */
FK_INLINE fk_v fk_v_mish_gate(fk_v x, fk_v *w)
{
    *w = fk_v_exp(fk_v_min(fk_v_of(20.0f), x));
    return 1.0f - 2.0f * fk_v_reciprocal(*w * (*w + 2.0f) + 2.0f);
}

FK_INLINE fk_v fk_v_act(fk_post act, fk_v z)
{
    if (!act.n)
        return z;
    switch (act.kind) {
    case FK_RELU:
        return fk_v_max(z, fk_v_of(0.0f));
    case FK_CLIP:
        return fk_v_min(fk_v_max(z, fk_v_of(act.a)), fk_v_of(act.b));
    case FK_LEAKY:
        return fk_v_if(z, fk_v_of(0.0f), z, z * act.a);
    case FK_HARDSWISH:
        return z * fk_v_min(fk_v_max(z + 3.0f, fk_v_of(0.0f)), fk_v_of(6.0f)) * (1.0f / 6.0f);
    case FK_SILU:
        return z * fk_v_sigmoid(z);
    case FK_MISH: {
        fk_v w;
        return z * fk_v_mish_gate(z, &w);
    }
    case FK_SIGMOID:
        return fk_v_sigmoid(z);
    case FK_TANH:
        return fk_v_tanh(z);
    case FK_GELU: {
        fk_v density;
        return z * (0.5f + 0.5f * fk_v_erf_half(z, &density));
    }
    case FK_GELU_TANH:
        return z * (0.5f + 0.5f * fk_v_tanh(fk_v_gelu_inner(z)));
    default: /* not among the kernels' */
        break;
    }
    return z;
}

/* g times the slope of the activation at z. */
FK_INLINE fk_v fk_v_slope(fk_post act, fk_v z, fk_v g)
{
    const fk_v none = fk_v_of(0.0f);

    if (!act.n)
        return g;
    switch (act.kind) {
    case FK_RELU:
        return fk_v_if(z, none, g, none);
    case FK_CLIP:
        return fk_v_if(z, fk_v_of(act.a), fk_v_if(fk_v_of(act.b), z, g, none), none);
    case FK_LEAKY:
        return fk_v_if(z, none, g, g * act.a);
    case FK_HARDSWISH: {
        fk_v inner = fk_v_if(fk_v_of(3.0f), z, g * (z * (1.0f / 3.0f) + 0.5f), g);
        return fk_v_if(z, fk_v_of(-3.0f), inner, none);
    }
    case FK_SILU: {
        fk_v s = fk_v_sigmoid(z);
        return g * s * (1.0f + z * (1.0f - s));
    }
    case FK_MISH: {
        fk_v w;
        fk_v t = fk_v_mish_gate(z, &w);
        return g * (t + z * (1.0f - t * t) * w * fk_v_reciprocal(1.0f + w));
    }
    case FK_SIGMOID: {
        fk_v s = fk_v_sigmoid(z);
        return g * s * (1.0f - s);
    }
    case FK_TANH: {
        fk_v t = fk_v_tanh(z);
        return g * (1.0f - t * t);
    }
    case FK_GELU: {
        fk_v density;
        fk_v half = 0.5f + 0.5f * fk_v_erf_half(z, &density);
        return g * (half + z * density);
    }
    case FK_GELU_TANH: {
        fk_v t = fk_v_tanh(fk_v_gelu_inner(z));
        fk_v slope = 0.79788456f + 0.10703222f * z * z;
        return g * (0.5f + 0.5f * t + 0.5f * z * (1.0f - t * t) * slope);
    }
    default:
        break;
    }
    return g;
}

/* The gradient of z = scale d + shift at element `at`, d = y - mean. With a residual inside the activation, its
 * slope is told from the output. */
FK_INLINE fk_v fk_v_dz(const fk_norm_args *k, size_t at, fk_post act, bool two, bool from_output,
                       fk_v d, fk_v scale, fk_v shift)
{
    fk_v g = fk_v_load(k->g, at);

    if (two)
        g += fk_v_load(k->g2, at);
    if (!act.n)
        return g;
    return fk_v_slope(act, from_output ? fk_v_load(k->a, at) : d * scale + shift, g);
}

/* f(act, ...) with the usual activations as constants, so that each becomes a loop of its own. */
#define FK_BY_ACT(act, f, ...)                                       \
    do {                                                             \
        if (!(act).n)                                                \
            f((fk_post){0}, __VA_ARGS__);                            \
        else if ((act).kind == FK_RELU)                              \
            f((fk_post){1, FK_RELU, 0, 0}, __VA_ARGS__);             \
        else if ((act).kind == FK_CLIP)                              \
            f((fk_post){1, FK_CLIP, (act).a, (act).b}, __VA_ARGS__); \
        else                                                         \
            f(act, __VA_ARGS__);                                     \
    } while (0)

/* Totals in double: a vector of partial sums is added to them. */
FK_INLINE void fk_v_add_to(double *total, fk_v part)
{
    typedef float half_v __attribute__((vector_size(FK_LANES * 2)));
    typedef double wide_v __attribute__((vector_size(FK_LANES * 4)));
    half_v halves[2];
    wide_v sums[2];

    memcpy(halves, &part, sizeof part);
    memcpy(sums, total, sizeof sums);
    sums[0] += __builtin_convertvector(halves[0], wide_v);
    sums[1] += __builtin_convertvector(halves[1], wide_v);
    memcpy(total, sums, sizeof sums);
}

#endif
