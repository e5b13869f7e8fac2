/* One image's block: status, ground truth, the labels of its regions in as few bits as they need, a checksum. The
 * layout is written out in docs/store-format.md; packer.h writes what is read here. */
#ifndef FK_CODEC_H
#define FK_CODEC_H

#include "ferkd/label.h"
#include "label/bits.h"

#define FK_MASS_BITS 12
#define FK_SIDE_BITS 16 /* each of a box's four numbers */
#define FK_NEAR_BITS 4  /* a first probability within 2^-4 of 1 is told by its distance */
#define FK_MAX_HIGH  23 /* of a rank's unary part */
#define FK_BLOCK_MIN 11 /* bytes of a block without labels */
#define FK_READ_PAST 8  /* bytes that must be readable behind a block */

typedef enum fk_block_status { FK_BLOCK_LABELLED = 1, FK_BLOCK_SKIPPED = 2 } fk_block_status;

enum { /* places in a block */
       FK_AT_LENGTH = 0,
       FK_AT_STATUS = 4,
       FK_AT_TRUTH = 5,
       FK_AT_RICE = 7, /* low 4 bits: of first classes; high 4: of the others */
       FK_AT_BITS = 8
};

typedef struct fk_codec {
    uint32_t regions, topk, classes;
    uint32_t index_bits; /* of a class */
    uint32_t prob_bits;
    uint32_t steps; /* 2^prob_bits - 1 */
    bool outside;   /* inside and teacher_max are stored */
    bool all;       /* over all the teacher's classes: teacher_max is the first probability */
    bool boxes;     /* regions are stored */
} fk_codec;

/* prob_bits 0: as few as keep each probability within 1/256 and the label within 0.01 total variation; 12 for up to
 * 64 classes. */
FERKD_CHECK ferkd_status fk_codec_init(fk_codec *c, uint32_t regions, uint32_t topk,
                                       uint32_t classes, uint32_t prob_bits, bool outside,
                                       bool boxes);

/* As the settings of a store say. */
FERKD_CHECK ferkd_status fk_codec_of(fk_codec *c, const ferkd_store_info *info);

/* The most that a block can take, in bytes. */
uint64_t fk_codec_most(const fk_codec *c);

/* Is a whole, undamaged block of this image at `block`, of which `room` bytes can be read? Its length goes to *n. */
bool fk_codec_check(const fk_codec *c, const uint8_t *block, uint64_t room, uint32_t image,
                    uint32_t *n);

uint32_t fk_codec_truth(const uint8_t *block);

/* Labels of the first n regions of a labelled, checked block. room: [topk], or, with each, [n][topk]; without, all
 * are decoded into the same place, and out is that of the last. limit: the last place where 8 bytes can be read. */
void fk_codec_labels(const fk_codec *c, const uint8_t *block, uint32_t n, const uint8_t *limit,
                     ferkd_label_room room, bool each, ferkd_soft_label *out);

uint32_t fk_codec_sum(const uint8_t *block, uint32_t n, uint32_t image);

/* Masses (inside, teacher_max) have more steps near 0 and 1: v = t^2 (3 - 2 t), t = q / 4095. */
float fk_mass_restore(uint32_t q);
uint32_t fk_mass_quantise(float v);

#endif
