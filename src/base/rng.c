/* Philox4x32-10 and what is drawn from it. */
#include "base/rng.h"

void fk_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0];
    uint32_t c1 = counter[1];
    uint32_t c2 = counter[2];
    uint32_t c3 = counter[3];
    uint32_t k0 = key[0];
    uint32_t k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

fk_rng fk_rng_at(uint64_t seed, fk_rng_domain domain, uint32_t a, uint32_t b)
{
    return (fk_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                    .counter = {0, a, b, (uint32_t)domain},
                    .used = 4};
}

uint32_t fk_rng_u32(fk_rng *r)
{
    if (r->used == 4) {
        fk_philox(r->counter, r->key, r->out);
        r->counter[0]++;
        r->used = 0;
    }
    return r->out[r->used++];
}

double fk_rng_unit(fk_rng *r)
{
    return fk_rng_u32(r) * 0x1p-32;
}

uint32_t fk_rng_below(fk_rng *r, uint32_t n)
{
    return (uint32_t)(((uint64_t)fk_rng_u32(r) * n) >> 32);
}

double fk_rng_normal(fk_rng *r)
{
    double u = (fk_rng_u32(r) + 1.0) * 0x1p-32; /* never 0 */
    double v = fk_rng_unit(r);

    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

/* Gamma(a, 1): Marsaglia and Tsang (2000), with their boost for a < 1. */
static double gamma_draw(fk_rng *r, double a)
{
    double boost = 1.0;

    if (a < 1.0) {
        boost = pow((fk_rng_u32(r) + 1.0) * 0x1p-32, 1.0 / a);
        a += 1.0;
    }
    double d = a - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = fk_rng_normal(r);
        double t = 1.0 + c * x;
        double v = t * t * t;
        double u = (fk_rng_u32(r) + 1.0) * 0x1p-32;
        if (t > 0.0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

double fk_rng_beta(fk_rng *r, double a)
{
    double x = gamma_draw(r, a);
    double y = gamma_draw(r, a);

    return x + y > 0.0 ? x / (x + y) : 0.5;
}

void fk_rng_shuffle(fk_rng *r, uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = fk_rng_below(r, i);
        uint32_t t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
