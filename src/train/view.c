/* Resize, centre crop, normalise: a batch at a time, ahead of the one who asks. */
#include "base/compat.h"

#include "train/view.h"

#include "base/conveyor.h"
#include "base/mem.h"
#include "train/cutter.h"

#define SLOTS 3

struct fk_view {
    const ferkd_dataset *data;
    fk_view_options o;
    fk_pixels pixels;
    fk_conveyor *belt;
    fk_cutter *workers;
    float *inputs[SLOTS];
    fk_fault *faults[SLOTS];
    size_t each; /* floats an image */
    uint32_t next;
};

static ferkd_status load(fk_view *v, fk_cutter *w, uint32_t image, float *dst)
{
    uint32_t size = v->o.how.size_px;
    uint32_t resize = (uint32_t)(size / v->o.how.crop_pct);

    TRY(fk_cutter_load(w, v->data, image));
    TRY(ferkd_image_center(&w->crop, &w->image, resize, size, v->o.how.filter));
    fk_pixels_fill(&v->pixels, &w->crop, dst);
    return FERKD_OK;
}

static ferkd_status fill(void *ctx, int worker_number, uint64_t batch, uint32_t i, int slot)
{
    fk_view *v = ctx;
    uint64_t image = batch * v->o.batch + i;

    v->faults[slot][i] = (fk_fault){0};
    if (image >= v->o.images)
        return FERKD_OK;
    image = image * ferkd_dataset_images(v->data) / v->o.images;
    ferkd_status st =
        load(v, &v->workers[worker_number], (uint32_t)image, v->inputs[slot] + i * v->each);
    if (st == FERKD_OK || v->o.stop_on_bad_image || st == FERKD_MEMORY)
        return st;
    fk_fault_take(&v->faults[slot][i], st);
    return FERKD_OK;
}

ferkd_status fk_view_new(fk_view **out, const ferkd_dataset *data, const fk_view_options *o)
{
    ferkd_status st = FERKD_OK;
    fk_view *v = NULL;

    TRY(fk_calloc(&v, 1, sizeof *v, "evaluation"));
    v->data = data;
    v->o = *o;
    v->o.images = o->images ? o->images : ferkd_dataset_images(data);
    v->each = (size_t)o->how.channels * o->how.size_px * o->how.size_px;
    fk_pixels_init(&v->pixels, &o->how, o->channels_last);
    TRY_DONE(fk_calloc(&v->workers, o->threads, sizeof *v->workers, "evaluation"));
    for (int i = 0; i < SLOTS; i++) {
        TRY_DONE(fk_calloc(&v->inputs[i], o->batch * v->each, sizeof(float), "evaluation"));
        TRY_DONE(fk_calloc(&v->faults[i], o->batch, sizeof(fk_fault), "evaluation"));
    }
    fk_conveyor_options belt = {.threads = (int)o->threads,
                                .slots = SLOTS,
                                .jobs = o->batch,
                                .end = (v->o.images + o->batch - 1) / o->batch,
                                .fill = fill,
                                .ctx = v};
    TRY_DONE(fk_conveyor_new(&v->belt, &belt));
    *out = v;
    v = NULL;
done:
    fk_view_free(&v);
    return st;
}

ferkd_status fk_view_next(fk_view *v, uint32_t *first, uint32_t *n, const float **inputs,
                          const fk_fault **faults)
{
    int slot;

    TRY(fk_conveyor_next(v->belt, &slot));
    *first = v->next;
    *n = 0;
    if (slot < 0)
        return FERKD_OK;
    *n = (uint32_t)fk_min_size(v->o.batch, v->o.images - v->next);
    *inputs = v->inputs[slot];
    *faults = v->faults[slot];
    v->next += *n;
    return FERKD_OK;
}

size_t fk_view_floats(const fk_view *v)
{
    return v->each;
}

void fk_view_free(fk_view **view)
{
    fk_view *v = *view;

    if (!v)
        return;
    fk_conveyor_free(&v->belt); /* first: its workers use the rest */
    fk_cutters_free(v->workers, v->o.threads);
    for (int i = 0; i < SLOTS; i++) {
        free(v->inputs[i]);
        free(v->faults[i]);
    }
    free(v);
    *view = NULL;
}
