/* Importing: coordinates become boxes, whatever the label type becomes the top k. */
#include "base/compat.h"

#include "train/fkd.h"

#include "base/file.h"
#include "base/mem.h"
#include "label/packer.h"
#include "label/store_writer.h"

#define MOST_ORI 1024u

typedef struct job {
    const ferkd_dataset *data;
    const char *folder;
    fk_fkd_type type;
    uint32_t regions, topk, classes;
    fk_packer *packer;
    ferkd_image image;
    uint8_t *file;
    size_t file_cap;
    float *coords, *flips, *labels; /* of the image at hand */
    size_t coords_cap, flips_cap, labels_cap;
    uint16_t *class;
    float *prob; /* [topk] */
} job;

bool fk_fkd_parse(const char *word, fk_fkd_type *out)
{
    static const char *const names[] = {"ori", "hard", "smoothing", "marginal_smoothing",
                                        "marginal_renorm"};

    for (size_t i = FK_COUNT(names); i-- > 0;) {
        size_t n = strlen(names[i]);
        const char *tail = word + n;
        if (strncmp(word, names[i], n) == 0 &&
            (*tail == '\0' || (i >= 3 && tail[0] == '_' && tail[1] == 'k'))) {
            *out = (fk_fkd_type)i;
            return true;
        }
    }
    return false;
}

/* --- one archive ------------------------------------------------------------------------------- */

ferkd_status fk_fkd_path(const ferkd_dataset *data, const char *folder, uint32_t image, char **out)
{
    const char *root = ferkd_dataset_path(data);
    const char *name = ferkd_dataset_name(data, image);
    size_t n = strlen(root);

    while (n > 1 && root[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && root[from - 1] != '/')
        from--;
    return fk_asprintf(out, "%s/%.*s/%.*s.tar", folder, (int)(n - from), root + from,
                       (int)strcspn(name, "."), name);
}

/* There, or without SPLIT. */
static ferkd_status find_archive(const job *j, uint32_t image, char **out)
{
    const char *name = ferkd_dataset_name(j->data, image);
    char *first = NULL;

    TRY(fk_fkd_path(j->data, j->folder, image, &first));
    if (fk_is_file(first)) {
        *out = first;
        return FERKD_OK;
    }
    ferkd_status st = fk_asprintf(out, "%s/%.*s.tar", j->folder, (int)strcspn(name, "."), name);
    if (st == FERKD_OK && !fk_is_file(*out)) {
        st = fk_fail(FERKD_ABSENT, "%s: no labels there for %s", first, name);
        free(*out);
        *out = NULL;
    }
    free(first);
    return st;
}

static ferkd_status take(const fk_torch_file *f, const char *path, const char *name, int n_dims,
                         float **values, size_t *cap, const fk_torch_tensor **out)
{
    const fk_torch_tensor *t = fk_torch_find(f, name);

    if (!t || (n_dims && t->n_dims != n_dims))
        return fk_fail(FERKD_CORRUPT,
                       "%s: item %s is not as FKD writes it (coordinates, flips, labels)", path,
                       name);
    TRY(fk_grow(values, cap, t->count + 1, sizeof **values));
    fk_torch_values(t, *values);
    *out = t;
    return FERKD_OK;
}

/* How many classes a label of this type tells; 0: the array is of another type. */
static uint32_t told(const job *j, const fk_torch_tensor *t)
{
    switch (j->type) {
    case FK_FKD_ORI:
        return t->n_dims == 2 && t->dims[1] == j->classes && j->classes <= MOST_ORI ? j->classes
                                                                                    : 0;
    case FK_FKD_HARD:
        return t->n_dims == 1 ? 1 : 0;
    case FK_FKD_SMOOTHING:
        return t->n_dims == 2 && t->dims[1] == 2 ? 1 : 0;
    case FK_FKD_MARGINAL_SMOOTHING:
    case FK_FKD_MARGINAL_RENORM:
        return t->n_dims == 3 && t->dims[1] == 2 && t->dims[2] >= 1 && t->dims[2] <= j->classes
                   ? (uint32_t)t->dims[2]
                   : 0;
    }
    return 0;
}

static ferkd_status read_archive(job *j, const char *path, uint32_t *regions, uint32_t *topk)
{
    fk_torch_file *f = NULL;
    const fk_torch_tensor *coords = NULL;
    const fk_torch_tensor *flips = NULL;
    const fk_torch_tensor *labels = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_torch_open(&f, path));
    TRY_DONE(take(f, path, "0", 2, &j->coords, &j->coords_cap, &coords));
    TRY_DONE(take(f, path, "1", 1, &j->flips, &j->flips_cap, &flips));
    TRY_DONE(take(f, path, "2", 0, &j->labels, &j->labels_cap, &labels));
    *regions = (uint32_t)coords->dims[0];
    *topk = told(j, labels);
    if (*topk == 0)
        st = fk_fail(FERKD_USAGE, "%s: its labels are of another type than said", path);
    else if (coords->dims[1] != 4 || coords->dims[0] < 1 || flips->dims[0] != coords->dims[0] ||
             labels->dims[0] != coords->dims[0])
        st = fk_fail(FERKD_CORRUPT, "%s: coordinates, flips and labels of different numbers", path);
done:
    fk_torch_close(&f);
    return st;
}

