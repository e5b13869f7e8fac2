/* AVX-512: four taps of three channels in one vector; sixteen columns at a time in the vertical
 * pass. The same bytes as the plain twin. */
#include "image/resample.h"

#include <immintrin.h>

enum {
    ROWS = 4
}; /* at a time: they share weights, and their sums are put together in one vector */

/* Sixteen products: four taps of red, green, blue, nothing. */
static inline __m512i products(const uint8_t *p, __m512i weights)
{
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    __m128i b = _mm_loadu_si128((const __m128i *)p);

    return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_shuffle_epi8(b, spread)), weights);
}

/* The sums over the four taps of each: one row a 128-bit lane. */
static inline __m512i sum_taps(const __m512i *row)
{
    __m512i ab = _mm512_add_epi32(_mm512_shuffle_i32x4(row[0], row[1], 0x44),
                                  _mm512_shuffle_i32x4(row[0], row[1], 0xEE));
    __m512i cd = _mm512_add_epi32(_mm512_shuffle_i32x4(row[2], row[3], 0x44),
                                  _mm512_shuffle_i32x4(row[2], row[3], 0xEE));

    return _mm512_add_epi32(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xDD));
}

/* `rows` (at most ROWS) rows; those that are missing repeat the last and are not stored. */
static void horizontal_rows(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                            const fk_taps *taps)
{
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i half = _mm512_set1_epi32(1 << (FK_PRECISION_BITS - 1));
    size_t dst_stride = (size_t)taps->results * 3;
    const uint8_t *from[ROWS];

    for (int r = 0; r < ROWS; r++)
        from[r] = src + (size_t)(r < rows ? r : rows - 1) * src_stride;
    for (int x = 0; x < taps->results; x++, dst += 3) {
        const int32_t *k = taps->k + (size_t)x * (size_t)taps->width;
        size_t at = (size_t)taps->first[x] * 3;
        int n = taps->count[x];
        __m512i sum[ROWS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                             _mm512_setzero_si512()};
        for (int i = 0; i < n; i += 4) {
            __mmask8 have = (__mmask8)(n - i >= 4 ? 15 : (1 << (n - i)) - 1);
            __m128i w = _mm_maskz_loadu_epi32(have, k + i);
            __m512i wide = _mm512_permutexvar_epi32(lane, _mm512_castsi128_si512(w));
            for (int r = 0; r < ROWS; r++)
                sum[r] = _mm512_add_epi32(sum[r], products(from[r] + at + (size_t)i * 3, wide));
        }
        __m512i s = _mm512_srai_epi32(_mm512_add_epi32(sum_taps(sum), half), FK_PRECISION_BITS);
        s = _mm512_packus_epi16(_mm512_packs_epi32(s, s), s);
        int32_t rgb[16];
        _mm512_storeu_si512(rgb, s);
        for (int r = 0; r < rows; r++)
            memcpy(dst + (size_t)r * dst_stride, &rgb[4 * r], 3);
    }
}

static void horizontal_rgb(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                           const fk_taps *taps)
{
    for (int y = 0; y < rows; y += ROWS)
        horizontal_rows(dst + (size_t)y * (size_t)taps->results * 3, src + (size_t)y * src_stride,
                        src_stride, rows - y < ROWS ? rows - y : ROWS, taps);
}

static void horizontal(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                       const fk_taps *taps, int channels)
{
    if (channels == 3)
        horizontal_rgb(dst, src, src_stride, rows, taps);
    else
        fk_resample_plain.horizontal(dst, src, src_stride, rows, taps, channels);
}

static void vertical(uint8_t *dst, const uint8_t *src, size_t row_bytes, const fk_taps *taps,
                     int first_row)
{
    const __m512i half = _mm512_set1_epi32(1 << (FK_PRECISION_BITS - 1));

    for (int y = 0; y < taps->results; y++, dst += row_bytes) {
        const int32_t *k = taps->k + (size_t)y * (size_t)taps->width;
        const uint8_t *top = src + (size_t)(taps->first[y] - first_row) * row_bytes;
        for (size_t x = 0; x < row_bytes; x += 16) {
            __mmask16 have =
                (__mmask16)(row_bytes - x >= 16 ? 0xffff : (1u << (row_bytes - x)) - 1);
            __m512i sum = half;
            for (int i = 0; i < taps->count[y]; i++) {
                __m128i b = _mm_maskz_loadu_epi8(have, top + (size_t)i * row_bytes + x);
                sum = _mm512_add_epi32(
                    sum, _mm512_mullo_epi32(_mm512_cvtepu8_epi32(b), _mm512_set1_epi32(k[i])));
            }
            sum = _mm512_srai_epi32(sum, FK_PRECISION_BITS);
            sum = _mm512_max_epi32(sum, _mm512_setzero_si512());
            _mm_mask_storeu_epi8(dst + x, have, _mm512_cvtusepi32_epi8(sum));
        }
    }
}

const fk_resample_fns fk_resample_avx512 = {horizontal, vertical};
