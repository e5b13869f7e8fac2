/* 3x3 convolutions by Winograd's algorithms, forward, for the files that define how one goes along each dimension: a tile READS so many
 * inputs, from EDGE before its first on, MOVES by so many to the next one, becomes SIDE spots, of which the first DISTINCT - 1 and all the
 * others together have weights of their own, and MAKES so many outputs; and the transforms of one dimension: down() of inputs, up() to
 * outputs, raise() of weights. Steps are of two tiles of 2x2, or of one. Tiles are multiplied as SPOTS matrices, of tiles by channels,
 * with packed weights. */
#include "kernel/words.h"

enum {
    SPOTS = SIDE * SIDE,
    WEIGHTS = DISTINCT * DISTINCT, /* different ones */
    HALF = MAKES == 2,             /* the maps are bf16, and words are pairs */
    WORD = HALF ? 2 : 1,           /* numbers in one */
    AT_ONCE = WORD,                /* tiles in a step */
    STEP = AT_ONCE * MOVES,        /* columns that are new */
    OVER = READS - MOVES,          /* that were read before */
    WIDE = STEP + OVER,
};

_Static_assert((int)FK_ABREAST == (int)FK_WINOGRAD_BLOCK,
               "a block is what is multiplied at a time");

/* --- rows of tiles --------------------------------------------------------------------------- */

/* Where a row of tiles is. */
typedef struct tile_row {
    size_t image, y; /* of its first row of outputs */
} tile_row;

FK_INLINE tile_row row_at(const fk_winograd_maps *m, size_t row)
{
    size_t each = (m->y.height + MAKES - 1) / MAKES;

    return (tile_row){row / each, row % each * MAKES};
}

FK_INLINE size_t tiles_of(const fk_winograd_maps *m)
{
    return (m->y.width + MAKES - 1) / MAKES;
}

/* A vector of channels of the rows of a map that a row of tiles reads. */
typedef struct strip {
    fk_operand row[READS];
    size_t step[READS]; /* from pixel to pixel; 0 for a row outside, which is one vector of zeros */
    size_t width, below; /* from a row to the one that the next row of tiles reads in its place */
    fk_v mean, scale, shift; /* of x, if it is normalised; a row outside lies within 0 and 0 */
    fk_v low[READS], high[READS];
} strip;

/* `count` rows of channel vector v of an image from y on. */
FK_INLINE strip strip_of(const fk_winograd_map *map, size_t image_at, ptrdiff_t y, int count,
                         size_t v)
{
    static const float zeros[FK_LANES];
    strip s = {.width = map->width, .below = MOVES * map->width * map->pixel};
    fk_operand image =
        fk_operand_at((fk_operand){map->data, HALF}, image_at * map->image + v * map->vector);

    for (int i = 0; i < count; i++) {
        bool inside = y + i >= 0 && y + i < (ptrdiff_t)map->height;
        s.row[i] = inside ? fk_operand_at(image, (size_t)(y + i) * map->width * map->pixel)
                          : (fk_operand){(void *)(uintptr_t)zeros, HALF};
        s.step[i] = inside ? map->pixel : 0;
    }
    return s;
}

FK_INLINE fk_v strip_at(const strip *s, int i, size_t x)
{
    return fk_v_load((fk_operand){s->row[i].data, HALF}, x * s->step[i]);
}

/* The rows of x for a row of tiles. */
FK_INLINE strip inputs_of(const fk_winograd_maps *m, tile_row r, size_t v, bool normed)
{
    strip s = strip_of(&m->x, r.image, (ptrdiff_t)(r.y / MAKES * MOVES) - EDGE, READS, v);

    if (normed) {
        s.mean = fk_v_at(m->norm->mean + v * FK_LANES);
        s.scale = fk_v_at(m->norm->scale + v * FK_LANES);
        s.shift = fk_v_at(m->norm->shift + v * FK_LANES);
        for (int i = 0; i < READS; i++) {
            s.low[i] = fk_v_of(s.step[i] ? m->norm->low : 0.0f);
            s.high[i] = fk_v_of(s.step[i] ? m->norm->high : 0.0f);
        }
    }
    return s;
}

