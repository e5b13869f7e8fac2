/* Winograd's convolutions against sums over windows in double. With whole numbers all transforms of F(2x2, 3x3) are exact in
 * bf16, and so the results have to be the same to the last bit; with others they are near, in proportion to the steps of bf16 or f32. */
#include "base/compat.h"

#include <setjmp.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kernel/winograd.h"

typedef struct problem {
    size_t images, height, width, in, out;
    size_t stride;
} problem;

/* Odd and even sides, one pixel, blocks of channels that are not full, several blocks of rows. */
static const problem PROBLEMS[] = {{2, 4, 6, 16, 16, 1}, {1, 5, 7, 48, 80, 1},
                                   {3, 1, 1, 16, 32, 1}, {2, 7, 7, 64, 112, 1},
                                   {1, 2, 9, 32, 64, 1}, {5, 13, 11, 128, 48, 1}};

/* With stride 2, where the last row or column is read or is not, and a tile's last ones are not there. */
static const problem STRIDED[] = {{2, 8, 16, 16, 16, 2}, {1, 5, 7, 48, 80, 2},
                                  {3, 1, 1, 16, 32, 2},  {2, 14, 13, 64, 112, 2},
                                  {1, 2, 18, 32, 64, 2}, {5, 26, 23, 128, 48, 2}};

/* Rows and columns of the output. */
static size_t high(const problem *z)
{
    return (z->height + z->stride - 1) / z->stride;
}

static size_t wide(const problem *z)
{
    return (z->width + z->stride - 1) / z->stride;
}

/* Pixels of all inputs, and of all outputs. */
static size_t pixels_in(const problem *z)
{
    return z->images * z->height * z->width;
}

static size_t pixels_out(const problem *z)
{
    return z->images * high(z) * wide(z);
}

typedef struct numbers {
    bool half;
    void *x, *y, *g; /* maps with channels last: input, output, gradient of the output */
    float *w, *bias;
    double *forward, *data, *weights; /* what is right */
} numbers;

static uint32_t state = 1;

