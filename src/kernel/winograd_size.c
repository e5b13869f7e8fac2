/* How much work there is in a convolution of winograd.h, and how much memory it takes. */
#include "kernel/winograd.h"

#include "base/compat.h"

/* Floats of a second-level cache (1 MiB and more with AVX-512, nearly always) for tiles and their products. */
#define CACHED ((size_t)160 << 10)

/* Words of a third-level cache that a thread may take for weights and their gradients' sums. */
#define SHARED ((size_t)5 << 18)

#define BLOCK ((size_t)FK_WINOGRAD_BLOCK * FK_MAX_LANES)

/* Of a tile: outputs and spots (transformed numbers) along a side, such as have weights of their own; numbers in a word. Where so few
 * tiles fit, packed weights would be read again and again: at least so many tiles at a time; and steps, for the sums of the gradient of
 * weights. Where several spots share what is read, fewer do. */
static const struct {
    size_t makes, side, distinct, word, least_tiles, least_steps;
} KINDS[] = {[FK_WINOGRAD_2] = {2, 4, 4, 2, 24, 64},
             [FK_WINOGRAD_4] = {4, 6, 6, 1, 24, 64},
             [FK_WINOGRAD_STRIDED] = {4, 9, 6, 1, 12, 16},
             [FK_WINOGRAD_RETURN] = {8, 9, 6, 1, 12, 16}};

static size_t tiles_of(const fk_winograd_maps *m)
{
    return (m->y.width + KINDS[m->kind].makes - 1) / KINDS[m->kind].makes;
}

static size_t word_of(const fk_winograd_maps *m)
{
    return KINDS[m->kind].word;
}

static size_t spots_of(const fk_winograd_maps *m)
{
    return KINDS[m->kind].side * KINDS[m->kind].side;
}

static size_t distinct_of(const fk_winograd_maps *m)
{
    return KINDS[m->kind].distinct * KINDS[m->kind].distinct;
}

size_t fk_winograd_rows(const fk_winograd_maps *m)
{
    return m->images * ((m->y.height + KINDS[m->kind].makes - 1) / KINDS[m->kind].makes);
}

size_t fk_winograd_blocks(const fk_winograd_maps *m)
{
    return (m->out + BLOCK - 1) / BLOCK;
}

size_t fk_winograd_packed(const fk_winograd_maps *m, size_t blocks)
{
    return blocks * distinct_of(m) * fk_winograd_stride(m->in / word_of(m) * BLOCK);
}

size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows)
{
    return spots_of(m) * fk_winograd_stride(rows * fk_winograd_steps(m) * channels);
}

size_t fk_winograd_sums(const fk_winograd_maps *m, size_t outputs)
{
    return distinct_of(m) * fk_winograd_stride(m->in * outputs);
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

    return spots_of(m) * tiles_of(m) * (m->in / word_of(m) + block);
}

size_t fk_winograd_rows_forward(const fk_winograd_maps *m)
{
    size_t rows = CACHED / row_floats(m);
    size_t least = (KINDS[m->kind].least_tiles + tiles_of(m) - 1) / tiles_of(m);
    size_t all = fk_winograd_rows(m);

    rows = rows < least ? least : rows;
    return rows < all ? rows : all;
}

/* Adding to the sums moves as many words as spreading out does where there are in * outputs / (in + outputs) steps, less where spots share
 * their sums: at least so many. */
size_t fk_winograd_rows_weights(const fk_winograd_maps *m, size_t outputs)
{
    size_t steps = CACHED / (spots_of(m) * (m->in + outputs));
    size_t even = m->in * outputs / (m->in + outputs) * distinct_of(m) / spots_of(m);
    size_t least = KINDS[m->kind].least_steps;
    size_t each = fk_winograd_steps(m);

    steps = steps < even ? even : steps;
    steps = steps < least ? least : steps;
    size_t rows = (steps + each - 1) / each;
    return rows < fk_winograd_rows(m) ? rows : fk_winograd_rows(m);
}

size_t fk_winograd_room(const fk_winograd_maps *m)
{
    return fk_winograd_rows_forward(m) * row_floats(m) + 2 * spots_of(m) * fk_winograd_stride(0);
}
