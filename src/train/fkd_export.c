/* A store as FKD's archives: marginal smoothing with as many classes as the store keeps. */
#include "base/compat.h"

#include "train/fkd.h"

#include "base/file.h"
#include "base/mem.h"
#include "exchange/torch_write.h"
#include "label/labels.h"

typedef struct job {
    const ferkd_store *store;
    const ferkd_dataset *data;
    const char *folder;
    fk_labels labels;
    ferkd_image image;
    uint8_t *file;
    size_t file_cap;
    float *coords; /* [R][4] */
    bool *flips;   /* [R] */
    float *top;    /* [R][2][K] */
} job;

static bool tells(const ferkd_soft_label *l, uint32_t class)
{
    for (uint32_t k = 0; k < l->k; k++) {
        if (l->index[k] == class)
            return true;
    }
    return false;
}

/* Where a label tells fewer than K classes, others are told with the share that they have: the dense label stays. */
static void put_label(const ferkd_soft_label *l, uint32_t topk, uint32_t classes, float *class,
                      float *prob)
{
    float share = classes > l->k ? l->rest / (float)(classes - l->k) : 0.0f;
    uint32_t other = 0;

    for (uint32_t k = 0; k < topk; k++) {
        if (k < l->k) {
            class[k] = l->index[k];
            prob[k] = l->prob[k];
            continue;
        }
        while (tells(l, other))
            other++;
        class[k] = (float)other++;
        prob[k] = share;
    }
}

static void put_region(job *j, uint32_t image, uint32_t r)
{
    const ferkd_store_info *info = ferkd_store_about(j->store);
    const ferkd_soft_label *l = &j->labels.told[r];
    double w = j->image.width;
    double h = j->image.height;
    ferkd_region at = ferkd_store_region(j->store, image, r, l, j->image.width, j->image.height);

    j->coords[4 * r] = (float)(at.box.top / h);
    j->coords[4 * r + 1] = (float)(at.box.left / w);
    j->coords[4 * r + 2] = (float)(at.box.height / h);
    j->coords[4 * r + 3] = (float)(at.box.width / w);
    j->flips[r] = at.flip;
    put_label(l, info->topk, info->label_classes, j->top + (size_t)r * 2 * info->topk,
              j->top + ((size_t)r * 2 + 1) * info->topk);
}

/* The archive's place, whose folder is made. */
static ferkd_status archive_path(const job *j, uint32_t image, char **out)
{
    TRY(fk_fkd_path(j->data, j->folder, image, out));
    char *slash = strrchr(*out, '/');
    *slash = '\0';
    ferkd_status st = fk_make_folder(*out);
    *slash = '/';
    return st;
}

static ferkd_status export_image(job *j, uint32_t image)
{
    const ferkd_store_info *info = ferkd_store_about(j->store);
    int64_t R = info->regions;
    int64_t K = info->topk;
    const fk_torch_out items[] = {{FK_E_F32, 2, {R, 4}, j->coords},
                                  {FK_E_BOOL, 1, {R}, j->flips},
                                  {FK_E_F32, 3, {R, 2, K}, j->top}};
    char *path = NULL;

    TRY(fk_labels_read(&j->labels, j->store, image));
    TRY(ferkd_dataset_image(j->data, image, &j->image, &j->file, &j->file_cap, NULL));
    for (uint32_t r = 0; r < info->regions; r++)
        put_region(j, image, r);
    ferkd_status st = archive_path(j, image, &path);
    if (st == FERKD_OK)
        st = fk_torch_write(path, items, FK_COUNT(items));
    free(path);
    return st;
}

ferkd_status ferkd_fkd_export(const ferkd_store *store, const ferkd_dataset *data,
                              const char *folder, const ferkd_watch *watch)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    job j = {.store = store, .data = data, .folder = folder};
    ferkd_status st = FERKD_OK;

    TRY(ferkd_store_match(store, data));
    TRY_DONE(fk_labels_init(&j.labels, store));
    TRY_DONE(fk_calloc(&j.coords, (size_t)info->regions * 4, sizeof *j.coords, folder));
    TRY_DONE(fk_calloc(&j.flips, info->regions, sizeof *j.flips, folder));
    TRY_DONE(fk_calloc(&j.top, (size_t)info->regions * info->topk * 2, sizeof *j.top, folder));
    for (uint32_t i = 0; i < info->images; i++) {
        bool has;
        TRY_DONE(ferkd_store_has(store, i, &has));
        if (has)
            TRY_DONE(export_image(&j, i));
        if (watch && watch->progress)
            watch->progress(watch->ctx, "export", i + 1, info->images, "");
        if (watch && watch->stop && watch->stop(watch->ctx) && i + 1 < info->images) {
            st = fk_fail(FERKD_STOPPED, "stopped after %u of %u images", i + 1, info->images);
            goto done;
        }
    }
done:
    fk_labels_fini(&j.labels);
    ferkd_image_fini(&j.image);
    free(j.file);
    free(j.coords);
    free(j.flips);
    free(j.top);
    return st;
}
