/* What an experiment holds. */
#ifndef FK_EXPERIMENT_H
#define FK_EXPERIMENT_H

#include "report/grid.h"
#include "report/outcome.h"
#include "report/stats.h"

struct ferkd_experiment {
    fk_grid grid;
    char *folder;
    fk_outcome *outcomes; /* [grid.n_trials] */
};

/* One method under one setting, over the seeds that are finished. */
typedef struct fk_row {
    uint32_t setting, method;
    fk_sample top1, best, minutes;
    fk_sample gain; /* over the baseline, seed by seed; n 0: not comparable */
    fk_sample target_epochs, target_minutes; /* of those that reached it */
} fk_row;

FERKD_CHECK ferkd_status fk_row_of(fk_row *row, const ferkd_experiment *e, uint32_t setting,
                                   uint32_t method);

FERKD_CHECK ferkd_status fk_write_markdown(const ferkd_experiment *e, FILE *f);
FERKD_CHECK ferkd_status fk_write_csv(const ferkd_experiment *e, FILE *f);
FERKD_CHECK ferkd_status fk_write_page(const ferkd_experiment *e, FILE *f);

#endif