/* --- one region -------------------------------------------------------------------------------- */

/* Fractions top, left, height, width of the image; each corner rounded, as Pillow's crop does. */
static ferkd_status box_of(const job *j, const float *c, ferkd_region *out)
{
    double w = j->image.width;
    double h = j->image.height;
    double top = rint((double)c[0] * h);
    double left = rint((double)c[1] * w);
    double bottom = rint((double)c[0] * h + (double)c[2] * h);
    double right = rint((double)c[1] * w + (double)c[3] * w);

    if (!(top >= 0 && left >= 0 && bottom > top && right > left && bottom <= h && right <= w) ||
        w > 65535 || h > 65535)
        return fk_fail(FERKD_CORRUPT, "a region leaves its image of %u x %u pixels", j->image.width,
                       j->image.height);
    out->box = (ferkd_box){(uint32_t)top, (uint32_t)left, (uint32_t)(bottom - top),
                           (uint32_t)(right - left)};
    return FERKD_OK;
}

static ferkd_status put(job *j, uint32_t k, float class, float prob)
{
    if (!(class >= 0.0f) || (uint32_t) class >= j->classes || !isfinite(prob))
        return fk_fail(FERKD_CORRUPT, "a label of class %g, of %u", (double)class, j->classes);
    j->class[k] = (uint16_t) class;
    j->prob[k] = fminf(fmaxf(prob, 0.0f), 1.0f);
    return FERKD_OK;
}

/* Most probable first; ties and arrays of any order. */
static void sort_label(job *j)
{
    for (uint32_t i = 1; i < j->topk; i++)
        fk_label_insert(j->class, j->prob, i, j->class[i], j -> prob[i]);
}

static ferkd_status label_of(job *j, uint32_t r)
{
    const float *v = j->labels;
    uint32_t k = j->topk;
    float sum = 0.0f;

    switch (j->type) {
    case FK_FKD_ORI:
        for (uint32_t c = 0; c < k; c++)
            TRY(put(j, c, (float)c, v[(size_t)r * k + c]));
        break;
    case FK_FKD_HARD:
        TRY(put(j, 0, v[r], 1.0f));
        break;
    case FK_FKD_SMOOTHING:
        TRY(put(j, 0, v[2 * r], v[2 * r + 1]));
        break;
    case FK_FKD_MARGINAL_SMOOTHING:
    case FK_FKD_MARGINAL_RENORM:
        for (uint32_t c = 0; c < k; c++)
            sum += v[(size_t)r * 2 * k + k + c];
        for (uint32_t c = 0; c < k; c++) {
            float p = v[(size_t)r * 2 * k + k + c];
            p = j->type == FK_FKD_MARGINAL_RENORM ? p / fmaxf(sum, 1e-12f) : p;
            TRY(put(j, c, v[(size_t)r * 2 * k + c], p));
        }
        break;
    }
    sort_label(j);
    return FERKD_OK;
}

/* --- the store --------------------------------------------------------------------------------- */

