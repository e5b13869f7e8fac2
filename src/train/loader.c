/* The training feed, for loops of others' making. */
#include "base/compat.h"

#include "ferkd/loader.h"

#include "base/mem.h"
#include "train/feed.h"
#include "train/mix.h"
#include "train/model.h"
#include "train/schedule.h"

struct ferkd_loader {
    ferkd_recipe recipe;
    ferkd_dataset *data;
    ferkd_store *store;
    ferkd_calibration *calibration;
    ferkd_preprocess how;
    fk_feed_options options;
    fk_feed *feed;
    fk_feed_batch *batch;
    uint64_t next;
};

static ferkd_status check(const ferkd_recipe *r)
{
    bool stored = strcmp(r->method, "fkd") == 0 || strcmp(r->method, "ferkd") == 0;

    if (!r->data)
        return fk_fail(FERKD_USAGE, "a loader needs data");
    if (!stored && strcmp(r->method, "ce") != 0)
        return fk_fail(FERKD_USAGE, "a loader has methods ce, fkd and ferkd, not %s", r->method);
    if (stored && !r->labels)
        return fk_fail(
            FERKD_USAGE,
            "method %s needs labels: a store that \"ferkd label\" has made, or method ce",
            r->method);
    if (fk_batch(r, UINT64_MAX) % r->regions_per_image)
        return fk_fail(FERKD_USAGE,
                       "batch %" PRIu32 " is no multiple of regions-per-image %" PRId64
                       ": choose one that is",
                       fk_batch(r, UINT64_MAX), r->regions_per_image);
    if (fk_mix_is_on(r, 0) && strcmp(r->mix_scope, "image") != 0)
        return fk_fail(FERKD_USAGE,
                       "a loader mixes within images (mix-scope image); mix across the "
                       "batch in your own loop");
    return FERKD_OK;
}

static ferkd_status open_labels(ferkd_loader *l)
{
    const ferkd_recipe *r = &l->recipe;

    if (strcmp(r->method, "ce") == 0)
        return FERKD_OK;
    TRY(ferkd_store_open(&l->store, r->labels));
    TRY(ferkd_store_match(l->store, l->data));
    return ferkd_calibration_new(&l->calibration,
                                 strcmp(r->method, "ferkd") == 0 ? r->calibrate : "fkd", l->store,
                                 fk_looks(r));
}

static ferkd_status open_all(ferkd_loader *l)
{
    const ferkd_recipe *r = &l->recipe;
    ferkd_dataset_options d = {.class_names = r->class_names, .ignore_exif = r->ignore_exif};

    TRY(check(r));
    TRY(ferkd_dataset_open(&l->data, r->data, &d));
    TRY(fk_recipe_input(r, ferkd_dataset_channels(l->data), &l->how));
    TRY(open_labels(l));
    uint32_t batch = fk_batch(r, ferkd_dataset_images(l->data));
    uint64_t each = ferkd_dataset_images(l->data) / batch;
    if (each == 0)
        return fk_fail(FERKD_USAGE, "%s: %u images are fewer than one batch: lower batch", r->data,
                       ferkd_dataset_images(l->data));
    l->options = (fk_feed_options){.recipe = r,
                                   .data = l->data,
                                   .store = l->store,
                                   .calibration = l->calibration,
                                   .how = l->how,
                                   .outputs = l->store ? ferkd_store_about(l->store)->label_classes
                                                       : ferkd_dataset_classes(l->data),
                                   .batch = batch,
                                   .threads = fk_threads((uint32_t)r->threads),
                                   .end = each * (uint64_t)r->epochs,
                                   .batches_per_epoch = each};
    return FERKD_OK;
}

ferkd_status ferkd_loader_open(ferkd_loader **out, const char *const *keys,
                               const char *const *values, size_t n)
{
    ferkd_loader *l = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&l, 1, sizeof *l, "the loader"));
    TRY_DONE(ferkd_recipe_init(&l->recipe));
    for (size_t i = 0; i < n; i++)
        TRY_DONE(ferkd_recipe_set(&l->recipe, keys[i], values[i]));
    TRY_DONE(open_all(l));
    *out = l;
    l = NULL;
done:
    ferkd_loader_close(&l);
    return st;
}

void ferkd_loader_close(ferkd_loader **loader)
{
    ferkd_loader *l = *loader;

    if (!l)
        return;
    fk_feed_free(&l->feed); /* first: its workers use the rest */
    ferkd_calibration_free(&l->calibration);
    ferkd_store_close(&l->store);
    ferkd_dataset_close(&l->data);
    ferkd_recipe_fini(&l->recipe);
    free(l);
    *loader = NULL;
}

void ferkd_loader_about(const ferkd_loader *l, ferkd_loader_info *out)
{
    *out =
        (ferkd_loader_info){.batch = l->options.batch,
                            .channels = l->how.channels,
                            .size_px = l->how.size_px,
                            .classes = ferkd_dataset_classes(l->data),
                            .label_classes = l->options.outputs,
                            .images = ferkd_dataset_images(l->data),
                            .batches_per_epoch = l->options.batches_per_epoch,
                            .batches = l->options.end,
                            .rules = l->calibration ? ferkd_calibration_rules(l->calibration) : "",
                            .words = l->calibration ? ferkd_calibration_words(l->calibration) : ""};
}

ferkd_status ferkd_loader_seek(ferkd_loader *l, uint64_t batch)
{
    if (batch > l->options.end)
        return fk_fail(FERKD_USAGE,
                       "batch %" PRIu64 " is behind the last: all epochs have %" PRIu64, batch,
                       l->options.end);
    fk_feed_free(&l->feed);
    l->batch = NULL;
    l->next = batch;
    return FERKD_OK;
}

ferkd_status ferkd_loader_next(ferkd_loader *l, const float **inputs, const float **targets)
{
    *inputs = *targets = NULL;
    if (l->next >= l->options.end)
        return FERKD_OK;
    if (!l->feed) {
        l->options.first = l->next;
        TRY(fk_feed_new(&l->feed, &l->options));
    }
    TRY(fk_feed_next(l->feed, &l->batch));
    l->next++;
    *inputs = l->batch->inputs;
    *targets = l->batch->targets;
    return FERKD_OK;
}
