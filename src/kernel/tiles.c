/* See tiles.h. A block of 32 x 32 sums stays in four tiles while the other four take parts of 32 rows of A and 32 columns of B;
 * both are packed as tiles before: A once for all columns of B where both are large, which then pass by a few at a time; else a
 * block of A at a time for as much of B as the second-level cache holds. */
#include "kernel/tiles_inside.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/switches.h"
#include "kernel/kernel.h"

enum {
    SIDE = FK_SIDE,
    DEPTH = FK_DEPTH,
    TILE = FK_TILE,
    BLOCK = FK_BLOCK,
    STRIP = FK_STRIP,
    DEPTH_MOST = 384,   /* of k at a time */
    AWAKE = 3 * DEPTH,  /* of k from one store of a tile to the next */
    B_MOST = 128 << 10, /* elements of B that take turns with blocks of A */
    A_MOST = 200 << 10, /* elements of A that are packed once for all columns of B */
    B_FEW = 24 << 10    /* elements of B beside these: together in the second-level cache */
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

bool fk_tiles_here(void)
{
    static _Atomic int8_t here = -1; /* each thread would find the same */

    if (here < 0)
        here = !fk_switch_is("FERKD_TILES", "never") && fk_has_avx512() && fk_has_tiles() &&
               has_permission();
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

/* A product as the blocks of it see it: C = alpha A B + beta C, or + row. A's first rows are C's. */
typedef struct product {
    size_t m, n, k;
    float alpha, beta;
    fk_source a, b;
    const uint16_t *packed_b; /* or NULL */
    const float *row;         /* or NULL */
    float *c;
    fk_axis c_row, c_column;
    size_t c_first; /* the first row: 16s before it */
} product;

static inline float *place(const product *g, size_t i, size_t j)
{
    return g->c + fk_axis_at(&g->c_row, g->c_first + i) + fk_axis_at(&g->c_column, j);
}

/* A part of k: all rows of C, some columns of it, from 16 first_column on. */
typedef struct part {
    size_t depths, first_column, columns;
    fk_source a;
    uint16_t *room; /* A packed: all rows, or (once unset) room for a block of them */
    bool once;
    const uint16_t *b;
    const float *row; /* of these columns */
    float beta;
} part;

static __mmask16 first_of(size_t n)
{
    return n >= SIDE ? 0xffff : (__mmask16)((1U << n) - 1);
}

/* A tile of C = alpha sums + row + beta C, of which there are m rows. */
static void add_sums(const product *g, const float *sums, const float *row, float beta, float *c,
                     size_t m, __mmask16 mask)
{
    __m512 alpha = _mm512_set1_ps(g->alpha);

    for (size_t y = 0; y < m; y++, c += g->c_row.step) {
        __m512 v = _mm512_mul_ps(alpha, _mm512_load_ps(sums + y * BLOCK));
        if (row)
            v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, row));
        if (beta != 0.0f)
            v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, c));
        _mm512_mask_storeu_ps(c, mask, v);
    }
}

/* What the four tiles of a block of sums begin as (NULL: zeros) and where they go (NULL: nowhere), with elements from one of their
 * rows to the next. */
typedef struct corners {
    const float *from[4];
    float *to[4];
    size_t from_step, to_step;
} corners;

#define START(tile)       \
    if (!k->from[tile])   \
        _tile_zero(tile); \
    else                  \
        _tile_loadd(tile, k->from[tile], k->from_step * sizeof(float))
#define STORE(tile)                                                              \
    if (later[tile])                                                             \
        _tile_stored(tile, sums + (tile) / 2 * SIDE * BLOCK + (tile) % 2 * SIDE, \
                     BLOCK * sizeof(float));                                     \
    else if (k->to[tile])                                                        \
    _tile_stored(tile, k->to[tile], k->to_step * sizeof(float))

/* Tiles whose sums are added later go to a block of these; what is in it before does not count. */
static inline void sum_up(const corners *k, const bool later[4], float *sums, const uint16_t *a,
                          const uint16_t *b, size_t depths)
{
    settle();
    START(0);
    START(1);
    START(2);
    START(3);
    multiply_block(a, b, depths, sums);
    STORE(0);
    STORE(1);
    STORE(2);
    STORE(3);
    settle();
}

/* 32 x 32 of C, from (16 i, 16 j) on. The sums of a whole tile begin as zeros, as C or, so many times the same, as a row, and go where
 * they belong; others are added later. */