static ferkd_status import_image(job *j, uint32_t image)
{
    char *path = NULL;
    uint32_t regions = 0;
    uint32_t topk = 0;
    ferkd_status st = FERKD_OK;

    TRY(find_archive(j, image, &path));
    TRY_DONE(read_archive(j, path, &regions, &topk));
    if (regions != j->regions || topk != j->topk) {
        st = fk_fail(FERKD_CORRUPT, "%s: %u regions of top %u, others have %u of top %u", path,
                     regions, topk, j->regions, j->topk);
        goto done;
    }
    TRY_DONE(ferkd_dataset_image(j->data, image, &j->image, &j->file, &j->file_cap, NULL));
    for (uint32_t r = 0; r < regions; r++) {
        ferkd_region at = {.flip = j->flips[r] != 0.0f};
        TRY_DONE(box_of(j, j->coords + (size_t)r * 4, &at));
        TRY_DONE(label_of(j, r));
        fk_packer_region(j->packer, &at);
        fk_packer_add_top(j->packer, j->class, j->prob, 1.0f, j->prob[0]);
    }
done:
    free(path);
    return st;
}

/* The shape of all archives, from the first that is there. */
static ferkd_status look_at_first(job *j)
{
    ferkd_status st = FERKD_ABSENT;

    for (uint32_t i = 0; st == FERKD_ABSENT && i < ferkd_dataset_images(j->data); i++) {
        char *path = NULL;
        st = find_archive(j, i, &path);
        if (st == FERKD_OK)
            st = read_archive(j, path, &j->regions, &j->topk);
        free(path);
    }
    return st;
}

static ferkd_status run(job *j, fk_store_writer *w, const ferkd_watch *watch)
{
    uint32_t images = ferkd_dataset_images(j->data);

    while (fk_store_writer_next(w) < images) {
        uint32_t image = fk_store_writer_next(w);
        const uint8_t *block;
        uint32_t n;
        ferkd_status st = import_image(j, image);
        if (st != FERKD_OK && st != FERKD_ABSENT)
            return st;
        if (st == FERKD_ABSENT && watch && watch->message)
            watch->message(watch->ctx, ferkd_last_error());
        fk_packer_seal(j->packer, image, st == FERKD_OK ? FK_BLOCK_LABELLED : FK_BLOCK_SKIPPED,
                       ferkd_dataset_label(j->data, image), &block, &n);
        TRY(fk_store_writer_append(w, block, n));
        if (watch && watch->progress)
            watch->progress(watch->ctx, "import", image + 1, images, "");
        if (watch && watch->stop && watch->stop(watch->ctx) && image + 1 < images)
            return fk_fail(FERKD_STOPPED, "stopped after %u of %u images; the same command goes on",
                           image + 1, images);
    }
    return fk_store_writer_commit(w);
}

ferkd_status ferkd_fkd_import(const ferkd_dataset *data, const char *folder, const char *type,
                              const char *path, const ferkd_watch *watch)
{
    job j = {.data = data, .folder = folder, .classes = ferkd_dataset_classes(data)};
    fk_store_writer *w = NULL;
    ferkd_status st = FERKD_OK;

    if (!fk_fkd_parse(type, &j.type))
        return fk_fail(
            FERKD_USAGE,
            "\"%s\" is no label type of FKD: ori, hard, smoothing, marginal_smoothing_k5 (any "
            "k), marginal_renorm",
            type);
    TRY_DONE(look_at_first(&j));
    ferkd_store_info info = fk_store_info_imported(data, j.regions, j.topk, "FKD archives");
    memcpy(info.teacher_fingerprint, type, fk_min_size(strlen(type), 16));
    TRY_DONE(fk_store_writer_open(&w, path, &info, 1, false));
    if (!w)
        goto done;
    TRY_DONE(fk_packer_new(&j.packer, fk_store_writer_codec(w)));
    TRY_DONE(fk_calloc(&j.class, j.topk, sizeof *j.class, "a label"));
    TRY_DONE(fk_calloc(&j.prob, j.topk, sizeof *j.prob, "a label"));
    TRY_DONE(run(&j, w, watch));
done:
    fk_store_writer_close(&w);
    fk_packer_free(&j.packer);
    ferkd_image_fini(&j.image);
    free(j.file);
    free(j.coords);
    free(j.flips);
    free(j.labels);
    free(j.class);
    free(j.prob);
    return st;
}
