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

/* All regions of an image, as the sampler has them, resized: crops, uint8_t[regions][size][size][channels]. */
FERKD_CHECK ferkd_status fk_cutter_regions(fk_cutter *c, const ferkd_dataset *data, uint32_t image,
                                           const ferkd_sampler *sampler, uint32_t regions,
                                           uint32_t size_px, ferkd_filter filter, uint8_t *crops);

/* Of n cutters, and the array of them. */
void fk_cutters_free(fk_cutter *cutters, uint32_t n);
void fk_cutter_fini(fk_cutter *c);

#endif
