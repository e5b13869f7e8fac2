/* The plain twin: one sum a sample, as formats and tests read it. */
#include "image/resample.h"

static uint8_t clip8(int32_t sum)
{
    int32_t v = sum >> FK_PRECISION_BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void horizontal(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                       const fk_taps *taps, int channels)
{
    for (int y = 0; y < rows; y++, src += src_stride) {
        for (int x = 0; x < taps->results; x++) {
            const int32_t *k = taps->k + (size_t)x * (size_t)taps->width;
            const uint8_t *p = src + (ptrdiff_t)taps->first[x] * channels;
            for (int c = 0; c < channels; c++) {
                int32_t sum = 1 << (FK_PRECISION_BITS - 1);
                for (int i = 0; i < taps->count[x]; i++)
                    sum += p[i * channels + c] * k[i];
                *dst++ = clip8(sum);
            }
        }
    }
}

static void vertical(uint8_t *dst, const uint8_t *src, size_t row_bytes, const fk_taps *taps,
                     int first_row)
{
    for (int y = 0; y < taps->results; y++) {
        const int32_t *k = taps->k + (size_t)y * (size_t)taps->width;
        const uint8_t *top = src + (size_t)(taps->first[y] - first_row) * row_bytes;
        for (size_t x = 0; x < row_bytes; x++) {
            int32_t sum = 1 << (FK_PRECISION_BITS - 1);
            for (int i = 0; i < taps->count[y]; i++)
                sum += top[(size_t)i * row_bytes + x] * k[i];
            *dst++ = clip8(sum);
        }
    }
}

const fk_resample_fns fk_resample_plain = {horizontal, vertical};
