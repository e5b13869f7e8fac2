/* The members of a ZIP file in memory, as torch.save writes them: stored, never packed. */
#ifndef FK_ZIP_H
#define FK_ZIP_H

#include "base/compat.h"

typedef struct fk_zip_member {
    const char *name; /* not terminated */
    size_t name_bytes;
    const uint8_t *bytes;
    size_t size;
} fk_zip_member;

typedef struct fk_zip {
    fk_zip_member *members;
    size_t n;
} fk_zip;

/* Members point into bytes. FERKD_UNSUPPORTED: a packed member. */
FERKD_CHECK ferkd_status fk_zip_open(fk_zip *z, const uint8_t *bytes, size_t n, const char *path);
void fk_zip_close(fk_zip *z);

/* The member whose name ends in "/" tail with one slash before it, or NULL. */
const fk_zip_member *fk_zip_find(const fk_zip *z, const char *tail);

#endif
