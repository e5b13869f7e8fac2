/* One image's block: status, ground truth, the labels of its regions bit-packed, a checksum. The
 * layout is written out in docs/store-format.md. */
#ifndef FK_CODEC_H
#define FK_CODEC_H

#include "ferkd/label.h"

#define FK_PROB_BITS 12
#define FK_MASS_BITS 16

typedef enum fk_block_status { FK_BLOCK_LABELLED = 1, FK_BLOCK_SKIPPED = 2 } fk_block_status;

typedef struct fk_codec {
    uint32_t regions, topk, classes;
    uint32_t index_bits;
    uint32_t region_bits;
    uint32_t block_bytes;
    bool outside; /* inside and teacher_max are stored */
} fk_codec;

FERKD_CHECK ferkd_status fk_codec_init(fk_codec *c, uint32_t regions, uint32_t topk,
                                       uint32_t classes, bool outside);

/* What the teacher said of one region. probs: float[classes], sum 1. */
typedef struct fk_verdict {
    const float *probs;
    float inside, teacher_max;
} fk_verdict;

/* Write one region's label into a zeroed block. */
void fk_codec_put(const fk_codec *c, uint8_t *block, uint32_t region, const fk_verdict *v);
void fk_codec_get(const fk_codec *c, const uint8_t *block, uint32_t region, ferkd_label_room room,
                  ferkd_soft_label *out);

/* Close a block: its status, ground truth and checksum. */
void fk_codec_seal(const fk_codec *c, uint8_t *block, uint32_t image, fk_block_status status,
                   uint32_t truth);
bool fk_codec_check(const fk_codec *c, const uint8_t *block, uint32_t image);

uint32_t fk_codec_truth(const uint8_t *block);

#endif
