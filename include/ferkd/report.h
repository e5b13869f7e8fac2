/* Experiments: a grid of methods, settings and seeds, its runs, and what came of them. */
#ifndef FERKD_REPORT_H
#define FERKD_REPORT_H

#include "ferkd/calibrate.h"
#include "ferkd/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ferkd_experiment ferkd_experiment;

/** One run of a grid. Texts belong to the experiment. */
typedef struct ferkd_trial {
    const char *setting; /**< "" where the grid has none */
    const char *method;
    const char *folder;
    int64_t seed;
    uint32_t epochs, done; /**< asked for; finished, by the run folder's metrics */
} ferkd_trial;

/**
 * Read a grid from YAML; runs live in folder/runs. The file:
 *
 *     name: calibration            # heading of the report
 *     about: what is asked         # optional
 *     base: {data: d, ...}         # recipe keys of every run
 *     seeds: 3                     # 1, 2, 3; or a list
 *     methods:                     # recipe keys that differ; the first is the baseline
 *       fkd: {method: fkd}
 *       drop: {method: ferkd, calibrate: "max < $x: discard", vary: {x: [5%, 10%]}}
 *     settings: {short: {epochs: 5}, long: {epochs: 30}}   # optional second axis
 *     baseline: fkd                # differences are to this method
 *     target: 90                   # optional: epochs and time to this top-1
 *
 * A method may have extra-seconds (labelling, say), added to its times; a method or setting may have
 * seeds of its own. FERKD_USAGE and FERKD_CORRUPT name file and line.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_experiment_open(ferkd_experiment **out, const char *file,
                                                         const char *folder);
FERKD_API void ferkd_experiment_close(ferkd_experiment **e);

FERKD_API uint32_t ferkd_experiment_trials(const ferkd_experiment *e);
FERKD_API FERKD_CHECK ferkd_status ferkd_experiment_trial(const ferkd_experiment *e, uint32_t i,
                                                          ferkd_trial *out);

/** Train what is missing: finished runs are left alone, interrupted ones resumed, runs that another
 *  process is at are left to it, so several processes may share a grid. FERKD_USAGE: a run folder was
 *  made with another recipe; it is named, and the key. FERKD_STOPPED: stopped on request. */
FERKD_API FERKD_CHECK ferkd_status ferkd_experiment_run(ferkd_experiment *e,
                                                        const ferkd_watch *watch);

/** Write results.md, results.csv and index.html into the folder, from what has been trained so far. */
FERKD_API FERKD_CHECK ferkd_status ferkd_experiment_report(ferkd_experiment *e);

/** A page about a store and what rules do with it: how sure the teacher is and how often right, centres
 *  and areas of regions by group (FerKD's figures 1 and 2). data gives the images' sizes; NULL: square. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_page(const ferkd_store *store, const char *rules,
                                                    double visits, const ferkd_dataset *data,
                                                    const char *path);

/** A contact sheet, PNG or HTML by path's ending: the regions of an image (drawn on it, and side by side), or, where image is
 *  below 0, up to 64 regions of a group. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_sheet(const ferkd_store *store,
                                                     const ferkd_dataset *data, const char *rules,
                                                     double visits, int64_t image,
                                                     ferkd_group group, const char *path);

#ifdef __cplusplus
}
#endif
#endif
