/* Between tiles.c and tiles_pack.c: how matrices lie in memory, and in tiles. */
#ifndef FK_TILES_INSIDE_H
#define FK_TILES_INSIDE_H

#include "kernel/tiles.h"

enum {
    FK_SIDE = 16,  /* rows of a tile, and f32 in one of its rows */
    FK_DEPTH = 32, /* bf16 in a row of a tile: of k */
    FK_TILE = FK_SIDE * FK_DEPTH,
    FK_BLOCK = 2 * FK_SIDE, /* rows of A, columns of B that meet */
    FK_PARTS = 3,
    FK_STRIP = FK_BLOCK * FK_DEPTH * FK_PARTS /* bf16 of a block of A or B and FK_DEPTH of k */
};

/* A direction of a matrix: elements between two neighbours of 16, between two 16s and, after so many 16s (0: no end), between
 * two groups of them; and how many there are of the last 16 of a group (0: all). Rows of a matrix are one group; pixels of an image
 * are one, of which each channel is in another place. */
typedef struct fk_axis {
    size_t step, jump, together, far, last;
} fk_axis;

/* Element 16 i, from where the matrix begins. */
static inline size_t fk_axis_at(const fk_axis *a, size_t i)
{
    return a->together ? i / a->together * a->far + i % a->together * a->jump : i * a->jump;
}

/* Of the 16 from 16 i on, how many there are. */
static inline size_t fk_axis_has(const fk_axis *a, size_t i)
{
    return a->last && i % a->together + 1 == a->together ? a->last : (size_t)FK_SIDE;
}

/* A matrix: along the side that A and B keep and along k, from which 16 on. One of the two steps is 1. */
typedef struct fk_source {
    const float *at;
    fk_axis side, depth;
    size_t first_side, first_depth;
} fk_source;

/* bf16 of so many rows or columns, packed. */
size_t fk_tiles_packed_size(size_t sides, size_t depths);
/* Blocks of a side one behind the other, each with all of k: rows of A or (pairs) columns of B. What is beyond the matrix is 0. */
void fk_tiles_pack_side(uint16_t *to, const fk_source *s, size_t sides, size_t depths, bool pairs);

#endif
