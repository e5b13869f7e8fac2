/* Little-endian numbers in memory, as all our files have them. */
#ifndef FK_BYTES_H
#define FK_BYTES_H

#include "base/compat.h"

static inline void fk_put_u16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void fk_put_u32(uint8_t *p, uint32_t v)
{
    fk_put_u16(p, v);
    fk_put_u16(p + 2, v >> 16);
}

static inline void fk_put_u64(uint8_t *p, uint64_t v)
{
    fk_put_u32(p, (uint32_t)v);
    fk_put_u32(p + 4, (uint32_t)(v >> 32));
}

static inline void fk_put_f64(uint8_t *p, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    fk_put_u64(p, bits);
}

static inline uint32_t fk_u16le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t fk_u32le(const uint8_t *p)
{
    return fk_u16le(p) | fk_u16le(p + 2) << 16;
}

static inline uint64_t fk_u64le(const uint8_t *p)
{
    return fk_u32le(p) | (uint64_t)fk_u32le(p + 4) << 32;
}

static inline double fk_f64le(const uint8_t *p)
{
    uint64_t bits = fk_u64le(p);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* IEEE 754's half precision. */
static inline float fk_half_value(uint32_t h)
{
    uint32_t exponent = h >> 10 & 31;
    float fraction = (float)(h & 1023) / 1024.0f;
    float v = exponent == 0    ? ldexpf(fraction, -14)
              : exponent == 31 ? (h & 1023 ? NAN : INFINITY)
                               : ldexpf(1.0f + fraction, (int)exponent - 15);

    return h >> 15 ? -v : v;
}

/* The nearest, ties to even; what is too large becomes infinite. */
static inline uint32_t fk_half_bits(float v)
{
    uint32_t sign = signbit(v) ? 0x8000u : 0;
    float a = fabsf(v);
    int exponent = 0;

    if (!(a < 65520.0f))
        return sign | (isnan(v) ? 0x7E00u : 0x7C00u);
    if (!(a > 0.0f))
        return sign;
    (void)frexpf(a, &exponent); /* a is below 2^exponent */
    int step = (exponent < -13 ? -13 : exponent) - 11;
    uint32_t steps = (uint32_t)lrintf(ldexpf(a, -step)); /* up to 2^11, which carries */
    return sign | (step == -24 ? steps : ((uint32_t)(step + 24) << 10) + steps);
}

static inline float fk_bf16_value(uint32_t h)
{
    uint32_t bits = h << 16;
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The upper half of a float: nothing is lost of a value that was bf16. */
static inline uint16_t fk_bf16_bits(float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    return (uint16_t)(bits >> 16);
}

#endif
