/* What a thread needs to read an image and cut regions from it; memory is used again for the next. */
#ifndef FK_CUTTER_H
#define FK_CUTTER_H

#include "ferkd/data.h"

typedef struct fk_cutter {
    ferkd_image image, crop;
    uint8_t *file;
    size_t file_cap;
} fk_cutter;

/* Decode an image of data into c->image. */
FERKD_CHECK ferkd_status fk_cutter_load(fk_cutter *c, const ferkd_dataset *data, uint32_t image);

/* A size and a filter that regions are wanted in. */
typedef struct fk_cut {
    uint32_t size_px;
    ferkd_filter filter;
    size_t at; /* of its pixels within those of a region, bytes */
} fk_cut;

/* All regions of an image, as the sampler has them, resized for each view: crops, a region every `stride` bytes, in it
 * uint8_t[size][size][channels] at each view's place. */
FERKD_CHECK ferkd_status fk_cutter_regions(fk_cutter *c, const ferkd_dataset *data, uint32_t image,
                                           const ferkd_sampler *sampler, uint32_t regions,
                                           const fk_cut *views, uint32_t n_views, size_t stride,
                                           uint8_t *crops);

/* Of n cutters, and the array of them. */
void fk_cutters_free(fk_cutter *cutters, uint32_t n);
void fk_cutter_fini(fk_cutter *c);

#endif
