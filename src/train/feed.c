/* The order of images, the choice of regions, calibrated targets, SelfMix; by worker threads. */
#include "base/compat.h"

#include "train/feed.h"

#include <pthread.h>

#include "base/conveyor.h"
#include "base/mem.h"
#include "label/labels.h"
#include "train/cutter.h"
#include "train/loss.h"
#include "train/mix.h"

#define SLOTS     3
#define MAX_TRIES 64 /* unreadable images in a row before giving up */

typedef struct worker {
    fk_cutter cutter;
    fk_labels labels;       /* of the image at hand */
    ferkd_treatment *treat; /* [regions] */
    uint32_t *usable;       /* [regions]: those that are trained on, */
    uint32_t *order;        /* [regions]: in the order of this visit */
    float *input;           /* SelfMix: the partner */
    float *teacher;
    float *target;
} worker;

typedef struct order {
    uint64_t pass; /* plus 1; 0: not drawn yet */
    uint32_t *image;
} order;

struct fk_feed {
    fk_feed_options o;
    fk_conveyor *belt;
    fk_pixels pixels, teacher_pixels;
    size_t input_floats, teacher_floats;
    uint32_t images, regions, per_image, groups;
    ferkd_sampler sampler; /* without a store */
    bool mirrors;          /* with one: every second time */

    pthread_mutex_t lock; /* of orders and of the slots' counts */
    order orders[2];
    worker *workers;
    fk_feed_batch slots[SLOTS];
};

/* --- which image ----------------------------------------------------------------------------- */

/* Pass over the data number `pass` sees its images in an order of its own. */
static uint32_t image_at(fk_feed *f, uint64_t pass, uint32_t position)
{
    order *o = &f->orders[pass % 2];

    (void)pthread_mutex_lock(&f->lock);
    if (o->pass != pass + 1) {
        fk_rng r = fk_rng_at((uint64_t)f->o.recipe->seed, FK_RNG_SHUFFLE, (uint32_t)pass, 0);
        fk_rng_shuffle(&r, o->image, f->images);
        o->pass = pass + 1;
    }
    uint32_t image = o->image[position];
    (void)pthread_mutex_unlock(&f->lock);
    return image;
}

/* --- which regions --------------------------------------------------------------------------- */

/* Judge the regions of an image. Where none may be trained on, all are, with a smoothed hard label:
 * that is the one thing known about the image. */
static ferkd_status judge(fk_feed *f, worker *w, uint32_t image, double moment, uint32_t *n)
{
    uint32_t truth = ferkd_dataset_label(f->o.data, image);

    *n = 0;
    TRY(fk_labels_read(&w->labels, f->o.store, image));
    ferkd_store_place(f->o.store, image, w->cutter.image.width, w->cutter.image.height,
                      w->labels.label);
    ferkd_calibration_judge(f->o.calibration, moment, truth, w->labels.label, f->regions, w->treat);
    for (uint32_t r = 0; r < f->regions; r++) {
        if (w->treat[r].action != FERKD_DISCARD)
            w->usable[(*n)++] = r;
    }
    for (uint32_t r = 0; *n == 0 && r < f->regions; r++) {
        w->treat[r] = (ferkd_treatment){FERKD_SMOOTH, (float)f->o.recipe->hard_smoothing};
        w->usable[r] = r;
    }
    *n = *n ? *n : f->regions;
    return FERKD_OK;
}

/* Visit number t of an image takes element t of an order that is drawn anew whenever all its usable
 * regions have been seen. */
static uint32_t region_at(const fk_feed *f, const worker *w, uint32_t image, uint32_t n, uint64_t t)
{
    fk_rng r = fk_rng_at((uint64_t)f->o.recipe->seed, FK_RNG_DRAW, image, (uint32_t)(t / n));
    uint32_t stop = (uint32_t)(t % n);

    memcpy(w->order, w->usable, n * sizeof *w->order);
    for (uint32_t i = 0; i <= stop; i++) { /* Fisher and Yates from the front, as far as needed */
        uint32_t at = i + fk_rng_below(&r, n - i);
        uint32_t keep = w->order[i];
        w->order[i] = w->order[at];
        w->order[at] = keep;
    }
    return w->order[stop];
}