FK_INLINE fk_v input_at(const strip *s, int i, size_t x, bool normed)
{
    fk_v v = strip_at(s, i, x);

    if (!normed)
        return v;
    return fk_v_min(fk_v_max((v - s->mean) * s->scale + s->shift, s->low[i]), s->high[i]);
}

/* Column x of all, the first of which may lie outside, transformed. */
FK_INLINE void down_column(const strip *s, size_t x, bool normed, fk_v *to)
{
    fk_v d[READS];

    if (x - EDGE >= s->width) {
#pragma GCC unroll 9
        for (int i = 0; i < SIDE; i++)
            to[i] = (fk_v){0};
        return;
    }
#pragma GCC unroll 9
    for (int i = 0; i < READS; i++) {
        if (i >= OVER) /* new in each row of tiles */
            fk_v_fetch((fk_operand){s->row[i].data, HALF}, s->below + (x - EDGE) * s->step[i]);
        d[i] = input_at(s, i, x - EDGE, normed);
    }
    down(d, to);
}

/* What the first step has read before. */
FK_INLINE void first_columns(const strip *s, bool normed, fk_v (*columns)[SIDE])
{
#pragma GCC unroll 2
    for (int x = 0; x < OVER; x++)
        down_column(s, (size_t)x, normed, columns[STEP + x]);
}

/* Columns of a step: the first were the last ones of the step before. */
FK_INLINE void next_columns(const strip *s, size_t step, bool normed, fk_v (*columns)[SIDE])
{
    memcpy(columns[0], columns[STEP], OVER * sizeof columns[0]);
#pragma GCC unroll 9
    for (int x = OVER; x < WIDE; x++)
        down_column(s, STEP * step + (size_t)x, normed, columns[x]);
}

/* Row `row` of spots of tile `tile` of a step. */
FK_INLINE void across(fk_v (*columns)[SIDE], int tile, int row, fk_v *to)
{
    fk_v line[READS];

#pragma GCC unroll 9
    for (int x = 0; x < READS; x++)
        line[x] = columns[tile * MOVES + x][row];
    down(line, to);
}

/* --- weights --------------------------------------------------------------------------------- */

/* The 3x3 weights of a vector of outputs, from output o and input i of the packed convolution. */
FK_INLINE void taps_of(const fk_winograd_pack *k, size_t o, size_t i, fk_v *taps)
{
    float lanes[9][FK_LANES];
    size_t step = k->back ? 9 : 9 * k->inputs;
    const float *w = k->weights + (k->back ? (i * k->inputs + o) * 9 : (o * k->inputs + i) * 9);

    for (size_t l = 0; l < FK_LANES; l++)
        for (size_t t = 0; t < 9; t++)
            lanes[k->back ? 8 - t : t][l] = w[l * step + t];
    for (size_t t = 0; t < 9; t++)
        taps[t] = fk_v_at(lanes[t]);
}

/* G w G^T */
FK_INLINE void raise_taps(const fk_v *w, fk_v *to)
{
    fk_v columns[3][DISTINCT];

#pragma GCC unroll 9
    for (int x = 0; x < 3; x++)
        raise((fk_v[]){w[x], w[3 + x], w[6 + x]}, columns[x]);
#pragma GCC unroll 9
    for (int y = 0; y < DISTINCT; y++)
        raise((fk_v[]){columns[0][y], columns[1][y], columns[2][y]}, to + DISTINCT * y);
}

/* Where block `block` of the packed weights is: those before it are full. */
FK_INLINE uint32_t *block_of(const void *weights, size_t depth, size_t block)
{
    return (uint32_t *)(uintptr_t)weights + block * WEIGHTS * fk_winograd_stride(depth * FK_BLOCK);
}

