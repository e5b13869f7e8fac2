/* Products on matrix tiles against sums in double, with odd sizes, gaps between rows and all turns; skipped where there are no tiles. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "kernel/tiles.h"

static uint32_t state = 1;

/* All 24 bits of the fraction in use. */
static float full_value(void)
{
    state = state * 1664525u + 1013904223u;
    float v = (float)((state >> 4 & 0xffffffU) | 1U << 23 | 1U) *
              (state >> 28 & 1U ? 0x1p-24f : 0x1p-20f);
    return state >> 29 & 1U ? v : -v;
}

static float *floats(size_t n)
{
    float *v = aligned_alloc(64, (n * sizeof *v + 63) / 64 * 64);

    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        v[i] = full_value();
    return v;
}

/* Element (i, j) of a matrix, and where it is. */
static size_t at(bool turned, size_t row, size_t i, size_t j)
{
    return turned ? j * row + i : i * row + j;
}

/* No sum is further from that in double than f32 has it: 2^-21 of the sum of all sizes. */
static void check_product(bool turn_a, bool turn_b, size_t m, size_t n, size_t k, float alpha,
                          float beta)
{
    fk_gemm_args g = {.turn_a = turn_a, .turn_b = turn_b, .m = m, .n = n, .k = k, .alpha = alpha};
    float *row = beta == 0.0f ? floats(n) : NULL;

    g.lda = (turn_a ? m : k) + 3;
    g.ldb = (turn_b ? k : n) + 5;
    g.ldc = n + 7;
    float *a = floats((turn_a ? k : m) * g.lda);
    float *b = floats((turn_b ? n : k) * g.ldb);
    float *c = floats(m * g.ldc);
    float *before = floats(m * g.ldc);
    void *room = aligned_alloc(64, fk_tiles_room(m, n, k));
    assert_non_null(room);
    memcpy(before, c, m * g.ldc * sizeof *c);
    g.a = a, g.b = b, g.c = c, g.beta = beta, g.row = row;
    void *packed = aligned_alloc(64, fk_tiles_packed_bytes(n, k));
    assert_non_null(packed);
    fk_tiles_pack(&g, packed);
    fk_tiles_gemm(&g, room);
    float *same = floats(m * g.ldc);
    memcpy(same, before, m * g.ldc * sizeof *c);
    g.packed_b = packed, g.b = NULL, g.c = same;
    fk_tiles_gemm(&g, room);
    assert_memory_equal(c, same, m * g.ldc * sizeof *c);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < g.ldc; j++) {
            double sum =
                j < n ? (double)beta * (double)before[i * g.ldc + j] : (double)c[i * g.ldc + j];
            sum += j < n && row ? (double)row[j] : 0.0;
            double sizes = fabs(sum);
            for (size_t d = 0; j < n && d < k; d++) {
                double t = (double)alpha * (double)a[at(turn_a, g.lda, i, d)] *
                           (double)b[at(turn_b, g.ldb, d, j)];
                sum += t;
                sizes += fabs(t);
            }
            if (j >= n) /* between rows of C */
                assert_true(c[i * g.ldc + j] == before[i * g.ldc + j]);
            if (fabs((double)c[i * g.ldc + j] - sum) > 0x1p-21 * sizes)
                fail_msg("%zu x %zu x %zu, turned %d %d: [%zu][%zu] is %.9g, not %.9g", m, n, k,
                         turn_a, turn_b, i, j, (double)c[i * g.ldc + j], sum);
        }
    }
    free(a), free(b), free(c), free(before), free(room), free(packed), free(same), free(row);
}

static void products_on_tiles_are_as_precise_as_f32(void **unused)
{
    static const size_t SHAPES[][3] = {{1, 1, 1},     {7, 5, 3},       {32, 32, 32},
                                       {33, 70, 45},  {64, 96, 64},    {197, 64, 197},
                                       {49, 49, 520}, {40, 300, 1030}, {300, 280, 600}};

    (void)unused;
    if (!fk_tiles_here())
        skip();
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        for (int how = 0; how < 8; how++)
            check_product(how & 1, how & 2, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2],
                          how & 4 ? 0.125f : 1.0f, how & 1 ? 1.0f : 0.0f);
    }
}

/* Each number is the sum of its three parts: times 1 it is itself, bit for bit; and what is no number spreads. */
static void tiles_keep_all_bits(void **unused)
{
    enum { N = 48 };

    fk_gemm_args g = {.m = N, .n = N, .k = N, .alpha = 1.0f, .lda = N, .ldb = N, .ldc = N};

    (void)unused;
    if (!fk_tiles_here())
        skip();
    float *one = floats((size_t)N * N);
    float *x = floats((size_t)N * N);
    float *c = floats((size_t)N * N);
    void *room = aligned_alloc(64, fk_tiles_room(N, N, N));
    assert_non_null(room);
    for (size_t i = 0; i < (size_t)N * N; i++)
        one[i] = i % (N + 1) == 0 ? 1.0f : 0.0f;
    for (int side = 0; side < 2; side++) {
        g.a = side ? x : one, g.b = side ? one : x, g.c = c;
        fk_tiles_gemm(&g, room);
        assert_memory_equal(c, x, (size_t)N * N * sizeof *x);
    }
    x[5 * N + 7] = INFINITY;
    x[9 * N + 2] = NAN;
    g.a = x, g.b = one;
    fk_tiles_gemm(&g, room);
    for (size_t i = 0; i < (size_t)N * N; i++)
        assert_int_equal(isfinite(c[i]) != 0, i / N != 5 && i / N != 9);
    free(one), free(x), free(c), free(room);
}

