/* Labelling with a teacher that is not ours: crops go out, logits come back. */
#include "base/compat.h"

#include "ferkd/loader.h"

#include <omp.h>

#include "base/file.h"
#include "base/mem.h"
#include "label/store_format.h"
#include "label/store_writer.h"
#include "train/cutter.h"
#include "train/judge.h"
#include "train/model.h"

struct ferkd_scribe {
    const ferkd_dataset *data;
    ferkd_scribe_options o;
    uint32_t *map;
    char *path;
    fk_store_writer *writer;
    fk_packer *packer;
    fk_judge judge;
    fk_cutter *workers;
    uint32_t over;    /* classes that labels are over */
    uint32_t pending; /* images whose logits are awaited */
    bool *bad;        /* [pending] */
    size_t bad_cap;
};

ferkd_scribe_options ferkd_scribe_defaults(void)
{
    return (ferkd_scribe_options){.regions = 8,
                                  .topk = 5,
                                  .sampler = ferkd_sampler_defaults(),
                                  .size_px = 224,
                                  .filter = FERKD_BILINEAR,
                                  .temperature = 1.0,
                                  .teacher = "elsewhere"};
}

static ferkd_status make_map(ferkd_scribe *s)
{
    uint32_t classes = ferkd_dataset_classes(s->data);

    if (s->o.teacher_classes == 0)
        s->o.teacher_classes = classes;
    if (!s->o.map && s->o.teacher_classes != classes)
        return fk_fail(
            FERKD_USAGE,
            "a teacher of %u classes and data of %u: a map of the data's classes among the "
            "teacher's is needed",
            s->o.teacher_classes, classes);
    TRY(fk_calloc(&s->map, classes, sizeof *s->map, "a class map"));
    for (uint32_t c = 0; c < classes; c++) {
        s->map[c] = s->o.map ? s->o.map[c] : c;
        if (s->map[c] >= s->o.teacher_classes)
            return fk_fail(FERKD_USAGE, "class %u is number %u of a teacher of %u classes", c,
                           s->map[c], s->o.teacher_classes);
    }
    return fk_judge_width(s->o.every ? FERKD_WIDTH_TEACHER : FERKD_WIDTH_DATA, s->o.teacher_classes,
                          classes, s->map, &s->over);
}

static ferkd_store_info info_of(const ferkd_scribe *s)
{
    uint32_t classes = ferkd_dataset_classes(s->data);
    ferkd_store_info info = {.images = ferkd_dataset_images(s->data),
                             .regions = s->o.regions,
                             .topk = (uint32_t)fk_min_size(s->o.topk, s->over),
                             .classes = classes,
                             .teacher_classes = s->o.teacher_classes,
                             .label_classes = s->over,
                             .sampler = s->o.sampler,
                             .teacher_px = s->o.size_px,
                             .filter = s->o.filter,
                             .temperature = s->o.temperature,
                             .prob_bits = s->o.prob_bits,
                             .ignore_exif = ferkd_dataset_ignores_exif(s->data),
                             .teacher = s->o.teacher,
                             .dataset = ferkd_dataset_path(s->data)};
    uint64_t print[2] = {fk_hash64(s->o.teacher, strlen(s->o.teacher), 0),
                         fk_hash64(s->map, classes * sizeof *s->map, 0)};

    ferkd_dataset_fingerprint(s->data, info.dataset_fingerprint);
    memcpy(info.teacher_fingerprint, print, sizeof print);
    return info;
}

ferkd_status ferkd_scribe_open(ferkd_scribe **out, const ferkd_dataset *data, const char *path,
                               const ferkd_scribe_options *options)
{
    ferkd_scribe *s = NULL;
    ferkd_status st = FERKD_OK;

    *out = NULL;
    TRY(fk_calloc(&s, 1, sizeof *s, path));
    s->data = data;
    s->o = *options;
    s->o.threads = fk_threads(options->threads);
    if (!options->teacher || options->size_px < 1 || options->size_px > 8192 ||
        !(options->temperature > 0)) {
        st = fk_fail(FERKD_USAGE, "%s: the teacher's name, size or temperature makes no sense",
                     path);
        goto done;
    }
    TRY_DONE(make_map(s));
    ferkd_store_info info = info_of(s);
    TRY_DONE(fk_store_writer_open(&s->writer, path, &info, 1, options->overwrite));
    if (!s->writer)
        goto done;
    TRY_DONE(fk_packer_new(&s->packer, fk_store_writer_codec(s->writer)));
    TRY_DONE(fk_judge_init(&s->judge, s->o.teacher_classes, info.classes, s->over, s->map,
                           s->o.temperature));
    TRY_DONE(fk_calloc(&s->workers, s->o.threads, sizeof *s->workers, path));
    TRY_DONE(fk_strdup(&s->path, path));
    *out = s;
    s = NULL;
done:
    ferkd_scribe_close(&s);
    return st;
}

