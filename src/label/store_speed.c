/* "ferkd bench store": a store of made-up labels is written, sealed, opened, verified and read. */
#include "base/compat.h"

#include <unistd.h>

#include "base/mem.h"
#include "label/labels.h"
#include "label/packer.h"
#include "label/store_writer.h"
#include "label/synthetic.h"

#define CHUNK      256u /* images packed at once */
#define OPENINGS   9
#define READ_FOR_S 1.0
#define COMPARED   500 /* images whose labels are compared with what they were */

/* --- writing ----------------------------------------------------------------------------------- */

typedef struct chunk {
    uint8_t *bytes[CHUNK];
    uint32_t length[CHUNK];
} chunk;

static ferkd_status pack_image(const ferkd_store_speed_options *o, fk_packer *p, uint32_t image,
                               uint16_t *class, float *prob, uint8_t **bytes, uint32_t *length)
{
    fk_synthetic s;
    const uint8_t *block;

    fk_synthetic_image(&s, o->seed, image, o->classes);
    for (uint32_t r = 0; r < o->regions; r++) {
        fk_synthetic_label(&s, r, o->topk, o->classes, class, prob);
        fk_packer_add_top(p, class, prob, 1.0f, prob[0]);
    }
    fk_packer_seal(p, image, FK_BLOCK_LABELLED, s.class[0], &block, length);
    TRY(fk_calloc(bytes, *length, 1, "a block"));
    memcpy(*bytes, block, *length);
    return FERKD_OK;
}

/* Threads pack the images of a chunk, one writes them in order. */
static ferkd_status pack_chunk(const ferkd_store_speed_options *o, const fk_codec *c, chunk *to,
                               uint32_t first, uint32_t n)
{
    fk_fault fault = {0};

#pragma omp parallel
    {
        fk_packer *p = NULL;
        uint16_t *class = NULL;
        float *prob = NULL;
        ferkd_status st = fk_packer_new(&p, c);
        if (st == FERKD_OK)
            st = fk_calloc(&class, o->topk, sizeof *class, "a label");
        if (st == FERKD_OK)
            st = fk_calloc(&prob, o->topk, sizeof *prob, "a label");
#pragma omp for schedule(dynamic, 8)
        for (uint32_t i = 0; i < n; i++) {
            if (st == FERKD_OK)
                st = pack_image(o, p, first + i, class, prob, &to->bytes[i], &to->length[i]);
        }
        if (st != FERKD_OK) {
#pragma omp critical
            fk_fault_take(&fault, st);
        }
        free(class);
        free(prob);
        fk_packer_free(&p);
    }
    return fault.status == FERKD_OK ? FERKD_OK : fk_fault_put(&fault);
}

static ferkd_status write_chunk(fk_store_writer *w, chunk *c, uint32_t n)
{
    ferkd_status st = FERKD_OK;

    for (uint32_t i = 0; i < n; i++) {
        if (st == FERKD_OK && c->bytes[i])
            st = fk_store_writer_append(w, c->bytes[i], c->length[i]);
        free(c->bytes[i]);
        c->bytes[i] = NULL;
    }
    return st;
}

static ferkd_status write_store(const ferkd_store_speed_options *o, const ferkd_watch *watch)
{
    ferkd_store_info info = {.images = o->images,
                             .regions = o->regions,
                             .topk = o->topk,
                             .classes = o->classes,
                             .teacher_classes = o->classes,
                             .prob_bits = o->prob_bits,
                             .sampler = ferkd_sampler_defaults(),
                             .teacher_px = 224,
                             .filter = FERKD_BICUBIC,
                             .temperature = 1.0,
                             .teacher = "made up",
                             .dataset = "made up"};
    fk_store_writer *w = NULL;
    chunk c = {{0}, {0}};
    ferkd_status st = FERKD_OK;

    info.sampler.seed = o->seed;
    TRY(fk_store_writer_open(&w, o->path, &info, CHUNK, true));
    for (uint32_t first = 0; first < o->images; first += CHUNK) {
        uint32_t n = (uint32_t)fk_min_size(CHUNK, o->images - first);
        TRY_DONE(pack_chunk(o, fk_store_writer_codec(w), &c, first, n));
        TRY_DONE(write_chunk(w, &c, n));
        if (watch && watch->progress)
            watch->progress(watch->ctx, "write", first + n, o->images, "");
        if (watch && watch->stop && watch->stop(watch->ctx)) {
            st = fk_fail(FERKD_STOPPED, "stopped");
            goto done;
        }
    }
    st = fk_store_writer_commit(w);
done:
    for (uint32_t i = 0; i < CHUNK; i++)
        free(c.bytes[i]);
    fk_store_writer_close(&w);
    return st;
}

