/* Products for winograd_inside.h of words of four bytes: floats, or pairs of bf16, both of whose products are added at once. */
#ifndef FK_WORDS_H
#define FK_WORDS_H

#include "kernel/lanes.h"

enum {
    FK_ABREAST = 4,          /* vectors of a product side by side */
    FK_BLOCK = 4 * FK_LANES, /* channels of so many */
    FK_LINE = 16,            /* words in a line of the cache */
    FK_DEEP = 6              /* rows of a product that are in registers together */
};

/* sum += a b, of pairs both products. */
FK_INLINE fk_v fk_word_add(fk_v sum, uint32_t a, fk_vu b, bool pairs)
{
    fk_vu all = a - (fk_vu){0};

    if (!pairs)
        return sum + (fk_v)all * (fk_v)b;
#if defined(__AVX512BF16__) && FK_LANES == 16
    return (fk_v)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all, (__m512bh)b);
#else
    sum += (fk_v)(all & 0xffff0000u) * (fk_v)(b & 0xffff0000u);
    return sum + (fk_v)(all << 16) * (fk_v)(b << 16);
#endif
}

/* a, or a and b as bf16, one beside the other in each pair. */
FK_INLINE void fk_words_put(uint32_t *to, fk_v a, fk_v b, bool pairs)
{
    if (!pairs) {
        memcpy(to, &a, sizeof a);
        return;
    }
#if defined(__AVX512BF16__) && FK_LANES == 16
    static const uint16_t turns[2 * FK_LANES] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_loadu_si512(turns), both));
#else
    uint16_t halves[2][FK_LANES];

    fk_v_store((fk_operand){halves[0], true}, 0, a);
    fk_v_store((fk_operand){halves[1], true}, 0, b);
    for (size_t i = 0; i < FK_LANES; i++)
        memcpy(to + i, (uint16_t[]){halves[0][i], halves[1][i]}, sizeof *to);
#endif
}

/* c = a b, or c += a b. a: a_step words apart in depth, rows a_row apart; b: `depth` times n vectors; c: rows c_row floats apart. */
typedef struct fk_words_product {
    const uint32_t *a, *b;
    size_t a_row, a_step, depth;
    float *c;
    size_t c_row;
    bool add;
    /* For fk_words_apart() alone: the depth is so many groups of `depth`, and b's and c's vectors need not lie side by side. */
    size_t groups, a_group, b_group;   /* from a group to the next */
    size_t b_step, b_vector, c_vector; /* b in depth; from a vector to the next */
} fk_words_product;

#if defined(__AVX512F__) && FK_LANES == 16
/* Some depth of m rows and n vectors, whose sums are in registers. */
FK_INLINE void fk_words_deep(const fk_words_product *g, int m, int n, bool pairs, const uint32_t *a,
                             const uint32_t *b, size_t b_step, size_t b_vector,
                             fk_v (*sum)[FK_ABREAST])
{
    size_t ahead = g->a_row >= FK_LINE ? (size_t)m * g->a_row : 0; /* the rows that come next */

    for (size_t d = 0; d < g->depth; d++, a += g->a_step, b += b_step) {
        fk_vu with[FK_ABREAST];
        if (ahead && d % FK_LINE == 0)
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                __builtin_prefetch(
                    (const void *)((uintptr_t)a + (ahead + (size_t)i * g->a_row) * sizeof *a));
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            memcpy(&with[j], b + (size_t)j * b_vector, sizeof with[j]);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            uint32_t x = a[(size_t)i * g->a_row];
#pragma GCC unroll 8
            for (int j = 0; j < n; j++)
                sum[i][j] = fk_word_add(sum[i][j], x, with[j], pairs);
        }
    }
}

