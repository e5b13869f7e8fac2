/* safetensors 0.8: float tensors with names, and texts, in one file. */
#ifndef FK_SAFETENSORS_H
#define FK_SAFETENSORS_H

#include "base/compat.h"

/* --- writing --------------------------------------------------------------------------------- */

typedef struct fk_tensor_out {
    const char *name;
    int n_dims;
    const int64_t *dims;
    const float *values;
    const uint16_t *half; /* instead of values: bf16 */
} fk_tensor_out;

/* Write path whole or not at all. text (or NULL) goes to the metadata under the key "ferkd". The
 * tensors keep their order; equal input gives equal bytes. */
FERKD_CHECK ferkd_status fk_safetensors_write(const char *path, const fk_tensor_out *tensors,
                                              size_t n, const char *text);

/* --- reading --------------------------------------------------------------------------------- */

typedef struct fk_safetensors fk_safetensors;

FERKD_CHECK ferkd_status fk_safetensors_open(fk_safetensors **out, const char *path);
/* From memory, which must outlive it (for the fuzzer). */
FERKD_CHECK ferkd_status fk_safetensors_parse(fk_safetensors **out, const void *bytes, size_t n,
                                              const char *path);
void fk_safetensors_close(fk_safetensors **f);

/* The text under the metadata key "ferkd", or NULL. */
const char *fk_safetensors_text(const fk_safetensors *f);
bool fk_safetensors_has(const fk_safetensors *f, const char *name);
/* Tensors, and their names one after the other: after NULL comes the first, NULL at the end. */
size_t fk_safetensors_count(const fk_safetensors *f);
const char *fk_safetensors_next(const fk_safetensors *f, const char *after);
/* Elements of a tensor; 0: there is none. */
size_t fk_safetensors_size(const fk_safetensors *f, const char *name);
/* Copy the tensor `name` (F32, F16, BF16) of exactly n values. FERKD_ABSENT, FERKD_CORRUPT (another size),
 * FERKD_UNSUPPORTED (another type). */
FERKD_CHECK ferkd_status fk_safetensors_copy(const fk_safetensors *f, const char *name,
                                             float *values, size_t n);

#endif
