/* A data set whatever its format: which reader, names, fingerprint, one image. */
#include "base/compat.h"

#include "data/dataset.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define MAX_CIFAR_FILES 5

void fk_names_free(char **names, uint32_t n)
{
    for (uint32_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

ferkd_status fk_names_read(char ***out, uint32_t *n, const char *path)
{
    uint8_t *text = NULL;
    size_t size = 0;
    char **names = NULL;
    size_t cap = 0;
    uint32_t count = 0;
    char *rest = NULL;

    TRY(fk_file_read(&text, &size, path, FK_MAX_JSON_BYTES, false));
    ferkd_status st = FERKD_OK;
    char *line = strtok_r((char *)text, "\r\n", &rest);
    for (; line && st == FERKD_OK; line = strtok_r(NULL, "\r\n", &rest)) {
        st = fk_grow(&names, &cap, count + 1, sizeof *names);
        if (st == FERKD_OK)
            st = fk_strdup(&names[count], line);
        count += st == FERKD_OK;
    }
    free(text);
    if (st == FERKD_OK && count == 0)
        st = fk_fail(FERKD_CORRUPT, "%s: no names in it; write one a line", path);
    if (st != FERKD_OK) {
        fk_names_free(names, count);
        return st;
    }
    *out = names;
    *n = count;
    return FERKD_OK;
}

/* The first of the names that is a file in folder, joined; NULL if none. */
static char *find_file(const char *folder, const char *const *names)
{
    for (; *names; names++) {
        char *path = NULL;
        if (fk_path_join(&path, folder, *names) == FERKD_OK && fk_is_file(path))
            return path;
        free(path);
    }
    return NULL;
}

static ferkd_status read_folder(ferkd_dataset *d)
{
    static const char *const IDX[] = {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz",
                                      "train-images.idx3-ubyte", NULL};
    static const char *const C100[] = {"train.bin", NULL};
    char *files[MAX_CIFAR_FILES] = {0};
    int n = 0;
    ferkd_status st;
    char *idx = find_file(d->path, IDX);

    if (idx) {
        st = fk_idx_read(d, idx);
        free(idx);
        return st;
    }
    files[0] = find_file(d->path, C100);
    n = files[0] ? 1 : 0;
    for (int i = 0; n == i && i < MAX_CIFAR_FILES; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "data_batch_%d.bin", i + 1);
        files[i] = find_file(d->path, (const char *const[]){name, NULL});
        n += files[i] != NULL;
    }
    st = n ? fk_cifar_read(d, files, n) : fk_folder_read(d);
    for (int i = 0; i < MAX_CIFAR_FILES; i++)
        free(files[i]);
    return st;
}

static ferkd_status read_any(ferkd_dataset *d)
{
    if (fk_is_folder(d->path))
        return read_folder(d);
    if (!fk_is_file(d->path))
        return fk_fail(FERKD_ABSENT,
                       "%s: no such file or folder; name a folder with one folder of images for "
                       "each class, an IDX file or CIFAR's",
                       d->path);
    if (fk_ends_with(d->path, ".bin"))
        return fk_cifar_read(d, &d->path, 1);
    return fk_idx_read(d, d->path);
}

/* Names from the user's file take the place of the format's own, in the same number. */
static ferkd_status apply_names(ferkd_dataset *d, const char *path)
{
    char **names = NULL;
    uint32_t n = 0;

    TRY(fk_names_read(&names, &n, path));
    if (n != d->classes) {
        fk_names_free(names, n);
        return fk_fail(FERKD_USAGE, "%s: %u names for the %u classes of %s", path, n, d->classes,
                       d->path);
    }
    fk_names_free(d->class_names, d->classes);
    d->class_names = names;
    return FERKD_OK;
}

/* "file#number", for images that have no file of their own. */
static ferkd_status tag_images(ferkd_dataset *d)
{
    if (d->items)
        return FERKD_OK;
    TRY(fk_calloc(&d->tags, d->images, sizeof *d->tags, d->path));
    for (uint32_t i = 0; i < d->images; i++)
        (void)snprintf(d->tags[i], sizeof d->tags[i], "%s#%u", d->kind, i);
    return FERKD_OK;
}

ferkd_status ferkd_dataset_open(ferkd_dataset **out, const char *path,
                                const ferkd_dataset_options *options)
{
    ferkd_status st = FERKD_OK;
    ferkd_dataset *d = NULL;

    TRY(fk_calloc(&d, 1, sizeof *d, path));
    TRY_DONE(fk_strdup(&d->path, path));
    d->ignore_exif = options && options->ignore_exif;
    TRY_DONE(read_any(d));
    TRY_DONE(tag_images(d));
    if (options && options->class_names)
        TRY_DONE(apply_names(d, options->class_names));
    *out = d;
    d = NULL;
done:
    ferkd_dataset_close(&d);
    return st;
}

void ferkd_dataset_close(ferkd_dataset **dataset)
{
    ferkd_dataset *d = *dataset;

    if (!d)
        return;
    fk_names_free(d->class_names, d->classes);
    for (uint32_t i = 0; d->items && i < d->images; i++)
        free(d->items[i].name);
    free(d->items);
    free(d->labels);
    free(d->pixels);
    free(d->tags);
    free(d->path);
    free(d);
    *dataset = NULL;
}

uint32_t ferkd_dataset_images(const ferkd_dataset *d)
{
    return d->images;
}

uint32_t ferkd_dataset_classes(const ferkd_dataset *d)
{
    return d->classes;
}

uint32_t ferkd_dataset_channels(const ferkd_dataset *d)
{
    return d->channels;
}

const char *ferkd_dataset_class_name(const ferkd_dataset *d, uint32_t c)
{
    return d->class_names[c];
}

uint32_t ferkd_dataset_label(const ferkd_dataset *d, uint32_t image)
{
    return d->labels[image];
}

const char *ferkd_dataset_name(const ferkd_dataset *d, uint32_t image)
{
    return d->items ? d->items[image].name : d->tags[image];
}

const char *ferkd_dataset_path(const ferkd_dataset *d)
{
    return d->path;
}

const char *ferkd_dataset_kind(const ferkd_dataset *d)
{
    return d->kind;
}

bool ferkd_dataset_ignores_exif(const ferkd_dataset *d)
{
    return d->ignore_exif;
}

void ferkd_dataset_fingerprint(const ferkd_dataset *d, uint8_t out[16])
{
    uint32_t head[4] = {d->images, d->classes, d->width, d->height};
    fk_hash128_state *h = fk_hash128_new();

    memset(out, 0, 16);
    if (!h)
        return;
    fk_hash128_add(h, d->kind, strlen(d->kind) + 1);
    fk_hash128_add(h, head, sizeof head);
    for (uint32_t c = 0; c < d->classes; c++)
        fk_hash128_add(h, d->class_names[c], strlen(d->class_names[c]) + 1);
    fk_hash128_add(h, d->labels, d->images * sizeof *d->labels);
    for (uint32_t i = 0; d->items && i < d->images; i++) {
        fk_hash128_add(h, d->items[i].name, strlen(d->items[i].name) + 1);
        fk_hash128_add(h, &d->items[i].size, sizeof d->items[i].size);
    }
    if (d->pixels)
        fk_hash128_add(h, d->pixels, (size_t)d->images * d->width * d->height * d->channels);
    fk_hash128_end(h, out);
}

/* Raw pixels to rows of interleaved channels. */
static ferkd_status raw_image(const ferkd_dataset *d, uint32_t image, ferkd_image *out)
{
    size_t plane = (size_t)d->width * d->height;
    const uint8_t *src = d->pixels + image * plane * d->channels;

    TRY(ferkd_image_shape(out, d->width, d->height, d->channels));
    if (!d->planar || d->channels == 1) {
        memcpy(out->px, src, plane * d->channels);
        return FERKD_OK;
    }
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < d->channels; c++)
            out->px[i * d->channels + c] = src[c * plane + i];
    }
    return FERKD_OK;
}

ferkd_status ferkd_dataset_image(const ferkd_dataset *d, uint32_t image, ferkd_image *out,
                                 uint8_t **file, size_t *cap, const ferkd_decode_options *options)
{
    ferkd_decode_options o = options ? *options : (ferkd_decode_options){0};
    char path[PATH_MAX];
    size_t n = 0;

    if (image >= d->images)
        return fk_fail(FERKD_USAGE, "%s: image %u of %u", d->path, image, d->images);
    if (!d->items)
        return raw_image(d, image, out);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", d->path, d->items[image].name) >= sizeof path)
        return fk_fail(FERKD_LIMIT, "%s/%s: the path is too long", d->path, d->items[image].name);
    TRY(fk_file_read_into(file, cap, &n, path, FK_MAX_IMAGE_BYTES));
    o.ignore_exif = d->ignore_exif;
    return ferkd_image_decode(out, *file, n, path, &o);
}
