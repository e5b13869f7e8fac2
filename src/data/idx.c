/* IDX, the format of MNIST and its family: bytes 0 0 type dimensions, big-endian sizes, data. */
#include "base/compat.h"

#include "data/dataset.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define MAX_IDX_BYTES ((size_t)1 << 33)

static uint32_t u32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Check the header for n_dims dimensions of unsigned bytes and the exact length. */
static ferkd_status check_header(const uint8_t *b, size_t size, int n_dims, const char *path)
{
    size_t want = 1;
    size_t head = 4 + 4 * (size_t)n_dims;

    if (size < head || b[0] != 0 || b[1] != 0)
        return fk_fail(FERKD_CORRUPT, "%s: not an IDX file; its first bytes should be 0 0 8 %d",
                       path, n_dims);
    if (b[2] != 8 || b[3] != n_dims)
        return fk_fail(FERKD_UNSUPPORTED, "%s: IDX type %u with %u dimensions; needed: 8 with %d",
                       path, b[2], b[3], n_dims);
    for (int i = 0; i < n_dims; i++)
        TRY(fk_size_mul(&want, want, u32be(b + 4 + 4 * i)));
    if (size - head != want)
        return fk_fail(FERKD_CORRUPT,
                       "%s: %zu bytes of data, its header promises %zu; copy it again", path,
                       size - head, want);
    return FERKD_OK;
}

/* The name of the label file that goes with an image file. */
static ferkd_status labels_path(char **out, const char *images_path)
{
    const char *slash = strrchr(images_path, '/');
    const char *at = strstr(slash ? slash : images_path, "images");
    int head = (int)(at ? at - images_path : 0);
    char tail[NAME_MAX + 1];

    if (!at)
        return fk_fail(
            FERKD_USAGE,
            "%s: an IDX image file has \"images\" in its name, and its labels lie beside "
            "it with \"labels\" instead",
            images_path);
    (void)snprintf(tail, sizeof tail, "%s", at + strlen("images"));
    char *three = strstr(tail, "idx3");
    if (three)
        three[3] = '1';
    return fk_asprintf(out, "%.*slabels%s", head, images_path, tail);
}

static ferkd_status read_labels(ferkd_dataset *d, const char *path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    ferkd_status st = fk_file_read(&bytes, &size, path, MAX_IDX_BYTES, true);

    if (st != FERKD_OK)
        return st;
    TRY_DONE(check_header(bytes, size, 1, path));
    if (u32be(bytes + 4) != d->images) {
        st = fk_fail(FERKD_CORRUPT, "%s: %u labels for %u images", path, u32be(bytes + 4),
                     d->images);
        goto done;
    }
    TRY_DONE(fk_calloc(&d->labels, d->images, sizeof *d->labels, path));
    uint32_t top = 0;
    for (uint32_t i = 0; i < d->images; i++) {
        d->labels[i] = bytes[8 + i];
        top = bytes[8 + i] > top ? bytes[8 + i] : top;
    }
    TRY_DONE(fk_calloc(&d->class_names, top + 1, sizeof *d->class_names, path));
    for (d->classes = 0; d->classes <= top; d->classes++)
        TRY_DONE(fk_asprintf(&d->class_names[d->classes], "%u", d->classes));
done:
    free(bytes);
    return st;
}

ferkd_status fk_idx_read(ferkd_dataset *d, const char *images_path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    char *labels = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_file_read(&bytes, &size, images_path, MAX_IDX_BYTES, true));
    TRY_DONE(check_header(bytes, size, 3, images_path));
    d->kind = "idx";
    d->channels = 1;
    d->images = u32be(bytes + 4);
    d->height = u32be(bytes + 8);
    d->width = u32be(bytes + 12);
    if (!d->images || !d->height || !d->width || d->images >= FK_MAX_IMAGES ||
        d->height > FK_MAX_SIDE_PX || d->width > FK_MAX_SIDE_PX) {
        st = fk_fail(FERKD_CORRUPT, "%s: %u images of %u x %u pixels", images_path, d->images,
                     d->width, d->height);
        goto done;
    }
    d->pixels = bytes;
    memmove(bytes, bytes + 16, size - 16);
    bytes = NULL;
    TRY_DONE(labels_path(&labels, images_path));
    TRY_DONE(read_labels(d, labels));
done:
    free(labels);
    free(bytes);
    return st;
}
