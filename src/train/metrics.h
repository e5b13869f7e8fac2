/* metrics.csv, metrics.jsonl and TensorBoard's events of a run folder: a row an epoch. */
#ifndef FK_METRICS_H
#define FK_METRICS_H

#include "base/compat.h"

typedef struct fk_metrics_row {
    uint64_t epoch; /* from 1 */
    double train_loss, val_loss, val_top1, val_top5, lr, images_per_s, seconds;
    uint64_t hard, important, dropped;
    uint64_t images; /* regions trained on since the run began */
} fk_metrics_row;

typedef struct fk_metrics {
    char *csv, *jsonl, *events;
    double seconds_before; /* of training before this session */
} fk_metrics;

/* Rows of epochs after `keep` are cut off: they belong to a stretch that is about to be repeated. */
FERKD_CHECK ferkd_status fk_metrics_open(fk_metrics *m, const char *folder, uint64_t keep);
FERKD_CHECK ferkd_status fk_metrics_add(fk_metrics *m, const fk_metrics_row *row);
void fk_metrics_close(fk_metrics *m);

#endif
