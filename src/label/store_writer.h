/* Writing a label store: blocks appended in image order to PATH.part, which is synced and renamed
 * when the last is there. What an interrupted run wrote is found again. */
#ifndef FK_STORE_WRITER_H
#define FK_STORE_WRITER_H

#include "label/codec.h"

typedef struct fk_store_writer fk_store_writer;

/* info: all but version, file_bytes, labelled, skipped; prob_bits 0: as the codec chooses; here 0: all images. Resumes PATH.part where its
 * header is the same. chunk: blocks are kept in whole multiples of so many, so that the work
 * resumes at the border of a chunk.
 * FERKD_USAGE: PATH.part or PATH belongs to other settings (overwrite: start anew instead), or
 * another process is writing it. If PATH is complete already, *out is NULL and FERKD_OK returned. */
FERKD_CHECK ferkd_status fk_store_writer_open(fk_store_writer **out, const char *path,
                                              const ferkd_store_info *info, uint32_t chunk,
                                              bool overwrite);

/* Settings of a store whose labels another program made: boxes of its own, 16 bits a probability so that nothing of theirs is
 * lost, no mass outside the classes. teacher: borrowed, as is data's path. */
ferkd_store_info fk_store_info_imported(const ferkd_dataset *data, uint32_t regions, uint32_t topk,
                                        const char *teacher);

const fk_codec *fk_store_writer_codec(const fk_store_writer *w);

/* FERKD_USAGE, with the reason, if a store was made with other settings than those wanted (as for opening). */
FERKD_CHECK ferkd_status fk_store_match_settings(const ferkd_store *store,
                                                 const ferkd_store_info *want);

/* The image whose block comes next. */
uint32_t fk_store_writer_next(const fk_store_writer *w);
uint32_t fk_store_writer_skipped(const fk_store_writer *w);

/* Append a sealed block of n bytes. */
FERKD_CHECK ferkd_status fk_store_writer_append(fk_store_writer *w, const uint8_t *block,
                                                uint32_t n);

/* Directory, footer, sync, rename. */
FERKD_CHECK ferkd_status fk_store_writer_commit(fk_store_writer *w);

/* Without commit, the part file stays for a later run. */
void fk_store_writer_close(fk_store_writer **w);

#endif
