/* Resampling one axis of 8-bit images in fixed point, Pillow's way. */
#ifndef FK_RESAMPLE_H
#define FK_RESAMPLE_H

#include "base/compat.h"

#define FK_PRECISION_BITS 22

/* The taps of one axis: result i is made of samples first[i] .. first[i]+count[i]-1 with the
 * weights k[i*width ...], 22 fractional bits. */
typedef struct fk_taps {
    int32_t *first;
    int32_t *count;
    int32_t *k; /* [results][width] */
    int width;
    int results;
} fk_taps;

/* One pass over rows. Horizontal: each dst row [taps->results][channels] from a src row of
 * src_stride bytes. Vertical: dst rows from src rows, row_bytes wide. Sources may be read up to
 * 64 bytes past their end. */
typedef struct fk_resample_fns {
    void (*horizontal)(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                       const fk_taps *taps, int channels);
    void (*vertical)(uint8_t *dst, const uint8_t *src, size_t row_bytes, const fk_taps *taps,
                     int first_row);
} fk_resample_fns;

extern const fk_resample_fns fk_resample_plain;
extern const fk_resample_fns fk_resample_avx2;
extern const fk_resample_fns fk_resample_avx512;

/* The fastest that this processor runs. */
const fk_resample_fns *fk_resample_best(void);

#endif
