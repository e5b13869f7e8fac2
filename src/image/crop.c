/* Crop and resize, bit for bit as Pillow's crop() and resize() with 8-bit channels: the taps of each
 * axis in double, rounded to 22 fractional bits, the horizontal pass first, eight bits in between
 * (Pillow up to 12.1, libImaging/Resample.c; the recipe is written out in docs/architecture.md). */
#include "base/compat.h"

#include "ferkd/image.h"

#include "base/mem.h"
#include "image/resample.h"

static bool use_plain;

void ferkd_image_use_plain(bool plain)
{
    use_plain = plain;
}

static const fk_resample_fns *passes(void)
{
    return use_plain ? &fk_resample_plain : fk_resample_best();
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static double (*const FILTERS[])(double) = {NULL, bilinear, bicubic, lanczos};

/* The weights of one result, normalised and rounded. */
static void fill_taps(fk_taps *t, int i, int n, double center, double support, double inverse,
                      ferkd_filter filter, double *w)
{
    int first = fk_max_int(0, (int)(center - support + 0.5));
    int last = fk_min_int(n, (int)(center + support + 0.5));
    double sum = 0.0;

    for (int x = first; x < last; x++) {
        w[x - first] = FILTERS[filter]((x - center + 0.5) * inverse);
        sum += w[x - first];
    }
    int32_t *k = t->k + (size_t)i * (size_t)t->width;
    for (int x = 0; x < last - first; x++) {
        double v = (sum != 0.0 ? w[x] / sum : w[x]) * (1 << FK_PRECISION_BITS);
        k[x] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
    t->first[i] = first;
    t->count[i] = last - first;
}

/* Taps that make m samples of n. One allocation, freed by free(t->k). */
static ferkd_status make_taps(fk_taps *t, int n, int m, ferkd_filter filter)
{
    double scale = (double)(float)n / m;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = (double)filter * stretch;
    int width = (int)ceil(support) * 2 + 1;
    size_t cells;
    uint8_t *block = NULL;

    TRY(fk_size_mul(&cells, (size_t)m, (size_t)width));
    size_t ints = (cells + 2 * (size_t)m + 3) / 2 * 2; /* the doubles that follow stay aligned */
    TRY(fk_calloc(&block, 1, ints * sizeof(int32_t) + (size_t)width * sizeof(double),
                  "the weights of a resize"));
    t->k = (int32_t *)(void *)block;
    t->first = t->k + cells;
    t->count = t->first + m;
    t->width = width;
    t->results = m;
    double *w = (double *)(void *)(block + ints * sizeof(int32_t));
    for (int i = 0; i < m; i++)
        fill_taps(t, i, n, (i + 0.5) * scale, support, 1.0 / stretch, filter, w);
    return FERKD_OK;
}

static void flip_rows(ferkd_image *image)
{
    size_t c = image->channels;

    for (size_t y = 0; y < image->height; y++) {
        uint8_t *a = image->px + y * image->width * c;
        uint8_t *b = a + (image->width - 1) * c;
        for (; a < b; a += c, b -= c) {
            for (size_t i = 0; i < c; i++) {
                uint8_t t = a[i];
                a[i] = b[i];
                b[i] = t;
            }
        }
    }
}

static void copy_box(ferkd_image *dst, const ferkd_image *src, ferkd_box box)
{
    size_t c = src->channels;

    for (size_t y = 0; y < box.height; y++)
        memcpy(dst->px + y * box.width * c, src->px + ((box.top + y) * src->width + box.left) * c,
               box.width * c);
}

/* Both passes; a pass that changes nothing is skipped. */
static ferkd_status resize_box(ferkd_image *dst, const ferkd_image *src, ferkd_box box,
                               ferkd_filter filter)
{
    ferkd_status st = FERKD_OK;
    fk_taps across = {0};
    fk_taps down = {0};
    uint8_t *between = NULL;
    size_t c = src->channels;
    size_t stride = (size_t)src->width * c;
    const uint8_t *rows = src->px + box.top * stride + box.left * c;
    int first = 0;
    int last = (int)box.height;

    if (dst->height != box.height) {
        TRY_DONE(make_taps(&down, (int)box.height, (int)dst->height, filter));
        int end = (int)dst->height - 1;
        first = down.first[0];
        last = down.first[end] + down.count[end];
    }
    if (dst->width != box.width) {
        TRY_DONE(make_taps(&across, (int)box.width, (int)dst->width, filter));
        uint8_t *to = dst->px;
        if (down.k) {
            TRY_DONE(fk_calloc(&between, (size_t)(last - first) * dst->width * c + 64, 1,
                               "the middle of a resize"));
            to = between;
        }
        passes()->horizontal(to, rows + (size_t)first * stride, stride, last - first, &across,
                             (int)c);
    } else {
        TRY_DONE(fk_calloc(&between, box.height * box.width * c + 64, 1, "the middle of a resize"));
        for (size_t y = 0; y < box.height; y++)
            memcpy(between + y * box.width * c, rows + y * stride, box.width * c);
        first = 0;
    }
    if (down.k)
        passes()->vertical(dst->px, between, dst->width * c, &down, first);
done:
    free(across.k);
    free(down.k);
    free(between);
    return st;
}

ferkd_status ferkd_image_crop_resize(ferkd_image *dst, const ferkd_image *src, ferkd_box box,
                                     uint32_t dst_width, uint32_t dst_height, ferkd_filter filter,
                                     bool flip)
{
    if (box.width == 0 || box.height == 0 || (uint64_t)box.left + box.width > src->width ||
        (uint64_t)box.top + box.height > src->height || dst_width == 0 || dst_height == 0)
        return fk_fail(FERKD_USAGE, "a crop of %ux%u at (%u, %u) to %ux%u from an image of %ux%u",
                       box.width, box.height, box.left, box.top, dst_width, dst_height, src->width,
                       src->height);
    TRY(ferkd_image_shape(dst, dst_width, dst_height, src->channels));
    if (dst_width == box.width && dst_height == box.height)
        copy_box(dst, src, box);
    else
        TRY(resize_box(dst, src, box, filter));
    if (flip)
        flip_rows(dst);
    return FERKD_OK;
}

/* The central crop; half a pixel goes to the even side (Python's round). */
static ferkd_status center_crop(ferkd_image *dst, const ferkd_image *src, uint32_t crop_px)
{
    uint32_t w = src->width;
    uint32_t h = src->height;
    size_t c = src->channels;

    TRY(ferkd_image_shape(dst, crop_px, crop_px, src->channels));
    memset(dst->px, 0, (size_t)crop_px * crop_px * c);
    uint32_t from_x = w > crop_px ? (uint32_t)rint((w - crop_px) / 2.0) : 0;
    uint32_t from_y = h > crop_px ? (uint32_t)rint((h - crop_px) / 2.0) : 0;
    uint32_t to_x = w < crop_px ? (crop_px - w) / 2 : 0;
    uint32_t to_y = h < crop_px ? (crop_px - h) / 2 : 0;
    uint32_t cols = w < crop_px ? w : crop_px;
    uint32_t rows = h < crop_px ? h : crop_px;
    for (size_t y = 0; y < rows; y++)
        memcpy(dst->px + ((to_y + y) * crop_px + to_x) * c,
               src->px + ((from_y + y) * w + from_x) * c, cols * c);
    return FERKD_OK;
}

ferkd_status ferkd_image_center(ferkd_image *dst, const ferkd_image *src, uint32_t resize_px,
                                uint32_t crop_px, ferkd_filter filter)
{
    ferkd_image scaled = {0};
    uint64_t w = src->width;
    uint64_t h = src->height;
    uint64_t to_w = w <= h ? resize_px : resize_px * w / h;
    uint64_t to_h = w <= h ? resize_px * h / w : resize_px;

    if (to_w == w && to_h == h)
        return center_crop(dst, src, crop_px);
    ferkd_status st =
        ferkd_image_crop_resize(&scaled, src, (ferkd_box){0, 0, src->height, src->width},
                                (uint32_t)to_w, (uint32_t)to_h, filter, false);
    if (st == FERKD_OK)
        st = center_crop(dst, &scaled, crop_px);
    ferkd_image_fini(&scaled);
    return st;
}
