/* All labels of one image, decoded. */
#ifndef FK_LABELS_H
#define FK_LABELS_H

#include "ferkd/label.h"

typedef struct fk_labels {
    uint32_t n;             /* regions */
    ferkd_soft_label *told; /* [n], as stored, into room */
    ferkd_soft_label
        *label; /* [n], among the data set's classes, into mine; told, where that is the same */
    ferkd_label_room room; /* [n][topk] */
    ferkd_label_room mine; /* likewise */
} fk_labels;

FERKD_CHECK ferkd_status fk_labels_init(fk_labels *l, const ferkd_store *store);
FERKD_CHECK ferkd_status fk_labels_read(fk_labels *l, const ferkd_store *store, uint32_t image);
/* The same where the image may have been skipped: *has says whether there are labels. The block is checked once. */
FERKD_CHECK ferkd_status fk_labels_find(fk_labels *l, const ferkd_store *store, uint32_t image,
                                        bool *has);
void fk_labels_fini(fk_labels *l);

#endif
