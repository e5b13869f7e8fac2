/* A reader for the pickles that torch.save writes. It never looks a name up: a few globals are known, and what they
 * would do is done here; everything else is refused. */
#ifndef FK_PICKLE_H
#define FK_PICKLE_H

#include "base/compat.h"

typedef enum fk_pickle_kind {
    FK_P_NONE,
    FK_P_BOOL,
    FK_P_INT,
    FK_P_FLOAT,
    FK_P_TEXT,
    FK_P_BYTES,
    FK_P_TUPLE,
    FK_P_LIST,
    FK_P_DICT, /* items: key, value, key, value ... */
    FK_P_GLOBAL,
    FK_P_STORAGE, /* items: the persistent id ('storage', type, key, device, count) */
    FK_P_TENSOR,  /* items: storage, offset, size, stride */
    FK_P_DTYPE,   /* text: numpy's code */
    FK_P_ARRAY    /* items: shape, dtype, fortran, bytes; none until it is built */
} fk_pickle_kind;

typedef enum fk_pickle_global {
    FK_G_REBUILD_TENSOR_V2,
    FK_G_REBUILD_PARAMETER,
    FK_G_ORDERED_DICT,
    FK_G_STORAGE, /* its element is fk_pickle.i */
    FK_G_RECONSTRUCT,
    FK_G_NDARRAY,
    FK_G_DTYPE,
    FK_G_ENCODE,
    FK_G_BYTES,
    FK_G_COUNT
} fk_pickle_global;

/* Types of elements, of storages and arrays. */
typedef enum fk_element {
    FK_E_F64,
    FK_E_F32,
    FK_E_F16,
    FK_E_BF16,
    FK_E_I64,
    FK_E_I32,
    FK_E_I16,
    FK_E_I8,
    FK_E_U8,
    FK_E_BOOL,
    FK_E_COUNT
} fk_element;

typedef struct fk_pickle fk_pickle;

struct fk_pickle {
    fk_pickle_kind kind;
    int64_t i; /* bool, int, element of a storage type */
    double f;
    const char *text; /* text, bytes, code */
    size_t n_text;
    fk_pickle_global global;
    fk_pickle **items;
    size_t n, cap;
};

typedef struct fk_pickle_file fk_pickle_file;

/* FERKD_UNSUPPORTED names an opcode or global that is not known; FERKD_LIMIT: more than a model needs. */
FERKD_CHECK ferkd_status fk_pickle_read(fk_pickle_file **out, const uint8_t *bytes, size_t n,
                                        const char *path);
void fk_pickle_free(fk_pickle_file **f);
const fk_pickle *fk_pickle_root(const fk_pickle_file *f);

bool fk_pickle_is_text(const fk_pickle *v, const char *text);
size_t fk_element_bytes(fk_element e);

#endif
