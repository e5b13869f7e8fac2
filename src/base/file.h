/* Files: mapped for reading, whole or not at all for writing. */
#ifndef FK_FILE_H
#define FK_FILE_H

#include "base/compat.h"

/* A file's bytes, read-only. */
typedef struct fk_map {
    const uint8_t *bytes;
    size_t size_bytes;
} fk_map;

FERKD_CHECK ferkd_status fk_map_open(fk_map *map, const char *path);
void fk_map_close(fk_map *map);

/* The whole of a (small) file, NUL-terminated; gzip is unpacked where unzip. The caller frees. */
FERKD_CHECK ferkd_status fk_file_read(uint8_t **out, size_t *size, const char *path,
                                      size_t max_bytes, bool unzip);

/* Read into buf, which the caller owns and which grows: no allocation once it is large enough. */
FERKD_CHECK ferkd_status fk_file_read_into(uint8_t **buf, size_t *cap, size_t *size,
                                           const char *path, size_t max_bytes);

/* Write all of bytes at the descriptor's place; path is for the message. */
FERKD_CHECK ferkd_status fk_write_all(int fd, const void *bytes, size_t n, const char *path);

/* Write path whole: beside it, synced, renamed, folder synced. After a crash the old file or the
 * new one is there, never a part. */
FERKD_CHECK ferkd_status fk_file_replace(const char *path, const void *bytes, size_t n);

/* Sync fd and put from in the place of to. fd stays open. */
FERKD_CHECK ferkd_status fk_file_publish(int fd, const char *from, const char *to);

/* Append bytes and flush them to the system. */
FERKD_CHECK ferkd_status fk_file_append(const char *path, const void *bytes, size_t n);

/* Make a folder and those above it. */
FERKD_CHECK ferkd_status fk_make_folder(const char *path);

bool fk_is_file(const char *path);
bool fk_is_folder(const char *path);
uint64_t fk_file_size(const char *path);

/* folder/name, newly allocated. */
FERKD_CHECK ferkd_status fk_path_join(char **out, const char *folder, const char *name);

/* 64 and 128 bits of XXH3. */
uint64_t fk_hash64(const void *bytes, size_t n, uint64_t seed);

typedef struct fk_hash128_state fk_hash128_state;
fk_hash128_state *fk_hash128_new(void); /* NULL: no memory */
void fk_hash128_add(fk_hash128_state *h, const void *bytes, size_t n);
void fk_hash128_end(fk_hash128_state *h, uint8_t out[16]); /* frees h */

#endif
