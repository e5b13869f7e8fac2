/* Room for an image's labels, used again for the next image. */
#include "base/compat.h"

#include "label/labels.h"

#include "base/mem.h"

ferkd_status fk_labels_init(fk_labels *l, const ferkd_store *store)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    size_t all;

    *l = (fk_labels){.n = info->regions};
    TRY(fk_size_mul(&all, info->regions, info->topk));
    ferkd_status st = fk_calloc(&l->label, l->n, sizeof *l->label, "labels");
    if (st == FERKD_OK)
        st = fk_calloc(&l->room.index, all, sizeof *l->room.index, "labels");
    if (st == FERKD_OK)
        st = fk_calloc(&l->room.prob, all, sizeof *l->room.prob, "labels");
    if (st != FERKD_OK)
        fk_labels_fini(l);
    return st;
}

ferkd_status fk_labels_read(fk_labels *l, const ferkd_store *store, uint32_t image)
{
    return ferkd_store_labels(store, image, l->room, l->label);
}

ferkd_status fk_labels_find(fk_labels *l, const ferkd_store *store, uint32_t image, bool *has)
{
    ferkd_status st = fk_labels_read(l, store, image);

    *has = st == FERKD_OK;
    return st == FERKD_ABSENT ? FERKD_OK : st;
}

void fk_labels_fini(fk_labels *l)
{
    free(l->label);
    free(l->room.index);
    free(l->room.prob);
    *l = (fk_labels){0};
}
