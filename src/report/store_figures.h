/* What a store and calibration rules look like: FerKD's figures 1 and 2 (ICCV 2023) for any store. */
#ifndef FK_STORE_FIGURES_H
#define FK_STORE_FIGURES_H

#include "ferkd/report.h"

/* Plots as HTML: histogram of the teacher's largest probability and how often it is right, centres and areas of
 * regions by group. data gives the images' sizes; NULL: regions are drawn as if images were square. */
FERKD_CHECK ferkd_status fk_write_store_figures(FILE *f, const ferkd_store *store,
                                                const ferkd_calibration *c,
                                                const ferkd_dataset *data);

#endif