static void make_block(const product *g, const part *p, const uint16_t *a, size_t i, size_t j)
{
    const uint16_t *b = p->b + fk_tiles_packed_size(j * SIDE, p->depths);
    _Alignas(64) float sums[BLOCK * BLOCK];
    bool plus = p->beta != 0.0f;
    bool later[4] = {false};
    size_t m[2];
    size_t n[2];
    corners k = {.to_step = g->c_row.step, .from_step = plus ? g->c_row.step : 0};

    for (size_t h = 0; h < 2; h++) {
        m[h] = g->m > (i + h) * SIDE ? fk_min_size(g->m - (i + h) * SIDE, SIDE) : 0;
        m[h] = fk_min_size(m[h], fk_axis_has(&g->c_row, g->c_first + i + h));
        n[h] = p->columns > (j + h) * SIDE ? fk_min_size(p->columns - (j + h) * SIDE, SIDE) : 0;
    }
    for (size_t t = 0; t < 4; t++) {
        const float *row = p->row ? p->row + (j + t % 2) * SIDE : NULL;
        if (!m[t / 2] || !n[t % 2])
            continue;
        later[t] = g->alpha != 1.0f || m[t / 2] < SIDE || n[t % 2] < SIDE;
        k.to[t] = place(g, i + t / 2, p->first_column + j + t % 2);
        k.from[t] = later[t] ? NULL : plus ? k.to[t] : row;
    }
    sum_up(&k, later, sums, a, b, p->depths);
    for (size_t t = 0; t < 4; t++) {
        if (later[t])
            add_sums(g, sums + t / 2 * SIDE * BLOCK + t % 2 * SIDE,
                     p->row ? p->row + (j + t % 2) * SIDE : NULL, p->beta, k.to[t], m[t / 2],
                     first_of(n[t % 2]));
    }
}

static void multiply_part(const product *g, const part *p)
{
    for (size_t i = 0; i * SIDE < g->m; i += 2) {
        uint16_t *a = p->room + (p->once ? fk_tiles_packed_size(i * SIDE, p->depths) : 0);
        fk_source block = p->a;
        block.first_side += i;
        if (!p->once)
            fk_tiles_pack_side(a, &block, fk_min_size(g->m - i * SIDE, BLOCK), p->depths, false);
        for (size_t j = 0; j * SIDE < p->columns; j += 2)
            make_block(g, p, a, i, j);
    }
}

/* --- how much at a time ----------------------------------------------------------------------- */

/* Columns of B at a time that are so many elements, for so much of k. */
static size_t columns_for(size_t elements, size_t depths)
{
    return fk_max_size(elements / round_up(depths, DEPTH) / BLOCK, 1) * BLOCK;
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
    size_t values = fk_tiles_packed_size(rows, depths) + fk_tiles_packed_size(columns, depths);

    return fk_tiles_here() ? values * sizeof(uint16_t) : 0;
}

size_t fk_tiles_packed_bytes(size_t n, size_t k)
{
    return fk_tiles_packed_size(n, k) * sizeof(uint16_t);
}

/* Some of k: all columns of B, a few at a time. */
static const uint16_t *multiply_depths(const product *g, part *p, const uint16_t *ready,
                                       size_t depth)
{
    size_t most = columns_for(p->once ? B_FEW : B_MOST, p->depths);
    uint16_t *room_b = p->room + fk_tiles_packed_size(p->once ? g->m : BLOCK, p->depths);

    for (size_t j = 0; j < g->n; j += most) {
        fk_source b = g->b;
        p->columns = fk_min_size(g->n - j, most);
        p->first_column = j / SIDE;
        p->b = ready ? ready : room_b;
        p->row = g->row && !depth ? g->row + j : NULL;
        b.first_side += j / SIDE;
        b.first_depth += depth / SIDE;
        if (ready)
            ready += fk_tiles_packed_size(p->columns, p->depths);
        else
            fk_tiles_pack_side(room_b, &b, p->columns, p->depths, true);
        multiply_part(g, p);
    }
    return ready;
}

