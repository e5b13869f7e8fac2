/* NumPy's .npy files (format 1.0 to 3.0): one array, row-major. */
#ifndef FK_NPY_H
#define FK_NPY_H

#include "net/graph.h"

/* Read an array of f2, f4, f8, or integers of up to 4 bytes, little-endian, as floats; the caller frees *values.
 * FERKD_CORRUPT: not such a file; FERKD_UNSUPPORTED: another type, or Fortran's order; FERKD_LIMIT: more than
 * FK_MAX_DIMS dimensions or FK_MAX_TENSOR elements. */
FERKD_CHECK ferkd_status fk_npy_read(const char *path, fk_shape *shape, float **values);

/* The same of a file that is in memory; name is for messages. */
FERKD_CHECK ferkd_status fk_npy_parse(const char *name, const uint8_t *bytes, size_t size,
                                      fk_shape *shape, float **values);

/* Format 1.0 in memory, which the caller frees. type: NumPy's word, as "<f4", "<i4", "<u2", "|u1"; values: of that type. */
FERKD_CHECK ferkd_status fk_npy_format(uint8_t **out, size_t *size, const char *type,
                                       const fk_shape *shape, const void *values);

/* Write f4, format 1.0; the file appears whole or not at all. */
FERKD_CHECK ferkd_status fk_npy_write(const char *path, const fk_shape *shape, const float *values);

#endif
