/* The learning rate at a step. */
#ifndef FK_SCHEDULE_H
#define FK_SCHEDULE_H

#include "ferkd/train.h"

/* step of steps_per_epoch * epochs; both count optimiser steps. */
double fk_learning_rate(const ferkd_recipe *r, uint64_t step, uint64_t steps_per_epoch);

/* The side of the student's input in an epoch (from 0), pixels: from size-start in steps of 32 to size, which is
 * reached after two thirds of the epochs (progressive resizing). */
uint32_t fk_size_at(const ferkd_recipe *r, uint64_t epoch);

#endif
