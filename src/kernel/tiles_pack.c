/* Matrices as tiles want them: each f32 as three bf16, 16 rows or columns by 32 of k one behind the other. */
#include "kernel/tiles_inside.h"

#include <immintrin.h>

enum { SIDE = FK_SIDE, DEPTH = FK_DEPTH, TILE = FK_TILE, BLOCK = FK_BLOCK };

typedef struct parts {
    __m512i high, middle, low; /* f32 whose upper halves are the bf16 */
} parts;

/* x = high + middle + low, each the bf16 nearest to what is left. */
static inline parts split(__m512 x)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000U);
    parts p;

    p.high = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(p.high));
    p.middle = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    p.low = _mm512_castps_si512(_mm512_sub_ps(x, _mm512_castsi512_ps(p.middle)));
    return p;
}

/* Two vectors as one of bf16, one behind the other: 32 of k in a row of A. */
static inline __m512i behind(__m512i x, __m512i y)
{
    static const uint16_t UPPER[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                       23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                       45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

    return _mm512_permutex2var_epi16(x, _mm512_loadu_si512(UPPER), y);
}

/* Two vectors as one of bf16, element by element: two of k for 16 columns of B. */
static inline __m512i beside(__m512i x, __m512i y)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaaU, _mm512_srli_epi32(x, 16), y);
}

static inline void put(uint16_t *to, __m512 x, __m512 y, bool pairs)
{
    parts p = split(x);
    parts q = split(y);

    enum { NEXT = 2 * TILE };

    if (pairs) {
        _mm512_store_si512(to, beside(p.high, q.high));
        _mm512_store_si512(to + NEXT, beside(p.middle, q.middle));
        _mm512_store_si512(to + 2 * NEXT, beside(p.low, q.low));
    } else {
        _mm512_store_si512(to, behind(p.high, q.high));
        _mm512_store_si512(to + NEXT, behind(p.middle, q.middle));
        _mm512_store_si512(to + 2 * NEXT, behind(p.low, q.low));
    }
}

