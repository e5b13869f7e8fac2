/* The frame of a store file: header, blocks, footer. docs/store-format.md says it in prose. */
#ifndef FK_STORE_FORMAT_H
#define FK_STORE_FORMAT_H

#include "label/codec.h"

#define FK_STORE_VERSION      1
#define FK_STORE_HEADER_BYTES 512 /* fixed; the texts are cut to fit */
#define FK_STORE_FOOTER_BYTES 48
#define FK_STORE_TEXT_BYTES   120 /* each, NUL included */

void fk_store_header_write(uint8_t h[FK_STORE_HEADER_BYTES], const ferkd_store_info *info);

/* info's texts then point into h. */
FERKD_CHECK ferkd_status fk_store_header_read(const uint8_t *h, size_t n, ferkd_store_info *info,
                                              fk_codec *codec, const char *path);

void fk_store_footer_write(uint8_t f[FK_STORE_FOOTER_BYTES], const ferkd_store_info *info,
                           uint64_t blocks_hash);
FERKD_CHECK ferkd_status fk_store_footer_read(const uint8_t *f, ferkd_store_info *info,
                                              uint64_t *blocks_hash, const char *path);

/* Roll a block's checksum into the hash over all blocks, which starts at 0. */
uint64_t fk_store_roll(uint64_t hash, const fk_codec *c, const uint8_t *block);

#endif
