/* How much work there is in a convolution of winograd.h, and how much memory it takes. */
#include "kernel/winograd.h"

#include "base/compat.h"

/* Floats of a second-level cache (1 MiB and more with AVX-512, nearly always) for tiles and their products. */
#define CACHED ((size_t)160 << 10)

/* Words of a third-level cache that a thread may take for weights and their gradients' sums. */
#define SHARED ((size_t)5 << 18)

#define BLOCK ((size_t)FK_WINOGRAD_BLOCK * FK_MAX_LANES)

/* Where so few tiles fit, packed weights would be read again and again: at least so many at a time; and steps, for the sums of the
 * gradient of weights. */
#define LEAST_TILES 24
#define LEAST_STEPS 64

static size_t tiles_of(const fk_winograd_maps *m)
{
    return (m->width + m->tile - 1) / m->tile;
}

/* Numbers in a word. */
static size_t word_of(const fk_winograd_maps *m)
{
    return m->tile == 2 ? 2 : 1;
}

size_t fk_winograd_spots(const fk_winograd_maps *m)
{
    return (m->tile + 2) * (m->tile + 2);
}

size_t fk_winograd_rows(const fk_winograd_maps *m)
{
    return m->images * ((m->height + m->tile - 1) / m->tile);
}

size_t fk_winograd_blocks(const fk_winograd_maps *m)
{
    return (m->out + BLOCK - 1) / BLOCK;
}

size_t fk_winograd_packed(const fk_winograd_maps *m, size_t blocks)
{
    return blocks * fk_winograd_spots(m) * fk_winograd_stride(m->in / word_of(m) * BLOCK);
}

size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows)
{
    return fk_winograd_spots(m) * fk_winograd_stride(rows * fk_winograd_steps(m) * channels);
}

size_t fk_winograd_sums(const fk_winograd_maps *m, size_t outputs)
{
    return fk_winograd_spots(m) * fk_winograd_stride(m->in * outputs);
}

size_t fk_winograd_blocks_at_once(const fk_winograd_maps *m)
{
    size_t blocks = SHARED / fk_winograd_packed(m, 1);
    size_t all = fk_winograd_blocks(m);

    return blocks == 0 ? 1 : blocks < all ? blocks : all;
}

size_t fk_winograd_outputs_at_once(const fk_winograd_maps *m)
{
    size_t vectors = SHARED / fk_winograd_sums(m, FK_MAX_LANES);

    return (vectors ? vectors : 1) * FK_MAX_LANES;
}

/* Of a row of tiles: these as words, and the products of a block of channels. */
static size_t row_floats(const fk_winograd_maps *m)
{
    size_t block = m->out < BLOCK ? m->out : BLOCK;

    return fk_winograd_spots(m) * tiles_of(m) * (m->in / word_of(m) + block);
}

size_t fk_winograd_rows_forward(const fk_winograd_maps *m)
{
    size_t rows = CACHED / row_floats(m);
    size_t least = (LEAST_TILES + tiles_of(m) - 1) / tiles_of(m);
    size_t all = fk_winograd_rows(m);

    rows = rows < least ? least : rows;
    return rows < all ? rows : all;
}

/* Adding to the sums moves as many words as spreading out does where there are in * outputs / (in + outputs) steps: at least so many. */
size_t fk_winograd_rows_weights(const fk_winograd_maps *m, size_t outputs)
{
    size_t steps = CACHED / (fk_winograd_spots(m) * (m->in + outputs));
    size_t even = m->in * outputs / (m->in + outputs);
    size_t each = fk_winograd_steps(m);

    steps = steps < even ? even : steps;
    steps = steps < LEAST_STEPS ? LEAST_STEPS : steps;
    size_t rows = (steps + each - 1) / each;
    return rows < fk_winograd_rows(m) ? rows : fk_winograd_rows(m);
}

size_t fk_winograd_room(const fk_winograd_maps *m)
{
    return fk_winograd_rows_forward(m) * row_floats(m) +
           2 * fk_winograd_spots(m) * fk_winograd_stride(0);
}
