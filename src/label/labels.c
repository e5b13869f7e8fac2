/* Room for an image's labels, used again for the next image. */
#include "base/compat.h"

#include "label/labels.h"

#include "base/mem.h"

static ferkd_status make_room(ferkd_label_room *room, ferkd_soft_label **label, uint32_t n,
                              uint32_t topk)
{
    size_t all;

    TRY(fk_size_mul(&all, n, topk));
    TRY(fk_calloc(label, n, sizeof **label, "labels"));
    TRY(fk_calloc(&room->index, all, sizeof *room->index, "labels"));
    return fk_calloc(&room->prob, all, sizeof *room->prob, "labels");
}

ferkd_status fk_labels_init(fk_labels *l, const ferkd_store *store)
{
    const ferkd_store_info *info = ferkd_store_about(store);

    *l = (fk_labels){.n = info->regions};
    ferkd_status st = make_room(&l->room, &l->told, l->n, info->topk);
    if (st == FERKD_OK && info->label_classes > info->classes)
        st = make_room(&l->mine, &l->label, l->n, info->topk);
    else
        l->label = l->told;
    if (st != FERKD_OK)
        fk_labels_fini(l);
    return st;
}

ferkd_status fk_labels_read(fk_labels *l, const ferkd_store *store, uint32_t image)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    ferkd_label_room room = l->mine;

    TRY(ferkd_store_labels(store, image, l->room, l->told));
    for (uint32_t r = 0; l->label != l->told && r < l->n; r++) {
        ferkd_soft_label_narrow(&l->told[r], info->classes, room, &l->label[r]);
        room.index += info->topk;
        room.prob += info->topk;
    }
    return FERKD_OK;
}

ferkd_status fk_labels_find(fk_labels *l, const ferkd_store *store, uint32_t image, bool *has)
{
    ferkd_status st = fk_labels_read(l, store, image);

    *has = st == FERKD_OK;
    return st == FERKD_ABSENT ? FERKD_OK : st;
}

void fk_labels_fini(fk_labels *l)
{
    if (l->label != l->told)
        free(l->label);
    free(l->told);
    free(l->room.index);
    free(l->room.prob);
    free(l->mine.index);
    free(l->mine.prob);
    *l = (fk_labels){0};
}