/* 16 x 16 floats, rows to columns. */
static inline void turn(__m512 v[SIDE])
{
    __m512 t[SIDE];

    for (int i = 0; i < SIDE; i += 2) {
        t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4) {
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(t[i + j]);
            __m512d b = _mm512_castps_pd(t[i + j + 2]);
            v[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            v[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < SIDE; j += 8) {
            t[j + i] = _mm512_shuffle_f32x4(v[j + i], v[j + i + 4], 0x88);
            t[j + i + 4] = _mm512_shuffle_f32x4(v[j + i], v[j + i + 4], 0xdd);
        }
    }
    for (int i = 0; i < 8; i++) {
        v[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

static inline __mmask16 first_of(size_t n)
{
    return n >= SIDE ? 0xffff : (__mmask16)((1U << n) - 1);
}

/* Element (16 i, 16 d). */
static inline const float *place(const fk_source *s, size_t i, size_t d)
{
    return s->at + fk_axis_at(&s->side, s->first_side + i) +
           fk_axis_at(&s->depth, s->first_depth + d);
}

/* What a tile is packed from: its left and right half along k, of how many rows, and how much of k is in each. */
typedef struct piece {
    const float *half[2];
    size_t row; /* elements from one row of memory to the next */
    size_t sides, depths[2];
} piece;

/* 16 floats of memory, of which those beyond `columns` and in rows beyond `rows` are 0. */
static inline __m512 load(const float *from, size_t row, size_t i, size_t rows, __mmask16 columns)
{
    return i < rows ? _mm512_maskz_loadu_ps(columns, from + i * row) : _mm512_setzero_ps();
}

/* As memory has it: rows of A, or rows of B two at a time. */
static void pack_rows(uint16_t *to, const piece *s, bool pairs)
{
    __mmask16 mask = first_of(s->sides);
    __mmask16 left = first_of(s->depths[0]);
    __mmask16 right = first_of(s->depths[1]);

    for (size_t i = 0; i < SIDE; i++, to += DEPTH) {
        size_t h = i / 8;
        if (pairs)
            put(to, load(s->half[h], s->row, 2 * i % SIDE, s->depths[h], mask),
                load(s->half[h], s->row, 2 * i % SIDE + 1, s->depths[h], mask), true);
        else
            put(to, load(s->half[0], s->row, i, s->sides, left),
                load(s->half[1], s->row, i, s->sides, right), false);
    }
}

/* Turned on the way: columns of A, or of B. */
static void pack_turned(uint16_t *to, const piece *s, bool pairs)
{
    __m512 v[2][SIDE];

    for (size_t h = 0; h < 2; h++) {
        __mmask16 mask = first_of(pairs ? s->depths[h] : s->sides);
        for (size_t i = 0; i < SIDE; i++)
            v[h][i] = load(s->half[h], s->row, i, pairs ? s->sides : s->depths[h], mask);
        turn(v[h]);
    }
    for (size_t i = 0; i < SIDE; i++, to += DEPTH) {
        if (pairs)
            put(to, v[i / 8][i % 8 * 2], v[i / 8][i % 8 * 2 + 1], true);
        else
            put(to, v[0][i], v[1][i], false);
    }
}

/* One tile's worth of all parts: the 16 of the side from 16 i on, of `sides` that there are, by 32 of k from 16 d on. In `pairs` two
 * neighbours of k lie together, which is how tiles want B; else the 32 of k do. */
static void pack_tile(uint16_t *to, const fk_source *s, size_t i, size_t d, size_t sides,
                      size_t depths, bool pairs)
{
    piece p = {.row = s->side.step == 1 ? s->depth.step : s->side.step};

    p.sides = sides > i * SIDE ? fk_min_size(sides - i * SIDE, SIDE) : 0;
    p.sides = fk_min_size(p.sides, fk_axis_has(&s->side, s->first_side + i));
    for (size_t h = 0; h < 2; h++) {
        size_t before = (d + h) * SIDE;
        p.depths[h] = depths > before ? fk_min_size(depths - before, SIDE) : 0;
        p.depths[h] = fk_min_size(p.depths[h], fk_axis_has(&s->depth, s->first_depth + d + h));
        p.half[h] = place(s, p.sides ? i : 0, p.depths[h] ? d + h : d);
    }
    if ((s->side.step == 1) == pairs)
        pack_rows(to, &p, pairs);
    else
        pack_turned(to, &p, pairs);
}

/* 32 of the side by 32 of k, which there are, will be packed next: rows with gaps, which the processor does not see coming. */
static void fetch(const fk_source *s, size_t i, size_t d)
{
    size_t row = s->side.step == 1 ? s->depth.step : s->side.step;

    for (size_t k = 0; k < 4; k++) {
        const float *from = place(s, i + k / 2, d + k % 2);
        for (size_t r = 0; r < SIDE; r++)
            __builtin_prefetch(from + r * row);
    }
}

size_t fk_tiles_packed_size(size_t sides, size_t depths)
{
    size_t blocks = (sides + BLOCK - 1) / BLOCK;

    return blocks * ((depths + DEPTH - 1) / DEPTH) * FK_STRIP;
}

void fk_tiles_pack_side(uint16_t *to, const fk_source *s, size_t sides, size_t depths, bool pairs)
{
    for (size_t i = 0; i * SIDE < sides; i += 2) {
        for (size_t d = 0; d * SIDE < depths; d += 2, to += FK_STRIP) {
            if ((i + 2) * SIDE <= sides && (d + 4) * SIDE <= depths)
                fetch(s, i, d + 2);
            pack_tile(to, s, i, d, sides, depths, pairs);
            pack_tile(to + TILE, s, i + 1, d, sides, depths, pairs);
        }
    }
}
