/* The frame of a store file: header, blocks, directory, footer. docs/store-format.md says it in prose. */
#ifndef FK_STORE_FORMAT_H
#define FK_STORE_FORMAT_H

#include "label/codec.h"

#define FK_STORE_VERSION      2
#define FK_STORE_HEADER_BYTES 512 /* fixed; the texts are cut to fit */
#define FK_STORE_FOOTER_BYTES 56
#define FK_STORE_TEXT_BYTES   120 /* each, NUL included */

/* Opening a part, which ferkd_store_open() refuses. */
FERKD_CHECK ferkd_status fk_store_open_part(ferkd_store **out, const char *path);
/* An image's block, checked, as it stands in the file. FERKD_CORRUPT: damaged. */
FERKD_CHECK ferkd_status fk_store_raw(const ferkd_store *store, uint32_t image,
                                      const uint8_t **block, uint32_t *n);

void fk_store_header_write(uint8_t h[FK_STORE_HEADER_BYTES], const ferkd_store_info *info);

/* info's texts then point into h. */
FERKD_CHECK ferkd_status fk_store_header_read(const uint8_t *h, size_t n, ferkd_store_info *info,
                                              fk_codec *codec, const char *path);

/* The end of a store: the directory (u32 bytes of each block, in order), then the footer. */
typedef struct fk_store_end {
    uint32_t labelled, skipped;
    uint64_t blocks_hash;    /* over the checksums of all blocks */
    uint64_t directory_hash; /* over the directory */
    uint64_t file_bytes;
} fk_store_end;

void fk_store_footer_write(uint8_t f[FK_STORE_FOOTER_BYTES], const fk_store_end *end);
/* here (images in the file), size: as the header and the file say. */
FERKD_CHECK ferkd_status fk_store_footer_read(const uint8_t *f, uint32_t here, uint64_t size,
                                              fk_store_end *end, const char *path);

/* Roll a block's checksum into the hash over all blocks, which starts at 0. n: its bytes. */
uint64_t fk_store_roll(uint64_t hash, const uint8_t *block, uint32_t n);

#endif