static void multiply(const product *g, void *room)
{
    const uint16_t *ready = g->packed_b;

    configure();
    for (size_t d = 0; d < g->k; d += DEPTH_MOST) {
        part p = {.depths = fk_min_size(g->k - d, DEPTH_MOST),
                  .a = g->a,
                  .room = room,
                  .beta = d ? 1.0f : g->beta};
        p.once = g->m <= rows_most(g->n, p.depths);
        p.a.first_depth += d / SIDE;
        if (p.once)
            fk_tiles_pack_side(p.room, &p.a, g->m, p.depths, false);
        ready = multiply_depths(g, &p, ready, d);
    }
    _tile_release();
}

/* --- of matrices ------------------------------------------------------------------------------ */

static fk_axis line(size_t step)
{
    return (fk_axis){.step = step, .jump = SIDE * step};
}

/* Rows, columns or both of a matrix whose rows are so far apart: the side of A and B that is not k comes first. */
static fk_source matrix(const float *at, size_t side, size_t depth)
{
    return (fk_source){.at = at, .side = line(side), .depth = line(depth)};
}

static fk_source b_of(const fk_gemm_args *g)
{
    return matrix(g->b, g->turn_b ? g->ldb : 1, g->turn_b ? 1 : g->ldb);
}

/* One part of k after the other, as the product takes them. */
void fk_tiles_pack(const fk_gemm_args *g, void *to)
{
    uint16_t *at = to;
    fk_source b = b_of(g);

    for (size_t d = 0; d < g->k; d += DEPTH_MOST) {
        size_t depths = fk_min_size(g->k - d, DEPTH_MOST);
        b.first_depth = d / SIDE;
        fk_tiles_pack_side(at, &b, g->n, depths, true);
        at += fk_tiles_packed_size(g->n, depths);
    }
}

void fk_tiles_gemm(const fk_gemm_args *g, void *room)
{
    const product p = {.m = g->m,
                       .n = g->n,
                       .k = g->k,
                       .alpha = g->alpha,
                       .beta = g->beta,
                       .a = matrix(g->a, g->turn_a ? 1 : g->lda, g->turn_a ? g->lda : 1),
                       .b = b_of(g),
                       .packed_b = g->packed_b,
                       .row = g->row,
                       .c = g->c,
                       .c_row = line(g->ldc),
                       .c_column = line(1)};

    multiply(&p, room);
}

/* --- of images -------------------------------------------------------------------------------- */

size_t fk_tiles_rows(const fk_tiles_images *x)
{
    return x->images * (x->last ? x->pixels : round_up(x->pixels, SIDE));
}

/* All pixels of all images, one after the other. */
static fk_axis pixels_of(const fk_tiles_images *x)
{
    if (x->last)
        return line(x->channels);
    return (fk_axis){.step = SIDE,
                     .jump = (size_t)SIDE * SIDE,
                     .together = (x->pixels + SIDE - 1) / SIDE,
                     .far = x->channels * x->pixels,
                     .last = x->pixels % SIDE};
}

static fk_axis channels_of(const fk_tiles_images *x)
{
    return (fk_axis){.step = 1, .jump = x->last ? SIDE : SIDE * x->pixels};
}

void fk_tiles_pixels(const fk_tiles_product *g, void *room)
{
    const product p = {
        .m = g->rows.count,
        .n = g->y->channels,
        .k = g->x->channels,
        .alpha = 1.0f,
        .beta = g->add ? 1.0f : 0.0f,
        .a = {g->x->at, pixels_of(g->x), channels_of(g->x), g->rows.first / SIDE, 0},
        .packed_b = g->packed,
        .row = g->row,
        .c = g->y->at,
        .c_row = pixels_of(g->y),
        .c_column = channels_of(g->y),
        .c_first = g->rows.first / SIDE,
    };

    multiply(&p, room);
}

void fk_tiles_weights(const fk_tiles_images *dy, const fk_tiles_images *x, float *dw, bool add,
                      fk_tiles_range out, fk_tiles_range in, void *room)
{
    const product p = {
        .m = out.count,
        .n = in.count,
        .k = fk_tiles_rows(x),
        .alpha = 1.0f,
        .beta = add ? 1.0f : 0.0f,
        .a = {dy->at, channels_of(dy), pixels_of(dy), out.first / SIDE, 0},
        .b = {x->at, channels_of(x), pixels_of(x), in.first / SIDE, 0},
        .c = dw + out.first * x->channels + in.first,
        .c_row = line(x->channels),
        .c_column = line(1),
    };

    multiply(&p, room);
}
