/* 1x1 convolutions and their gradients against sums in double: whole numbers, so they are equal. "bench" prints how fast they are. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kernel/pointwise.h"

enum { LANES = 16 };

typedef struct problem {
    size_t images, pixels, in, out; /* channels */
} problem;

/* Numbers of pixels that leave all numbers of rows over; channels that are no whole vectors; blocks that are not full. */
static const problem PROBLEMS[] = {{1, 1, 16, 16},  {2, 7, 24, 144}, {3, 16, 160, 64},
                                   {1, 26, 40, 80}, {2, 9, 96, 24},  {1, 64, 20, 33}};

static size_t vectors_of(size_t channels)
{
    return (channels + LANES - 1) / LANES;
}

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(p);
    memset(p, 0xff, (bytes + 63) / 64 * 64);
    return p;
}

/* Whole numbers from -3 to 4. */
static float *numbers(size_t n, uint32_t *state)
{
    float *p = memory(n * sizeof *p);

    for (size_t i = 0; i < n; i++) {
        *state = *state * 1664525u + 1013904223u;
        p[i] = (float)(*state >> 8 & 7) - 3.0f;
    }
    return p;
}

/* A map of so many channels: images with a gap behind them, of vectors with a gap. */
typedef struct map {
    fk_pointwise_map m;
    size_t channels;
} map;

static map map_of(const problem *z, size_t channels, uint32_t *state)
{
    size_t vectors = vectors_of(channels);
    size_t vector = (z->pixels + 2) * LANES;
    map a = {.m = {.image = vectors * vector + 3 * LANES, .vector = vector}, .channels = channels};

    a.m.data = numbers(z->images * a.m.image, state);
    for (size_t i = 0; i < z->images * z->pixels * vectors * LANES; i++) {
        size_t lane = i % LANES;
        size_t v = i / LANES % vectors;
        size_t p = i / LANES / vectors;
        if (v * LANES + lane >= channels)
            a.m.data[p / z->pixels * a.m.image + v * vector + p % z->pixels * LANES + lane] = 0.0f;
    }
    return a;
}

static double at(const map *a, size_t image, size_t pixel, size_t c)
{
    return c < a->channels
               ? (double)a->m
                     .data[image * a->m.image + c / LANES * a->m.vector + pixel * LANES + c % LANES]
               : 0.0;
}

/* y from x, by weights [out][in] or, turned, [in][out]. */
static void check_product(const fk_pointwise_kernels *kernels, const problem *z, bool turned)
{
    uint32_t state = 1;
    map x = map_of(z, z->in, &state);
    map y = map_of(z, z->out, &state);
    float *w = numbers(z->in * z->out, &state);
    fk_pointwise k = {z->images, z->pixels, vectors_of(z->in), vectors_of(z->out), x.m, y.m};
    fk_pointwise_pack pack = {.weights = w,
                              .outputs = turned ? z->in : z->out,
                              .inputs = turned ? z->out : z->in,
                              .turned = turned,
                              .to = memory(fk_pointwise_packed(k.in, k.out) * sizeof(float))};

    for (size_t v = 0; v < k.out; v++)
        kernels->pack(&pack, v);
    for (size_t b = 0; b * FK_POINTWISE_BLOCK < k.out; b++)
        kernels->multiply(&k, pack.to, b);
    for (size_t p = 0; p < z->images * z->pixels; p++)
        for (size_t o = 0; o < k.out * LANES; o++) {
            double want = 0.0;
            for (size_t i = 0; o < z->out && i < z->in; i++)
                want += at(&x, p / z->pixels, p % z->pixels, i) *
                        (double)w[turned ? i * z->out + o : o * z->in + i];
            y.channels = k.out * LANES;
            assert_true(at(&y, p / z->pixels, p % z->pixels, o) == want);
        }
    free(x.m.data), free(y.m.data), free(w), free(pack.to);
}

