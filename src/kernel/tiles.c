/* See tiles.h. A block of 32 x 32 sums stays in four tiles while the other four take parts of 32 rows of A and 32 columns of B;
 * both are packed as tiles before: A once for all columns of B where both are large, which then pass by a few at a time; else a
 * block of A at a time for as much of B as the second-level cache holds. */
#include "kernel/tiles.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/kernel.h"

enum {
    SIDE = 16,  /* rows of a tile, and f32 in one of its rows */
    DEPTH = 32, /* bf16 in a row of a tile: of k */
    TILE = SIDE * DEPTH,
    BLOCK = 2 * SIDE, /* rows of A, columns of B that meet */
    PARTS = 3,
    STRIP = BLOCK * DEPTH * PARTS, /* bf16 of a block of A or B and DEPTH of k */
    DEPTH_MOST = 384,              /* of k at a time */
    AWAKE = 3 * DEPTH,             /* of k from one store of a tile to the next */
    B_MOST = 128 << 10,            /* elements of B that take turns with blocks of A */
    A_MOST = 200 << 10,            /* elements of A that are packed once for all columns of B */
    B_FEW = 24 << 10 /* elements of B beside these: together in the second-level cache */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* --- may we ----------------------------------------------------------------------------------- */

/* Linux gives a process the 8 KiB of tile registers when it asks. */
static bool has_permission(void)
{
    enum {
        ASK = 0x1023,
        TILE_DATA = 18
    }; /* ARCH_REQ_XCOMP_PERM, in arch/x86/include/uapi/asm/prctl.h */

    return syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}

static bool is_wanted(void)
{
    const char *word = getenv("FERKD_TILES");

    return !word || strcmp(word, "never") != 0;
}

bool fk_tiles_here(void)
{
    static _Atomic int8_t here = -1; /* each thread would find the same */

    if (here < 0)
        here = is_wanted() && fk_has_avx512() && fk_has_tiles() && has_permission();
    return here > 0;
}

/* In products of two numbers by f32 instructions: those on tiles take 0.55 of one each, made up to whole blocks, and an element that
 * is packed 20. */
bool fk_tiles_pay(size_t m, size_t n, size_t k)
{
    double whole =
        (double)round_up(m, BLOCK) * (double)round_up(n, BLOCK) * (double)round_up(k, DEPTH);
    double packed = (double)k * (double)(m + n);

    return fk_tiles_here() && 0.55 * whole + 20.0 * packed < (double)m * (double)n * (double)k;
}

/* --- packing ---------------------------------------------------------------------------------- */

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

/* Where a matrix lies: elements between two neighbours along the side that A and B keep, and along k. One is 1. */
typedef struct source {
    const float *at;
    size_t side, depth;
} source;

/* 16 floats of memory, of which those beyond `columns` and in rows beyond `rows` are 0. */
static inline __m512 load(const float *from, size_t row, size_t i, size_t rows, __mmask16 columns)
{
    return i < rows ? _mm512_maskz_loadu_ps(columns, from + i * row) : _mm512_setzero_ps();
}

/* As memory has it: rows of A, or rows of B two at a time. */
static void pack_rows(uint16_t *to, const source *s, size_t sides, size_t depths, bool pairs)
{
    __mmask16 mask = first_of(sides);
    __mmask16 left = first_of(depths);
    __mmask16 right = first_of(depths > SIDE ? depths - SIDE : 0);

    for (size_t i = 0; i < SIDE; i++, to += DEPTH) {
        if (pairs)
            put(to, load(s->at, s->depth, 2 * i, depths, mask),
                load(s->at, s->depth, 2 * i + 1, depths, mask), true);
        else
            put(to, load(s->at, s->side, i, sides, left),
                load(s->at + (right ? SIDE : 0), s->side, i, sides, right), false);
    }
}

/* Turned on the way: columns of A, or of B. */
static void pack_turned(uint16_t *to, const source *s, size_t sides, size_t depths, bool pairs)
{
    __m512 v[2][SIDE];

    for (size_t h = 0; h < 2; h++) {
        size_t rest = depths > h * SIDE ? depths - h * SIDE : 0;
        const float *from = s->at + (rest ? h * SIDE * s->depth : 0);
        __mmask16 mask = first_of(pairs ? rest : sides);
        for (size_t i = 0; i < SIDE; i++)
            v[h][i] = load(from, pairs ? s->side : s->depth, i, pairs ? sides : rest, mask);
        turn(v[h]);
    }
    for (size_t i = 0; i < SIDE; i++, to += DEPTH) {
        if (pairs)
            put(to, v[i / 8][i % 8 * 2], v[i / 8][i % 8 * 2 + 1], true);
        else
            put(to, v[0][i], v[1][i], false);
    }
}

/* One tile's worth of all parts: up to 16 of the side by 32 of k. In `pairs` two neighbours of k lie together, which is how tiles want B;
 * else the 32 of k do. */
static void pack_tile(uint16_t *to, const source *s, size_t sides, size_t depths, bool pairs)
{
    if ((s->side == 1) == pairs)
        pack_rows(to, s, sides, depths, pairs);
    else
        pack_turned(to, s, sides, depths, pairs);
}

/* 32 of the side by DEPTH of k will be packed next: rows with gaps, which the processor does not see coming. */
static void fetch(const source *s, size_t sides)
{
    size_t rows = s->depth == 1 ? sides : DEPTH;
    size_t row = s->depth == 1 ? s->side : s->depth;

    for (size_t i = 0; i < rows; i++) {
        __builtin_prefetch(s->at + i * row);
        __builtin_prefetch(s->at + i * row + SIDE);
    }
}

/* 32 of the side by all of k; what is beyond the matrix is 0. */
static void pack_block(uint16_t *to, source s, size_t sides, size_t depths, bool pairs)
{
    for (size_t d = 0; d < depths; d += DEPTH, to += STRIP) {
        if (d + 2 * DEPTH <= depths)
            fetch(&(source){s.at + (d + DEPTH) * s.depth, s.side, s.depth},
                  fk_min_size(sides, BLOCK));
        for (size_t half = 0; half < 2; half++) {
            size_t first = half * SIDE;
            source from = s;
            size_t n = sides > first ? fk_min_size(sides - first, SIDE) : 0;
            from.at += d * s.depth + (n ? first * s.side : 0);
            pack_tile(to + half * TILE, &from, n, fk_min_size(depths - d, DEPTH), pairs);
        }
    }
}

/* --- multiplying ------------------------------------------------------------------------------ */

/* What was written is in memory: the compiler does not know that tile instructions read it. */
static inline void settle(void)
{
    __asm__ volatile("" ::: "memory");
}

/* One tile for each register, 16 rows of 64 bytes. */
static void configure(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } t = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        t.bytes[i] = 64;
        t.rows[i] = SIDE;
    }
    settle();
    _tile_loadconfig(&t);
}

