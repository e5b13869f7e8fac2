/* Sums of outer products: some pairs of pixels at a time are put side by side, number by number, as words.h multiplies them. */
#include "kernel/outer.h"

#include "kernel/words.h"

/* Numbers 0 .. count (at most a vector) from p on; then zeros. */
FK_INLINE fk_vu numbers_at(const uint16_t *p, size_t count)
{
#if defined(__AVX512F__) && FK_LANES == 16
    __mmask16 there = count >= FK_LANES ? 0xffff : (__mmask16)((1u << count) - 1);
    return (fk_vu)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, p));
#else
    uint16_t there[FK_LANES] = {0};
    fk_vh h;

    memcpy(there, p, (count < FK_LANES ? count : FK_LANES) * sizeof *p);
    memcpy(&h, there, sizeof h);
    return __builtin_convertvector(h, fk_vu);
#endif
}

/* Vector c of channels of pixels p and p + 1, which may not be there. */
FK_INLINE fk_vu pair_at(const uint16_t *map, size_t channels, size_t pixels, size_t p, size_t c)
{
    const uint16_t *at = map + p * channels + c;
    size_t count = channels - c;
    fk_vu even = numbers_at(at, count);

    return p + 1 < pixels ? even | numbers_at(at + channels, count) << 16 : even;
}

FK_INLINE void fetch(const uint16_t *map, size_t channels, size_t p, size_t c)
{
    fk_v_fetch((fk_operand){(void *)(uintptr_t)map, true}, p * channels + c);
}

/* `steps` pairs of pixels from p on: vectors in blocks of `abreast`, as [block][step][vector of it][lane]. */
FK_INLINE void spread(const uint16_t *map, size_t channels, size_t pixels, size_t p, size_t steps,
                      size_t abreast, uint32_t *to)
{
    size_t vectors = fk_outer_stride(channels) / FK_LANES;
    size_t ahead = 2 * steps; /* what comes next, while this is multiplied */

    for (size_t v = 0; v < vectors; v += abreast) {
        size_t n = vectors - v < abreast ? vectors - v : abreast;
        for (size_t s = 0; s < steps; s++)
            for (size_t i = 0; i < n; i++, to += FK_LANES) {
                fk_vu words = pair_at(map, channels, pixels, p + 2 * s, (v + i) * FK_LANES);
                fetch(map, channels, p + 2 * s + ahead, (v + i) * FK_LANES);
                fetch(map, channels, p + 2 * s + 1 + ahead, (v + i) * FK_LANES);
                memcpy(to, &words, sizeof words);
            }
    }
}

static void multiply(const fk_outer *k, size_t steps, const uint32_t *a, const uint32_t *b,
                     bool add)
{
    size_t stride = fk_outer_stride(k->columns);

    for (size_t c = 0; c < stride; c += FK_BLOCK) {
        size_t n = fk_words_vectors(stride, c / FK_BLOCK);
        for (size_t r = 0; r < k->rows; r += FK_LANES) {
            size_t rows = k->rows - r < FK_LANES ? k->rows - r : FK_LANES;
            fk_words_multiply((fk_words_product){.a = a + r * steps,
                                                 .a_row = 1,
                                                 .a_step = FK_LANES,
                                                 .b = b + c * steps,
                                                 .depth = steps,
                                                 .c = k->sums + r * stride + c,
                                                 .c_row = stride,
                                                 .add = add},
                              rows, n, true);
        }
    }
}

fk_outer_kernel FK_NAME(fk_outer, FK_VARIANT);

void FK_NAME(fk_outer, FK_VARIANT)(const fk_outer *k)
{
    uint32_t *a = k->room;
    uint32_t *b = a + FK_OUTER_STEPS * fk_outer_stride(k->rows);

    if (k->pixels == 0 && !k->add)
        memset(k->sums, 0, k->rows * fk_outer_stride(k->columns) * sizeof *k->sums);
    for (size_t p = 0; p < k->pixels; p += 2 * (size_t)FK_OUTER_STEPS) {
        size_t left = (k->pixels - p + 1) / 2;
        size_t steps = left < FK_OUTER_STEPS ? left : FK_OUTER_STEPS;
        spread(k->a, k->rows, k->pixels, p, steps, 1, a);
        spread(k->b, k->columns, k->pixels, p, steps, FK_ABREAST, b);
        multiply(k, steps, a, b, k->add || p > 0);
    }
}
