/* AVX2: three channels a tap in one vector; eight columns of a row at a time in the vertical pass.
 * Products are exact in 32 bits, so every order of summation gives the plain twin's bytes. */
#include "image/resample.h"

#include <immintrin.h>

/* Two pixels a step: lanes 0..3 hold tap i, lanes 4..7 tap i+1; the fourth channel is noise. */
static void horizontal_rgb(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                           const fk_taps *taps)
{
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i half = _mm256_set1_epi32(1 << (FK_PRECISION_BITS - 1));

    for (int y = 0; y < rows; y++, src += src_stride) {
        for (int x = 0; x < taps->results; x++, dst += 3) {
            const int32_t *k = taps->k + (size_t)x * (size_t)taps->width;
            const uint8_t *p = src + (ptrdiff_t)taps->first[x] * 3;
            int n = taps->count[x];
            __m256i sum = _mm256_setzero_si256();
            for (int i = 0; i < n; i += 2) {
                int64_t bytes;
                memcpy(&bytes, p + (ptrdiff_t)i * 3, 8);
                __m256i v =
                    _mm256_cvtepu8_epi32(_mm_shuffle_epi8(_mm_cvtsi64_si128(bytes), spread));
                __m256i w = _mm256_setr_m128i(_mm_set1_epi32(k[i]),
                                              _mm_set1_epi32(i + 1 < n ? k[i + 1] : 0));
                sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(v, w));
            }
            __m128i s =
                _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
            s = _mm_srai_epi32(_mm_add_epi32(s, _mm256_castsi256_si128(half)), FK_PRECISION_BITS);
            s = _mm_packus_epi16(_mm_packs_epi32(s, s), s);
            int32_t rgb = _mm_cvtsi128_si32(s);
            memcpy(dst, &rgb, 3);
        }
    }
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
    const __m256i half = _mm256_set1_epi32(1 << (FK_PRECISION_BITS - 1));

    for (int y = 0; y < taps->results; y++, dst += row_bytes) {
        const int32_t *k = taps->k + (size_t)y * (size_t)taps->width;
        const uint8_t *top = src + (size_t)(taps->first[y] - first_row) * row_bytes;
        for (size_t x = 0; x < row_bytes; x += 8) {
            __m256i sum = half;
            for (int i = 0; i < taps->count[y]; i++) {
                __m128i b = _mm_loadl_epi64((const __m128i *)(top + (size_t)i * row_bytes + x));
                sum = _mm256_add_epi32(
                    sum, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(b), _mm256_set1_epi32(k[i])));
            }
            sum = _mm256_srai_epi32(sum, FK_PRECISION_BITS);
            __m128i s =
                _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
            s = _mm_packus_epi16(s, s);
            int64_t eight = _mm_cvtsi128_si64(s);
            memcpy(dst + x, &eight, fk_min_size(8, row_bytes - x));
        }
    }
}

const fk_resample_fns fk_resample_avx2 = {horizontal, vertical};