static void pack(const fk_winograd_pack *k, size_t vector)
{
    size_t out = k->back ? k->inputs : k->outputs;
    size_t in = k->back ? k->outputs : k->inputs;
    size_t block = vector / FK_ABREAST;
    size_t n = fk_words_vectors(out, block);
    size_t spot = fk_winograd_stride(in / WORD * n * FK_LANES);
    uint32_t *to = block_of(k->to, in / WORD, block - k->block) + vector % FK_ABREAST * FK_LANES;

    for (size_t i = 0; i < in; i += WORD) {
        fk_v taps[9];
        fk_v spots[WORD][WEIGHTS];
        for (size_t j = 0; j < WORD; j++) {
            taps_of(k, vector * FK_LANES, i + j, taps);
            raise_taps(taps, spots[j]);
        }
        for (size_t s = 0; s < WEIGHTS; s++)
            fk_words_put(to + s * spot + i / WORD * n * FK_LANES, spots[0][s], spots[WORD - 1][s],
                         HALF);
    }
}

/* --- forward --------------------------------------------------------------------------------- */

/* Tile `tile` of a step: a spot lies `spot` numbers from the one before. */
FK_INLINE void store_tile(fk_v (*columns)[SIDE], int tile, fk_operand to, size_t at, size_t spot)
{
#pragma GCC unroll 9
    for (size_t y = 0; y < SIDE; y++) {
        fk_v line[SIDE];
        across(columns, tile, (int)y, line);
#pragma GCC unroll 9
        for (size_t x = 0; x < SIDE; x++)
            fk_v_store(to, at + (y * SIDE + x) * spot, line[x]);
    }
}

/* Tiles that are transformed together: `rows` rows of them, as [SPOTS][tiles][in]. */
FK_INLINE void spread_rows_as(const fk_winograd_maps *m, size_t first, size_t rows, void *to,
                              bool normed)
{
    size_t tiles = tiles_of(m);
    size_t spot = WORD * fk_winograd_stride(rows * tiles * m->in / WORD);
    fk_operand place = {to, HALF};

    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < m->in; c += FK_LANES) {
            strip in = inputs_of(m, row_at(m, first + i), c / FK_LANES, normed);
            fk_v columns[WIDE][SIDE];
            first_columns(&in, normed, columns);
            for (size_t t = 0; t < tiles; t += AT_ONCE) {
                size_t at = (i * tiles + t) * m->in + c;
                next_columns(&in, t / AT_ONCE, normed, columns);
                store_tile(columns, 0, place, at, spot);
                if (AT_ONCE > 1 && t + 1 < tiles)
                    store_tile(columns, AT_ONCE - 1, place, at + m->in, spot);
            }
        }
}

static void spread_rows(const fk_winograd_maps *m, size_t first, size_t rows, void *to)
{
    if (m->norm)
        spread_rows_as(m, first, rows, to, true);
    else
        spread_rows_as(m, first, rows, to, false);
}

/* One output pixel's vector, if there is such a pixel: bias, what is there, activation. */
FK_INLINE void put_output(const fk_winograd_forward *k, tile_row r, size_t dy, size_t x, size_t c,
                          fk_v v)
{
    const fk_winograd_maps *m = &k->maps;
    fk_operand to = {m->y.data, HALF};
    size_t y = r.y + dy;
    size_t at =
        r.image * m->y.image + c / FK_LANES * m->y.vector + (y * m->y.width + x) * m->y.pixel;

    if (y >= m->y.height || x >= m->y.width)
        return;
    if (k->bias)
        v += fk_v_at(k->bias + c);
    if (k->add)
        v += fk_v_load(to, at);
    fk_v_store(to, at, fk_v_act(k->act, v));
}

