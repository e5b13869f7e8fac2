/* Packing the labels of one image into a block. */
#ifndef FK_PACKER_H
#define FK_PACKER_H

#include "label/codec.h"

typedef struct fk_packer fk_packer;

/* What the teacher said of one region. probs: float[classes], sum 1. */
typedef struct fk_verdict {
    const float *probs;
    float inside, teacher_max;
} fk_verdict;

FERKD_CHECK ferkd_status fk_packer_new(fk_packer **out, const fk_codec *c);
void fk_packer_free(fk_packer **p);

/* The next region of the image at hand. */
void fk_packer_add(fk_packer *p, const fk_verdict *v);
/* The same for a caller that has the top classes already, most probable first: [topk] each. */
void fk_packer_add_top(fk_packer *p, const uint16_t *class, const float *probs, float inside,
                       float teacher_max);
/* Put one more class among the first n, which are sorted for that: most probable first, equals as they came. */
void fk_label_insert(uint16_t *class, float *prob, uint32_t n, uint16_t more, float p);
/* Where the next region to be added is, for stores with boxes. */
void fk_packer_region(fk_packer *p, const ferkd_region *region);
/* Close the block (skipped: the regions added, if any, are dropped) and make ready for the next image. *block is
 * valid until the next call. */
void fk_packer_seal(fk_packer *p, uint32_t image, fk_block_status status, uint32_t truth,
                    const uint8_t **block, uint32_t *n);

#endif