/* --- one row --------------------------------------------------------------------------------- */

static ferkd_status cut(fk_feed *f, worker *w, uint32_t image, uint32_t region, bool mirrored,
                        float *input, float *teacher)
{
    const ferkd_preprocess *how = &f->o.how;
    const ferkd_preprocess *t = f->o.teacher_how;
    uint32_t width = w->cutter.image.width;
    uint32_t height = w->cutter.image.height;
    ferkd_region at = f->o.store ? ferkd_store_region(f->o.store, image, region,
                                                      &w->labels.label[region], width, height)
                                 : ferkd_region_at(&f->sampler, image, region, width, height);

    at.flip ^= mirrored;
    TRY(ferkd_image_crop_resize(&w->cutter.crop, &w->cutter.image, at.box, how->size_px,
                                how->size_px, how->filter, at.flip));
    fk_pixels_fill(&f->pixels, &w->cutter.crop, input);
    if (!t)
        return FERKD_OK;
    TRY(ferkd_image_crop_resize(&w->cutter.crop, &w->cutter.image, at.box, t->size_px, t->size_px,
                                t->filter, at.flip));
    fk_pixels_fill(&f->teacher_pixels, &w->cutter.crop, teacher);
    return FERKD_OK;
}

/* Among the data set's classes; what else the student learns is not the truth. */
static void smooth_label(const fk_feed *f, uint32_t truth, float *target)
{
    memset(target, 0, f->o.outputs * sizeof *target);
    fk_label_smoothing(target, ferkd_dataset_classes(f->o.data), truth,
                       f->o.recipe->label_smoothing);
}

static void target_of(fk_feed *f, const worker *w, uint32_t image, uint32_t region, float *target)
{
    uint32_t truth = ferkd_dataset_label(f->o.data, image);

    if (f->o.store)
        ferkd_calibration_target(f->o.calibration, w->treat[region], &w->labels.told[region], truth,
                                 target);
    else
        smooth_label(f, truth, target);
}

/* SelfMix: this row with another region of the same image. */
static ferkd_status self_mix(fk_feed *f, worker *w, fk_feed_batch *to, uint32_t row, uint32_t image,
                             bool mirrored, uint32_t n_usable, uint64_t batch)
{
    const ferkd_recipe *r = f->o.recipe;
    fk_rng rng = fk_rng_at((uint64_t)r->seed, FK_RNG_MIX, (uint32_t)batch, row + 1);
    fk_mix m = fk_mix_draw(r, &rng, f->o.how.size_px);

    if (!m.on)
        return FERKD_OK;
    uint32_t partner = f->o.store ? w->usable[fk_rng_below(&rng, n_usable)]
                                  : 0x80000000u + fk_rng_below(&rng, 0x7fffffffu);
    TRY(cut(f, w, image, partner, mirrored, w->input, w->teacher));
    target_of(f, w, image, partner, w->target);
    fk_mix_inputs(&m, to->inputs + row * f->input_floats, w->input, f->o.how.channels,
                  f->o.how.size_px, f->o.channels_last);
    if (f->o.teacher_how)
        fk_mix_inputs(&m, to->teacher + row * f->teacher_floats, w->teacher,
                      f->o.teacher_how->channels, f->o.teacher_how->size_px,
                      f->o.teacher_channels_last);
    fk_mix_targets(&m, to->targets + (size_t)row * f->o.outputs, w->target, f->o.outputs);
    return FERKD_OK;
}

/* --- one image and its rows ------------------------------------------------------------------ */

