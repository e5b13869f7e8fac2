/* Images: which decoder, which way up. */
#include "base/compat.h"

#include "ferkd/image.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "image/codec_jpeg.h"

ferkd_status ferkd_image_shape(ferkd_image *image, uint32_t width, uint32_t height,
                               uint32_t channels)
{
    size_t bytes;

    if ((uint64_t)width * height > FK_MAX_PIXELS)
        return fk_fail(FERKD_LIMIT, "an image of %u x %u pixels; the limit is %llu in all", width,
                       height, FK_MAX_PIXELS);
    TRY(fk_size_mul(&bytes, (size_t)width * height, channels));
    TRY(fk_grow(&image->px, &image->cap_bytes, bytes + 64, 1)); /* fast loops may read past */
    image->width = width;
    image->height = height;
    image->channels = channels;
    return FERKD_OK;
}

void ferkd_image_fini(ferkd_image *image)
{
    free(image->px);
    *image = (ferkd_image){0};
}

static uint16_t tiff_u16(const uint8_t *p, bool big)
{
    return (uint16_t)(big ? p[0] << 8 | p[1] : p[1] << 8 | p[0]);
}

static uint32_t tiff_u32(const uint8_t *p, bool big)
{
    uint32_t a = tiff_u16(p, big);
    uint32_t b = tiff_u16(p + 2, big);

    return big ? a << 16 | b : b << 16 | a;
}

int fk_exif_orientation(const uint8_t *tiff, size_t n)
{
    if (n < 8 || (memcmp(tiff, "II", 2) != 0 && memcmp(tiff, "MM", 2) != 0))
        return 1;
    bool big = tiff[0] == 'M';
    size_t at = tiff_u32(tiff + 4, big);
    if (at > n - 2 || at < 8)
        return 1;
    unsigned entries = tiff_u16(tiff + at, big);
    for (at += 2; entries && at + 12 <= n; entries--, at += 12) {
        if (tiff_u16(tiff + at, big) == 0x0112) {
            int v = tiff_u16(tiff + at + 8, big);
            return v >= 1 && v <= 8 ? v : 1;
        }
    }
    return 1;
}

/* Where the upright pixel (x, y) comes from, in an image stored w wide and h high. */
static size_t source_of(int orientation, size_t x, size_t y, size_t w, size_t h)
{
    switch (orientation) {
    case 2:
        return y * w + (w - 1 - x);
    case 3:
        return (h - 1 - y) * w + (w - 1 - x);
    case 4:
        return (h - 1 - y) * w + x;
    case 5:
        return x * w + y;
    case 6:
        return (h - 1 - x) * w + y;
    case 7:
        return (h - 1 - x) * w + (w - 1 - y);
    default: /* 8 */
        return x * w + (w - 1 - y);
    }
}

ferkd_status fk_exif_apply(ferkd_image *image, int orientation)
{
    ferkd_image turned = {0};
    uint32_t w = image->width;
    uint32_t h = image->height;
    bool swap = orientation >= 5;

    if (orientation == 1)
        return FERKD_OK;
    TRY(ferkd_image_shape(&turned, swap ? h : w, swap ? w : h, 3));
    uint8_t *dst = turned.px;
    for (size_t y = 0; y < turned.height; y++) {
        for (size_t x = 0; x < turned.width; x++, dst += 3)
            memcpy(dst, image->px + 3 * source_of(orientation, x, y, w, h), 3);
    }
    ferkd_image_fini(image);
    *image = turned;
    return FERKD_OK;
}

ferkd_status ferkd_image_decode(ferkd_image *image, const void *bytes, size_t n, const char *name,
                                const ferkd_decode_options *options)
{
    const uint8_t *p = bytes;
    int orientation = 1;

    if (n == 0)
        return fk_fail(FERKD_CORRUPT, "%s: the file is empty; copy it again", name);
    if (n >= 3 && memcmp(p, "\xff\xd8\xff", 3) == 0)
        TRY(fk_jpeg_decode(image, &orientation, p, n, name, options));
    else if (n >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0)
        TRY(fk_png_decode(image, &orientation, p, n, name));
    else
        return fk_fail(FERKD_UNSUPPORTED, "%s: neither JPEG nor PNG; convert it to one of them",
                       name);
    return options && options->ignore_exif ? FERKD_OK : fk_exif_apply(image, orientation);
}

ferkd_status ferkd_image_load(ferkd_image *image, const char *path,
                              const ferkd_decode_options *options)
{
    uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(fk_file_read(&bytes, &n, path, FK_MAX_IMAGE_BYTES, false));
    ferkd_status st = ferkd_image_decode(image, bytes, n, path, options);
    free(bytes);
    return st;
}

static const char *const FILTER_NAMES[] = {"", "bilinear", "bicubic", "lanczos"};

ferkd_filter ferkd_filter_parse(const char *name)
{
    for (size_t i = 1; i < FK_COUNT(FILTER_NAMES); i++) {
        if (strcmp(name, FILTER_NAMES[i]) == 0)
            return (ferkd_filter)i;
    }
    return (ferkd_filter)0;
}

const char *ferkd_filter_name(ferkd_filter filter)
{
    return (size_t)filter < FK_COUNT(FILTER_NAMES) ? FILTER_NAMES[filter] : "?";
}
