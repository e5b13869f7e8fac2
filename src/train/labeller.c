/* Labelling: decode an image once, cut its regions, let the teacher see them, store what it says. The
 * work goes in chunks of whole images; what the teacher says of a region depends on its chunk
 * alone, so an interrupted and resumed store is the same bytes. */
#include "base/compat.h"

#include "ferkd/train.h"

#include <unistd.h>

#include "base/conveyor.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "label/packer.h"
#include "label/store_format.h"
#include "label/store_writer.h"
#include "train/judge.h"
#include "train/panel.h"
#include "train/run.h"

#define CHUNK_REGIONS 256 /* about so many regions a chunk */
#define SLOTS         3

typedef struct slot {
    uint8_t *crops;  /* [images][regions][bytes of a crop] */
    fk_fault *fault; /* [images]: why an image could not be read */
} slot;

typedef struct job {
    const ferkd_dataset *data;
    const ferkd_label_options *o;
    fk_panel panel;
    uint32_t *map;                          /* [classes] */
    uint32_t classes, over, chunk, threads; /* over: labels are over so many classes */
    fk_cutter *workers;
    slot slots[SLOTS];
    fk_judge judge;
    fk_packer *packer;
    float *logits; /* [chunk x regions][teacher classes] */
} job;

ferkd_label_options ferkd_label_defaults(void)
{
    return (ferkd_label_options){
        .regions = 8, .sampler = ferkd_sampler_defaults(), .temperature = 1.0, .batch = 64};
}

uint32_t fk_threads(uint32_t asked)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return asked ? asked : cores > 0 ? (uint32_t)cores : 1;
}

static ferkd_status fill(void *ctx, int worker_number, uint64_t batch, uint32_t i, int s)
{
    job *j = ctx;
    uint64_t image = batch * j->chunk + i;
    slot *to = &j->slots[s];

    to->fault[i] = (fk_fault){0};
    if (image >= ferkd_dataset_images(j->data))
        return FERKD_OK;
    ferkd_status st =
        fk_cutter_regions(&j->workers[worker_number], j->data, (uint32_t)image, &j->o->sampler,
                          j->o->regions, j->panel.view, j->panel.n_views, j->panel.crop_bytes,
                          to->crops + (size_t)i * j->o->regions * j->panel.crop_bytes);
    if (st == FERKD_OK)
        return FERKD_OK;
    if (j->o->stop_on_bad_image || st == FERKD_MEMORY)
        return st;
    fk_fault_take(&to->fault[i], st);
    return FERKD_OK;
}

static ferkd_status pack_chunk(job *j, fk_store_writer *w, const slot *s, uint32_t first,
                               uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bool bad = s->fault[i].status != FERKD_OK;
        const uint8_t *block;
        uint32_t bytes;
        for (uint32_t r = 0; !bad && r < j->o->regions; r++) {
            fk_verdict v;
            TRY(fk_judge_region(&j->judge,
                                j->logits + ((size_t)i * j->o->regions + r) * j->panel.classes,
                                j->panel.name, &v));
            fk_packer_add(j->packer, &v);
        }
        fk_packer_seal(j->packer, first + i, bad ? FK_BLOCK_SKIPPED : FK_BLOCK_LABELLED,
                       ferkd_dataset_label(j->data, first + i), &block, &bytes);
        TRY(fk_store_writer_append(w, block, bytes));
    }
    return FERKD_OK;
}

static void note_bad(const slot *s, uint32_t n, const ferkd_watch *watch,
                     ferkd_label_result *result)
{
    for (uint32_t i = 0; i < n; i++) {
        if (s->fault[i].status == FERKD_OK)
            continue;
        if (result->skipped++ == 0)
            (void)snprintf(result->first_bad, sizeof result->first_bad, "%.255s", s->fault[i].text);
        if (watch && watch->message)
            watch->message(watch->ctx, s->fault[i].text);
    }
}

static ferkd_status report(const ferkd_watch *watch, uint32_t done, uint32_t end, uint32_t images)
{
    if (watch && watch->progress)
        watch->progress(watch->ctx, "label", done, images, "");
    return watch && watch->stop && watch->stop(watch->ctx) && done < end
               ? fk_fail(FERKD_STOPPED, "stopped after %u of %u images; the same command goes on",
                         done, images)
               : FERKD_OK;
}

