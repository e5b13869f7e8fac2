/* 3x3 convolutions by Winograd's F(TILE x TILE, 3x3), for winograd2.c (bf16) and winograd4.c (f32), which define TILE and the transforms
 * of one dimension: down() of inputs, up() to outputs, widen() of their gradients, raise() of weights, lower() to their gradients. Steps are
 * of four columns, two tiles or one. Tiles are multiplied as SPOTS matrices: of tiles by channels with packed weights, or, for the
 * gradient of the weights, of channels by tiles. */
#include "kernel/words.h"

enum {
    SIDE = TILE + 2, /* of a tile of inputs */
    SPOTS = SIDE * SIDE,
    STEP = 4, /* columns that are new */
    WIDE = STEP + 2,
    AT_ONCE = STEP / TILE,
    HALF = TILE == 2,    /* the maps are bf16, and words are pairs */
    WORD = HALF ? 2 : 1, /* numbers in one */
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
    size_t each = (m->height + TILE - 1) / TILE;

    return (tile_row){row / each, row % each * TILE};
}

FK_INLINE size_t tiles_of(const fk_winograd_maps *m)
{
    return (m->width + TILE - 1) / TILE;
}

/* A vector of channels of the rows of a map that a row of tiles reads. */
typedef struct strip {
    fk_operand row[SIDE];
    size_t step[SIDE]; /* from pixel to pixel; 0 for a row outside, which is one vector of zeros */
    size_t width, below; /* from a row to the one that the next row of tiles reads in its place */
    fk_v mean, scale, shift; /* of x, if it is normalised; a row outside lies within 0 and 0 */
    fk_v low[SIDE], high[SIDE];
} strip;