static uint32_t random_bits(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Whole: -1, 0 or 1 times `unit`; else anything to there. */
static float random_value(bool whole, float unit)
{
    return whole ? unit * ((float)(random_bits() % 3) - 1.0f)
                 : unit * ((float)random_bits() * 0x1p-23f - 1.0f);
}

static uint16_t bf16(float v)
{
    uint32_t u;

    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static size_t size_of(bool half)
{
    return half ? sizeof(uint16_t) : sizeof(float);
}

static double at(const void *map, bool half, size_t i)
{
    return half ? (double)fk_bf16_value(((const uint16_t *)map)[i])
                : (double)((const float *)map)[i];
}

static void fill(void *map, bool half, size_t n, bool whole)
{
    for (size_t i = 0; i < n; i++) {
        float v = random_value(whole, 1.0f);
        if (half)
            ((uint16_t *)map)[i] = bf16(v);
        else
            ((float *)map)[i] = v;
    }
}

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(p);
    memset(p, 0xff, (bytes + 63) / 64 * 64); /* NaN, so that what is read is written before */
    return p;
}

/* All three directions in double. */
static void direct(const problem *z, const numbers *n)
{
    size_t each = high(z) * wide(z);

    for (size_t p = 0; p < z->images * each; p++) {
        size_t py = p % each / wide(z);
        size_t px = p % each % wide(z);
        for (size_t t = 0; t < 9; t++) {
            size_t y = z->stride * py + t / 3 - 1; /* below 0: far too much */
            size_t x = z->stride * px + t % 3 - 1;
            if (y >= z->height || x >= z->width)
                continue;
            size_t q = (p / each * z->height + y) * z->width + x;
            for (size_t o = 0; o < z->out; o++)
                for (size_t c = 0; c < z->in; c++) {
                    double a = at(n->x, n->half, q * z->in + c);
                    double g = at(n->g, n->half, p * z->out + o);
                    double w = (double)n->w[(o * z->in + c) * 9 + t];
                    n->forward[p * z->out + o] += a * w;
                    n->data[q * z->in + c] += g * w;
                    n->weights[(o * z->in + c) * 9 + t] += g * a;
                }
        }
    }
}

static numbers numbers_of(const problem *z, bool half, bool whole)
{
    size_t in = pixels_in(z) * z->in;
    size_t out = pixels_out(z) * z->out;
    size_t weights = z->out * z->in * 9;
    numbers n = {.half = half,
                 .x = memory(in * size_of(half)),
                 .y = memory(fk_max_size(in, out) * size_of(half)),
                 .g = memory(out * size_of(half)),
                 .w = memory(weights * sizeof(float)),
                 .bias = memory(z->out * sizeof(float)),
                 .forward = calloc(out, sizeof(double)),
                 .data = calloc(in, sizeof(double)),
                 .weights = calloc(weights, sizeof(double))};

    fill(n.x, half, in, whole);
    fill(n.g, half, out, whole);
    for (size_t i = 0; i < weights; i++) /* the transform divides by 4 */
        n.w[i] = random_value(whole, 4.0f);
    for (size_t i = 0; i < z->out; i++)
        n.bias[i] = random_value(whole, 2.0f);
    direct(z, &n);
    return n;
}

static void free_numbers(numbers *n)
{
    free(n->x), free(n->y), free(n->g), free(n->w), free(n->bias);
    free(n->forward), free(n->data), free(n->weights);
}

/* Equal to the last bit of bf16 if whole; else within its steps times the size of what was added up, and all together within
 * 0.6% of their root mean square: rounding tiles and weights makes some 0.4%, storing the result 0.16%. In f32 it is some 1e-6. */
static void check_map(const numbers *n, const double *want, size_t count, bool whole, double size)
{
    double wrong = 0.0;
    double all = 0.0;

    for (size_t i = 0; i < count; i++) {
        double off = at(n->y, n->half, i) - want[i];
        if (!n->half)
            assert_true(fabs(off) < size * 0x1p-15);
        else if (whole)
            assert_int_equal(((uint16_t *)n->y)[i], bf16((float)want[i] + 0.0f));
        else
            assert_true(fabs(off) < size * 0x1p-7 + fabs(want[i]) * 0x1p-8);
        wrong += off * off;
        all += want[i] * want[i];
    }
    assert_true(whole || sqrt(wrong / all) < (n->half ? 0.006 : 3e-6));
}

/* Channels last. */
static fk_winograd_map map_of(size_t height, size_t width, size_t channels, void *data)
{
    return (fk_winograd_map){data, height, width, height * width * channels, 16, channels};
}

static fk_winograd_maps maps_of(const fk_winograd_kernels *v, const problem *z, void *x, void *y)
{
    return (fk_winograd_maps){.kind = v->kind,
                              .images = z->images,
                              .in = z->in,
                              .out = z->out,
                              .x = map_of(z->height, z->width, z->in, x),
                              .y = map_of(high(z), wide(z), z->out, y)};
}

/* The gradient of the input as a convolution, from g to x. */
static fk_winograd_maps maps_back(const fk_winograd_kernels *v, const problem *z, void *g, void *x)
{
    return (fk_winograd_maps){.kind = v->kind,
                              .images = z->images,
                              .in = z->out,
                              .out = z->in,
                              .x = map_of(high(z), wide(z), z->out, g),
                              .y = map_of(z->height, z->width, z->in, x)};
}

static void pack(const fk_winograd_kernels *v, const problem *z, const float *w, bool back,
                 void *to)
{
    fk_winograd_pack k = {.weights = w, .outputs = z->out, .inputs = z->in, .back = back, .to = to};

    for (size_t i = 0; i < (back ? z->in : z->out) / (size_t)v->lanes; i++)
        v->pack(&k, i);
}

static void *packed(const fk_winograd_kernels *v, const problem *z, const float *w, bool back)
{
    fk_winograd_maps m = back ? maps_back(v, z, NULL, NULL) : maps_of(v, z, NULL, NULL);
    void *to = memory(fk_winograd_packed(&m, fk_winograd_blocks(&m)) * sizeof(uint32_t));

    pack(v, z, w, back, to);
    return to;
}

/* In two parts, as two threads would do it; blocks of channels one after the other. */
static void run(const fk_winograd_kernels *v, fk_winograd_forward *k)
{
    const uint32_t *weights = k->weights;
    size_t rows = fk_winograd_rows(&k->maps);
    float *room = memory(fk_winograd_room(&k->maps) * sizeof *room);

    k->blocks = 1;
    for (k->block = 0; k->block < fk_winograd_blocks(&k->maps); k->block++) {
        k->weights = weights + fk_winograd_packed(&k->maps, k->block);
        v->forward(k, 0, rows / 2, room);
        v->forward(k, rows / 2, rows - rows / 2, room);
    }
    k->weights = weights;
    free(room);
}

/* conv(x) + bias, y + that and an activation of it all. */
static void check_maps(const fk_winograd_kernels *v, const problem *z, const numbers *n, bool whole)
{
    size_t out = pixels_out(z) * z->out;
    double *want = calloc(out, sizeof *want);
    void *weights = packed(v, z, n->w, false);
    fk_winograd_forward k = {.maps = maps_of(v, z, n->x, n->y), .weights = weights};

    run(v, &k);
    check_map(n, n->forward, out, whole, 4.0 * sqrt(9.0 * (double)z->in));
    memcpy(n->y, n->g, out * size_of(n->half));
    for (size_t i = 0; i < out; i++)
        want[i] = fmax(0.0, n->forward[i] + (double)n->bias[i % z->out] + at(n->g, n->half, i));
    k.bias = n->bias;
    k.add = true;
    k.act = (fk_post){1, FK_RELU, 0, 0};
    run(v, &k);
    check_map(n, want, out, whole, 4.0 * sqrt(9.0 * (double)z->in));
    free(weights);
    free(want);
}

/* The gradient of x. */
static void check_back(const fk_winograd_kernels *v, const problem *z, const numbers *n, bool whole)
{
    void *weights = packed(v, z, n->w, true);
    fk_winograd_forward k = {.maps = maps_back(v, z, n->g, n->y), .weights = weights};

    run(v, &k);
    check_map(n, n->data, pixels_in(z) * z->in, whole, 4.0 * sqrt(9.0 * (double)z->out));
    free(weights);
}

/* `once` rows at a time, the last time less; the outputs in parts, of each of which a vector after the other where all rows are there. */
static void weight_gradient(const fk_winograd_kernels *v, fk_winograd_weights *k, size_t once,
                            size_t part)
{
    size_t rows = fk_winograd_rows(&k->maps);

    for (k->from = 0; k->from < k->maps.out; k->from += k->outputs) {
        k->outputs = fk_min_size(part, k->maps.out - k->from);
        for (size_t at = 0; at < rows; at += k->rows) {
            k->rows = fk_min_size(rows - at, once);
            for (size_t i = 0; i < k->rows; i++)
                v->spread(k, at + i, i);
            k->count = once < rows ? k->outputs : 16;
            for (k->first = k->from; k->first < k->from + k->outputs; k->first += k->count) {
                v->multiply(k, at > 0);
                for (size_t o = 0; at + k->rows == rows && o < k->count; o++)
                    v->collect(k, k->first + o);
            }
        }
    }
}

/* To dw. */
static void all_weights(const fk_winograd_kernels *v, const problem *z, const fk_winograd_maps *m,
                        float *dw)
{
    fk_winograd_weights k = {.maps = *m, .dw = dw};

    k.inputs = memory(fk_winograd_spread(&k.maps, z->in, 3) * sizeof(uint32_t));
    k.gradients = memory(fk_winograd_spread(&k.maps, z->out, 3) * sizeof(uint32_t));
    k.sums = memory(fk_winograd_sums(&k.maps, z->out) * sizeof(float));
    weight_gradient(v, &k, 3, 32);
    free(k.inputs), free(k.gradients), free(k.sums);
}

static void check_weights(const fk_winograd_kernels *v, const problem *z, const numbers *n,
                          bool whole)
{
    fk_winograd_maps m = maps_of(v, z, n->x, n->g);
    size_t weights = z->in * z->out * 9;
    double size = sqrt((double)pixels_out(z));
    float *dw = memory(weights * sizeof(float));

    all_weights(v, z, &m, dw);
    for (size_t i = 0; i < weights; i++) {
        double off = fabs((double)dw[i] - n->weights[i]);
        assert_true(!n->half ? off < size * 0x1p-16 : whole ? off == 0.0 : off < size * 0x1p-6);
    }
    free(dw);
}

/* x as `norm` makes it: whole numbers, where those of norm are. */
static void *normalised(const problem *z, const numbers *n, const fk_winograd_norm *norm)
{
    size_t count = pixels_in(z) * z->in;
    void *to = memory(count * size_of(n->half));

    for (size_t i = 0; i < count; i++) {
        size_t c = i % z->in;
        float v = ((float)at(n->x, n->half, i) - norm->mean[c]) * norm->scale[c] + norm->shift[c];
        v = fminf(fmaxf(v, norm->low), norm->high);
        if (n->half)
            ((uint16_t *)to)[i] = bf16(v);
        else
            ((float *)to)[i] = v;
    }
    return to;
}

/* An input that is normalised while it is read, and one that was before: the same bytes, forward and of the weights. */
static void check_normalised(const fk_winograd_kernels *v, const problem *z, const numbers *n,
                             const fk_winograd_norm *norm)
{
    size_t out = pixels_out(z) * z->out * size_of(n->half);
    size_t weights = z->in * z->out * 9 * sizeof(float);
    void *x[2] = {normalised(z, n, norm), n->x};
    void *y[2] = {memory(out), memory(out)};
    float *dw[2] = {memory(weights), memory(weights)};
    void *packed_weights = packed(v, z, n->w, false);

    for (int i = 0; i < 2; i++) {
        fk_winograd_forward k = {.maps = maps_of(v, z, x[i], y[i]), .weights = packed_weights};
        fk_winograd_maps m = maps_of(v, z, x[i], n->g);
        k.maps.norm = m.norm = i ? norm : NULL;
        run(v, &k);
        all_weights(v, z, &m, dw[i]);
    }
    assert_memory_equal(y[0], y[1], out);
    assert_memory_equal(dw[0], dw[1], weights);
    free(x[0]), free(y[0]), free(y[1]), free(dw[0]), free(dw[1]), free(packed_weights);
}

/* Kernels there and back, and what they are tried on. */
typedef struct family {
    bool half;
    const fk_winograd_kernels *plain, *back;
    const problem *problems;
} family;

static const family FAMILIES[] = {
    {true, &fk_winograd2_plain16, &fk_winograd2_plain16, PROBLEMS},
    {false, &fk_winograd4_plain16, &fk_winograd4_plain16, PROBLEMS},
    {false, &fk_winograd_strided_plain16, &fk_winograd_return_plain16, STRIDED}};

static void inputs_are_normalised(void **unused)
{
    float vectors[3][128];
    fk_winograd_norm norms[] = {{vectors[0], vectors[1], vectors[2], 0.0f, INFINITY},
                                {vectors[0], vectors[1], vectors[2], 0.0f, 2.0f},
                                {vectors[0], vectors[1], vectors[2], -INFINITY, INFINITY}};

    (void)unused;
    for (size_t i = 0; i < 3 * 128; i++)
        vectors[i / 128][i % 128] = random_value(true, 1.0f);
    for (size_t i = 0; i < FK_COUNT(PROBLEMS); i++) {
        const family *f = FAMILIES;
        for (; f < FAMILIES + FK_COUNT(FAMILIES); f++) {
            numbers n = numbers_of(&f->problems[i], f->half, true);
            for (size_t k = 0; k < FK_COUNT(norms); k++) {
                check_normalised(f->plain, &f->problems[i], &n, &norms[k]);
                if (fk_winograd_best(f->plain->kind))
                    check_normalised(fk_winograd_best(f->plain->kind), &f->problems[i], &n,
                                     &norms[k]);
            }
            free_numbers(&n);
        }
    }
}

static void check(const family *f, bool whole)
{
    const fk_winograd_kernels *there[] = {f->plain, fk_winograd_best(f->plain->kind)};
    const fk_winograd_kernels *back[] = {f->back, fk_winograd_best(f->back->kind)};

    for (size_t i = 0; i < FK_COUNT(PROBLEMS); i++) {
        numbers n = numbers_of(&f->problems[i], f->half, whole);
        for (size_t v = 0; v < FK_COUNT(there); v++) {
            if (!there[v])
                continue;
            check_maps(there[v], &f->problems[i], &n, whole);
            check_back(back[v], &f->problems[i], &n, whole);
            check_weights(there[v], &f->problems[i], &n, whole);
        }
        free_numbers(&n);
    }
}

static void whole_numbers_are_exact(void **unused)
{
    (void)unused;
    check(&FAMILIES[0], true);
}

static void others_are_near(void **unused)
{
    (void)unused;
    check(&FAMILIES[0], false);
}

static void f32_is_near(void **unused)
{
    (void)unused;
    check(&FAMILIES[1], false);
}

static void strided_is_near(void **unused)
{
    (void)unused;
    check(&FAMILIES[2], false);
}

/* --- how fast -------------------------------------------------------------------------------- */

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of five, by one thread: GFLOP/s as if each output were made from 9 products for every input channel. */
static void bench(const fk_winograd_kernels *v, const fk_winograd_kernels *back, const problem *z)
{
    size_t weights = z->in * z->out * 9;
    size_t size = size_of(v->kind == FK_WINOGRAD_2);
    void *x = calloc(pixels_in(z) * z->in, size);
    void *y = calloc(pixels_out(z) * z->out, size);
    fk_winograd_maps m = maps_of(v, z, x, y);
    fk_winograd_maps b = maps_back(back, z, y, x);
    double flop = 2e-9 * (double)pixels_out(z) * (double)weights;
    double best[5] = {INFINITY, INFINITY, INFINITY, INFINITY, INFINITY};

    float *w = calloc(weights, sizeof *w);
    float *room = memory(fk_max_size(fk_winograd_room(&m), fk_winograd_room(&b)) * sizeof *room);
    void *to = packed(v, z, w, false);
    void *to_back = packed(back, z, w, true);
    fk_winograd_forward k = {.maps = m, .blocks = fk_winograd_blocks(&m), .weights = to};
    fk_winograd_forward kb = {.maps = b, .blocks = fk_winograd_blocks(&b), .weights = to_back};
    fk_winograd_weights g = {.maps = m, .dw = w};
    size_t rows = fk_winograd_rows(&m);
    size_t once = fk_min_size(rows, fk_winograd_rows_weights(&m, z->out));
    g.inputs = memory(fk_winograd_spread(&m, z->in, once) * sizeof *g.inputs);
    g.gradients = memory(fk_winograd_spread(&m, z->out, once) * sizeof *g.gradients);
    g.sums = memory(fk_winograd_sums(&m, z->out) * sizeof *g.sums);
    for (int i = 0; i < 5; i++) {
        double at[6] = {now_s()};
        v->forward(&k, 0, rows, room);
        at[1] = now_s();
        back->forward(&kb, 0, fk_winograd_rows(&b), room);
        at[2] = now_s();
        weight_gradient(v, &g, once, z->out);
        at[3] = now_s();
        pack(back, z, w, true, to_back);
        at[4] = now_s();
        pack(v, z, w, false, to);
        at[5] = now_s();
        for (int j = 0; j < 5; j++)
            best[j] = fmin(best[j], at[j + 1] - at[j]);
    }
    printf("%-4s %3zu images %3zu x %-3zu %4zu to %-4zu%s forward %4.0f, back %4.0f, weights %4.0f "
           "GFLOP/s, "
           "packing %.2f, back %.2f ms\n",
           size == 2 ? "bf16" : "f32", z->images, z->height, z->width, z->in, z->out,
           z->stride == 2 ? " stride 2" : "", flop / best[0], flop / best[1], flop / best[2],
           1e3 * best[4], 1e3 * best[3]);
    free(x), free(y), free(w), free(room), free(to), free(to_back);
    free(g.inputs), free(g.gradients), free(g.sums);
}

static void bench_all(void)
{
    static const problem SPEEDS[] = {{64, 32, 32, 64, 64, 1}, {64, 16, 16, 128, 128, 1},
                                     {64, 8, 8, 256, 256, 1}, {64, 4, 4, 512, 512, 1},
                                     {16, 56, 56, 64, 64, 1}, {16, 14, 14, 256, 256, 1},
                                     {64, 32, 32, 32, 32, 1}};
    static const problem BY_TWO[] = {{64, 32, 32, 64, 128, 2},  {64, 16, 16, 128, 256, 2},
                                     {64, 8, 8, 256, 512, 2},   {32, 32, 32, 128, 128, 2},
                                     {32, 16, 16, 256, 256, 2}, {32, 8, 8, 512, 512, 2}};
    const fk_winograd_kernels *v[] = {
        fk_winograd_best(FK_WINOGRAD_2), fk_winograd_best(FK_WINOGRAD_4),
        fk_winograd_best(FK_WINOGRAD_STRIDED), fk_winograd_best(FK_WINOGRAD_RETURN)};

    for (size_t i = 0; i < 2 * FK_COUNT(SPEEDS); i++)
        if (v[i / FK_COUNT(SPEEDS)])
            bench(v[i / FK_COUNT(SPEEDS)], v[i / FK_COUNT(SPEEDS)], &SPEEDS[i % FK_COUNT(SPEEDS)]);
    for (size_t i = 0; v[2] && i < FK_COUNT(BY_TWO); i++)
        bench(v[2], v[3], &BY_TWO[i]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        bench_all();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_exact),
        cmocka_unit_test(others_are_near),
        cmocka_unit_test(f32_is_near),
        cmocka_unit_test(strided_is_near),
        cmocka_unit_test(inputs_are_normalised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
