/* Normalising: exactly torchvision's (x / 255 - mean) / std in float. */
#include "base/compat.h"

#include "train/pixels.h"

void fk_pixels_init(fk_pixels *p, const ferkd_preprocess *how, bool channels_last)
{
    *p = (fk_pixels){.size = how->size_px, .channels = how->channels, .last = channels_last};
    for (int c = 0; c < 3; c++) {
        p->source[c] = how->bgr ? 2 - c : c;
        int of = p->source[c]; /* mean and std are given in the order R G B */
        for (int v = 0; v < 256; v++)
            p->table[c][v] = ((float)v / 255.0f - (float)how->mean[of]) / (float)how->std[of];
    }
}

static uint8_t grey(const uint8_t *rgb)
{
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

/* The usual case in one pass: three channels from three, plane by plane. */
static void fill_planes(const fk_pixels *p, const uint8_t *px, size_t plane, float *restrict dst)
{
    const float *const table[3] = {p->table[0], p->table[1], p->table[2]};
    const size_t at[3] = {(size_t)p->source[0], (size_t)p->source[1], (size_t)p->source[2]};

    for (size_t i = 0; i < plane; i++) {
        dst[i] = table[0][px[3 * i + at[0]]];
        dst[plane + i] = table[1][px[3 * i + at[1]]];
        dst[2 * plane + i] = table[2][px[3 * i + at[2]]];
    }
}

void fk_pixels_fill(const fk_pixels *p, const ferkd_image *image, float *dst)
{
    size_t plane = (size_t)p->size * p->size;
    size_t step = image->channels;

    if (p->channels == 3 && step == 3 && !p->last) {
        fill_planes(p, image->px, plane, dst);
        return;
    }
    for (uint32_t c = 0; c < p->channels; c++) {
        const float *table = p->table[c];
        float *to = p->last ? dst + c : dst + c * plane;
        size_t stride = p->last ? p->channels : 1;
        if (p->channels == 1 && step == 3) {
            for (size_t i = 0; i < plane; i++)
                to[i * stride] = table[grey(image->px + 3 * i)];
        } else {
            const uint8_t *src = image->px + (step == 3 ? (size_t)p->source[c] : 0);
            for (size_t i = 0; i < plane; i++)
                to[i * stride] = table[src[i * step]];
        }
    }
}