static ferkd_status fill_image(fk_feed *f, worker *w, uint32_t image, uint64_t pass, uint64_t batch,
                               uint32_t first_row, fk_feed_batch *to, fk_feed_counts *counts)
{
    uint64_t epoch = batch / f->o.batches_per_epoch;
    bool self = fk_mix_is_on(f->o.recipe, epoch) && strcmp(f->o.recipe->mix_scope, "image") == 0;
    double moment = (double)epoch / fmax((double)f->o.recipe->epochs - 1.0, 1.0);
    uint32_t n = 0;

    TRY(fk_cutter_load(&w->cutter, f->o.data, image));
    if (f->o.store)
        TRY(judge(f, w, image, moment, &n));
    for (uint32_t m = 0; m < f->per_image; m++) {
        uint32_t row = first_row + m;
        uint64_t t = pass * f->per_image + m;
        uint32_t region = (uint32_t)t & 0x7fffffffu;
        if (f->o.store) {
            region = region_at(f, w, image, n, t);
            counts->dropped += f->regions - n;
            counts->hard += ferkd_group_of(w->treat[region]) == FERKD_HR;
            counts->important += ferkd_group_of(w->treat[region]) == FERKD_IR;
        }
        bool mirrored = f->mirrors && t / n % 2 == 1;
        TRY(cut(f, w, image, region, mirrored, to->inputs + row * f->input_floats,
                f->o.teacher_how ? to->teacher + row * f->teacher_floats : NULL));
        target_of(f, w, image, region, to->targets + (size_t)row * f->o.outputs);
        if (self)
            TRY(self_mix(f, w, to, row, image, mirrored, n, batch));
    }
    return FERKD_OK;
}

/* Has the image labels? Those that could not be read when labelling have none. */
static ferkd_status has_labels(const fk_feed *f, uint32_t image, bool *has)
{
    *has = true;
    return f->o.store ? ferkd_store_has(f->o.store, image, has) : FERKD_OK;
}

static ferkd_status fill(void *ctx, int worker_number, uint64_t batch, uint32_t group, int slot)
{
    fk_feed *f = ctx;
    fk_feed_batch *to = &f->slots[slot];
    fk_feed_counts counts = {0};
    uint64_t number = batch * f->groups + group;
    uint64_t pass = number / f->images;
    char why[256] = "";
    ferkd_status st = FERKD_OK;

    for (uint32_t k = 0; k < MAX_TRIES; k++) { /* an unreadable image: the next in order */
        uint32_t image = image_at(f, pass, (uint32_t)((number + k) % f->images));
        bool has;
        TRY(has_labels(f, image, &has));
        st = has ? fill_image(f, &f->workers[worker_number], image, pass, batch,
                              group * f->per_image, to, &counts)
                 : fk_fail(FERKD_ABSENT, "%s: has no labels", ferkd_dataset_name(f->o.data, image));
        if (st == FERKD_OK || st == FERKD_MEMORY || strcmp(f->o.recipe->on_bad_image, "stop") == 0)
            break;
        counts.bad++;
        (void)snprintf(why, sizeof why, "%.255s", ferkd_last_error());
    }
    (void)pthread_mutex_lock(&f->lock);
    to->counts.hard += counts.hard;
    to->counts.important += counts.important;
    to->counts.dropped += counts.dropped;
    to->counts.bad += counts.bad;
    if (counts.bad)
        memcpy(to->bad, why, sizeof why);
    (void)pthread_mutex_unlock(&f->lock);
    return st;
}

/* --- life ------------------------------------------------------------------------------------ */

static ferkd_status allocate_worker(fk_feed *f, worker *w)
{
    if (f->o.store)
        TRY(fk_labels_init(&w->labels, f->o.store));
    TRY(fk_calloc(&w->treat, f->regions, sizeof *w->treat, "the loader"));
    TRY(fk_calloc(&w->usable, f->regions, sizeof *w->usable, "the loader"));
    TRY(fk_calloc(&w->order, f->regions, sizeof *w->order, "the loader"));
    TRY(fk_calloc(&w->input, f->input_floats, sizeof *w->input, "the loader"));
    TRY(fk_calloc(&w->teacher, f->teacher_floats, sizeof *w->teacher, "the loader"));
    return fk_calloc(&w->target, f->o.outputs, sizeof *w->target, "the loader");
}

static ferkd_status allocate(fk_feed *f)
{
    for (int i = 0; i < 2; i++)
        TRY(fk_calloc(&f->orders[i].image, f->images, sizeof(uint32_t), "the loader"));
    for (int i = 0; i < SLOTS; i++) {
        fk_feed_batch *b = &f->slots[i];
        TRY(fk_calloc(&b->inputs, f->o.batch * f->input_floats, sizeof(float), "the loader"));
        TRY(fk_calloc(&b->teacher, f->o.batch * f->teacher_floats, sizeof(float), "the loader"));
        TRY(fk_calloc(&b->targets, (size_t)f->o.batch * f->o.outputs, sizeof(float), "the loader"));
    }
    TRY(fk_calloc(&f->workers, f->o.threads, sizeof *f->workers, "the loader"));
    for (uint32_t i = 0; i < f->o.threads; i++)
        TRY(allocate_worker(f, &f->workers[i]));
    return FERKD_OK;
}