void ferkd_scribe_close(ferkd_scribe **scribe)
{
    ferkd_scribe *s = *scribe;

    if (!s)
        return;
    fk_cutters_free(s->workers, s->o.threads);
    fk_store_writer_close(&s->writer);
    fk_packer_free(&s->packer);
    fk_judge_fini(&s->judge);
    free(s->map);
    free(s->path);
    free(s->bad);
    free(s);
    *scribe = NULL;
}

/* --- crops ------------------------------------------------------------------------------------- */

static size_t crop_bytes(const ferkd_scribe *s)
{
    return (size_t)s->o.size_px * s->o.size_px * ferkd_dataset_channels(s->data);
}

ferkd_status ferkd_scribe_crops(ferkd_scribe *s, uint32_t n, uint8_t *crops, uint32_t *first,
                                uint32_t *got)
{
    uint32_t at = fk_store_writer_next(s->writer);
    size_t image_bytes = s->o.regions * crop_bytes(s);
    fk_cut view = {s->o.size_px, s->o.filter, 0};
    fk_fault fault = {0};

    *first = at;
    *got = (uint32_t)fk_min_size(n, ferkd_dataset_images(s->data) - at);
    TRY(fk_grow(&s->bad, &s->bad_cap, *got, sizeof *s->bad));
    s->pending = *got;
#pragma omp parallel num_threads((int)s->o.threads)
    {
        fk_cutter *w = &s->workers[omp_get_thread_num()];
#pragma omp for schedule(dynamic)
        for (uint32_t i = 0; i < *got; i++) {
            ferkd_status st = fk_cutter_regions(w, s->data, at + i, &s->o.sampler, s->o.regions,
                                                &view, 1, crop_bytes(s), crops + i * image_bytes);
            s->bad[i] = st != FERKD_OK;
            if (st == FERKD_OK)
                continue;
            memset(crops + i * image_bytes, 0, image_bytes);
            if (st == FERKD_MEMORY) {
#pragma omp critical
                fk_fault_take(&fault, st);
            }
        }
    }
    return fault.status == FERKD_OK ? FERKD_OK : fk_fault_put(&fault);
}

ferkd_status ferkd_scribe_logits(ferkd_scribe *s, const float *logits)
{
    size_t each = (size_t)s->o.regions * s->o.teacher_classes;

    for (uint32_t i = 0; i < s->pending; i++) {
        uint32_t image = fk_store_writer_next(s->writer);
        const uint8_t *block;
        uint32_t n;
        for (uint32_t r = 0; !s->bad[i] && r < s->o.regions; r++) {
            fk_verdict v;
            TRY(fk_judge_region(&s->judge, logits + i * each + (size_t)r * s->o.teacher_classes,
                                s->o.teacher, &v));
            fk_packer_add(s->packer, &v);
        }
        fk_packer_seal(s->packer, image, s->bad[i] ? FK_BLOCK_SKIPPED : FK_BLOCK_LABELLED,
                       ferkd_dataset_label(s->data, image), &block, &n);
        TRY(fk_store_writer_append(s->writer, block, n));
    }
    s->pending = 0;
    return FERKD_OK;
}

ferkd_status ferkd_scribe_commit(ferkd_scribe *s)
{
    uint32_t images = ferkd_dataset_images(s->data);

    if (fk_store_writer_next(s->writer) < images)
        return fk_fail(FERKD_USAGE, "%s: %u of %u images are labelled; it can be gone on with",
                       s->path, fk_store_writer_next(s->writer), images);
    return fk_store_writer_commit(s->writer);
}
