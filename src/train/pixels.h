/* Pixels to a network's input: (value - mean) / std by a table of 256 entries a channel. */
#ifndef FK_PIXELS_H
#define FK_PIXELS_H

#include "ferkd/exchange.h"
#include "ferkd/image.h"

typedef struct fk_pixels {
    float table[3][256];
    uint32_t size, channels;
    int source[3]; /* channel of the image for each channel of the input */
    bool last;     /* N H W C */
} fk_pixels;

void fk_pixels_init(fk_pixels *p, const ferkd_preprocess *how, bool channels_last);
/* image is size x size; dst float[channels][size][size] (or [size][size][channels]). A grey image
 * serves all channels; an RGB image becomes grey by Pillow's formula where one channel is wanted. */
void fk_pixels_fill(const fk_pixels *p, const ferkd_image *image, float *dst);

#endif
