/* 3x3 convolutions in bf16 by Winograd's F(2x2, 3x3) with channels last. Tiles are transformed two at a time, as they share two columns,
 * and multiplied as 16 matrices: of tiles by channels with packed weights, or, for the gradient of the weights, of channels by
 * tiles. */
#include "kernel/winograd.h"

#include "kernel/pairs.h"

enum { SPOTS = FK_WINOGRAD_SPOTS };

/* --- transforms ------------------------------------------------------------------------------ */

/* Where a row of tiles is. */
typedef struct tile_row {
    size_t image, y; /* of its first row of outputs */
} tile_row;

FK_INLINE tile_row row_at(const fk_winograd_maps *m, size_t row)
{
    size_t each = (m->height + 1) / 2;

    return (tile_row){row / each, row % each * 2};
}

/* A vector of channels of the rows of a map that a row of tiles reads. */
typedef struct strip {
    const uint16_t *row[4];
    size_t step[4]; /* from pixel to pixel; 0 for a row outside, which is one vector of zeros */
    size_t width, below; /* from a row to the next but one */
} strip;

/* `count` rows from y on; channels from c on. */
FK_INLINE strip strip_of(const fk_winograd_maps *m, const uint16_t *data, size_t channels,
                         tile_row r, ptrdiff_t y, int count, size_t c)
{
    static const uint16_t zeros[FK_LANES];
    strip s = {.width = m->width, .below = 2 * m->width * channels};

    for (int i = 0; i < count; i++) {
        bool inside = y + i >= 0 && y + i < (ptrdiff_t)m->height;
        size_t row = r.image * m->height + (size_t)(inside ? y + i : 0);
        s.row[i] = inside ? data + row * m->width * channels + c : zeros;
        s.step[i] = inside ? channels : 0;
    }
    return s;
}

FK_INLINE fk_v strip_at(const strip *s, int i, size_t x)
{
    return fk_v_at_half(s->row[i] + x * s->step[i]);
}

/* B^T d of column x - 1 of the four rows. */
FK_INLINE void down(const strip *s, size_t x, fk_v *to)
{
    if (x - 1 >= s->width) {
        to[0] = to[1] = to[2] = to[3] = (fk_v){0};
        return;
    }
    fk_pairs_fetch(s->row[2], s->below + (x - 1) * s->step[2]); /* for the next row of tiles */
    fk_pairs_fetch(s->row[3], s->below + (x - 1) * s->step[3]);
    fk_v d0 = strip_at(s, 0, x - 1);
    fk_v d1 = strip_at(s, 1, x - 1);
    fk_v d2 = strip_at(s, 2, x - 1);
    fk_v d3 = strip_at(s, 3, x - 1);

    to[0] = d0 - d2, to[1] = d1 + d2, to[2] = d2 - d1, to[3] = d1 - d3;
}

/* The same across: spot s of 4 from column 0 of the tile on, of the row that was made going down. */
FK_INLINE fk_v across(fk_v (*columns)[4], int row, int s)
{
    switch (s) {
    case 0:
        return columns[0][row] - columns[2][row];
    case 1:
        return columns[1][row] + columns[2][row];
    case 2:
        return columns[2][row] - columns[1][row];
    default:
        return columns[1][row] - columns[3][row];
    }
}