/* `count` rows of channel vector v from y on. */
FK_INLINE strip strip_of(const fk_winograd_maps *m, const fk_winograd_map *map, tile_row r,
                         ptrdiff_t y, int count, size_t v)
{
    static const float zeros[FK_LANES];
    strip s = {.width = m->width, .below = TILE * m->width * map->pixel};
    fk_operand image =
        fk_operand_at((fk_operand){map->data, HALF}, r.image * map->image + v * map->vector);

    for (int i = 0; i < count; i++) {
        bool inside = y + i >= 0 && y + i < (ptrdiff_t)m->height;
        s.row[i] = inside ? fk_operand_at(image, (size_t)(y + i) * m->width * map->pixel)
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
    strip s = strip_of(m, &m->x, r, (ptrdiff_t)r.y - 1, SIDE, v);

    if (normed) {
        s.mean = fk_v_at(m->norm->mean + v * FK_LANES);
        s.scale = fk_v_at(m->norm->scale + v * FK_LANES);
        s.shift = fk_v_at(m->norm->shift + v * FK_LANES);
        for (int i = 0; i < SIDE; i++) {
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

/* Column x - 1, transformed. */
FK_INLINE void down_column(const strip *s, size_t x, bool normed, fk_v *to)
{
    fk_v d[SIDE];

    if (x - 1 >= s->width) {
#pragma GCC unroll 8
        for (int i = 0; i < SIDE; i++)
            to[i] = (fk_v){0};
        return;
    }
#pragma GCC unroll 8
    for (int i = 0; i < SIDE; i++) {
        if (i >= 2) /* new in each row of tiles */
            fk_v_fetch((fk_operand){s->row[i].data, HALF}, s->below + (x - 1) * s->step[i]);
        d[i] = input_at(s, i, x - 1, normed);
    }
    down(d, to);
}

/* Columns of a step: the first two were the last ones of the step before. */
FK_INLINE void next_columns(const strip *s, size_t step, bool normed, fk_v (*columns)[SIDE])
{
    memcpy(columns[0], columns[STEP], 2 * sizeof columns[0]);
#pragma GCC unroll 4
    for (int x = 2; x < WIDE; x++)
        down_column(s, STEP * step + (size_t)x, normed, columns[x]);
}

/* Row `row` of spots of tile `tile` of a step. */
FK_INLINE void across(fk_v (*columns)[SIDE], int tile, int row, fk_v *to)
{
    fk_v line[SIDE];

#pragma GCC unroll 8
    for (int x = 0; x < SIDE; x++)
        line[x] = columns[tile * TILE + x][row];
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
    fk_v columns[3][SIDE];

#pragma GCC unroll 4
    for (int x = 0; x < 3; x++)
        raise((fk_v[]){w[x], w[3 + x], w[6 + x]}, columns[x]);
#pragma GCC unroll 8
    for (int y = 0; y < SIDE; y++)
        raise((fk_v[]){columns[0][y], columns[1][y], columns[2][y]}, to + SIDE * y);
}

/* Where block `block` of the packed weights is: those before it are full. */
FK_INLINE uint32_t *block_of(const void *weights, size_t depth, size_t block)
{
    return (uint32_t *)(uintptr_t)weights + block * SPOTS * fk_winograd_stride(depth * FK_BLOCK);
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
        fk_v spots[WORD][SPOTS];
        for (size_t j = 0; j < WORD; j++) {
            taps_of(k, vector * FK_LANES, i + j, taps);
            raise_taps(taps, spots[j]);
        }
        for (size_t s = 0; s < SPOTS; s++)
            fk_words_put(to + s * spot + i / WORD * n * FK_LANES, spots[0][s], spots[WORD - 1][s],
                         HALF);
    }
}

/* --- forward --------------------------------------------------------------------------------- */

/* Tile `tile` of a step: a spot lies `spot` numbers from the one before. */
FK_INLINE void store_tile(fk_v (*columns)[SIDE], int tile, fk_operand to, size_t at, size_t spot)
{
#pragma GCC unroll 8
    for (size_t y = 0; y < SIDE; y++) {
        fk_v line[SIDE];
        across(columns, tile, (int)y, line);
#pragma GCC unroll 8
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
            down_column(&in, 0, normed, columns[STEP]);
            down_column(&in, 1, normed, columns[STEP + 1]);
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
    size_t at = r.image * m->y.image + c / FK_LANES * m->y.vector + (y * m->width + x) * m->y.pixel;

    if (y >= m->height || x >= m->width)
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
                fk_v columns[SIDE][TILE];
#pragma GCC unroll 8
                for (size_t x = 0; x < SIDE; x++) {
                    fk_v u[SIDE];
#pragma GCC unroll 8
                    for (size_t y = 0; y < SIDE; y++)
                        u[y] = fk_v_at(p + (y * SIDE + x) * spot);
                    up(u, columns[x]);
                }
#pragma GCC unroll 4
                for (size_t y = 0; y < TILE; y++) {
                    fk_v u[SIDE];
                    fk_v line[TILE];
#pragma GCC unroll 8
                    for (size_t x = 0; x < SIDE; x++)
                        u[x] = columns[x][y];
                    up(u, line);
#pragma GCC unroll 4
                    for (size_t x = 0; x < TILE; x++)
                        put_output(k, r, y, TILE * t + x, c + v * FK_LANES, line[x]);
                }
            }
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
        float *products = room + SPOTS * fk_winograd_stride(tiles * depth);
        spread_rows(m, first, now, inputs);
        for (size_t b = 0; b < k->blocks; b++) {
            size_t n = fk_words_vectors(m->out, k->block + b);
            size_t each = depth * n * FK_LANES;
            const uint32_t *weights = block_of(k->weights, depth, b);
            for (size_t s = 0; s < SPOTS; s++)
                fk_words_multiply(
                    (fk_words_product){.a = inputs + s * fk_winograd_stride(tiles * depth),
                                       .a_row = depth,
                                       .a_step = 1,
                                       .b = weights + s * fk_winograd_stride(each),
                                       .depth = depth,
                                       .c = products + s * fk_winograd_stride(tiles * n * FK_LANES),
                                       .c_row = n * FK_LANES},
                    tiles, n, HALF);
            gather_rows(k, first, now, (k->block + b) * FK_BLOCK, n, products);
        }
    }
}

/* --- the gradient of the weights -------------------------------------------------------------- */

/* Where word `step` of `all`, of vector v of some channels, is spread out: gradients by vectors, inputs by blocks of them. */
FK_INLINE size_t place_of_gradients(size_t v, size_t all, size_t step)
{
    return (v * all + step) * FK_LANES;
}

FK_INLINE size_t place_of_inputs(size_t channels, size_t v, size_t all, size_t step)
{
    size_t block = v / FK_ABREAST;
    size_t n = fk_words_vectors(channels, block);

    return (block * FK_ABREAST * all + step * n + v % FK_ABREAST) * FK_LANES;
}

FK_INLINE void spread_inputs(const fk_winograd_weights *k, tile_row r, size_t as, bool normed)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_steps(m);
    size_t all = k->rows * each;

    for (size_t v = 0; v < m->in / FK_LANES; v++) {
        strip in = inputs_of(m, r, v, normed);
        fk_v columns[WIDE][SIDE];
        down_column(&in, 0, normed, columns[STEP]);
        down_column(&in, 1, normed, columns[STEP + 1]);
        for (size_t t = 0; t < each; t++) {
            uint32_t *to = k->inputs + place_of_inputs(m->in, v, all, as * each + t);
            next_columns(&in, t, normed, columns);
#pragma GCC unroll 8
            for (size_t y = 0; y < SIDE; y++) {
                fk_v line[AT_ONCE][SIDE];
#pragma GCC unroll 2
                for (int j = 0; j < AT_ONCE; j++)
                    across(columns, j, (int)y, line[j]);
#pragma GCC unroll 8
                for (size_t x = 0; x < SIDE; x++)
                    fk_words_put(to + (y * SIDE + x) * fk_winograd_stride(all * m->in), line[0][x],
                                 line[AT_ONCE - 1][x], HALF);
            }
        }
    }
}

/* A g A^T of tile `tile` of a step, row `row` of spots; columns are widened already. */
FK_INLINE void widen_across(fk_v (*columns)[SIDE], int tile, int row, fk_v *to)
{
    fk_v line[TILE];

#pragma GCC unroll 4
    for (int x = 0; x < TILE; x++)
        line[x] = columns[tile * TILE + x][row];
    widen(line, to);
}

static void spread_gradients(const fk_winograd_weights *k, tile_row r, size_t as)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_steps(m);
    size_t all = k->rows * each;

    for (size_t v = 0; v < k->outputs / FK_LANES; v++) {
        strip in = strip_of(m, &m->y, r, (ptrdiff_t)r.y, TILE, k->from / FK_LANES + v);
        for (size_t t = 0; t < each; t++) {
            uint32_t *to = k->gradients + place_of_gradients(v, all, as * each + t);
            fk_v columns[STEP][SIDE];
#pragma GCC unroll 4
            for (size_t x = 0; x < STEP; x++) {
                bool inside = STEP * t + x < m->width;
                fk_v g[TILE];
#pragma GCC unroll 4
                for (int y = 0; y < TILE; y++)
                    g[y] = inside ? strip_at(&in, y, STEP * t + x) : (fk_v){0};
                widen(g, columns[x]);
            }
#pragma GCC unroll 8
            for (size_t y = 0; y < SIDE; y++) {
                fk_v line[AT_ONCE][SIDE];
#pragma GCC unroll 2
                for (int j = 0; j < AT_ONCE; j++)
                    widen_across(columns, j, (int)y, line[j]);
#pragma GCC unroll 8
                for (size_t x = 0; x < SIDE; x++)
                    fk_words_put(to + (y * SIDE + x) * fk_winograd_stride(all * k->outputs),
                                 line[0][x], line[AT_ONCE - 1][x], HALF);
            }
        }
    }
}

