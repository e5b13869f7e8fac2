/* How many regions a step has, how large they are, and the learning rate at it. */
#ifndef FK_SCHEDULE_H
#define FK_SCHEDULE_H

#include "ferkd/train.h"

#define FK_WHOLE_BATCH 64
#define FK_FEW_STEPS   300.0 /* fewer bear no high rate */
#define FK_MANY_STEPS  600.0 /* of fewer, smaller batches make more */

/* Regions a batch of a run over so many images: the recipe's, or, where it names none, FK_WHOLE_BATCH; a half or a
 * quarter of it where that would make fewer than FK_MANY_STEPS steps in all; never more than there are images, nor fewer
 * than regions-per-image. */
uint32_t fk_batch(const ferkd_recipe *r, uint64_t images);

/* Is AdamW the optimiser: by name, or because weights are pretrained and it names neither optimiser nor rate? */
bool fk_uses_adamw(const ferkd_recipe *r);

/* The highest learning rate of a run of so many steps of so many regions: the recipe's, or, where it names none, 0.001
 * for AdamW and 0.1 for SGD, less in proportion below FK_WHOLE_BATCH and below FK_FEW_STEPS; for pretrained weights that
 * move 0.3 of it where the network `has_norms` (BatchNorms), and 0.03 (SGD: 0.003) where they are folded into it, or it never had
 * any. */
double fk_highest_rate(const ferkd_recipe *r, bool has_norms, uint64_t regions, uint64_t steps);

/* The learning rate at a step of steps_per_epoch * epochs; both count optimiser steps. */
double fk_learning_rate(const ferkd_recipe *r, double highest, uint64_t step,
                        uint64_t steps_per_epoch);

/* The side of the student's input in an epoch (from 0), pixels: from size-start in steps of 32 to size, which is
 * reached after two thirds of the epochs (progressive resizing). */
uint32_t fk_size_at(const ferkd_recipe *r, uint64_t epoch);

#endif
