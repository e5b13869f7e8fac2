/* Images: decode, crop, resize. Eight bits a channel, interleaved, rows without gaps. */
#ifndef FERKD_IMAGE_H
#define FERKD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferkd/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ferkd_image {
    uint8_t *px;       /**< [height][width][channels]; owned, freed by ferkd_image_fini() */
    size_t cap_bytes;  /**< what px can hold: an image that is decoded into again keeps it */
    uint32_t width;    /**< pixels */
    uint32_t height;   /**< pixels */
    uint32_t channels; /**< 1 grey, 3 RGB */
} ferkd_image;

/** A box of whole pixels. */
typedef struct ferkd_box {
    uint32_t top, left, height, width;
} ferkd_box;

typedef enum ferkd_filter {
    FERKD_BILINEAR = 1,
    FERKD_BICUBIC = 2, /**< a = -0.5, as Pillow */
    FERKD_LANCZOS = 3
} ferkd_filter;

typedef struct ferkd_decode_options {
    bool ignore_exif;     /**< leave the pixels as stored; default: turn them upright */
    const ferkd_box *box; /**< JPEG: only these pixels (of the upright image) are needed; the rest
                               of the result is undefined. NULL: all */
    uint32_t min_side_px; /**< JPEG: a result scaled down by 1/2, 1/4 or 1/8 will do while its short
                               side keeps this many pixels; 0: full size */
} ferkd_decode_options;

/**
 * Decode a JPEG or PNG in memory to RGB, as Pillow's convert('RGB') does: grey copied, palette
 * looked up, alpha dropped, CMYK by Adobe's inverted convention, 16-bit grey saturated, other
 * 16-bit samples' high byte (Pillow 12).
 *
 * name is for the message only. image must be zeroed before its first use; its memory is used
 * again and grows when needed. options may be NULL.
 * FERKD_CORRUPT: damaged or truncated; FERKD_UNSUPPORTED: another format; FERKD_LIMIT: too large.
 * Any number of threads may decode, each into its own image.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_decode(ferkd_image *image, const void *bytes,
                                                      size_t n, const char *name,
                                                      const ferkd_decode_options *options);

/** Read and decode a file. */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_load(ferkd_image *image, const char *path,
                                                    const ferkd_decode_options *options);

FERKD_API void ferkd_image_fini(ferkd_image *image);

/** The image as a PNG file in memory; the caller frees. */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_encode_png(const ferkd_image *image, uint8_t **bytes,
                                                          size_t *n);

/** Give image this size; the pixels are undefined. */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_shape(ferkd_image *image, uint32_t width,
                                                     uint32_t height, uint32_t channels);

/**
 * Crop box out of src, resize it to dst_width x dst_height, antialiased; flip mirrors left and
 * right afterwards. Equal, bit for bit, to Pillow's crop() and resize() (horizontal pass first, as
 * in every Pillow up to 12.1) and so to torchvision's resized_crop on PIL images.
 *
 * dst is shaped here and may not be src. FERKD_USAGE if the box is empty or leaves the image.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_crop_resize(ferkd_image *dst, const ferkd_image *src,
                                                           ferkd_box box, uint32_t dst_width,
                                                           uint32_t dst_height, ferkd_filter filter,
                                                           bool flip);

/** The evaluation view: short side to resize_px, then the central crop_px square, zeros where the
 *  image is smaller (torchvision's Resize and CenterCrop). */
FERKD_API FERKD_CHECK ferkd_status ferkd_image_center(ferkd_image *dst, const ferkd_image *src,
                                                      uint32_t resize_px, uint32_t crop_px,
                                                      ferkd_filter filter);

/** "bilinear", "bicubic", "lanczos"; 0 for anything else. */
FERKD_API ferkd_filter ferkd_filter_parse(const char *name);
FERKD_API const char *ferkd_filter_name(ferkd_filter filter);

/** Use the plain resampling code instead of the processor's fastest (for tests and timing). */
FERKD_API void ferkd_image_use_plain(bool plain);

#ifdef __cplusplus
}
#endif
#endif
