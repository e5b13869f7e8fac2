/* A list of tensors, as torch.save writes it. */
#ifndef FK_TORCH_WRITE_H
#define FK_TORCH_WRITE_H

#include "exchange/pickle.h"

typedef struct fk_torch_out {
    fk_element element; /* FK_E_F32 or FK_E_BOOL */
    int n_dims;
    int64_t dims[6];
    const void *values; /* row by row */
} fk_torch_out;

/* torch.load() gives a list of n tensors (at most 9). The file is written whole or not at all. */
FERKD_CHECK ferkd_status fk_torch_write(const char *path, const fk_torch_out *tensors, size_t n);

#endif
