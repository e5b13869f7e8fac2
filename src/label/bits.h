/* A stream of bits: laid down from the low bit of each byte up, numbers low bit first. */
#ifndef FK_BITS_H
#define FK_BITS_H

#include "base/bytes.h"

/* Bits that hold 0..n. */
static inline uint32_t fk_bits_for(uint32_t n)
{
    return n ? 32u - (uint32_t)__builtin_clz(n) : 0u;
}

/* --- reading ----------------------------------------------------------------------------------- */

/* After fk_bits_fill() at least 56 bits can be taken. What lies behind the end is read as it is (never beyond
 * limit, the last place where 8 bytes can be read): the values are then nonsense, and harmless. */
typedef struct fk_bit_reader {
    const uint8_t *p, *limit;
    uint64_t bits;
    uint32_t have;
} fk_bit_reader;

static inline void fk_bits_fill(fk_bit_reader *r)
{
    uint64_t word;

    memcpy(&word, r->p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    r->bits |= word << r->have;
    r->p += (63 - r->have) >> 3;
    r->p = r->p > r->limit ? r->limit : r->p;
    r->have |= 56;
}

static inline fk_bit_reader fk_bits_at(const uint8_t *bytes, uint64_t bit, const uint8_t *limit)
{
    fk_bit_reader r = {bytes + (bit >> 3), limit, 0, 0};

    r.p = r.p > limit ? limit : r.p;
    fk_bits_fill(&r);
    r.bits >>= bit & 7;
    r.have -= (uint32_t)(bit & 7);
    return r;
}

/* n <= 32 */
static inline uint32_t fk_bits_take(fk_bit_reader *r, uint32_t n)
{
    uint32_t v = (uint32_t)(r->bits & ((1ull << n) - 1));

    r->bits >>= n;
    r->have -= n;
    return v;
}

/* --- writing ----------------------------------------------------------------------------------- */

/* into is zeroed and large enough. */
typedef struct fk_bit_writer {
    uint8_t *into;
    uint64_t at;
} fk_bit_writer;

static inline void fk_bits_put(fk_bit_writer *w, uint32_t v, uint32_t n)
{
    uint64_t word = (v & ((1ull << n) - 1)) << (w->at & 7);

    for (uint64_t i = w->at >> 3; word; i++, word >>= 8)
        w->into[i] |= (uint8_t)word;
    w->at += n;
}

#endif