/* Where channel c of pixel p (of all images) is. */
static size_t place(const fk_tiles_images *x, size_t p, size_t c)
{
    size_t image = p / x->pixels;

    if (x->last)
        return p * x->channels + c;
    return (image * x->channels + c / 16 * 16) * x->pixels + p % x->pixels * 16 + c % 16;
}

static void near(float got, double sum, double sizes, const char *what, size_t i, size_t j)
{
    if (fabs((double)got - sum) > 0x1p-21 * sizes)
        fail_msg("%s: [%zu][%zu] is %.9g, not %.9g", what, i, j, (double)got, sum);
}

/* y = x w^T + row, by two shares of the pixels, then once more on top. */
static void check_pixels(const fk_tiles_images *x, const fk_tiles_images *y, const float *w)
{
    size_t all = x->images * x->pixels;
    size_t rows = fk_tiles_rows(x);
    const fk_gemm_args g = {
        .turn_b = true, .n = y->channels, .k = x->channels, .b = w, .ldb = x->channels};
    void *packed = aligned_alloc(64, fk_tiles_packed_bytes(g.n, g.k));
    void *room = aligned_alloc(64, fk_tiles_room(rows, g.n, g.k));
    float *row = floats(y->channels);
    size_t half = rows / 32 * 16; /* the rest need be no 16s at the end */

    assert_non_null(packed);
    assert_non_null(room);
    fk_tiles_pack(&g, packed);
    for (int k = 0; k < 4; k++) {
        fk_tiles_range share = {k & 1 ? half : 0, k & 1 ? rows - half : half};
        const fk_tiles_product product = {x, packed, y, k < 2 ? row : NULL, k >= 2, share};
        fk_tiles_pixels(&product, room);
    }
    for (size_t p = 0; p < all; p++) {
        for (size_t o = 0; o < y->channels; o++) {
            double sum = (double)row[o];
            double sizes = fabs(sum);
            for (size_t c = 0; c < x->channels; c++) {
                double t = 2 * (double)x->at[place(x, p, c)] * (double)w[o * x->channels + c];
                sum += t;
                sizes += fabs(t);
            }
            near(y->at[place(y, p, o)], sum, sizes, "pixels", p, o);
        }
    }
    free(packed), free(room), free(row);
}

/* dw = dy^T x, then the same again on top, in four parts. */
static void check_weights(const fk_tiles_images *dy, const fk_tiles_images *x, float *dw)
{
    size_t all = x->images * x->pixels;
    void *room = aligned_alloc(64, fk_tiles_room(dy->channels, x->channels, fk_tiles_rows(x)));
    size_t half[2] = {dy->channels / 32 * 16, x->channels / 32 * 16};

    assert_non_null(room);
    for (int k = 0; k < 8; k++) {
        fk_tiles_range out = {k & 1 ? half[0] : 0, k & 1 ? dy->channels - half[0] : half[0]};
        fk_tiles_range in = {k & 2 ? half[1] : 0, k & 2 ? x->channels - half[1] : half[1]};
        fk_tiles_weights(dy, x, dw, k & 4, out, in, room);
    }
    for (size_t o = 0; o < dy->channels; o++) {
        for (size_t c = 0; c < x->channels; c++) {
            double sum = 0;
            double sizes = 0;
            for (size_t p = 0; p < all; p++) {
                double t = 2 * (double)dy->at[place(dy, p, o)] * (double)x->at[place(x, p, c)];
                sum += t;
                sizes += fabs(t);
            }
            near(dw[o * x->channels + c], sum, sizes, "weights", o, c);
        }
    }
    free(room);
}

static void images_on_tiles_are_as_precise_as_f32(void **unused)
{
    static const size_t SHAPES[][4] = {
        /* images, pixels, channels of x, of y */
        {1, 16, 16, 16},   {3, 16, 48, 32}, {2, 64, 64, 96},  {5, 48, 32, 272}, {4, 256, 400, 16},
        {2, 16, 1040, 48}, {7, 49, 64, 80}, {3, 196, 48, 64}, {9, 1, 32, 16},   {4, 17, 416, 32}};

    (void)unused;
    if (!fk_tiles_here())
        skip();
    for (size_t i = 0; i < 2 * sizeof SHAPES / sizeof *SHAPES; i++) {
        const size_t *z = SHAPES[i / 2];
        fk_tiles_images x = {floats(z[0] * z[1] * z[2]), z[0], z[2], z[1], i % 2};
        fk_tiles_images y = {floats(z[0] * z[1] * z[3]), z[0], z[3], z[1], i % 2};
        float *w = floats(z[2] * z[3]);
        check_pixels(&x, &y, w);
        check_weights(&y, &x, w);
        free(x.at), free(y.at), free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_on_tiles_are_as_precise_as_f32),
        cmocka_unit_test(tiles_keep_all_bits),
        cmocka_unit_test(images_on_tiles_are_as_precise_as_f32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
