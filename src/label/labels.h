/* All labels of one image, decoded. */
#ifndef FK_LABELS_H
#define FK_LABELS_H

#include "ferkd/label.h"

typedef struct fk_labels {
    uint32_t n;              /* regions */
    ferkd_soft_label *label; /* [n], into room */
    ferkd_label_room room;   /* [n][topk] */
} fk_labels;

FERKD_CHECK ferkd_status fk_labels_init(fk_labels *l, const ferkd_store *store);
FERKD_CHECK ferkd_status fk_labels_read(fk_labels *l, const ferkd_store *store, uint32_t image);
void fk_labels_fini(fk_labels *l);

#endif