static size_t input_size(const ferkd_preprocess *how)
{
    return how ? (size_t)how->channels * how->size_px * how->size_px : 0;
}

double fk_looks(const ferkd_recipe *r)
{
    /* An epoch is as many regions as there are images, however many of one go into a batch. */
    return (double)r->epochs;
}

double fk_showings(const ferkd_recipe *r, const ferkd_store *store)
{
    return fk_looks(r) / ferkd_store_about(store)->regions;
}

bool fk_mirrors(const ferkd_recipe *r, const ferkd_store *store)
{
    if (strcmp(r->mirror, "auto") != 0)
        return strcmp(r->mirror, "always") == 0;
    return strcmp(r->method, "ferkd") == 0 && fk_showings(r, store) >= 2.0;
}

ferkd_status fk_feed_new(fk_feed **out, const fk_feed_options *o)
{
    const ferkd_recipe *r = o->recipe;
    ferkd_status st = FERKD_OK;
    fk_feed *f = NULL;

    TRY(fk_calloc(&f, 1, sizeof *f, "the loader"));
    f->o = *o;
    (void)pthread_mutex_init(&f->lock, NULL);
    f->images = ferkd_dataset_images(o->data);
    f->regions = o->store ? ferkd_store_about(o->store)->regions : 1;
    f->per_image = (uint32_t)r->regions_per_image;
    f->groups = o->batch / f->per_image;
    f->mirrors = o->store && fk_mirrors(r, o->store);
    f->sampler = (ferkd_sampler){(uint64_t)r->seed, r->scale_min, r->scale_max,
                                 r->ratio_min,      r->ratio_max, r->flip};
    f->input_floats = input_size(&o->how);
    f->teacher_floats = input_size(o->teacher_how);
    fk_pixels_init(&f->pixels, &o->how, o->channels_last);
    if (o->teacher_how)
        fk_pixels_init(&f->teacher_pixels, o->teacher_how, o->teacher_channels_last);
    TRY_DONE(allocate(f));
    fk_conveyor_options belt = {.threads = (int)o->threads,
                                .slots = SLOTS,
                                .jobs = f->groups,
                                .first = o->first,
                                .end = o->end,
                                .fill = fill,
                                .ctx = f};
    TRY_DONE(fk_conveyor_new(&f->belt, &belt));
    *out = f;
    f = NULL;
done:
    fk_feed_free(&f);
    return st;
}

ferkd_status fk_feed_next(fk_feed *f, fk_feed_batch **batch)
{
    int slot;

    if (*batch) { /* its turn is over: the counts start anew */
        (*batch)->counts = (fk_feed_counts){0};
        (*batch)->bad[0] = '\0';
    }
    TRY(fk_conveyor_next(f->belt, &slot));
    *batch = slot < 0 ? NULL : &f->slots[slot];
    return FERKD_OK;
}

static void free_worker(worker *w)
{
    fk_cutter_fini(&w->cutter);
    fk_labels_fini(&w->labels);
    free(w->treat);
    free(w->usable);
    free(w->order);
    free(w->input);
    free(w->teacher);
    free(w->target);
}

void fk_feed_free(fk_feed **feed)
{
    fk_feed *f = *feed;

    if (!f)
        return;
    fk_conveyor_free(&f->belt); /* first: its workers use the rest */
    for (uint32_t i = 0; f->workers && i < f->o.threads; i++)
        free_worker(&f->workers[i]);
    free(f->workers);
    for (int i = 0; i < SLOTS; i++) {
        free(f->slots[i].inputs);
        free(f->slots[i].teacher);
        free(f->slots[i].targets);
    }
    for (int i = 0; i < 2; i++)
        free(f->orders[i].image);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
    *feed = NULL;
}
