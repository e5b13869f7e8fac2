/* Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), between images or, as FerKD's SelfMix,
 * between regions of one image. */
#ifndef FK_MIX_H
#define FK_MIX_H

#include "base/rng.h"
#include "ferkd/train.h"

typedef struct fk_mix {
    bool on, cut;
    float lambda;                  /* share of the first */
    uint32_t side, x0, y0, x1, y1; /* CutMix: the pasted box, on an image of this side */
} fk_mix;

/* Does the recipe mix in this epoch (from 0)? */
bool fk_mix_is_on(const ferkd_recipe *r, uint64_t epoch);

/* What happens to one batch (or one pair of regions), as the recipe says. */
fk_mix fk_mix_draw(const ferkd_recipe *r, fk_rng *rng, uint32_t side);

/* a becomes the mix of a and b: float[channels][side][side], or [side][side][channels]. side may
 * differ from the one drawn for: the box is scaled. */
void fk_mix_inputs(const fk_mix *m, float *a, const float *b, uint32_t channels, uint32_t side,
                   bool channels_last);
void fk_mix_targets(const fk_mix *m, float *a, const float *b, uint32_t classes);

#endif