/* A of a gradient: spot s of 4 from two neighbours. */
FK_INLINE fk_v widen(fk_v a, fk_v b, int s)
{
    return s == 0 ? a : s == 1 ? a + b : s == 2 ? a - b : -b;
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

/* G g G^T */
FK_INLINE void raise(const fk_v *g, fk_v *to)
{
    fk_v rows[4][3];

    for (int x = 0; x < 3; x++) {
        fk_v even = 0.5f * (g[x] + g[6 + x]);
        rows[0][x] = g[x];
        rows[1][x] = even + 0.5f * g[3 + x];
        rows[2][x] = even - 0.5f * g[3 + x];
        rows[3][x] = g[6 + x];
    }
    for (int y = 0; y < 4; y++) {
        fk_v even = 0.5f * (rows[y][0] + rows[y][2]);
        to[4 * y] = rows[y][0];
        to[4 * y + 1] = even + 0.5f * rows[y][1];
        to[4 * y + 2] = even - 0.5f * rows[y][1];
        to[4 * y + 3] = rows[y][2];
    }
}

static void pack(const fk_winograd_pack *k, size_t block)
{
    size_t out = k->back ? k->inputs : k->outputs;
    size_t in = k->back ? k->outputs : k->inputs;
    size_t n = fk_pairs_vectors(out, block);
    uint16_t *to = k->to + block * FK_BLOCK * in * SPOTS;

    for (size_t v = 0; v < n; v++)
        for (size_t i = 0; i < in; i += 2) {
            fk_v taps[9];
            fk_v even[SPOTS];
            fk_v odd[SPOTS];
            size_t o = block * FK_BLOCK + v * FK_LANES;
            taps_of(k, o, i, taps);
            raise(taps, even);
            taps_of(k, o, i + 1, taps);
            raise(taps, odd);
            for (size_t s = 0; s < SPOTS; s++)
                fk_pairs_put(to + ((s * in / 2 + i / 2) * n + v) * FK_PAIR, even[s], odd[s]);
        }
}

/* --- forward --------------------------------------------------------------------------------- */

/* Tiles that are transformed together: `count` of them, of whole rows, as [SPOTS][count][in]. */
static void spread_rows(const fk_winograd_maps *m, size_t first, size_t rows, uint16_t *to)
{
    size_t width = (m->width + 1) / 2;
    size_t spot = rows * width * m->in;
    fk_operand place = {to, true};

    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < m->in; c += FK_LANES) {
            tile_row r = row_at(m, first + i);
            strip in = strip_of(m, m->x, m->in, r, (ptrdiff_t)r.y - 1, 4, c);
            fk_v columns[6][4];
            down(&in, 0, columns[4]);
            down(&in, 1, columns[5]);
            for (size_t t = 0; t < width; t += 2) {
                size_t at = (i * width + t) * m->in + c;
                bool two = t + 1 < width;
                memcpy(columns[0], columns[4], 2 * sizeof columns[0]);
#pragma GCC unroll 4
                for (int x = 2; x < 6; x++)
                    down(&in, 2 * t + (size_t)x, columns[x]);
#pragma GCC unroll 16
                for (int s = 0; s < SPOTS; s++) {
                    fk_v_store(place, at + (size_t)s * spot, across(columns, s / 4, s % 4));
                    if (two)
                        fk_v_store(place, at + (size_t)s * spot + m->in,
                                   across(columns + 2, s / 4, s % 4));
                }
            }
        }
}

/* One output pixel's vector, if there is such a pixel: bias, what is there, activation. */
FK_INLINE void put_output(const fk_winograd_forward *k, tile_row r, size_t dy, size_t x, size_t c,
                          fk_v v)
{
    const fk_winograd_maps *m = &k->maps;
    fk_operand to = {m->y, true};
    size_t y = r.y + dy;
    size_t at = ((r.image * m->height + y) * m->width + x) * m->out + c;

    if (y >= m->height || x >= m->width)
        return;
    if (k->bias)
        v += fk_v_at(k->bias + c);
    if (k->add)
        v += fk_v_load(to, at);
    fk_v_store(to, at, fk_v_act(k->act, v));
}

/* A^T m A of products [SPOTS][rows x width][n vectors]: channels from c on. */
static void gather_rows(const fk_winograd_forward *k, size_t first, size_t rows, size_t c, size_t n,
                        const float *from)
{
    size_t width = (k->maps.width + 1) / 2;
    size_t spot = rows * width * n * FK_LANES;

    for (size_t i = 0; i < rows; i++) {
        tile_row r = row_at(&k->maps, first + i);
        for (size_t t = 0; t < width; t++)
            for (size_t v = 0; v < n; v++) {
                const float *p = from + ((i * width + t) * n + v) * FK_LANES;
                fk_v up[2][4];
#pragma GCC unroll 4
                for (size_t s = 0; s < 4; s++) {
                    fk_v a = fk_v_at(p + s * spot);
                    fk_v b = fk_v_at(p + (s + 4) * spot);
                    fk_v d = fk_v_at(p + (s + 8) * spot);
                    up[0][s] = a + b + d;
                    up[1][s] = b - d - fk_v_at(p + (s + 12) * spot);
                }
#pragma GCC unroll 2
                for (size_t y = 0; y < 2; y++) {
                    put_output(k, r, y, 2 * t, c + v * FK_LANES, up[y][0] + up[y][1] + up[y][2]);
                    put_output(k, r, y, 2 * t + 1, c + v * FK_LANES,
                               up[y][1] - up[y][2] - up[y][3]);
                }
            }
    }
}