/* A^T u A of products [SPOTS][tiles][n vectors]: channels from c on. */
static void gather_rows(const fk_winograd_forward *k, size_t first, size_t rows, size_t c, size_t n,
                        const float *from)
{
    size_t tiles = tiles_of(&k->maps);
    size_t spot = fk_winograd_stride(rows * tiles * n * FK_LANES);

    for (size_t i = 0; i < rows; i++) {
        tile_row r = row_at(&k->maps, first + i);
        for (size_t t = 0; t < tiles; t++)
            for (size_t v = 0; v < n; v++) {
                const float *p = from + ((i * tiles + t) * n + v) * FK_LANES;
                fk_v columns[SIDE][MAKES];
#pragma GCC unroll 9
                for (size_t x = 0; x < SIDE; x++) {
                    fk_v u[SIDE];
#pragma GCC unroll 9
                    for (size_t y = 0; y < SIDE; y++)
                        u[y] = fk_v_at(p + (y * SIDE + x) * spot);
                    up(u, columns[x]);
                }
#pragma GCC unroll 9
                for (size_t y = 0; y < MAKES; y++) {
                    fk_v u[SIDE];
                    fk_v line[MAKES];
#pragma GCC unroll 9
                    for (size_t x = 0; x < SIDE; x++)
                        u[x] = columns[x][y];
                    up(u, line);
#pragma GCC unroll 9
                    for (size_t x = 0; x < MAKES; x++)
                        put_output(k, r, y, MAKES * t + x, c + v * FK_LANES, line[x]);
                }
            }
    }
}

/* Spots of one dimension that share weights `i`. */
FK_INLINE size_t end_of(size_t i)
{
    return i + 1 < DISTINCT ? i + 1 : SIDE;
}

/* Where tiles that are spread out, and their products, are, from a spot to the next; and the packed weights of a block of n vectors. */
typedef struct places {
    const uint32_t *inputs, *weights;
    float *products;
    size_t tiles, depth, n;
} places;

/* All spots with the weights of row `wy` and column `wx` of them. */
FK_INLINE void multiply_spots(const places *p, size_t wy, size_t wx)
{
    size_t each = fk_winograd_stride(p->tiles * p->depth);
    size_t width = p->n * FK_LANES;
    const uint32_t *weights =
        p->weights + (wy * DISTINCT + wx) * fk_winograd_stride(p->depth * width);

    for (size_t y = wy; y < end_of(wy); y++)
        for (size_t x = wx; x < end_of(wx); x++) {
            size_t spot = y * SIDE + x;
            fk_words_multiply(
                (fk_words_product){.a = p->inputs + spot * each,
                                   .a_row = p->depth,
                                   .a_step = 1,
                                   .b = weights,
                                   .depth = p->depth,
                                   .c = p->products + spot * fk_winograd_stride(p->tiles * width),
                                   .c_row = width},
                p->tiles, p->n, HALF);
        }
}

static void forward(const fk_winograd_forward *k, size_t first, size_t rows, float *room)
{
    const fk_winograd_maps *m = &k->maps;
    size_t most = fk_winograd_rows_forward(m);
    size_t depth = m->in / WORD;

    for (size_t end = first + rows; first < end; first += most) {
        size_t now = end - first < most ? end - first : most;
        size_t tiles = now * tiles_of(m);
        uint32_t *inputs = (uint32_t *)room;
        places p = {.inputs = inputs,
                    .products = room + SPOTS * fk_winograd_stride(tiles * depth),
                    .tiles = tiles,
                    .depth = depth};
        spread_rows(m, first, now, inputs);
        for (size_t b = 0; b < k->blocks; b++) {
            p.n = fk_words_vectors(m->out, k->block + b);
            p.weights = block_of(k->weights, depth, b);
            for (size_t w = 0; w < WEIGHTS; w++)
                multiply_spots(&p, w / DISTINCT, w % DISTINCT);
            gather_rows(k, first, now, (k->block + b) * FK_BLOCK, p.n, p.products);
        }
    }
}