/* From where the writer stands to image `end`, which is the border of a chunk or of the data. */
static ferkd_status run_chunks(job *j, fk_store_writer *w, uint32_t end, const ferkd_watch *watch,
                               ferkd_label_result *result)
{
    uint32_t images = ferkd_dataset_images(j->data);
    fk_conveyor *belt = NULL;
    fk_conveyor_options o = {.threads = (int)j->threads,
                             .slots = SLOTS,
                             .jobs = j->chunk,
                             .first = fk_store_writer_next(w) / j->chunk,
                             .end = (end + j->chunk - 1) / j->chunk,
                             .fill = fill,
                             .ctx = j};
    ferkd_status st = FERKD_OK;

    TRY(fk_conveyor_new(&belt, &o));
    for (;;) {
        int s;
        uint32_t first = fk_store_writer_next(w);
        TRY_DONE(fk_conveyor_next(belt, &s));
        if (s < 0)
            break;
        uint32_t n = (uint32_t)fk_min_size(j->chunk, images - first);
        TRY_DONE(fk_panel_ask(&j->panel, j->slots[s].crops, n * j->o->regions, j->logits));
        TRY_DONE(pack_chunk(j, w, &j->slots[s], first, n));
        note_bad(&j->slots[s], n, watch, result);
        TRY_DONE(report(watch, first + n, end, images));
    }
done:
    fk_conveyor_free(&belt);
    return st;
}

/* --- mending ----------------------------------------------------------------------------------- */

/* Copy the chunk at hand from a store, if all of it is whole there. */
static ferkd_status copy_chunk(const job *j, fk_store_writer *w, const ferkd_store *from,
                               bool *copied)
{
    uint32_t first = fk_store_writer_next(w);
    uint32_t end = (uint32_t)fk_min_size(first + j->chunk, ferkd_dataset_images(j->data));
    const uint8_t *block = NULL;
    uint32_t n = 0;

    *copied = true;
    for (uint32_t i = first; *copied && i < end; i++)
        *copied = fk_store_raw(from, i, &block, &n) == FERKD_OK;
    for (uint32_t i = first; *copied && i < end; i++) {
        TRY(fk_store_raw(from, i, &block, &n));
        TRY(fk_store_writer_append(w, block, n));
    }
    return FERKD_OK;
}

/* Chunks that are whole are copied, the others labelled again. */
static ferkd_status mend(job *j, fk_store_writer *w, const ferkd_store *from,
                         const ferkd_watch *watch, ferkd_label_result *result)
{
    uint32_t images = ferkd_dataset_images(j->data);

    while (fk_store_writer_next(w) < images) {
        uint32_t first = fk_store_writer_next(w);
        bool copied;
        TRY(copy_chunk(j, w, from, &copied));
        if (copied)
            continue;
        uint32_t end = (uint32_t)fk_min_size(first + j->chunk, images);
        TRY(run_chunks(j, w, end, watch, result));
        result->repaired += end - first;
    }
    return FERKD_OK;
}

static ferkd_status allocate(job *j, const fk_codec *codec)
{
    size_t regions = (size_t)j->chunk * j->o->regions;

    TRY(fk_calloc(&j->workers, j->threads, sizeof *j->workers, "labelling"));
    for (int i = 0; i < SLOTS; i++) {
        TRY(fk_calloc(&j->slots[i].crops, regions, j->panel.crop_bytes, "labelling"));
        TRY(fk_calloc(&j->slots[i].fault, j->chunk, sizeof(fk_fault), "labelling"));
    }
    TRY(fk_judge_init(&j->judge, j->panel.classes, j->classes, j->over, j->map, j->o->temperature));
    TRY(fk_calloc(&j->logits, regions * j->panel.classes, sizeof *j->logits, "labelling"));
    return fk_packer_new(&j->packer, codec);
}

