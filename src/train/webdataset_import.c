/* WebDataset's tar files as a store: ours, whose header came along, or others' about a data set that is given. */
#include "base/compat.h"

#include "train/webdataset.h"

#include <jansson.h>

#include "base/limits.h"
#include "base/mem.h"
#include "exchange/npy.h"
#include "exchange/tar.h"
#include "label/packer.h"
#include "label/store_format.h"
#include "label/store_writer.h"

#define MAX_KEY 1024

typedef enum array { BOXES, FLIPS, CLASSES, PROBS, MASS, N_ARRAYS } array;

static const char *const ARRAY_NAMES[N_ARRAYS] = {"boxes.npy", "flips.npy", "classes.npy",
                                                  "probs.npy", "mass.npy"};

/* The members of one key. */
typedef struct sample {
    char key[MAX_KEY];
    json_t *json; /* NULL: there is none */
    fk_shape shape[N_ARRAYS];
    float *value[N_ARRAYS]; /* NULL: there is none */
} sample;

typedef struct name {
    const char *text; /* of the data set's image, to its first dot */
    uint32_t n, image;
} name;

typedef struct job {
    const ferkd_dataset *data; /* NULL: the header says all */
    uint8_t header[FK_STORE_HEADER_BYTES];
    bool has_header;
    ferkd_store_info info;
    const char *path; /* of the tar at hand, and of the store */
    const char *out;
    fk_codec codec;
    fk_packer *packer; /* NULL: nothing is known yet */
    uint8_t **block;   /* [images]: the first four bytes of each are its length */
    name *names;       /* [images], sorted; with data */
    uint16_t *class;   /* [topk] */
    float *prob;       /* [topk] */
} job;

bool fk_wds_unhex(const char *text, uint8_t *bytes, size_t n)
{
    if (strlen(text) != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        char *end;
        if (pair[0] == '-' || pair[0] == '+' || pair[0] == ' ')
            return false;
        bytes[i] = (uint8_t)strtoul(pair, &end, 16);
        if (*end != '\0')
            return false;
    }
    return true;
}

/* --- the sample ---------------------------------------------------------------------------------- */

static void sample_clear(sample *s)
{
    json_decref(s->json);
    s->json = NULL;
    for (int i = 0; i < N_ARRAYS; i++) {
        free(s->value[i]);
        s->value[i] = NULL;
    }
}

static ferkd_status sample_wrong(const job *j, const sample *s, const char *why)
{
    return fk_fail(FERKD_CORRUPT, "%s: %s: %s", j->path, s->key, why);
}

static ferkd_status sample_take(const job *j, sample *s, const char *tail, const uint8_t *bytes,
                                size_t n)
{
    char label[MAX_KEY + 64];

    if (strcmp(tail, "json") == 0 && !s->json) {
        s->json = json_loadb((const char *)bytes, n, 0, NULL);
        return s->json ? FERKD_OK : sample_wrong(j, s, "its .json is no JSON");
    }
    for (int i = 0; i < N_ARRAYS; i++) {
        if (strcmp(tail, ARRAY_NAMES[i]) != 0 || s->value[i])
            continue;
        (void)snprintf(label, sizeof label, "%s.%s", s->key, tail);
        return fk_npy_parse(label, bytes, n, &s->shape[i], &s->value[i]);
    }
    return FERKD_OK; /* pixels, or what we do not know */
}

static bool shaped(const sample *s, array a, uint32_t regions, uint32_t columns)
{
    const fk_shape *h = &s->shape[a];

    return s->value[a] && h->d[0] == regions &&
           (columns ? h->n == 2 && h->d[1] == columns : h->n == 1);
}

static ferkd_status check_shapes(const job *j, const sample *s)
{
    uint32_t regions = j->info.regions;

    if (!shaped(s, CLASSES, regions, j->info.topk) || !shaped(s, PROBS, regions, j->info.topk))
        return sample_wrong(j, s, "classes.npy and probs.npy are not [regions][k], as others are");
    if (j->info.has_boxes && !shaped(s, BOXES, regions, 4))
        return sample_wrong(j, s, "boxes.npy is not [regions][4]");
    if (s->value[FLIPS] && !shaped(s, FLIPS, regions, 0))
        return sample_wrong(j, s, "flips.npy is not [regions]");
    if (j->info.teacher_classes != j->info.classes && !shaped(s, MASS, regions, 2))
        return sample_wrong(j, s, "mass.npy is not [regions][2]");
    return FERKD_OK;
}

