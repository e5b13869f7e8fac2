/* Channels that move: each lane of a vector comes from a lane of another. */
#include "kernel/lanes.h"

/* `to` with the lanes that the source gives. */
FK_INLINE fk_v take(fk_v to, fk_v from, const fk_gather_source *s)
{
#if defined(__AVX512F__) && FK_LANES == 16
    __m512i lane = _mm512_loadu_si512(s->lane);
    __mmask16 here = _mm512_cmpge_epi32_mask(lane, _mm512_setzero_si512());
    return (fk_v)_mm512_mask_permutexvar_ps((__m512)to, here, lane, (__m512)from);
#elif defined(__AVX2__) && FK_LANES == 8
    __m256i lane = _mm256_loadu_si256((const __m256i *)s->lane);
    return (fk_v)_mm256_blendv_ps(_mm256_permutevar8x32_ps((__m256)from, lane), (__m256)to,
                                  _mm256_castsi256_ps(lane)); /* by the sign */
#else
    for (int i = 0; i < FK_LANES; i++)
        to[i] = s->lane[i] < 0 ? to[i] : from[s->lane[i]];
    return to;
#endif
}

FK_INLINE void gather_as(const fk_gather *k, size_t n)
{
    for (size_t image = 0; image < k->at.images; image++) {
        size_t to = k->at.first + image * k->at.image;
        for (size_t pixel = 0; pixel < k->at.pixels; pixel++) {
            fk_v v = fk_v_of(0.0f);
            for (size_t i = 0; i < n; i++) {
                const fk_gather_source *s = &k->sources[i];
                v = take(v, fk_v_load(s->from, s->first + image * s->image + pixel * FK_LANES), s);
            }
            fk_v_store(k->to, to + pixel * FK_LANES, v);
        }
    }
}

static void gather(const fk_gather *k)
{
    if (k->n_sources == 1)
        gather_as(k, 1);
    else if (k->n_sources == 2)
        gather_as(k, 2);
    else
        gather_as(k, k->n_sources);
}

const fk_gather_kernel FK_TABLE(fk_gather) = {FK_LANES, gather};