static void spread(const fk_winograd_weights *k, size_t row, size_t as)
{
    if (k->maps.norm)
        spread_inputs(k, row_at(&k->maps, row), as, true);
    else
        spread_inputs(k, row_at(&k->maps, row), as, false);
    spread_gradients(k, row_at(&k->maps, row), as);
}

/* A vector of outputs, of those at this time, with a block of inputs, at one spot. */
static void multiply_vector(const fk_winograd_weights *k, size_t spot, size_t block, size_t v,
                            bool add)
{
    const fk_winograd_maps *m = &k->maps;
    size_t depth = k->rows * fk_winograd_steps(m);
    size_t vector = (k->first - k->from) / FK_LANES + v;
    const uint32_t *gradients = k->gradients + spot * fk_winograd_stride(k->outputs * depth);
    const uint32_t *inputs = k->inputs + spot * fk_winograd_stride(m->in * depth);
    float *sums = k->sums + spot * fk_winograd_stride(k->count * m->in);

    fk_words_multiply(
        (fk_words_product){.a = gradients + place_of_gradients(vector, depth, 0),
                           .a_row = 1,
                           .a_step = FK_LANES,
                           .b = inputs + place_of_inputs(m->in, block * FK_ABREAST, depth, 0),
                           .depth = depth,
                           .c = sums + v * FK_LANES * m->in + block * FK_BLOCK,
                           .c_row = m->in,
                           .add = add},
        FK_LANES, fk_words_vectors(m->in, block), HALF);
}

static void multiply(const fk_winograd_weights *k, bool add)
{
    for (size_t spot = 0; spot < SPOTS; spot++)
        for (size_t block = 0; block * FK_BLOCK < k->maps.in; block++)
            for (size_t v = 0; v < k->count / FK_LANES; v++)
                multiply_vector(k, spot, block, v, add);
}

/* G^T u G */
FK_INLINE void lower_spots(const fk_v *u, fk_v *to)
{
    fk_v columns[SIDE][3];

#pragma GCC unroll 8
    for (int x = 0; x < SIDE; x++) {
        fk_v column[SIDE];
#pragma GCC unroll 8
        for (int y = 0; y < SIDE; y++)
            column[y] = u[y * SIDE + x];
        lower(column, columns[x]);
    }
#pragma GCC unroll 4
    for (int y = 0; y < 3; y++) {
        fk_v line[SIDE];
#pragma GCC unroll 8
        for (int x = 0; x < SIDE; x++)
            line[x] = columns[x][y];
        lower(line, to + 3 * y);
    }
}

static void collect(const fk_winograd_weights *k, size_t output)
{
    const fk_winograd_maps *m = &k->maps;
    const float *sums = k->sums + (output - k->first) * m->in;

    for (size_t c = 0; c < m->in; c += FK_LANES) {
        float *dw = k->dw + (output * m->in + c) * 9;
        fk_v u[SPOTS];
        fk_v taps[9];
        for (size_t s = 0; s < SPOTS; s++)
            u[s] = fk_v_at(sums + s * fk_winograd_stride(k->count * m->in) + c);
        lower_spots(u, taps);
        for (size_t t = 0; t < 9; t++)
            for (size_t l = 0; l < FK_LANES; l++)
                dw[l * 9 + t] = taps[t][l];
    }
}

#define FK_WINOGRAD_TABLE                                                                    \
    {                                                                                        \
        .lanes = FK_LANES, .tile = TILE, .pack = pack, .forward = forward, .spread = spread, \
        .multiply = multiply, .collect = collect                                             \
    }