/* --- reading ----------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return (*x > *y) - (*x < *y);
}

/* Memory that belongs to the process alone, bytes: mapped files do not count. */
static double own_bytes(void)
{
    char line[256];
    double kib = 0.0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtod(line + 8, NULL);
    }
    if (f)
        (void)fclose(f);
    return kib * 1024.0;
}

static ferkd_status time_openings(const char *path, ferkd_store_speed *out)
{
    double ms[OPENINGS];

    for (int i = 0; i < OPENINGS; i++) {
        ferkd_store *s = NULL;
        double before = own_bytes();
        double start = fk_now_s();
        TRY(ferkd_store_open(&s, path));
        ms[i] = 1e3 * (fk_now_s() - start);
        out->open_bytes = fmax(out->open_bytes, own_bytes() - before);
        ferkd_store_close(&s);
    }
    qsort(ms, OPENINGS, sizeof *ms, by_size);
    out->open_ms = ms[OPENINGS / 2];
    return FERKD_OK;
}

typedef enum how { SPARSE, DENSE, VISIT } how;

/* Labels a second, by images in random order. */
static ferkd_status time_reading(const ferkd_store *s, how way, double *rate)
{
    const ferkd_store_info *info = ferkd_store_about(s);
    fk_rng rng = fk_rng_at(info->sampler.seed, FK_RNG_TEST, 1, (uint32_t)way);
    fk_labels l = {0};
    float *dense = NULL;
    double labels = 0.0;
    double seconds = 0.0;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_labels_init(&l, s));
    TRY_DONE(fk_calloc(&dense, info->label_classes, sizeof *dense, "a label"));
    double start = fk_now_s();
    while (seconds < READ_FOR_S) {
        for (int i = 0; i < 64; i++) {
            TRY_DONE(fk_labels_read(&l, s, fk_rng_below(&rng, info->images)));
            for (uint32_t r = 0; way == DENSE && r < l.n; r++)
                ferkd_soft_label_expand(&l.told[r], info->label_classes, dense);
            if (way == VISIT)
                ferkd_soft_label_expand(&l.told[fk_rng_below(&rng, l.n)], info->label_classes,
                                        dense);
            labels += way == VISIT ? 1 : l.n;
        }
        seconds = fk_now_s() - start;
    }
    *rate = labels / seconds;
done:
    fk_labels_fini(&l);
    free(dense);
    return st;
}

/* --- what packing loses --------------------------------------------------------------------- */

typedef struct distortion {
    uint16_t *class;       /* [topk]: a label as it was made up */
    float *prob;           /* [topk] */
    float *before, *after; /* [classes] */
    uint64_t labels;
} distortion;

