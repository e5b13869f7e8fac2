/* A store as WebDataset's tar files. */
#include "base/compat.h"

#include "train/webdataset.h"

#include <jansson.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "exchange/npy.h"
#include "exchange/tar.h"
#include "label/labels.h"
#include "label/store_format.h"

typedef struct job {
    const ferkd_store *store;
    const ferkd_dataset *data;
    const ferkd_webdataset_options *o;
    const char *path;
    fk_tar_writer *tar;
    fk_labels labels;
    ferkd_image image;
    uint8_t *file;
    size_t file_cap;
    int32_t *boxes;    /* [R][4] */
    uint8_t *flips;    /* [R] */
    uint16_t *classes; /* [R][K] */
    float *probs;      /* [R][K] */
    float *mass;       /* [R][2] */
} job;

void fk_wds_hex(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

/* --- members ------------------------------------------------------------------------------------ */

static ferkd_status add(job *j, uint32_t image, const char *tail, const void *bytes, size_t n)
{
    char name[64];

    (void)snprintf(name, sizeof name, "%09u.%s", image, tail);
    return fk_tar_add(j->tar, name, bytes, n);
}

static ferkd_status add_array(job *j, uint32_t image, const char *tail, const char *type,
                              uint32_t columns, const void *values)
{
    fk_shape shape = {columns > 0 ? 2 : 1, {ferkd_store_about(j->store)->regions, columns}};
    uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(fk_npy_format(&bytes, &n, type, &shape, values));
    ferkd_status st = add(j, image, tail, bytes, n);
    free(bytes);
    return st;
}

/* Takes root. */
static ferkd_status add_json(job *j, const char *name, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;

    json_decref(root);
    if (!text)
        return fk_fail(FERKD_MEMORY, "%s: a name is not UTF-8, or no memory", name);
    ferkd_status st = fk_tar_add(j->tar, name, text, strlen(text));
    free(text);
    return st;
}

static ferkd_status add_settings(job *j)
{
    const ferkd_store_info *info = ferkd_store_about(j->store);
    uint8_t header[FK_STORE_HEADER_BYTES];
    char hex[2 * FK_STORE_HEADER_BYTES + 1];
    json_t *names = json_array();

    for (uint32_t c = 0; c < info->classes; c++)
        (void)json_array_append_new(names, json_string(ferkd_dataset_class_name(j->data, c)));
    fk_store_header_write(header, info);
    fk_wds_hex(header, sizeof header, hex);
    return add_json(j, FK_WDS_SETTINGS,
                    json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:f, s:I, s:o, s:s}",
                              "format", "ferkd label store as WebDataset, 1", "images",
                              (int)info->images, "regions", (int)info->regions, "topk",
                              (int)info->topk, "classes", (int)info->classes, "label_classes",
                              (int)info->label_classes, "teacher", info->teacher, "teacher_px",
                              (int)info->teacher_px, "temperature", info->temperature, "seed",
                              (json_int_t)info->sampler.seed, "class_names", names, "header", hex));
}

/* --- one sample --------------------------------------------------------------------------------- */

static void put_region(job *j, uint32_t image, uint32_t r)
{
    const ferkd_store_info *info = ferkd_store_about(j->store);
    const ferkd_soft_label *l = &j->labels.told[r];
    size_t at = (size_t)r * info->topk;
    ferkd_region where = ferkd_store_region(j->store, image, r, l, j->image.width, j->image.height);
    int32_t *box = j->boxes + 4 * (size_t)r;

    box[0] = (int32_t)where.box.top;
    box[1] = (int32_t)where.box.left;
    box[2] = (int32_t)where.box.height;
    box[3] = (int32_t)where.box.width;
    j->flips[r] = where.flip;
    j->mass[2 * (size_t)r] = l->inside;
    j->mass[2 * (size_t)r + 1] = l->teacher_max;
    for (uint32_t k = 0; k < info->topk; k++) {
        j->classes[at + k] = k < l->k ? l->index[k] : 0;
        j->probs[at + k] = k < l->k ? l->prob[k] : 0.0f;
    }
}

static ferkd_status add_labels(job *j, uint32_t image)
{
    const ferkd_store_info *info = ferkd_store_about(j->store);

    TRY(ferkd_dataset_image(j->data, image, &j->image, &j->file, &j->file_cap, NULL));
    for (uint32_t r = 0; r < info->regions; r++)
        put_region(j, image, r);
    TRY(add_array(j, image, "boxes.npy", "<i4", 4, j->boxes));
    TRY(add_array(j, image, "flips.npy", "|u1", 0, j->flips));
    TRY(add_array(j, image, "classes.npy", "<u2", info->topk, j->classes));
    TRY(add_array(j, image, "probs.npy", "<f4", info->topk, j->probs));
    return add_array(j, image, "mass.npy", "<f4", 2, j->mass);
}