/* --- which image ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const name *x = a;
    const name *y = b;
    int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);

    return c ? c : x->n < y->n ? -1 : x->n > y->n;
}

/* The place of the first dot of the file's name, or of its end. */
static uint32_t stem(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash ? slash + 1 : path;

    return (uint32_t)(file - path) + (uint32_t)strcspn(file, ".");
}

static ferkd_status index_names(job *j)
{
    TRY(fk_calloc(&j->names, j->info.images, sizeof *j->names, "names"));
    for (uint32_t i = 0; i < j->info.images; i++) {
        const char *text = ferkd_dataset_name(j->data, i);
        j->names[i] = (name){text, stem(text), i};
    }
    qsort(j->names, j->info.images, sizeof *j->names, by_name);
    return FERKD_OK;
}

/* By its number, where the header came along; else by "file", or the key, as the data set's names are. */
static ferkd_status find_image(const job *j, const sample *s, uint32_t *image)
{
    const json_t *number = json_object_get(s->json, "image");
    const char *file = json_string_value(json_object_get(s->json, "file"));
    json_int_t n = json_integer_value(number);

    if (j->has_header) {
        if (!json_is_integer(number) || n < 0 || n >= j->info.images)
            return sample_wrong(j, s, "its .json does not say which \"image\" it is");
        *image = (uint32_t)n;
        return FERKD_OK;
    }
    file = file ? file : s->key;
    const name key = {file, stem(file), 0};
    const name *found = bsearch(&key, j->names, j->info.images, sizeof key, by_name);
    if (!found)
        return sample_wrong(j, s, "the data set has no image of this name");
    *image = found->image;
    return FERKD_OK;
}

static ferkd_status truth_of(const job *j, const sample *s, uint32_t image, uint32_t *truth)
{
    const json_t *class = json_object_get(s->json, "class");
    json_int_t c = json_integer_value(class);

    if (j->data) {
        *truth = ferkd_dataset_label(j->data, image);
        return FERKD_OK;
    }
    if (!json_is_integer(class) || c < 0 || c >= j->info.classes)
        return sample_wrong(j, s, "its .json does not say its \"class\"");
    *truth = (uint32_t)c;
    return FERKD_OK;
}

/* --- its labels ----------------------------------------------------------------------------------- */

static ferkd_status box_at(const job *j, const sample *s, uint32_t r, ferkd_region *out)
{
    const float *b = s->value[BOXES] + (size_t)r * 4;

    for (int i = 0; i < 4; i++) {
        if (!(b[i] >= (i < 2 ? 0.0f : 1.0f) && b[i] <= 65535.0f))
            return sample_wrong(j, s, "a box leaves its image");
    }
    out->box = (ferkd_box){(uint32_t)b[0], (uint32_t)b[1], (uint32_t)b[2], (uint32_t)b[3]};
    out->flip = s->value[FLIPS] && s->value[FLIPS][r] != 0.0f;
    return FERKD_OK;
}

/* Most probable first, each class once; what is 0 comes last, where the label ends. */
static ferkd_status top_at(job *j, const sample *s, uint32_t r)
{
    uint32_t k = j->info.topk;
    const float *c = s->value[CLASSES] + (size_t)r * k;
    const float *p = s->value[PROBS] + (size_t)r * k;
    float sum = 0.0f;

    for (uint32_t i = 0; i < k; i++) {
        if (!(p[i] >= 0.0f && p[i] <= 1.0f) ||
            !(c[i] >= 0.0f && c[i] < (float)j->info.label_classes))
            return sample_wrong(j, s, "a class or a probability is out of range");
        sum += p[i];
        fk_label_insert(j->class, j->prob, i, (uint16_t)c[i], p[i]);
        for (uint32_t b = 0; p[i] > 0.0f && b < i; b++) {
            if (c[b] == c[i] && p[b] > 0.0f)
                return sample_wrong(j, s, "a label names a class twice");
        }
    }
    if (sum > 1.001f)
        return sample_wrong(j, s, "the probabilities of a label sum to more than 1");
    return FERKD_OK;
}

