/* PNG by libpng, converted as Pillow's convert('RGB') does: alpha dropped, 16-bit grey saturated,
 * other 16-bit samples cut to their high byte. */
#include "base/compat.h"

#include "image/codec_jpeg.h"

#include <png.h>

#include "base/limits.h"

typedef struct reader {
    const uint8_t *bytes;
    size_t n, at;
    char text[160];
    uint8_t *row;
} reader;

static void on_error(png_structp png, png_const_charp text)
{
    reader *r = png_get_error_ptr(png);

    (void)snprintf(r->text, sizeof r->text, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep dst, size_t n)
{
    reader *r = png_get_io_ptr(png);

    if (n > r->n - r->at)
        png_error(png, "the file ends too early");
    memcpy(dst, r->bytes + r->at, n);
    r->at += n;
}

/* How a row of libpng's output becomes RGB. */
typedef enum row_kind { ROW_RGB, ROW_RGBA, ROW_GREY, ROW_GREY_ALPHA, ROW_GREY16 } row_kind;

static void row_to_rgb(uint8_t *dst, const uint8_t *src, uint32_t width, row_kind kind)
{
    static const int STEP[] = {3, 4, 1, 2, 2};

    if (kind == ROW_RGB) {
        memcpy(dst, src, (size_t)width * 3);
        return;
    }
    for (uint32_t x = 0; x < width; x++, src += STEP[kind], dst += 3) {
        if (kind == ROW_RGBA) {
            memcpy(dst, src, 3);
        } else if (kind == ROW_GREY16) {
            memset(dst, src[0] ? 255 : src[1], 3); /* min(v, 255): Pillow saturates */
        } else {
            memset(dst, src[0], 3);
        }
    }
}

/* Ask libpng for at most 8 bits a sample, except in plain 16-bit grey. */
static row_kind choose_format(png_structp png, png_infop info)
{
    int depth = png_get_bit_depth(png, info);

    switch (png_get_color_type(png, info)) {
    case PNG_COLOR_TYPE_PALETTE:
        png_set_palette_to_rgb(png);
        return png_get_valid(png, info, PNG_INFO_tRNS) ? ROW_RGBA : ROW_RGB;
    case PNG_COLOR_TYPE_GRAY:
        if (depth == 16)
            return ROW_GREY16;
        if (depth < 8)
            png_set_expand_gray_1_2_4_to_8(png);
        return ROW_GREY;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        png_set_strip_16(png);
        return ROW_GREY_ALPHA;
    case PNG_COLOR_TYPE_RGB_ALPHA:
        png_set_strip_16(png);
        return ROW_RGBA;
    default:
        png_set_strip_16(png);
        return ROW_RGB;
    }
}

static ferkd_status read_rows(png_structp png, png_infop info, reader *r, ferkd_image *image,
                              const char *name, row_kind kind, int passes)
{
    size_t row_bytes = png_get_rowbytes(png, info);
    uint32_t width = image->width;
    uint32_t height = image->height;

    r->row = malloc(passes > 1 ? row_bytes * height : row_bytes);
    if (!r->row)
        return fk_fail(FERKD_MEMORY, "%s: no memory for %u x %u pixels", name, width, height);
    if (passes > 1)
        memset(r->row, 0, row_bytes * height);
    for (int pass = 0; pass < passes; pass++) {
        for (uint32_t y = 0; y < height; y++) {
            uint8_t *row = passes > 1 ? r->row + row_bytes * y : r->row;
            png_read_row(png, row, NULL);
            if (pass == passes - 1)
                row_to_rgb(image->px + (size_t)y * width * 3, row, width, kind);
        }
    }
    png_read_end(png, info);
    return FERKD_OK;
}

static ferkd_status decode(png_structp png, png_infop info, reader *r, ferkd_image *image,
                           int *orientation, const char *name)
{
    png_set_read_fn(png, r, on_read);
    png_set_user_limits(png, FK_MAX_SIDE_PX, FK_MAX_SIDE_PX);
    png_set_chunk_malloc_max(png, 64u << 20);
    png_read_info(png, info);
    uint32_t width = png_get_image_width(png, info);
    uint32_t height = png_get_image_height(png, info);
    if ((uint64_t)width * height > FK_MAX_PIXELS)
        return fk_fail(FERKD_LIMIT, "%s: %u x %u pixels, the limit is %llu in all; scale it down",
                       name, width, height, FK_MAX_PIXELS);
    row_kind kind = choose_format(png, info);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    TRY(ferkd_image_shape(image, width, height, 3));
    TRY(read_rows(png, info, r, image, name, kind, passes));

    png_bytep exif = NULL;
    png_uint_32 exif_bytes = 0;
    *orientation = 1;
    if (png_get_eXIf_1(png, info, &exif_bytes, &exif))
        *orientation = fk_exif_orientation(exif, exif_bytes);
    return FERKD_OK;
}

ferkd_status fk_png_decode(ferkd_image *image, int *orientation, const uint8_t *bytes, size_t n,
                           const char *name)
{
    ferkd_status volatile st = FERKD_OK;
    reader *r = calloc(1, sizeof *r);

    if (!r)
        return fk_fail(FERKD_MEMORY, "%s: no memory to decode it", name);
    r->bytes = bytes;
    r->n = n;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info)
        st = fk_fail(FERKD_MEMORY, "%s: no memory to decode it", name);
    else if (setjmp(png_jmpbuf(png)) == 0)
        st = decode(png, info, r, image, orientation, name);
    else
        st = fk_fail(strstr(r->text, "exceeds") ? FERKD_LIMIT : FERKD_CORRUPT,
                     "%s: damaged PNG (%s); copy it again", name, r->text);
    png_destroy_read_struct(&png, &info, NULL);
    free(r->row);
    free(r);
    return st;
}