static void release(job *j)
{
    fk_cutters_free(j->workers, j->threads);
    for (int i = 0; i < SLOTS; i++) {
        free(j->slots[i].crops);
        free(j->slots[i].fault);
    }
    free(j->map);
    fk_judge_fini(&j->judge);
    free(j->logits);
    fk_packer_free(&j->packer);
    fk_panel_fini(&j->panel);
}

static ferkd_status check(const job *j)
{
    const ferkd_label_options *o = j->o;
    const ferkd_sampler *s = &o->sampler;

    if (!(s->scale_min > 0 && s->scale_min <= s->scale_max && s->scale_max <= 1 &&
          s->ratio_min > 0 && s->ratio_min <= s->ratio_max && s->flip >= 0 && s->flip <= 1))
        return fk_fail(FERKD_USAGE, "scale, ratio or flip of the regions out of range");
    if (o->batch < 1 || o->batch > FK_MAX_BATCH || !(o->temperature > 0))
        return fk_fail(FERKD_USAGE, "batch or temperature out of range");
    return FERKD_OK;
}

/* Of few classes all are worth keeping; of those that are not the data set's, as many as the teacher tells apart. */
static uint32_t topk_of(const job *j)
{
    if (j->o->topk)
        return j->o->topk;
    if (j->over > j->classes)
        return 20;
    return j->classes <= 10 ? 10 : 5;
}

static ferkd_store_info info_of(const job *j)
{
    const ferkd_preprocess *how = &j->panel.member[0].model->how;
    ferkd_store_info info = {.images = ferkd_dataset_images(j->data),
                             .regions = j->o->regions,
                             .topk = (uint32_t)fk_min_size(topk_of(j), j->over),
                             .classes = j->classes,
                             .teacher_classes = j->panel.classes,
                             .label_classes = j->over,
                             .sampler = j->o->sampler,
                             .teacher_px = how->size_px,
                             .filter = how->filter,
                             .temperature = j->o->temperature,
                             .prob_bits = j->o->prob_bits,
                             .ignore_exif = ferkd_dataset_ignores_exif(j->data),
                             .teacher = j->panel.name,
                             .dataset = ferkd_dataset_path(j->data)};

    ferkd_dataset_fingerprint(j->data, info.dataset_fingerprint);
    memcpy(info.teacher_fingerprint, j->panel.fingerprint, 16);
    uint64_t map = fk_hash64(j->map, j->classes * sizeof *j->map, 0);
    for (int i = 0; i < 8; i++) /* another class map is another teacher */
        info.teacher_fingerprint[i] ^= (uint8_t)(map >> (8 * i));
    return info;
}

/* Labels depend in their last bits on the implementations that the tuner chose, so an interrupted run notes them
 * beside the store, and goes on with the same. */
static ferkd_status prepare_teacher(job *j, const char *choices, bool resumes)
{
    uint32_t batch = (uint32_t)fk_min_size(j->o->batch, (size_t)j->chunk * j->o->regions);

    return fk_panel_prepare(&j->panel, batch, choices, resumes);
}

/* The images of a part, in whole chunks, so that a label is the same whoever makes it. */
static ferkd_status divide(const job *j, ferkd_store_info *info)
{
    const ferkd_label_options *o = j->o;
    uint64_t chunks = (info->images + j->chunk - 1) / j->chunk;

    if (o->parts == 0)
        return FERKD_OK;
    if (o->part < 1 || o->part > o->parts || o->repair)
        return fk_fail(FERKD_USAGE, o->repair ? "parts are not repaired: label the part again"
                                              : "--part: 1/4 to 4/4 are the parts of four");
    uint64_t first = chunks * (o->part - 1) / o->parts * j->chunk;
    uint64_t end = fk_min_size(chunks * o->part / o->parts * j->chunk, info->images);
    if (end <= first)
        return fk_fail(FERKD_USAGE,
                       "part %u of %u would be empty: work is divided in chunks of %u images",
                       o->part, o->parts, j->chunk);
    info->part = o->part;
    info->parts = o->parts;
    info->first = (uint32_t)first;
    info->here = (uint32_t)(end - first);
    return FERKD_OK;
}