static ferkd_status add_regions(job *j, const sample *s)
{
    bool outside = j->info.teacher_classes != j->info.classes;

    TRY(check_shapes(j, s));
    for (uint32_t r = 0; r < j->info.regions; r++) {
        ferkd_region at = {.flip = false};
        float inside = 1.0f;
        TRY(top_at(j, s, r));
        if (j->info.has_boxes) {
            TRY(box_at(j, s, r, &at));
            fk_packer_region(j->packer, &at);
        }
        float most = j->prob[0];
        if (outside) {
            inside = s->value[MASS][2 * (size_t)r];
            most = s->value[MASS][2 * (size_t)r + 1];
            if (!(inside >= 0.0f && inside <= 1.0f && most >= 0.0f && most <= 1.0f))
                return sample_wrong(j, s, "a mass is no probability");
        }
        fk_packer_add_top(j->packer, j->class, j->prob, inside, most);
    }
    return FERKD_OK;
}

static ferkd_status keep_block(job *j, uint32_t image, fk_block_status status, uint32_t truth)
{
    const uint8_t *block;
    uint32_t n;

    fk_packer_seal(j->packer, image, status, truth, &block, &n);
    TRY(fk_calloc(&j->block[image], n, 1, "labels"));
    memcpy(j->block[image], block, n);
    return FERKD_OK;
}

/* --- the store ------------------------------------------------------------------------------------ */

static ferkd_status settings_of_data(job *j, const sample *s)
{
    const fk_shape *h = &s->shape[CLASSES];

    if (!j->data)
        return fk_fail(FERKD_USAGE,
                       "%s: no member %s, which ferkd writes: the images (--data) are "
                       "needed",
                       j->path, FK_WDS_SETTINGS);
    if (!s->value[CLASSES] || !s->value[BOXES] || h->n != 2)
        return sample_wrong(j, s, "boxes.npy and classes.npy, [regions][k], are needed");
    j->info = fk_store_info_imported(j->data, (uint32_t)h->d[0], (uint32_t)h->d[1], "WebDataset");
    return index_names(j);
}

static ferkd_status begin(job *j, const sample *first)
{
    if (!j->has_header)
        TRY(settings_of_data(j, first));
    TRY(fk_codec_of(&j->codec, &j->info));
    TRY(fk_packer_new(&j->packer, &j->codec));
    TRY(fk_calloc(&j->class, j->info.topk, sizeof *j->class, "a label"));
    TRY(fk_calloc(&j->prob, j->info.topk, sizeof *j->prob, "a label"));
    return fk_calloc(&j->block, j->info.images, sizeof *j->block, "labels");
}

/* Each file has the settings; all must be the same. */
static ferkd_status take_settings(job *j, const uint8_t *bytes, size_t n)
{
    uint8_t header[FK_STORE_HEADER_BYTES];
    fk_codec codec;
    json_t *root = json_loadb((const char *)bytes, n, 0, NULL);
    const char *hex = json_string_value(json_object_get(root, "header"));
    bool whole = hex && fk_wds_unhex(hex, header, sizeof header);

    json_decref(root);
    if (!whole)
        return fk_fail(FERKD_CORRUPT, "%s: %s: no header of a store", j->path, FK_WDS_SETTINGS);
    if (j->has_header)
        return memcmp(header, j->header, sizeof header) == 0
                   ? FERKD_OK
                   : fk_fail(FERKD_USAGE, "%s: of another store than the files before it", j->path);
    if (j->packer)
        return fk_fail(FERKD_CORRUPT, "%s: %s stands behind samples", j->path, FK_WDS_SETTINGS);
    memcpy(j->header, header, sizeof header);
    TRY(fk_store_header_read(j->header, sizeof j->header, &j->info, &codec, j->path));
    j->info.part = j->info.parts = j->info.first = 0;
    j->info.here = j->info.images;
    j->has_header = true;
    return FERKD_OK;
}

