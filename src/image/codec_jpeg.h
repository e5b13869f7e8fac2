/* The decoders behind ferkd_image_decode(). */
#ifndef FK_CODEC_JPEG_H
#define FK_CODEC_JPEG_H

#include "ferkd/image.h"

FERKD_CHECK ferkd_status fk_jpeg_decode(ferkd_image *image, int *orientation, const uint8_t *bytes,
                                        size_t n, const char *name,
                                        const ferkd_decode_options *options);

FERKD_CHECK ferkd_status fk_png_decode(ferkd_image *image, int *orientation, const uint8_t *bytes,
                                       size_t n, const char *name);

/* The EXIF orientation (1..8) in a TIFF block; 1 where there is none. */
int fk_exif_orientation(const uint8_t *tiff, size_t n);

/* Turn the pixels upright; spare is scratch that is swapped with image. */
FERKD_CHECK ferkd_status fk_exif_apply(ferkd_image *image, int orientation);

#endif