/* The parts of A in tiles 4 and 5 times those of B in 6 and 7. */
#define MULTIPLY()           \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7)
#define TAKE_A(part)                         \
    _tile_loadd(4, a + 2 * (part)*TILE, 64); \
    _tile_loadd(5, a + (2 * (part) + 1) * TILE, 64)
#define TAKE_B(part)                         \
    _tile_loadd(6, b + 2 * (part)*TILE, 64); \
    _tile_loadd(7, b + (2 * (part) + 1) * TILE, 64)

/* The small products first. A processor that has not stored a tile for more than about 130 products takes 600 cycles for the next
 * store (measured on Sapphire Rapids, whatever is loaded meanwhile), as much as 50 products; one that stores any tile now
 * and then takes 10. So one that nobody reads is stored to `nowhere`. */
static void multiply_block(const uint16_t *a, const uint16_t *b, size_t depths, float *nowhere)
{
    for (size_t d = DEPTH; d < depths + DEPTH; d += DEPTH, a += STRIP, b += STRIP) {
        TAKE_A(0);
        TAKE_B(2);
        MULTIPLY();
        TAKE_B(1);
        MULTIPLY();
        TAKE_A(1);
        MULTIPLY();
        TAKE_B(0);
        MULTIPLY();
        TAKE_A(2);
        MULTIPLY();
        TAKE_A(0);
        MULTIPLY();
        if (d % AWAKE == 0)
            _tile_stored(4, nowhere, 64);
    }
}

/* C = alpha sums + row + beta C, m x n. */
static void add_sums(const float *sums, const fk_gemm_args *g, const float *row, float beta,
                     float *c, size_t m, size_t n)
{
    __m512 alpha = _mm512_set1_ps(g->alpha);

    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j += SIDE) {
            __mmask16 mask = first_of(n - j);
            float *to = c + i * g->ldc + j;
            __m512 v = _mm512_mul_ps(alpha, _mm512_load_ps(sums + i * BLOCK + j));
            if (row)
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, row + j));
            if (beta != 0.0f)
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, to));
            _mm512_mask_storeu_ps(to, mask, v);
        }
    }
}

