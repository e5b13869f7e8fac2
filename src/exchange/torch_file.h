/* Tensors in files that torch.save wrote: state_dicts, or lists of tensors and arrays. Nothing in them is ever run. */
#ifndef FK_TORCH_FILE_H
#define FK_TORCH_FILE_H

#include "exchange/pickle.h"

typedef struct fk_torch_tensor {
    char *
        name; /* keys and numbers of the containers around it, with dots between: "state_dict.fc.weight", "2" */
    fk_element element;
    int n_dims;
    int64_t dims[6];
    int64_t strides[6];   /* in elements */
    const uint8_t *bytes; /* of element 0 */
    size_t count;
} fk_torch_tensor;

typedef struct fk_torch_file fk_torch_file;

/* FERKD_UNSUPPORTED: of torch before 1.6, or asking for what is not run. */
FERKD_CHECK ferkd_status fk_torch_open(fk_torch_file **out, const char *path);
/* From memory, which must outlive it. */
FERKD_CHECK ferkd_status fk_torch_parse(fk_torch_file **out, const uint8_t *bytes, size_t n,
                                        const char *path);
void fk_torch_close(fk_torch_file **f);

size_t fk_torch_count(const fk_torch_file *f);
const fk_torch_tensor *fk_torch_at(const fk_torch_file *f, size_t i);
/* By name, or by what stands behind the first keys ("fc.weight" finds "state_dict.module.fc.weight"); NULL: none. */
const fk_torch_tensor *fk_torch_find(const fk_torch_file *f, const char *name);

/* All elements, row by row, as float. */
void fk_torch_values(const fk_torch_tensor *t, float *out);

#endif
