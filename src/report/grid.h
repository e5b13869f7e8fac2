/* The grid of an experiment, expanded into runs. */
#ifndef FK_GRID_H
#define FK_GRID_H

#include "ferkd/report.h"

typedef struct fk_axis {
    char *name;
    char *family; /* a varied method: the name without the value; else NULL */
    double x;     /* its value */
    double extra_seconds;
} fk_axis;

typedef struct fk_trial {
    uint32_t setting, method;
    char *folder;
    ferkd_recipe recipe; /* whole, with seed and folder */
} fk_trial;

typedef struct fk_grid {
    char *name, *about;
    double target;     /* 0: none */
    uint32_t baseline; /* a method */
    fk_axis *methods, *settings;
    uint32_t n_methods, n_settings;
    fk_trial *trials; /* ordered by seed, setting, method: comparisons are whole early */
    uint32_t n_trials;
} fk_grid;

FERKD_CHECK ferkd_status fk_grid_load(fk_grid *g, const char *file, const char *folder);
void fk_grid_fini(fk_grid *g);

#endif
