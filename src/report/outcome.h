/* What came of one run: its metrics, epoch by epoch. */
#ifndef FK_OUTCOME_H
#define FK_OUTCOME_H

#include "report/grid.h"

typedef struct fk_epoch {
    double epoch, train_loss, top1, top5, seconds, images;
} fk_epoch;

typedef struct fk_outcome {
    fk_epoch *epochs; /* [n] */
    size_t n;
    bool finished;
    double best;
} fk_outcome;

/* A run that has not begun has no epochs. */
FERKD_CHECK ferkd_status fk_outcome_read(fk_outcome *o, const fk_trial *t);
void fk_outcome_fini(fk_outcome *o);

/* The first epoch that reaches top1, or NULL. */
const fk_epoch *fk_outcome_reach(const fk_outcome *o, double top1);

#endif
