/* Checkpoints: one safetensors file that holds all that a run is, times apart. */
#ifndef FK_CHECKPOINT_H
#define FK_CHECKPOINT_H

#include "engine/optim.h"
#include "ferkd/train.h"

/* Where a run stands. */
typedef struct fk_progress {
    uint64_t batch;  /* batches done */
    double loss_sum; /* of this epoch so far */
    uint64_t loss_count;
    uint64_t hard, important, dropped; /* regions of this epoch so far */
    double best_top1;                  /* -1: none yet */
    double head_rate; /* factor of the learning rate for the head: what it began with decides */
} fk_progress;

typedef struct fk_checkpoint_meta {
    const char *model; /* name in the zoo */
    const char *card;  /* JSON of preprocessing and classes */
    fk_progress progress;
} fk_checkpoint_meta;

/* Everything: weights, statistics, optimiser, averages, gradients under accumulation (or NULL). */
FERKD_CHECK ferkd_status fk_checkpoint_save(const char *path, const fk_graph *g,
                                            const fk_optim *optim, const float *accumulated,
                                            const fk_checkpoint_meta *meta);
/* Weights only, from values (laid out as g->values). */
FERKD_CHECK ferkd_status fk_weights_save(const char *path, const fk_graph *g, const float *values,
                                         const fk_checkpoint_meta *meta);
/* How far the run is that the checkpoint is of. */
FERKD_CHECK ferkd_status fk_checkpoint_progress(const char *path, fk_progress *progress);
/* All of it, into a graph as it was saved of. */
FERKD_CHECK ferkd_status fk_checkpoint_load(const char *path, fk_graph *g, fk_optim *optim,
                                            float *accumulated, fk_progress *progress);

#endif