/* To mend: the store, if any of it is damaged. */
static ferkd_status open_damaged(const char *path, const ferkd_store_info *info, ferkd_store **out)
{
    uint32_t *bad = NULL;
    uint32_t n = 0;

    TRY(ferkd_store_open(out, path));
    ferkd_status st = fk_store_match_settings(*out, info);
    if (st == FERKD_OK)
        st = ferkd_store_verify(*out, &bad, &n);
    free(bad);
    if (st != FERKD_OK || n == 0)
        ferkd_store_close(out);
    return st;
}

static ferkd_status look_at_result(const char *path, ferkd_label_result *result)
{
    ferkd_store *sealed = NULL;

    TRY(fk_store_open_part(&sealed, path));
    const ferkd_store_info *about = ferkd_store_about(sealed);
    result->images = about->here;
    result->file_bytes = about->file_bytes;
    result->skipped = about->skipped;
    result->bytes_per_region = (double)about->file_bytes / ((double)about->here * about->regions);
    ferkd_store_close(&sealed);
    return FERKD_OK;
}

static void say_precision(const fk_panel *p, const ferkd_watch *watch)
{
    if (p->n == 1)
        fk_say(watch, "the teacher runs in %s", fk_plan_precision(p->member[0].model->plan));
    for (uint32_t i = 0; p->n > 1 && i < p->n; i++)
        fk_say(watch, "%s: weight %.3f, runs in %s", p->member[i].model->path, p->member[i].weight,
               fk_plan_precision(p->member[i].model->plan));
}

/* All that is left to do, into an open writer. */
static ferkd_status work(job *j, fk_store_writer *w, const ferkd_store *damaged,
                         const ferkd_store_info *info, const char *store, const ferkd_watch *watch,
                         ferkd_label_result *result)
{
    char *choices = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(allocate(j, fk_store_writer_codec(w)));
    TRY_DONE(fk_asprintf(&choices, "%s.tune", store));
    TRY_DONE(prepare_teacher(j, choices, fk_store_writer_next(w) > info->first));
    say_precision(&j->panel, watch);
    TRY_DONE(damaged ? mend(j, w, damaged, watch, result)
                     : run_chunks(j, w, info->first + info->here, watch, result));
    TRY_DONE(fk_store_writer_commit(w));
    fk_panel_forget(&j->panel, choices);
done:
    free(choices);
    return st;
}

ferkd_status ferkd_label(ferkd_model *teacher, const ferkd_dataset *data, const char *store,
                         const ferkd_label_options *options, const ferkd_watch *watch,
                         ferkd_label_result *result)
{
    ferkd_status st = FERKD_OK;
    fk_store_writer *w = NULL;
    ferkd_store *damaged = NULL;
    double start = fk_now_s();
    job j = {.data = data,
             .o = options,
             .classes = ferkd_dataset_classes(data),
             .threads = fk_threads(options->threads)};

    *result = (ferkd_label_result){.images = ferkd_dataset_images(data)};
    TRY(check(&j));
    j.chunk = options->regions < CHUNK_REGIONS ? CHUNK_REGIONS / options->regions : 1;
    TRY_DONE(fk_panel_init(&j.panel, teacher, options, ferkd_dataset_channels(data)));
    TRY_DONE(fk_calloc(&j.map, j.classes, sizeof *j.map, "labelling"));
    TRY_DONE(ferkd_model_map(teacher, data, options->map, j.map));
    TRY_DONE(fk_judge_width(options->width, teacher->classes, j.classes, j.map, &j.over));
    ferkd_store_info info = info_of(&j);
    info.here = info.images;
    TRY_DONE(divide(&j, &info));
    if (options->repair)
        TRY_DONE(open_damaged(store, &info, &damaged));
    TRY_DONE(fk_store_writer_open(&w, store, &info, j.chunk, damaged || options->overwrite));
    result->complete_before = !w;
    if (w) {
        result->resumed_at = fk_store_writer_next(w) - info.first;
        TRY_DONE(work(&j, w, damaged, &info, store, watch, result));
    }
    st = look_at_result(store, result);
done:
    result->seconds = fk_now_s() - start;
    fk_store_writer_close(&w);
    ferkd_store_close(&damaged);
    release(&j);
    return st;
}
