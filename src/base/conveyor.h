/* Worker threads that fill numbered slots in order and ahead of their one consumer: memory is
 * bounded by the number of slots, and what comes out does not depend on the number of threads. */
#ifndef FK_CONVEYOR_H
#define FK_CONVEYOR_H

#include "base/compat.h"

typedef struct fk_conveyor fk_conveyor;

/* Do job 0..jobs-1 of batch number `batch` into its slot. worker is a number below threads, for
 * scratch memory of the worker's own. */
typedef ferkd_status fk_fill_fn(void *ctx, int worker, uint64_t batch, uint32_t job, int slot);

typedef struct fk_conveyor_options {
    int threads;    /* at least 1 */
    int slots;      /* at least 2: one is with the consumer */
    uint32_t jobs;  /* a batch */
    uint64_t first; /* batch number to start with */
    uint64_t end;   /* one past the last */
    fk_fill_fn *fill;
    void *ctx;
} fk_conveyor_options;

FERKD_CHECK ferkd_status fk_conveyor_new(fk_conveyor **out, const fk_conveyor_options *o);

/* Wait for the next batch in order; its slot is the caller's until the next call. A worker's fault
 * comes out here. *slot is -1 after the last batch. */
FERKD_CHECK ferkd_status fk_conveyor_next(fk_conveyor *c, int *slot);

void fk_conveyor_free(fk_conveyor **c);

#endif
