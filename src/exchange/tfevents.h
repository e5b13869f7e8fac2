/* TensorBoard event files: scalars over steps. */
#ifndef FK_TFEVENTS_H
#define FK_TFEVENTS_H

#include "base/compat.h"

typedef struct fk_scalar {
    const char *tag; /* "loss/train": TensorBoard groups by what stands before the slash */
    double value;
} fk_scalar;

/* A file with nothing but its version record; one that is there is replaced. wall_time: seconds since
 * 1970. */
FERKD_CHECK ferkd_status fk_tfevents_begin(const char *path, double wall_time);

/* Append one event with n scalars. */
FERKD_CHECK ferkd_status fk_tfevents_add(const char *path, double wall_time, int64_t step,
                                         const fk_scalar *scalars, size_t n);

/* The checksum of the format: CRC-32C, rotated and shifted (TFRecord). */
uint32_t fk_masked_crc32c(const void *bytes, size_t n);

#endif