/* m rows and n vectors, both constants where this is used, as are pairs and apart. */
FK_INLINE void fk_words_block(const fk_words_product *g, int m, int n, bool pairs, bool apart)
{
    fk_v sum[FK_DEEP][FK_ABREAST];
    size_t c_vector = apart ? g->c_vector : FK_LANES;

#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            sum[i][j] =
                g->add ? fk_v_at(g->c + (size_t)i * g->c_row + (size_t)j * c_vector) : (fk_v){0};
    if (apart)
        for (size_t i = 0; i < g->groups; i++)
            fk_words_deep(g, m, n, pairs, g->a + i * g->a_group, g->b + i * g->b_group, g->b_step,
                          g->b_vector, sum);
    else
        fk_words_deep(g, m, n, pairs, g->a, g->b, (size_t)n * FK_LANES, FK_LANES, sum);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++)
            fk_v_put(g->c + (size_t)i * g->c_row + (size_t)j * c_vector, sum[i][j]);
}

/* m rows, and n vectors, a constant. */
FK_INLINE void fk_words_rows(const fk_words_product *g, size_t m, int n, bool pairs, bool apart)
{
    switch (m) {
    case 1:
        fk_words_block(g, 1, n, pairs, apart);
        break;
    case 2:
        fk_words_block(g, 2, n, pairs, apart);
        break;
    case 3:
        fk_words_block(g, 3, n, pairs, apart);
        break;
    case 4:
        fk_words_block(g, 4, n, pairs, apart);
        break;
    case 5:
        fk_words_block(g, 5, n, pairs, apart);
        break;
    default:
        fk_words_block(g, FK_DEEP, n, pairs, apart);
    }
}

/* m rows, at most FK_DEEP, and n vectors, with their sums in registers. */
FK_INLINE void fk_words_some(const fk_words_product *g, size_t m, size_t n, bool pairs, bool apart)
{
    switch (n) {
    case 1:
        fk_words_rows(g, m, 1, pairs, apart);
        break;
    case 2:
        fk_words_rows(g, m, 2, pairs, apart);
        break;
    case 3:
        fk_words_rows(g, m, 3, pairs, apart);
        break;
    default:
        fk_words_rows(g, m, FK_ABREAST, pairs, apart);
    }
}
#else
/* The same, one row and vector after the other. */
FK_INLINE void fk_words_some(const fk_words_product *g, size_t m, size_t n, bool pairs, bool apart)
{
    size_t groups = apart ? g->groups : 1;
    size_t step = apart ? g->b_step : n * FK_LANES;

    for (size_t i = 0; i < m * n; i++) {
        float *c = g->c + i / n * g->c_row + i % n * (apart ? g->c_vector : FK_LANES);
        fk_v sum = g->add ? fk_v_at(c) : (fk_v){0};
        for (size_t d = 0; d < groups * g->depth; d++) {
            size_t group = d / g->depth;
            const uint32_t *a =
                g->a + i / n * g->a_row + group * g->a_group + d % g->depth * g->a_step;
            const uint32_t *b = g->b + i % n * (apart ? g->b_vector : FK_LANES) +
                                group * g->b_group + d % g->depth * step;
            fk_vu with;
            memcpy(&with, b, sizeof with);
            sum = fk_word_add(sum, *a, with, pairs);
        }
        fk_v_put(c, sum);
    }
}
#endif

/* All m rows. */
FK_INLINE void fk_words_all(fk_words_product g, size_t m, size_t n, bool pairs, bool apart)
{
    while (m) {
        size_t now = m > FK_DEEP && m < 2 * FK_DEEP ? (m + 1) / 2 : m < FK_DEEP ? m : FK_DEEP;
        fk_words_some(&g, now, n, pairs, apart);
        g.a += now * g.a_row;
        g.c += now * g.c_row;
        m -= now;
    }
}

FK_INLINE void fk_words_multiply(fk_words_product g, size_t m, size_t n, bool pairs)
{
    fk_words_all(g, m, n, pairs, false);
}

/* The same with vectors apart, and in groups. */
FK_INLINE void fk_words_apart(fk_words_product g, size_t m, size_t n, bool pairs)
{
    fk_words_all(g, m, n, pairs, true);
}

/* Vectors of block `block` of some channels. */
FK_INLINE size_t fk_words_vectors(size_t channels, size_t block)
{
    size_t left = channels / FK_LANES - block * FK_ABREAST;

    return left < FK_ABREAST ? left : FK_ABREAST;
}

#endif