static void forward(const fk_winograd_forward *k, size_t first, size_t rows, float *room)
{
    const fk_winograd_maps *m = &k->maps;
    size_t most = fk_winograd_rows_forward(m);
    size_t width = (m->width + 1) / 2;

    for (size_t end = first + rows; first < end; first += most) {
        size_t now = end - first < most ? end - first : most;
        size_t tiles = now * width;
        uint16_t *inputs = (uint16_t *)room;
        float *products = room + SPOTS * tiles * m->in / 2;
        spread_rows(m, first, now, inputs);
        for (size_t b = 0; b * FK_BLOCK < m->out; b++) {
            size_t n = fk_pairs_vectors(m->out, b);
            const uint16_t *weights = k->weights + b * FK_BLOCK * m->in * SPOTS;
            for (size_t s = 0; s < SPOTS; s++)
                fk_pairs_multiply((fk_pairs_product){.a = inputs + s * tiles * m->in,
                                                     .a_row = m->in,
                                                     .a_step = 2,
                                                     .b = weights + s * m->in * n * FK_LANES,
                                                     .depth = m->in / 2,
                                                     .c = products + s * tiles * n * FK_LANES,
                                                     .c_row = n * FK_LANES},
                                  tiles, n);
            gather_rows(k, first, now, b * FK_BLOCK, n, products);
        }
    }
}

/* --- the gradient of the weights -------------------------------------------------------------- */

/* Where pair `pair` of `all`, of vector v of some channels, is spread out: gradients by vectors, inputs by blocks of them. */
FK_INLINE size_t place_of_gradients(size_t v, size_t all, size_t pair)
{
    return (v * all + pair) * FK_PAIR;
}

FK_INLINE size_t place_of_inputs(size_t channels, size_t v, size_t all, size_t pair)
{
    size_t block = v / FK_ABREAST;
    size_t n = fk_pairs_vectors(channels, block);

    return (block * FK_ABREAST * all + pair * n + v % FK_ABREAST) * FK_PAIR;
}

static void spread_inputs(const fk_winograd_weights *k, tile_row r, size_t as)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_pairs(m);
    size_t all = k->rows * each;

    for (size_t c = 0; c < m->in; c += FK_LANES) {
        strip in = strip_of(m, m->x, m->in, r, (ptrdiff_t)r.y - 1, 4, c);
        fk_v columns[6][4];
        down(&in, 0, columns[4]);
        down(&in, 1, columns[5]);
        for (size_t t = 0; t < each; t++) {
            uint16_t *to = k->inputs + place_of_inputs(m->in, c / FK_LANES, all, as * each + t);
            memcpy(columns[0], columns[4], 2 * sizeof columns[0]);
#pragma GCC unroll 4
            for (int x = 2; x < 6; x++)
                down(&in, 4 * t + (size_t)x, columns[x]);
#pragma GCC unroll 16
            for (int s = 0; s < SPOTS; s++)
                fk_pairs_put(to + (size_t)s * all * m->in * 2, across(columns, s / 4, s % 4),
                             across(columns + 2, s / 4, s % 4));
        }
    }
}

