/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC'11). A draw is a pure function of (seed, domain, a, b, position),
 * so any one can be made again alone, on any thread, in any order. */
#ifndef FK_RNG_H
#define FK_RNG_H

#include "base/compat.h"

/* What a stream of numbers is for; streams of different domains never meet. */
typedef enum fk_rng_domain {
    FK_RNG_REGION = 1,  /* a = image, b = region */
    FK_RNG_SHUFFLE = 2, /* a = pass over the data */
    FK_RNG_DRAW = 3,    /* which region: a = image, b = visit */
    FK_RNG_MIX = 4,     /* a = step, b = row of the batch */
    FK_RNG_INIT = 5,    /* a = parameter */
    FK_RNG_DROPOUT = 6, /* a = step, b = node */
    FK_RNG_TEST = 99
} fk_rng_domain;

typedef struct fk_rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t out[4];
    int used; /* of out */
} fk_rng;

/* The bare function: ten rounds of Philox4x32. */
void fk_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

fk_rng fk_rng_at(uint64_t seed, fk_rng_domain domain, uint32_t a, uint32_t b);

uint32_t fk_rng_u32(fk_rng *r);

/* In [0, 1), a multiple of 2^-32. */
double fk_rng_unit(fk_rng *r);

/* In 0..n-1, n > 0. */
uint32_t fk_rng_below(fk_rng *r, uint32_t n);

/* Standard normal (Box and Muller, one of the pair). */
double fk_rng_normal(fk_rng *r);

/* Beta(a, a), as Mixup draws lambda. a > 0. */
double fk_rng_beta(fk_rng *r, double a);

/* A random order of 0..n-1 (Fisher and Yates). */
void fk_rng_shuffle(fk_rng *r, uint32_t *order, uint32_t n);

#endif
