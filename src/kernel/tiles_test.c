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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_on_tiles_are_as_precise_as_f32),
        cmocka_unit_test(tiles_keep_all_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
