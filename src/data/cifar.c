/* CIFAR-10 and CIFAR-100, binary version: a label byte (CIFAR-100: coarse, then fine) and three
 * planes of 32x32. */
#include "base/compat.h"

#include "data/dataset.h"

#include <libgen.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define SIDE   32
#define PLANES (3 * SIDE * SIDE)

/* Names from a file beside the data, or numbers. */
static ferkd_status read_names(ferkd_dataset *d, const char *file, const char *names_file)
{
    char folder[PATH_MAX];
    char *path = NULL;
    char **names = NULL;
    uint32_t n = 0;
    ferkd_status st = FERKD_OK;

    (void)snprintf(folder, sizeof folder, "%s", file);
    TRY(fk_path_join(&path, dirname(folder), names_file));
    if (fk_is_file(path)) {
        TRY_DONE(fk_names_read(&names, &n, path));
        if (n < d->classes) {
            fk_names_free(names, n);
            st = fk_fail(FERKD_CORRUPT, "%s: %u names for %u classes", path, n, d->classes);
            goto done;
        }
        for (uint32_t i = d->classes; i < n; i++)
            free(names[i]);
        d->class_names = names;
        goto done;
    }
    uint32_t classes = d->classes;
    TRY_DONE(fk_calloc(&d->class_names, classes, sizeof *d->class_names, path));
    for (uint32_t i = 0; i < classes; i++)
        TRY_DONE(fk_asprintf(&d->class_names[i], "%u", i));
done:
    free(path);
    return st;
}

/* Append one file's records. */
static ferkd_status add_file(ferkd_dataset *d, const char *path, size_t label_bytes)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    size_t record = label_bytes + PLANES;
    ferkd_status st = FERKD_OK;

    TRY(fk_file_read(&bytes, &size, path, FK_MAX_IMAGE_BYTES, true));
    size_t n = size / record;
    size_t all = d->images + n;
    if (n == 0 || size % record) {
        st = fk_fail(FERKD_CORRUPT, "%s: %zu bytes, not a multiple of %zu; copy it again", path,
                     size, record);
        goto done;
    }
    uint8_t *pixels = realloc(d->pixels, all * PLANES);
    if (pixels)
        d->pixels = pixels;
    uint16_t *labels = realloc(d->labels, all * sizeof *labels);
    if (labels)
        d->labels = labels;
    if (!pixels || !labels) {
        st = fk_fail(FERKD_MEMORY, "%s: no memory for %zu images", path, all);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *r = bytes + i * record;
        uint8_t label = r[label_bytes - 1];
        if (label >= d->classes) {
            st = fk_fail(FERKD_CORRUPT, "%s: record %zu has label %u of %u classes", path, i, label,
                         d->classes);
            goto done;
        }
        d->labels[d->images + i] = label;
        memcpy(d->pixels + (d->images + i) * PLANES, r + label_bytes, PLANES);
    }
    d->images = (uint32_t)all;
done:
    free(bytes);
    return st;
}

ferkd_status fk_cifar_read(ferkd_dataset *d, char *const *files, int n_files)
{
    uint64_t size = fk_file_size(files[0]);
    bool hundred = size % (1 + PLANES) != 0;

    d->kind = hundred ? "cifar100" : "cifar10";
    d->classes = hundred ? 100 : 10;
    d->channels = 3;
    d->width = d->height = SIDE;
    d->planar = true;
    for (int i = 0; i < n_files; i++)
        TRY(add_file(d, files[i], hundred ? 2 : 1));
    return read_names(d, files[0], hundred ? "fine_label_names.txt" : "batches.meta.txt");
}
