/* Evaluation views of a data set, decoded ahead by worker threads. */
#ifndef FK_VIEW_H
#define FK_VIEW_H

#include "ferkd/train.h"
#include "train/pixels.h"

typedef struct fk_view fk_view;

typedef struct fk_view_options {
    ferkd_preprocess how;
    bool channels_last;
    uint32_t batch, threads;
    bool stop_on_bad_image;
    uint32_t images; /* as many, spread evenly over the data; 0: all */
} fk_view_options;

FERKD_CHECK ferkd_status fk_view_new(fk_view **out, const ferkd_dataset *data,
                                     const fk_view_options *o);
/* Floats an image. */
size_t fk_view_floats(const fk_view *v);
/* The next batch: images first .. first + n - 1 of those asked for, their inputs, and which could not be read (with
 * why). n is 0 after the last. Valid until the next call. */
FERKD_CHECK ferkd_status fk_view_next(fk_view *v, uint32_t *first, uint32_t *n,
                                      const float **inputs, const fk_fault **faults);
void fk_view_free(fk_view **v);

#endif
