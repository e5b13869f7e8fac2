/* One pass over a store: how each measure is distributed, and how often the teacher is right where. */
#ifndef FK_SURVEY_H
#define FK_SURVEY_H

#include "ferkd/calibrate.h"

#define FK_SURVEY_BINS       65536 /* over the whole store: the store's own resolution */
#define FK_SURVEY_CLASS_BINS 2048  /* over one class */

typedef struct fk_survey {
    uint32_t classes;
    uint64_t images;   /* labelled, and seen */
    uint64_t disputed; /* images that the teacher calls something else in every region */
    uint64_t regions, wrong;
    uint64_t disputed_regions;
    double top[FERKD_MEASURES]; /* each measure runs from 0 to this */
    /* Regions up to and including each bin. */
    uint32_t *upto[FERKD_MEASURES];       /* [FK_SURVEY_BINS] */
    uint32_t *wrong_upto[FERKD_MEASURES]; /* of them: wrong, in images that are not disputed */
    uint32_t *by_class[FERKD_MEASURES];   /* [classes][FK_SURVEY_CLASS_BINS], or NULL */
} fk_survey;

/* by_class: a bit for each measure whose distribution in each class is wanted. Of a large store every
 * n-th image is seen, so that it takes seconds. */
FERKD_CHECK ferkd_status fk_survey_take(fk_survey *s, const ferkd_store *store, unsigned by_class);
void fk_survey_fini(fk_survey *s);

/* The value below which a share q of the regions lies; class < 0: of the store. Regions of one bin are
 * not told apart: edge -0.5 gives its lower end, 0.5 its upper end, 0 its middle. */
double fk_survey_quantile(const fk_survey *s, ferkd_measure m, int32_t class, double q,
                          double edge);

#endif
