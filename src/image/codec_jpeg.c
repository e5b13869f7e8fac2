/* JPEG by libjpeg-turbo: accurate integer IDCT and triangle upsampling, as Pillow asks for; whole,
 * scaled down, or only the rows and columns around a box. */
#include "base/compat.h"

#include "image/codec_jpeg.h"

#include <setjmp.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/limits.h"

typedef struct reader {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr err;
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
    bool truncated;
    uint8_t *line; /* one row of CMYK; kept here, where longjmp cannot lose it */
} reader;

static void on_error(j_common_ptr c)
{
    reader *r = c->client_data;

    c->err->format_message(c, r->text);
    longjmp(r->escape, 1);
}

/* Warnings pass, as with Pillow, but for the one that says that bytes are missing. */
static void on_message(j_common_ptr c, int level)
{
    reader *r = c->client_data;

    if (level < 0 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER)) {
        c->err->format_message(c, r->text);
        r->truncated = true;
    }
}

static void on_output(j_common_ptr c)
{
    (void)c;
}

/* n = 255 - k; t = c*n + 128; clip(n - ((t>>8) + t >> 8)): Pillow's cmyk2rgb. The four samples come
 * inverted (Adobe), so c here is 255 - stored. */
static void cmyk_row_to_rgb(uint8_t *dst, const uint8_t *src, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++, src += 4, dst += 3) {
        int n = src[3]; /* 255 - K, K = 255 - stored */
        for (int c = 0; c < 3; c++) {
            int t = (255 - src[c]) * n + 128;
            int v = n - (((t >> 8) + t) >> 8);
            dst[c] = (uint8_t)fk_max_int(0, v);
        }
    }
}

static int find_orientation(const reader *r)
{
    for (jpeg_saved_marker_ptr m = r->d.marker_list; m; m = m->next) {
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            return fk_exif_orientation(m->data + 6, m->data_length - 6);
    }
    return 1;
}

static ferkd_status check_size(uint32_t width, uint32_t height, const char *name)
{
    if (width == 0 || height == 0)
        return fk_fail(FERKD_CORRUPT, "%s: an image of %u x %u pixels", name, width, height);
    if ((uint64_t)width * height > FK_MAX_PIXELS || width > FK_MAX_SIDE_PX ||
        height > FK_MAX_SIDE_PX)
        return fk_fail(FERKD_LIMIT, "%s: %u x %u pixels, the limit is %llu in all; scale it down",
                       name, width, height, FK_MAX_PIXELS);
    return FERKD_OK;
}

/* Rows of libjpeg's output into image, from row first; CMYK by way of r->line. */
static void read_rows(reader *r, ferkd_image *image, uint32_t first, uint32_t last, uint32_t left)
{
    while (first < last) {
        uint8_t *dst = image->px + ((size_t)first * image->width + left) * 3;
        JSAMPROW row = r->line ? r->line : dst;
        if (jpeg_read_scanlines(&r->d, &row, 1) != 1)
            break;
        if (r->line)
            cmyk_row_to_rgb(dst, r->line, r->d.output_width);
        first++;
    }
}

/* Start the decoder with its output format and scale settled. */
static void start(reader *r, const ferkd_decode_options *o)
{
    bool four = r->d.num_components == 4;

    r->d.out_color_space = four ? JCS_CMYK : JCS_RGB;
    r->d.dct_method = JDCT_ISLOW;
    r->d.do_fancy_upsampling = TRUE;
    if (o && o->min_side_px && !four) {
        uint32_t side = r->d.image_width < r->d.image_height ? r->d.image_width : r->d.image_height;
        unsigned denominator = 1;
        while (denominator < 8 && side / (denominator * 2) >= o->min_side_px)
            denominator *= 2;
        r->d.scale_num = 1;
        r->d.scale_denom = denominator;
    }
    (void)jpeg_start_decompress(&r->d);
}

/* Only the rows of box, and the columns where they are few; two blocks more on each side, so that
 * the upsampling of the box's own pixels sees its true neighbours. */
static void read_box(reader *r, ferkd_image *image, const ferkd_box *box)
{
    uint32_t margin = 2u * (uint32_t)r->d.max_h_samp_factor * DCTSIZE;
    uint32_t top = box->top > margin ? box->top - margin : 0;
    uint32_t bottom = (uint32_t)fk_min_size(box->top + box->height + margin, image->height);
    JDIMENSION left = box->left > margin ? box->left - margin : 0;
    JDIMENSION width =
        (JDIMENSION)fk_min_size(box->left + box->width + margin, image->width) - left;

    if (width < image->width / 2)
        jpeg_crop_scanline(&r->d, &left, &width);
    else
        left = 0;
    if (top > 0)
        (void)jpeg_skip_scanlines(&r->d, top);
    read_rows(r, image, top, bottom, left);
    jpeg_abort_decompress(&r->d);
}

static ferkd_status decode(reader *r, ferkd_image *image, int *orientation,
                           const ferkd_decode_options *o, const char *name)
{
    *orientation = o && o->ignore_exif ? 1 : find_orientation(r);
    TRY(check_size(r->d.image_width, r->d.image_height, name));
    start(r, o);
    TRY(ferkd_image_shape(image, r->d.output_width, r->d.output_height, 3));
    bool whole = !o || !o->box || *orientation != 1 || r->d.scale_denom != 1;
    if (r->d.num_components == 4) {
        r->line = malloc((size_t)r->d.output_width * 4);
        if (!r->line)
            return fk_fail(FERKD_MEMORY, "%s: no memory for a row", name);
        whole = true;
    }
    if (!whole) {
        read_box(r, image, o->box);
    } else {
        read_rows(r, image, 0, image->height, 0);
        (void)jpeg_finish_decompress(&r->d);
    }
    if (r->truncated)
        return fk_fail(FERKD_CORRUPT, "%s: truncated or damaged JPEG (%s); copy it again", name,
                       r->text);
    return FERKD_OK;
}

ferkd_status fk_jpeg_decode(ferkd_image *image, int *orientation, const uint8_t *bytes, size_t n,
                            const char *name, const ferkd_decode_options *options)
{
    ferkd_status volatile st = FERKD_OK;
    reader *r = calloc(1, sizeof *r);

    if (!r)
        return fk_fail(FERKD_MEMORY, "%s: no memory to decode it", name);
    r->d.err = jpeg_std_error(&r->err);
    r->err.error_exit = on_error;
    r->err.emit_message = on_message;
    r->err.output_message = on_output;
    r->d.client_data = r;
    if (setjmp(r->escape) == 0) {
        jpeg_create_decompress(&r->d);
        jpeg_mem_src(&r->d, bytes, (unsigned long)n);
        jpeg_save_markers(&r->d, JPEG_APP0 + 1, 0xFFFF);
        (void)jpeg_read_header(&r->d, TRUE);
        st = decode(r, image, orientation, options, name);
    } else {
        st = fk_fail(FERKD_CORRUPT, "%s: damaged JPEG (%s); copy it again", name, r->text);
    }
    jpeg_destroy_decompress(&r->d);
    free(r->line);
    free(r);
    return st;
}