static ferkd_status finish_sample(job *j, sample *s)
{
    uint32_t image = 0;
    uint32_t truth = 0;
    bool labelled = s->value[CLASSES] != NULL;

    if (!s->json && !labelled)
        return FERKD_OK; /* a sample of something else */
    if (!j->packer)
        TRY(begin(j, s));
    TRY(find_image(j, s, &image));
    TRY(truth_of(j, s, image, &truth));
    if (j->block[image])
        return sample_wrong(j, s, "its image was there before");
    if (labelled)
        TRY(add_regions(j, s));
    return keep_block(j, image, labelled ? FK_BLOCK_LABELLED : FK_BLOCK_SKIPPED, truth);
}

static ferkd_status read_tar(job *j, fk_tar_reader *tar, sample *s)
{
    const char *member;
    const uint8_t *bytes;
    size_t n;

    for (;;) {
        TRY(fk_tar_next(tar, &member, &bytes, &n));
        uint32_t key = member ? stem(member) : 0;
        if (!member || key != strlen(s->key) || memcmp(member, s->key, key) != 0) {
            TRY(finish_sample(j, s));
            sample_clear(s);
            s->key[0] = '\0';
        }
        if (!member)
            return FERKD_OK;
        if (strcmp(member, FK_WDS_SETTINGS) == 0) {
            TRY(take_settings(j, bytes, n));
            continue;
        }
        if (key >= MAX_KEY || member[key] == '\0')
            continue;
        (void)snprintf(s->key, sizeof s->key, "%.*s", (int)key, member);
        TRY(sample_take(j, s, member + key + 1, bytes, n));
    }
}

/* Every image has a block. */
static ferkd_status complete(job *j, const ferkd_watch *watch)
{
    for (uint32_t i = 0; i < j->info.images; i++) {
        if (!j->block[i] && j->has_header)
            return fk_fail(FERKD_ABSENT, "image %u of %u is in none of the files; give all of them",
                           i, j->info.images);
        if (!j->block[i]) {
            char text[256];
            (void)snprintf(text, sizeof text, "%s: no labels", ferkd_dataset_name(j->data, i));
            if (watch && watch->message)
                watch->message(watch->ctx, text);
            TRY(keep_block(j, i, FK_BLOCK_SKIPPED, ferkd_dataset_label(j->data, i)));
        }
    }
    return FERKD_OK;
}

/* All is read and in order: only now is anything of that name touched. */
static ferkd_status write_blocks(job *j)
{
    fk_store_writer *w = NULL;
    ferkd_status st = fk_store_writer_open(&w, j->out, &j->info, 1, true);

    for (uint32_t i = 0; i < j->info.images && st == FERKD_OK; i++)
        st = fk_store_writer_append(w, j->block[i], fk_u32le(j->block[i]));
    if (st == FERKD_OK)
        st = fk_store_writer_commit(w);
    fk_store_writer_close(&w);
    return st;
}

ferkd_status ferkd_webdataset_import(const char *const *paths, uint32_t n,
                                     const ferkd_dataset *data, const char *path,
                                     const ferkd_watch *watch)
{
    job j = {.data = data, .out = path};
    sample s = {.key = ""};
    ferkd_status st = FERKD_OK;

    for (uint32_t i = 0; i < n; i++) {
        fk_tar_reader *tar = NULL;
        j.path = paths[i];
        st = fk_tar_open(&tar, paths[i]);
        if (st == FERKD_OK)
            st = read_tar(&j, tar, &s);
        fk_tar_close(&tar);
        if (st != FERKD_OK)
            goto done;
        if (watch && watch->progress)
            watch->progress(watch->ctx, "import", i + 1, n, "");
    }
    st = j.packer ? complete(&j, watch)
                  : fk_fail(FERKD_ABSENT, "%s: no labels in it", n ? paths[0] : path);
    if (st == FERKD_OK)
        st = write_blocks(&j);
done:
    for (uint32_t i = 0; j.block && i < j.info.images; i++)
        free(j.block[i]);
    free(j.block);
    fk_packer_free(&j.packer);
    sample_clear(&s);
    free(j.names);
    free(j.class);
    free(j.prob);
    return st;
}