static void compare_label(distortion *d, const ferkd_store_info *info, const fk_synthetic *image,
                          uint32_t region, const ferkd_soft_label *stored, ferkd_store_speed *out)
{
    ferkd_soft_label made = {.index = d->class, .prob = d->prob, .rest = 1.0f};
    double variation = 0.0;

    fk_synthetic_label(image, region, info->topk, info->label_classes, d->class, d->prob);
    while (made.k < info->topk && d->prob[made.k] > 0.0f)
        made.rest -= d->prob[made.k++];
    made.rest = fmaxf(made.rest, 0.0f);
    ferkd_soft_label_expand(&made, info->label_classes, d->before);
    ferkd_soft_label_expand(stored, info->label_classes, d->after);
    for (uint32_t k = 0; k < made.k; k++) {
        double change = fabs((double)d->after[d->class[k]] - (double)d->before[d->class[k]]);
        out->worst_probability = fmax(out->worst_probability, change);
    }
    for (uint32_t c = 0; c < info->label_classes; c++)
        variation += 0.5 * fabs((double)d->after[c] - (double)d->before[c]);
    out->worst_variation = fmax(out->worst_variation, variation);
    out->mean_variation += variation;
    d->labels++;
}

/* Of the first images' labels. */
static ferkd_status measure_distortion(const ferkd_store *s, ferkd_store_speed *out)
{
    const ferkd_store_info *info = ferkd_store_about(s);
    distortion d = {.labels = 0};
    fk_labels l = {0};
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_labels_init(&l, s));
    TRY_DONE(fk_calloc(&d.class, info->topk, sizeof *d.class, "a label"));
    TRY_DONE(fk_calloc(&d.prob, info->topk, sizeof *d.prob, "a label"));
    TRY_DONE(fk_calloc(&d.before, info->label_classes, sizeof *d.before, "a label"));
    TRY_DONE(fk_calloc(&d.after, info->label_classes, sizeof *d.after, "a label"));
    for (uint32_t i = 0; i < info->images && i < COMPARED; i++) {
        fk_synthetic image;
        fk_synthetic_image(&image, info->sampler.seed, i, info->label_classes);
        TRY_DONE(fk_labels_read(&l, s, i));
        for (uint32_t r = 0; r < l.n; r++)
            compare_label(&d, info, &image, r, &l.told[r], out);
    }
    out->mean_variation /= (double)d.labels;
done:
    fk_labels_fini(&l);
    free(d.class);
    free(d.prob);
    free(d.before);
    free(d.after);
    return st;
}

static ferkd_status read_store(const char *path, ferkd_store_speed *out)
{
    ferkd_store *s = NULL;
    uint32_t *bad = NULL;
    uint32_t n_bad;
    ferkd_status st = FERKD_OK;

    TRY(time_openings(path, out));
    TRY(ferkd_store_open(&s, path));
    const ferkd_store_info *info = ferkd_store_about(s);
    out->file_bytes = (double)info->file_bytes;
    out->bytes_per_region = out->file_bytes / ((double)info->images * info->regions);
    double start = fk_now_s();
    TRY_DONE(ferkd_store_verify(s, &bad, &n_bad));
    out->verify_s = fk_now_s() - start;
    if (n_bad)
        st = fk_fail(FERKD_BUG, "%s: %u blocks of a store just written are damaged", path, n_bad);
    if (st == FERKD_OK)
        st = time_reading(s, SPARSE, &out->labels_per_s);
    if (st == FERKD_OK)
        st = time_reading(s, DENSE, &out->dense_labels_per_s);
    if (st == FERKD_OK)
        st = time_reading(s, VISIT, &out->visits_per_s);
    if (st == FERKD_OK)
        st = measure_distortion(s, out);
done:
    free(bad);
    ferkd_store_close(&s);
    return st;
}

ferkd_status ferkd_store_measure(const ferkd_store_speed_options *o, const ferkd_watch *watch,
                                 ferkd_store_speed *result)
{
    double start = fk_now_s();

    *result = (ferkd_store_speed){0};
    ferkd_status st = write_store(o, watch);
    result->write_s = fk_now_s() - start;
    if (st == FERKD_OK)
        st = read_store(o->path, result);
    if (!o->keep) {
        char *part = NULL;
        if (fk_asprintf(&part, "%s.part", o->path) == FERKD_OK)
            (void)unlink(part);
        free(part);
        (void)unlink(o->path);
    }
    return st;
}
