/* The gradient of the weights, after winograd_inside.h: what is transformed, tiles of inputs and (widen()) of gradients of the output, are
 * multiplied as matrices of channels by tiles; lower() leads from there to the gradients of weights. */

enum { MADE = AT_ONCE * MAKES }; /* columns of outputs in a step */

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

/* A row of spots of the tiles of a step, `spot` words from one to the next. */
FK_INLINE void put_spots(uint32_t *to, size_t spot, fk_v (*line)[SIDE])
{
#pragma GCC unroll 9
    for (size_t x = 0; x < SIDE; x++)
        fk_words_put(to + x * spot, line[0][x], line[AT_ONCE - 1][x], HALF);
}

FK_INLINE void spread_inputs(const fk_winograd_weights *k, tile_row r, size_t as, bool normed)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_steps(m);
    size_t all = k->rows * each;
    size_t spot = fk_winograd_stride(all * m->in);

    for (size_t v = 0; v < m->in / FK_LANES; v++) {
        strip in = inputs_of(m, r, v, normed);
        fk_v columns[WIDE][SIDE];
        first_columns(&in, normed, columns);
        for (size_t t = 0; t < each; t++) {
            uint32_t *to = k->inputs + place_of_inputs(m->in, v, all, as * each + t);
            next_columns(&in, t, normed, columns);
#pragma GCC unroll 9
            for (size_t y = 0; y < SIDE; y++) {
                fk_v line[AT_ONCE][SIDE];
#pragma GCC unroll 2
                for (int j = 0; j < AT_ONCE; j++)
                    across(columns, j, (int)y, line[j]);
                put_spots(to + y * SIDE * spot, spot, line);
            }
        }
    }
}

/* A g A^T of tile `tile` of a step, row `row` of spots; columns are widened already. */
FK_INLINE void widen_across(fk_v (*columns)[SIDE], int tile, int row, fk_v *to)
{
    fk_v line[MAKES];

#pragma GCC unroll 9
    for (int x = 0; x < MAKES; x++)
        line[x] = columns[tile * MAKES + x][row];
    widen(line, to);
}

static void spread_gradients(const fk_winograd_weights *k, tile_row r, size_t as)
{
    const fk_winograd_maps *m = &k->maps;
    size_t each = fk_winograd_steps(m);
    size_t all = k->rows * each;
    size_t spot = fk_winograd_stride(all * k->outputs);

    for (size_t v = 0; v < k->outputs / FK_LANES; v++) {
        strip in = strip_of(&m->y, r.image, (ptrdiff_t)r.y, MAKES, k->from / FK_LANES + v);
        for (size_t t = 0; t < each; t++) {
            uint32_t *to = k->gradients + place_of_gradients(v, all, as * each + t);
            fk_v columns[MADE][SIDE];
#pragma GCC unroll 9
            for (size_t x = 0; x < MADE; x++) {
                bool inside = MADE * t + x < m->y.width;
                fk_v g[MAKES];
#pragma GCC unroll 9
                for (int y = 0; y < MAKES; y++)
                    g[y] = inside ? strip_at(&in, y, MADE * t + x) : (fk_v){0};
                widen(g, columns[x]);
            }
#pragma GCC unroll 9
            for (size_t y = 0; y < SIDE; y++) {
                fk_v line[AT_ONCE][SIDE];
#pragma GCC unroll 2
                for (int j = 0; j < AT_ONCE; j++)
                    widen_across(columns, j, (int)y, line[j]);
                put_spots(to + y * SIDE * spot, spot, line);
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

/* A vector of outputs, of those at this time, with a block of inputs, at one spot, to the sums of weights `w`. */
static void multiply_vector(const fk_winograd_weights *k, size_t spot, size_t w, size_t block,
                            size_t v, bool add)
{
    const fk_winograd_maps *m = &k->maps;
    size_t depth = k->rows * fk_winograd_steps(m);
    size_t vector = (k->first - k->from) / FK_LANES + v;
    const uint32_t *gradients = k->gradients + spot * fk_winograd_stride(k->outputs * depth);
    const uint32_t *inputs = k->inputs + spot * fk_winograd_stride(m->in * depth);
    float *sums = k->sums + w * fk_winograd_stride(k->count * m->in);

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

/* All spots with weights `w`. */
static void multiply_one(const fk_winograd_weights *k, size_t w, bool add)
{
    size_t wy = w / DISTINCT;
    size_t wx = w % DISTINCT;

    for (size_t y = wy; y < end_of(wy); y++)
        for (size_t x = wx; x < end_of(wx); x++)
            for (size_t block = 0; block * FK_BLOCK < k->maps.in; block++)
                for (size_t v = 0; v < k->count / FK_LANES; v++)
                    multiply_vector(k, y * SIDE + x, w, block, v, add || y > wy || x > wx);
}

static void multiply(const fk_winograd_weights *k, bool add)
{
    for (size_t w = 0; w < WEIGHTS; w++)
        multiply_one(k, w, add);
}

/* G^T u G */
FK_INLINE void lower_spots(const fk_v *u, fk_v *to)
{
    fk_v columns[DISTINCT][3];

#pragma GCC unroll 9
    for (int x = 0; x < DISTINCT; x++) {
        fk_v column[DISTINCT];
#pragma GCC unroll 9
        for (int y = 0; y < DISTINCT; y++)
            column[y] = u[y * DISTINCT + x];
        lower(column, columns[x]);
    }
#pragma GCC unroll 9
    for (int y = 0; y < 3; y++) {
        fk_v line[DISTINCT];
#pragma GCC unroll 9
        for (int x = 0; x < DISTINCT; x++)
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
        fk_v u[WEIGHTS];
        fk_v taps[9];
        for (size_t s = 0; s < WEIGHTS; s++)
            u[s] = fk_v_at(sums + s * fk_winograd_stride(k->count * m->in) + c);
        lower_spots(u, taps);
        for (size_t t = 0; t < 9; t++)
            for (size_t l = 0; l < FK_LANES; l++)
                dw[l * 9 + t] = taps[t][l];
    }
}
