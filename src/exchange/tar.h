/* tar archives, member by member (libarchive). */
#ifndef FK_TAR_H
#define FK_TAR_H

#include "base/compat.h"

typedef struct fk_tar_writer fk_tar_writer;
typedef struct fk_tar_reader fk_tar_reader;

/* Members go to PATH.part, which takes PATH's place when the last is there. The same members give the same bytes:
 * no owner, no time. */
FERKD_CHECK ferkd_status fk_tar_create(fk_tar_writer **out, const char *path);
FERKD_CHECK ferkd_status fk_tar_add(fk_tar_writer *t, const char *name, const void *bytes,
                                    size_t n);
FERKD_CHECK ferkd_status fk_tar_commit(fk_tar_writer *t);
/* Without commit, nothing stays. */
void fk_tar_discard(fk_tar_writer **t);

/* A tar file, also packed (gzip, zstd, xz). FERKD_ABSENT, FERKD_CORRUPT: no such file, no tar. */
FERKD_CHECK ferkd_status fk_tar_open(fk_tar_reader **out, const char *path);
/* The next file in it; *name is NULL at the end. All is valid until the next call. FERKD_LIMIT: a member of more than
 * FK_MAX_IMAGE_BYTES. */
FERKD_CHECK ferkd_status fk_tar_next(fk_tar_reader *t, const char **name, const uint8_t **bytes,
                                     size_t *n);
void fk_tar_close(fk_tar_reader **t);

#endif
