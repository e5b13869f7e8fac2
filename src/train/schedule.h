/* The learning rate at a step. */
#ifndef FK_SCHEDULE_H
#define FK_SCHEDULE_H

#include "ferkd/train.h"

/* step of steps_per_epoch * epochs; both count optimiser steps. */
double fk_learning_rate(const ferkd_recipe *r, uint64_t step, uint64_t steps_per_epoch);

#endif