/* 32 x 32 of C. The sums begin as zeros, as C or, so many times the same, as a row. */
static void make_block(const fk_gemm_args *g, const uint16_t *a, const uint16_t *b, size_t depths,
                       const float *row, float beta, float *c, size_t m, size_t n)
{
    bool whole = m == BLOCK && n == BLOCK && g->alpha == 1.0f;
    _Alignas(64) float sums[BLOCK * BLOCK];
    size_t step = whole ? g->ldc : BLOCK; /* from a row of sums to the next */
    float *to = whole ? c : sums;
    const float *from = beta != 0.0f ? c : row;
    size_t from_step = beta != 0.0f ? g->ldc : 0;

    settle();
    if (whole && from) {
        _tile_loadd(0, from, from_step * sizeof(float));
        _tile_loadd(1, from + SIDE, from_step * sizeof(float));
        _tile_loadd(2, from + SIDE * from_step, from_step * sizeof(float));
        _tile_loadd(3, from + SIDE * from_step + SIDE, from_step * sizeof(float));
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    multiply_block(a, b, depths, sums);
    _tile_stored(0, to, step * sizeof(float));
    _tile_stored(1, to + SIDE, step * sizeof(float));
    _tile_stored(2, to + SIDE * step, step * sizeof(float));
    _tile_stored(3, to + SIDE * step + SIDE, step * sizeof(float));
    if (!whole)
        add_sums(sums, g, row, beta, c, m, n);
}

/* Columns of B at a time that are so many elements, for so much of k. */
static size_t columns_for(size_t elements, size_t depths)
{
    return fk_max_size(elements / round_up(depths, DEPTH) / BLOCK, 1) * BLOCK;
}

/* bf16 of so many columns of B, packed. */
static size_t packed_size(size_t columns, size_t depths)
{
    return round_up(columns, BLOCK) * round_up(depths, DEPTH) * PARTS;
}

/* Rows of A that are packed for all columns of B, where these take turns; else a block is for each. */
static size_t rows_most(size_t n, size_t depths)
{
    return n > columns_for(B_MOST, depths) ? A_MOST / round_up(depths, DEPTH) / BLOCK * BLOCK
                                           : BLOCK;
}

size_t fk_tiles_room(size_t m, size_t n, size_t k)
{
    size_t depths = fk_min_size(k, DEPTH_MOST);
    size_t columns = fk_min_size(columns_for(B_MOST, depths), n);
    size_t rows = fk_min_size(m, rows_most(n, depths));
    size_t values = packed_size(rows, depths) + packed_size(columns, depths);

    return fk_tiles_here() ? values * sizeof(uint16_t) : 0;
}

size_t fk_tiles_packed_bytes(size_t n, size_t k)
{
    return packed_size(n, k) * sizeof(uint16_t);
}

/* Blocks of a side one behind the other: rows of A or (pairs) columns of B. */
static void pack_side(uint16_t *to, source s, size_t sides, size_t depths, bool pairs)
{
    for (size_t i = 0; i < sides; i += BLOCK, to += packed_size(BLOCK, depths)) {
        source from = s;
        from.at += i * s.side;
        pack_block(to, from, fk_min_size(sides - i, BLOCK), depths, pairs);
    }
}

static source a_of(const fk_gemm_args *g, size_t row, size_t depth)
{
    source s = {g->a, g->turn_a ? 1 : g->lda, g->turn_a ? g->lda : 1};

    s.at += row * s.side + depth * s.depth;
    return s;
}

static source b_of(const fk_gemm_args *g, size_t column, size_t depth)
{
    source s = {g->b, g->turn_b ? g->ldb : 1, g->turn_b ? 1 : g->ldb};

    s.at += column * s.side + depth * s.depth;
    return s;
}

/* One part of k after the other, as the product takes them. */
void fk_tiles_pack(const fk_gemm_args *g, void *to)
{
    uint16_t *at = to;

    for (size_t d = 0; d < g->k; d += DEPTH_MOST) {
        size_t depths = fk_min_size(g->k - d, DEPTH_MOST);
        pack_side(at, b_of(g, 0, d), g->n, depths, true);
        at += packed_size(g->n, depths);
    }
}

/* A part of k: all rows of C, some columns. */
typedef struct part {
    size_t depth, depths, columns;
    uint16_t *a; /* packed: all rows, or (once unset) room for a block of them */
    bool once;
    const uint16_t *b;
    const float *row;
    float beta;
    float *c;
} part;

static void multiply_part(const fk_gemm_args *g, const part *p)
{
    for (size_t i = 0; i < g->m; i += BLOCK) {
        size_t m = fk_min_size(g->m - i, BLOCK);
        uint16_t *a = p->a + (p->once ? packed_size(i, p->depths) : 0);
        if (!p->once)
            pack_block(a, a_of(g, i, p->depth), m, p->depths, false);
        for (size_t j = 0; j < p->columns; j += BLOCK)
            make_block(g, a, p->b + packed_size(j, p->depths), p->depths,
                       p->row ? p->row + j : NULL, p->beta, p->c + i * g->ldc + j, m,
                       fk_min_size(p->columns - j, BLOCK));
    }
}

void fk_tiles_gemm(const fk_gemm_args *g, void *room)
{
    const uint16_t *ready = g->packed_b;

    configure();
    for (size_t d = 0; d < g->k; d += DEPTH_MOST) {
        size_t depths = fk_min_size(g->k - d, DEPTH_MOST);
        bool once = g->m <= rows_most(g->n, depths);
        size_t most = columns_for(once ? B_FEW : B_MOST, depths);
        uint16_t *room_b = (uint16_t *)room + packed_size(once ? g->m : BLOCK, depths);
        part p = {
            .depth = d, .depths = depths, .a = room, .once = once, .beta = d ? 1.0f : g->beta};
        if (once)
            pack_side(p.a, a_of(g, 0, d), g->m, depths, false);
        for (size_t j = 0; j < g->n; j += most) {
            p.columns = fk_min_size(g->n - j, most);
            p.b = ready ? ready : room_b;
            p.c = g->c + j;
            p.row = g->row && !d ? g->row + j : NULL;
            if (ready)
                ready += packed_size(p.columns, depths);
            else
                pack_side(room_b, b_of(g, j, d), p.columns, depths, true);
            multiply_part(g, &p);
        }
    }
    _tile_release();
}
