/* Training batches: which image, which of its regions, which target. All of it follows from the seed
 * and the number of the batch, so any batch can be made again alone. */
#ifndef FK_FEED_H
#define FK_FEED_H

#include "ferkd/calibrate.h"
#include "ferkd/train.h"
#include "train/pixels.h"

typedef struct fk_feed fk_feed;

typedef struct fk_feed_options {
    const ferkd_recipe *recipe;
    const ferkd_dataset *data;
    const ferkd_store *store;             /* fkd, ferkd; else NULL */
    const ferkd_calibration *calibration; /* with a store */
    ferkd_preprocess how;
    bool channels_last;
    const ferkd_preprocess *teacher_how; /* kd; else NULL */
    bool teacher_channels_last;
    uint32_t outputs; /* classes of the targets: the data set's, then others */
    uint32_t batch, threads;
    uint64_t first, end, batches_per_epoch;
} fk_feed_options;

/* What went into a batch. */
typedef struct fk_feed_counts {
    uint32_t hard, important; /* regions trained on, by group */
    uint32_t dropped;         /* uninformative regions of the images seen */
    uint32_t bad;             /* images that could not be read */
} fk_feed_counts;

typedef struct fk_feed_batch {
    float *inputs;  /* [batch][channels][size][size] */
    float *teacher; /* kd: [batch][...] as the teacher wants it */
    float *targets; /* [batch][outputs] */
    fk_feed_counts counts;
    char bad[256]; /* why one of the bad images is bad */
} fk_feed_batch;

FERKD_CHECK ferkd_status fk_feed_new(fk_feed **out, const fk_feed_options *o);
/* Valid until the next call. */
FERKD_CHECK ferkd_status fk_feed_next(fk_feed *f, fk_feed_batch **batch);
void fk_feed_free(fk_feed **f);

/* How many regions of each image a run trains on. */
double fk_looks(const ferkd_recipe *r);
/* How often a run shows each stored region, if it trains on all of them; and whether every second time it is mirrored: by default with
 * ferkd, if they are shown twice or more. Its label is the same. */
double fk_showings(const ferkd_recipe *r, const ferkd_store *store);
bool fk_mirrors(const ferkd_recipe *r, const ferkd_store *store);

#endif
