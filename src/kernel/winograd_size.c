/* How much work there is in a convolution of winograd.h, and how much memory it takes. */
#include "kernel/winograd.h"

/* Floats of a second-level cache (1 MiB and more where there are instructions for bf16) for tiles and their products. */
#define CACHED ((size_t)160 << 10)

/* Tiles that the gradient of the weights takes at a time, about: in rows that many threads can share. */
#define SPREAD 256

size_t fk_winograd_rows(const fk_winograd_maps *m)
{
    return m->images * ((m->height + 1) / 2);
}

size_t fk_winograd_blocks(size_t channels, int lanes)
{
    size_t each = 4 * (size_t)lanes;

    return (channels + each - 1) / each;
}

size_t fk_winograd_parts(const fk_winograd_maps *m, int lanes)
{
    return FK_WINOGRAD_SPOTS * fk_winograd_blocks(m->in, lanes) * (m->out / (size_t)lanes);
}

size_t fk_winograd_packed(const fk_winograd_maps *m)
{
    return FK_WINOGRAD_SPOTS * m->in * m->out;
}

size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows)
{
    return FK_WINOGRAD_SPOTS * rows * fk_winograd_pairs(m) * 2 * channels;
}

/* Of a row of tiles: these as bf16, and the products of a block of channels. */
static size_t row_floats(const fk_winograd_maps *m)
{
    size_t block = m->out < 4 * FK_MAX_LANES ? m->out : 4 * FK_MAX_LANES;

    return FK_WINOGRAD_SPOTS * ((m->width + 1) / 2) * (m->in / 2 + block);
}

size_t fk_winograd_rows_forward(const fk_winograd_maps *m)
{
    size_t rows = CACHED / row_floats(m);

    return rows ? rows : 1;
}

size_t fk_winograd_rows_weights(const fk_winograd_maps *m)
{
    return SPREAD / (2 * fk_winograd_pairs(m)) / 8 * 8 + 8;
}

size_t fk_winograd_room(const fk_winograd_maps *m)
{
    return fk_winograd_rows_forward(m) * row_floats(m);
}