/* The file as it is, or, of raw pixels, a PNG. */
static ferkd_status add_pixels(job *j, uint32_t image)
{
    const char *name = ferkd_dataset_name(j->data, image);
    char *path = NULL;
    uint8_t *png = NULL;
    size_t n = 0;
    ferkd_status st = FERKD_OK;

    if (strcmp(ferkd_dataset_kind(j->data), "folder") != 0) {
        TRY(ferkd_image_encode_png(&j->image, &png, &n));
        st = add(j, image, "png", png, n);
        free(png);
        return st;
    }
    TRY(fk_path_join(&path, ferkd_dataset_path(j->data), name));
    TRY_DONE(fk_file_read_into(&j->file, &j->file_cap, &n, path, FK_MAX_IMAGE_BYTES));
    st = add(j, image, fk_ends_with(name, ".png") ? "png" : "jpg", j->file, n);
done:
    free(path);
    return st;
}

static ferkd_status add_sample(job *j, uint32_t image)
{
    uint32_t class = ferkd_store_truth(j->store, image);
    char name[64];
    char number[16];
    bool has = false;

    TRY(fk_labels_find(&j->labels, j->store, image, &has));
    (void)snprintf(name, sizeof name, "%09u.json", image);
    TRY(add_json(j, name,
                 json_pack("{s:i, s:s, s:i, s:s, s:b}", "image", (int)image, "file",
                           ferkd_dataset_name(j->data, image), "class", (int)class, "class_name",
                           ferkd_dataset_class_name(j->data, class), "labelled", (int)has)));
    int n = snprintf(number, sizeof number, "%u", class);
    TRY(add(j, image, "cls", number, (size_t)n));
    if (!has)
        return FERKD_OK;
    TRY(add_labels(j, image));
    return j->o->with_images ? add_pixels(j, image) : FERKD_OK;
}

/* --- all ---------------------------------------------------------------------------------------- */

/* OUT.tar, or, with several, OUT-000000.tar, OUT-000001.tar ... */
static ferkd_status begin_file(job *j, uint32_t image)
{
    uint32_t each = j->o->images_per_file;
    char *name = NULL;

    if (each == 0)
        TRY(fk_strdup(&name, j->path));
    else
        TRY(fk_asprintf(&name, "%.*s-%06u.tar", (int)(strlen(j->path) - 4), j->path, image / each));
    ferkd_status st = fk_tar_create(&j->tar, name);
    free(name);
    return st == FERKD_OK ? add_settings(j) : st;
}

static ferkd_status end_file(job *j)
{
    TRY(fk_tar_commit(j->tar));
    fk_tar_discard(&j->tar);
    return FERKD_OK;
}

static ferkd_status run(job *j, const ferkd_watch *watch)
{
    uint32_t images = ferkd_store_about(j->store)->images;
    uint32_t each = j->o->images_per_file ? j->o->images_per_file : images;

    for (uint32_t i = 0; i < images; i++) {
        if (i % each == 0)
            TRY(begin_file(j, i));
        TRY(add_sample(j, i));
        if (i % each == each - 1 || i == images - 1)
            TRY(end_file(j));
        if (watch && watch->progress)
            watch->progress(watch->ctx, "export", i + 1, images, "");
        if (watch && watch->stop && watch->stop(watch->ctx) && i + 1 < images)
            return fk_fail(FERKD_STOPPED, "stopped after %u of %u images", i + 1, images);
    }
    return FERKD_OK;
}

ferkd_status ferkd_webdataset_export(const ferkd_store *store, const ferkd_dataset *data,
                                     const char *path, const ferkd_webdataset_options *options,
                                     const ferkd_watch *watch)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    const ferkd_webdataset_options none = {0};
    size_t all = (size_t)info->regions * info->topk;
    job j = {.store = store, .data = data, .o = options ? options : &none, .path = path};
    ferkd_status st = FERKD_OK;

    if (!fk_ends_with(path, ".tar"))
        return fk_fail(FERKD_USAGE, "%s: the name of a WebDataset ends in .tar", path);
    TRY(ferkd_store_match(store, data));
    TRY_DONE(fk_labels_init(&j.labels, store));
    TRY_DONE(fk_calloc(&j.boxes, (size_t)info->regions * 4, sizeof *j.boxes, path));
    TRY_DONE(fk_calloc(&j.flips, info->regions, 1, path));
    TRY_DONE(fk_calloc(&j.classes, all, sizeof *j.classes, path));
    TRY_DONE(fk_calloc(&j.probs, all, sizeof *j.probs, path));
    TRY_DONE(fk_calloc(&j.mass, (size_t)info->regions * 2, sizeof *j.mass, path));
    TRY_DONE(run(&j, watch));
done:
    fk_tar_discard(&j.tar);
    fk_labels_fini(&j.labels);
    ferkd_image_fini(&j.image);
    free(j.file);
    free(j.boxes);
    free(j.flips);
    free(j.classes);
    free(j.probs);
    free(j.mass);
    return st;
}
