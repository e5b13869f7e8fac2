/* Labels as an ImageNet teacher's are spread, made up: for measuring stores of any size. */
#ifndef FK_SYNTHETIC_H
#define FK_SYNTHETIC_H

#include "base/rng.h"

#define FK_SYNTHETIC_KINDS 32 /* classes that the regions of one image are taken for */

/* What the regions of one image share. */
typedef struct fk_synthetic {
    uint64_t seed;
    uint32_t image, kinds;
    uint16_t class[FK_SYNTHETIC_KINDS];
    float base[FK_SYNTHETIC_KINDS]; /* logits */
} fk_synthetic;

void fk_synthetic_image(fk_synthetic *s, uint64_t seed, uint32_t image, uint32_t classes);

/* The top k of a region, most probable first; where k is larger than the kinds, the rest is 0 of other classes.
 * class, prob: [k]. */
void fk_synthetic_label(const fk_synthetic *s, uint32_t region, uint32_t k, uint32_t classes,
                        uint16_t *class, float *prob);

#endif
