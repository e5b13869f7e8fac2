/* The gradient of a 1x1 convolution's weights in bf16 with channels last: the sum over all pixels of the products of each pixel's channels
 * before and behind it. */
#ifndef FK_OUTER_H
#define FK_OUTER_H

#include "kernel/kernel.h"

/* sums = a^T b, or += where `add` */
typedef struct fk_outer {
    size_t pixels, rows, columns; /* channels of a, of b */
    const uint16_t *a, *b;        /* [pixels][rows], [pixels][columns] */
    float *sums; /* [rows][fk_outer_stride(columns)]; what is beyond `columns` is 0 */
    bool add;
    uint32_t *room; /* fk_outer_room() words at 64 bytes */
} fk_outer;

typedef void fk_outer_kernel(const fk_outer *k);

extern fk_outer_kernel fk_outer_plain16;

/* For processors with instructions for bf16, or with FERKD_KERNELS=plain the plain one; NULL: there is none that pays. */
fk_outer_kernel *fk_outer_best(void);

enum { FK_OUTER_STEPS = 64 }; /* pairs of pixels at a time */

static inline size_t fk_outer_stride(size_t channels)
{
    return (channels + 15) / 16 * 16;
}

static inline size_t fk_outer_room(size_t rows, size_t columns)
{
    return FK_OUTER_STEPS * (fk_outer_stride(rows) + fk_outer_stride(columns));
}

#endif
