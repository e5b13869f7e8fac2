/* AVX-512: four taps of three channels in one vector; sixteen columns at a time in the vertical
 * pass. The same bytes as the plain twin. */
#include "image/resample.h"

#include <immintrin.h>

static void horizontal_rgb(uint8_t *dst, const uint8_t *src, size_t src_stride, int rows,
                           const fk_taps *taps)
{
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m128i half = _mm_set1_epi32(1 << (FK_PRECISION_BITS - 1));

    for (int y = 0; y < rows; y++, src += src_stride) {
        for (int x = 0; x < taps->results; x++, dst += 3) {
            const int32_t *k = taps->k + (size_t)x * (size_t)taps->width;
            const uint8_t *p = src + (ptrdiff_t)taps->first[x] * 3;
            int n = taps->count[x];
            __m512i sum = _mm512_setzero_si512();
            for (int i = 0; i < n; i += 4) {
                __m128i b = _mm_loadu_si128((const __m128i *)(p + (ptrdiff_t)i * 3));
                __m512i v = _mm512_cvtepu8_epi32(_mm_shuffle_epi8(b, spread));
                __mmask8 have = (__mmask8)(n - i >= 4 ? 15 : (1 << (n - i)) - 1);
                __m128i w = _mm_maskz_loadu_epi32(have, k + i);
                __m512i wide = _mm512_permutexvar_epi32(lane, _mm512_castsi128_si512(w));
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(v, wide));
            }
            __m256i two =
                _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
            __m128i s =
                _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
            s = _mm_srai_epi32(_mm_add_epi32(s, half), FK_PRECISION_BITS);
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
