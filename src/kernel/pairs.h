/* Products of bf16, two at a time, for winograd.c: on processors with instructions for it, or as f32. */
#ifndef FK_PAIRS_H
#define FK_PAIRS_H

#include "kernel/lanes.h"

enum {
    FK_PAIR = 2 * FK_LANES,  /* bf16 in a vector of pairs */
    FK_ABREAST = 4,          /* vectors of a product side by side */
    FK_BLOCK = 4 * FK_LANES, /* channels of so many */
    FK_LINE = 32,            /* bf16 in a line of the cache */
    FK_DEEP = 6              /* rows of a product that are in registers together */
};

/* Element i from p on, if there is such a one, will be read soon. */
FK_INLINE void fk_pairs_fetch(const uint16_t *p, size_t i)
{
    __builtin_prefetch((const void *)((uintptr_t)p + i * sizeof *p));
}

/* sum += a b, both numbers of each pair. */
FK_INLINE fk_v fk_pairs_add(fk_v sum, uint32_t a, fk_vu b)
{
    fk_vu all = a - (fk_vu){0};

#if defined(__AVX512BF16__) && FK_LANES == 16
    return (fk_v)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all, (__m512bh)b);
#else
    sum += (fk_v)(all & 0xffff0000u) * (fk_v)(b & 0xffff0000u);
    return sum + (fk_v)(all << 16) * (fk_v)(b << 16);
#endif
}

/* a and b as bf16, one beside the other in each pair. */
FK_INLINE void fk_pairs_put(uint16_t *to, fk_v a, fk_v b)
{
#if defined(__AVX512BF16__) && FK_LANES == 16
    static const uint16_t turns[FK_PAIR] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_loadu_si512(turns), both));
#else
    uint16_t halves[2][FK_LANES];

    fk_v_store((fk_operand){halves[0], true}, 0, a);
    fk_v_store((fk_operand){halves[1], true}, 0, b);
    for (size_t i = 0; i < FK_PAIR; i++)
        to[i] = halves[i % 2][i / 2];
#endif
}

/* c = a b, or c += a b. a: pairs, a_step bf16 apart in depth, rows a_row apart; b: `depth` times n vectors of pairs; c: rows c_row floats
 * apart. */
typedef struct fk_pairs_product {
    const uint16_t *a, *b;
    size_t a_row, a_step, depth;
    float *c;
    size_t c_row;
    bool add;
} fk_pairs_product;

#ifdef __AVX512BF16__
/* m rows and n vectors, both constants where this is used. */
FK_INLINE void fk_pairs_block(const fk_pairs_product *g, int m, int n)
{
    fk_v sum[FK_DEEP][FK_ABREAST];
    const uint16_t *a = g->a;
    const uint16_t *b = g->b;
    size_t ahead = g->a_row >= FK_LINE ? (size_t)m * g->a_row : 0; /* the rows that come next */

#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            sum[i][j] =
                g->add ? fk_v_at(g->c + (size_t)i * g->c_row + (size_t)j * FK_LANES) : (fk_v){0};
    for (size_t d = 0; d < g->depth; d++, a += g->a_step, b += n * FK_PAIR) {
        fk_vu with[FK_ABREAST];
        if (ahead && d % (FK_LINE / 2) == 0)
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                fk_pairs_fetch(a, ahead + (size_t)i * g->a_row);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            memcpy(&with[j], b + (size_t)j * FK_PAIR, sizeof with[j]);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            uint32_t x;
            memcpy(&x, a + (size_t)i * g->a_row, sizeof x);
#pragma GCC unroll 8
            for (int j = 0; j < n; j++)
                sum[i][j] = fk_pairs_add(sum[i][j], x, with[j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            fk_v_put(g->c + (size_t)i * g->c_row + (size_t)j * FK_LANES, sum[i][j]);
}

/* m rows, and n vectors, a constant. */
FK_INLINE void fk_pairs_rows(const fk_pairs_product *g, size_t m, int n)
{
    switch (m) {
    case 1:
        fk_pairs_block(g, 1, n);
        break;
    case 2:
        fk_pairs_block(g, 2, n);
        break;
    case 3:
        fk_pairs_block(g, 3, n);
        break;
    case 4:
        fk_pairs_block(g, 4, n);
        break;
    case 5:
        fk_pairs_block(g, 5, n);
        break;
    default:
        fk_pairs_block(g, FK_DEEP, n);
    }
}

/* m rows, at most FK_DEEP, and n vectors, with their sums in registers. */
FK_INLINE void fk_pairs_some(const fk_pairs_product *g, size_t m, size_t n)
{
    switch (n) {
    case 1:
        fk_pairs_rows(g, m, 1);
        break;
    case 2:
        fk_pairs_rows(g, m, 2);
        break;
    case 3:
        fk_pairs_rows(g, m, 3);
        break;
    default:
        fk_pairs_rows(g, m, FK_ABREAST);
    }
}
#else
/* The same, one row and vector after the other. */
FK_INLINE void fk_pairs_some(const fk_pairs_product *g, size_t m, size_t n)
{
    for (size_t i = 0; i < m * n; i++) {
        const uint16_t *a = g->a + i / n * g->a_row;
        const uint16_t *b = g->b + i % n * FK_PAIR;
        float *c = g->c + i / n * g->c_row + i % n * FK_LANES;
        fk_v sum = g->add ? fk_v_at(c) : (fk_v){0};
        for (size_t d = 0; d < g->depth; d++, a += g->a_step, b += n * FK_PAIR) {
            uint32_t x;
            fk_vu with;
            memcpy(&x, a, sizeof x);
            memcpy(&with, b, sizeof with);
            sum = fk_pairs_add(sum, x, with);
        }
        fk_v_put(c, sum);
    }
}
#endif

/* All m rows. */
FK_INLINE void fk_pairs_multiply(fk_pairs_product g, size_t m, size_t n)
{
    while (m) {
        size_t now = m > FK_DEEP && m < 2 * FK_DEEP ? (m + 1) / 2 : m < FK_DEEP ? m : FK_DEEP;
        fk_pairs_some(&g, now, n);
        g.a += now * g.a_row;
        g.c += now * g.c_row;
        m -= now;
    }
}

/* Vectors of block `block` of some channels. */
FK_INLINE size_t fk_pairs_vectors(size_t channels, size_t block)
{
    size_t left = channels / FK_LANES - block * FK_ABREAST;

    return left < FK_ABREAST ? left : FK_ABREAST;
}

#endif