static void spread_gradients(const fk_winograd_weights *k, tile_row r, size_t as)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_pairs(m);
    size_t all = k->rows * each;

    for (size_t c = 0; c < m->out; c += FK_LANES) {
        strip in = strip_of(m, m->y, m->out, r, (ptrdiff_t)r.y, 2, c);
        for (size_t t = 0; t < each; t++) {
            uint16_t *to = k->gradients + place_of_gradients(c / FK_LANES, all, as * each + t);
            fk_v d[2][4];
#pragma GCC unroll 2
            for (int y = 0; y < 2; y++)
#pragma GCC unroll 4
                for (size_t x = 0; x < 4; x++)
                    d[y][x] = 4 * t + x < m->width ? strip_at(&in, y, 4 * t + x) : (fk_v){0};
#pragma GCC unroll 4
            for (int y = 0; y < 4; y++) {
                fk_v row[4];
#pragma GCC unroll 4
                for (int x = 0; x < 4; x++)
                    row[x] = widen(d[0][x], d[1][x], y);
#pragma GCC unroll 4
                for (int x = 0; x < 4; x++)
                    fk_pairs_put(to + (size_t)(4 * y + x) * all * m->out * 2,
                                 widen(row[0], row[1], x), widen(row[2], row[3], x));
            }
        }
    }
}

static void spread(const fk_winograd_weights *k, size_t row, size_t as)
{
    spread_inputs(k, row_at(&k->maps, row), as);
    spread_gradients(k, row_at(&k->maps, row), as);
}

/* A vector of outputs with a block of inputs, at one spot. */
static void multiply(const fk_winograd_weights *k, size_t part, bool add)
{
    const fk_winograd_maps *m = &k->maps;
    size_t vectors = m->out / FK_LANES;
    size_t blocks = (m->in + FK_BLOCK - 1) / FK_BLOCK;
    size_t v = part % vectors;
    size_t block = part / vectors % blocks;
    size_t spot = part / vectors / blocks;
    size_t depth = k->rows * fk_winograd_pairs(m);

    fk_pairs_multiply(
        (fk_pairs_product){.a = k->gradients + spot * m->out * depth * 2 +
                                place_of_gradients(v, depth, 0),
                           .a_row = 2,
                           .a_step = FK_PAIR,
                           .b = k->inputs + spot * m->in * depth * 2 +
                                place_of_inputs(m->in, block * FK_ABREAST, depth, 0),
                           .depth = depth,
                           .c = k->sums + (spot * m->out + v * FK_LANES) * m->in + block * FK_BLOCK,
                           .c_row = m->in,
                           .add = add},
        FK_LANES, fk_pairs_vectors(m->in, block));
}

/* G^T u G */
FK_INLINE void lower(const fk_v *u, fk_v *to)
{
    fk_v rows[3][4];

    for (int x = 0; x < 4; x++) {
        fk_v sum = 0.5f * (u[4 + x] + u[8 + x]);
        rows[0][x] = u[x] + sum;
        rows[1][x] = 0.5f * (u[4 + x] - u[8 + x]);
        rows[2][x] = sum + u[12 + x];
    }
    for (int y = 0; y < 3; y++) {
        fk_v sum = 0.5f * (rows[y][1] + rows[y][2]);
        to[3 * y] = rows[y][0] + sum;
        to[3 * y + 1] = 0.5f * (rows[y][1] - rows[y][2]);
        to[3 * y + 2] = sum + rows[y][3];
    }
}

static void collect(const fk_winograd_weights *k, size_t output)
{
    const fk_winograd_maps *m = &k->maps;

    for (size_t c = 0; c < m->in; c += FK_LANES) {
        float *dw = k->dw + (output * m->in + c) * 9;
        fk_v u[SPOTS];
        fk_v taps[9];
        for (size_t s = 0; s < SPOTS; s++)
            u[s] = fk_v_at(k->sums + (s * m->out + output) * m->in + c);
        lower(u, taps);
        for (size_t t = 0; t < 9; t++)
            for (size_t l = 0; l < FK_LANES; l++)
                dw[l * 9 + t] = taps[t][l];
    }
}

const fk_winograd_kernels FK_TABLE(fk_winograd) = {
    .lanes = FK_LANES,
    .pack = pack,
    .forward = forward,
    .spread = spread,
    .multiply = multiply,
    .collect = collect,
};