/* In two calls, of which the second adds. */
static void check_outer(const fk_pointwise_kernels *kernels, const problem *z)
{
    uint32_t state = 2;
    map x = map_of(z, z->in, &state);
    map y = map_of(z, z->out, &state);
    fk_pointwise k = {z->images, z->pixels / 2, vectors_of(z->in), vectors_of(z->out), x.m, y.m};
    size_t row = k.in * LANES;
    float *sums = memory(k.out * LANES * row * sizeof *sums);

    kernels->outer(&k, sums, false);
    k.x.data += z->pixels / 2 * LANES;
    k.y.data += z->pixels / 2 * LANES;
    k.pixels = z->pixels - z->pixels / 2;
    kernels->outer(&k, sums, true);
    for (size_t o = 0; o < k.out * LANES; o++)
        for (size_t i = 0; i < row; i++) {
            double want = 0.0;
            for (size_t p = 0; p < z->images * z->pixels; p++)
                want += at(&x, p / z->pixels, p % z->pixels, i) *
                        at(&y, p / z->pixels, p % z->pixels, o);
            assert_true((double)sums[o * row + i] == want);
        }
    free(x.m.data), free(y.m.data), free(sums);
}

static void check_all(const fk_pointwise_kernels *kernels)
{
    for (size_t i = 0; i < FK_COUNT(PROBLEMS); i++) {
        check_product(kernels, &PROBLEMS[i], false);
        check_product(kernels, &PROBLEMS[i], true);
        check_outer(kernels, &PROBLEMS[i]);
    }
}

static void products_are_exact(void **unused)
{
    (void)unused;
    check_all(&fk_pointwise_plain16);
    if (fk_pointwise_best())
        check_all(fk_pointwise_best());
}

/* --- how fast -------------------------------------------------------------------------------- */

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of nine, by one thread. */
static void bench(const fk_pointwise_kernels *kernels, const problem *z)
{
    uint32_t state = 1;
    map x = map_of(z, z->in, &state);
    map y = map_of(z, z->out, &state);
    fk_pointwise k = {z->images, z->pixels, vectors_of(z->in), vectors_of(z->out), x.m, y.m};
    float *w = numbers(z->in * z->out, &state);
    float *sums = memory(z->in * z->out * sizeof *sums);
    fk_pointwise_pack pack = {.weights = w, .outputs = z->out, .inputs = z->in};
    double flop = 2e-9 * (double)(z->images * z->pixels) * (double)(z->in * z->out);
    double best[4] = {INFINITY, INFINITY, INFINITY, INFINITY};

    pack.to = memory(z->in * z->out * sizeof(float));
    for (int i = 0; i < 9; i++) {
        double at[5] = {now_s()};
        for (size_t v = 0; v < k.out; v++)
            kernels->pack(&pack, v);
        at[1] = now_s();
        for (size_t b = 0; b * FK_POINTWISE_BLOCK < k.out; b++)
            kernels->multiply(&k, pack.to, b);
        at[2] = now_s();
        kernels->outer(&k, sums, i > 0);
        at[3] = now_s();
        pack.turned = true;
        for (size_t v = 0; v < k.in; v++)
            kernels->pack(&pack, v);
        pack.turned = false;
        at[4] = now_s();
        for (int j = 0; j < 4; j++)
            best[j] = fmin(best[j], at[j + 1] - at[j]);
    }
    printf("%3zu images %4zu pixels %4zu to %-4zu forward %4.0f, weights %4.0f GFLOP/s, packing "
           "%.3f, turned %.3f ms\n",
           z->images, z->pixels, z->in, z->out, flop / best[1], flop / best[2], 1e3 * best[0],
           1e3 * best[3]);
    free(x.m.data), free(y.m.data), free(w), free(sums), free(pack.to);
}

int main(int argc, char **argv)
{
    static const problem SPEEDS[] = {
        {1, 256, 64, 256},  {1, 256, 256, 64},  {1, 256, 128, 512},  {1, 256, 512, 128},
        {4, 64, 256, 1024}, {4, 64, 1024, 256}, {16, 16, 512, 2048}, {16, 16, 2048, 512},
        {8, 16, 512, 2048}, {8, 16, 2048, 512}, {2, 64, 1024, 256},  {1, 128, 512, 128},
        {1, 1024, 16, 96},  {1, 1024, 96, 32},  {16, 16, 96, 576},   {16, 49, 512, 2048},
    };

    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        for (size_t i = 0; fk_pointwise_best() && i < FK_COUNT(SPEEDS); i++)
            bench(fk_pointwise_best(), &SPEEDS[i]);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_are_exact)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
