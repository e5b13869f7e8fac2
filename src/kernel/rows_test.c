/* Loops over rows, of every instruction set, against their formulas in double. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kernel/kernel.h"

enum { ROWS = 3, N = 37, STRIDE = 48 };

static const fk_row_kernels *variant(size_t v)
{
    return v ? fk_rows_best() : &fk_rows_plain8;
}

static uint32_t state = 1;

static float random_value(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((double)(state >> 8) * 0x1p-23 - 1.0);
}

static void fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * random_value();
}

/* Of ROWS rows of N scores, STRIDE apart. bias, copy: [ROWS][N], or NULL. */
static void softmax(const fk_row_kernels *v, float *x, float scale, const float *bias,
                    uint16_t *copy)
{
    fk_row_softmax k = {.rows = ROWS,
                        .n = N,
                        .stride = STRIDE,
                        .x = x,
                        .scale = scale,
                        .bias = bias,
                        .bias_stride = N,
                        .copy = {copy, true}};

    v->softmax(&k);
}

/* The scores are scaled, a bias is added where there is one, a copy in bf16 made. */
static void softmax_is_as_defined(void **unused)
{
    float x[ROWS * STRIDE];
    float bias[ROWS * N];
    uint16_t copy[ROWS * N];
    double e[N];

    (void)unused;
    for (size_t turn = 0; turn < 4; turn++) {
        const float *b = turn & 1 ? bias : NULL;
        fill(x, ROWS * STRIDE, 9.0f);
        fill(bias, ROWS * N, 2.0f);
        float was[ROWS * STRIDE];
        memcpy(was, x, sizeof was);
        softmax(variant(turn >> 1), x, 0.25f, b, copy);
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0.0;
            for (size_t i = 0; i < N; i++) {
                e[i] = exp(0.25 * (double)was[r * STRIDE + i] + (b ? (double)b[r * N + i] : 0.0));
                sum += e[i];
            }
            for (size_t i = 0; i < N; i++) {
                double y = e[i] / sum;
                assert_true(fabs((double)x[r * STRIDE + i] - y) < 1e-6 + 1e-5 * y);
                assert_true(fabs((double)fk_bf16_value(copy[r * N + i]) - y) < y / 200.0);
            }
            assert_memory_equal(x + r * STRIDE + N, was + r * STRIDE + N, (STRIDE - N) * sizeof *x);
        }
    }
}

/* Rows with one masked half: what is not 0 is a normal number, all sum to 1, a NaN stays. */
static void masked_scores_become_nothing(void **unused)
{
    float x[ROWS * STRIDE];
    float bias[ROWS * N];

    (void)unused;
    for (size_t v = 0; v < 2; v++) {
        fill(x, ROWS * STRIDE, 5.0f);
        for (size_t i = 0; i < ROWS * N; i++)
            bias[i] = i % N % 2 == i / N % 2 ? -100.0f : 0.0f;
        x[2 * STRIDE + 1] = NAN;
        softmax(variant(v), x, 1.0f, bias, NULL);
        for (size_t r = 0; r < 2; r++) {
            double sum = 0.0;
            for (size_t i = 0; i < N; i++) {
                float y = x[r * STRIDE + i];
                assert_true(bias[r * N + i] != 0.0f ? y == 0.0f : y > 1e-6f);
                sum += (double)y;
            }
            assert_true(fabs(sum - 1.0) < 1e-5);
        }
        assert_true(isnan(x[2 * STRIDE + 1]));
    }
}

/* An activation of a sum is the sum and then the activation. */
static void activations_come_behind_the_bias(void **unused)
{
    static const fk_act kinds[] = {FK_GELU, FK_GELU_TANH, FK_RELU, FK_SILU};

    float a[ROWS * N];
    float row[N];
    float sum[ROWS * N];
    float y[ROWS * N];
    float want[ROWS * N];
    uint16_t half[ROWS * N];

    (void)unused;
    fill(a, ROWS * N, 3.0f);
    fill(row, N, 1.0f);
    for (size_t turn = 0; turn < 4 * FK_COUNT(kinds); turn++) {
        const fk_row_kernels *v = variant(turn & 1);
        bool biased = turn & 2;
        fk_post act = {1, kinds[turn / 4], 0, 0};
        fk_row_sum k = {.rows = ROWS,
                        .n = N,
                        .a = {a, false},
                        .y = {y, false},
                        .row = biased ? row : NULL,
                        .act = act};
        for (size_t i = 0; i < ROWS * N; i++)
            sum[i] = a[i] + (biased ? row[i % N] : 0.0f);
        fk_rows_plain8.act(act, (fk_operand){sum, false}, (fk_operand){want, false}, ROWS * N);
        v->combine(&k);
        k.y = (fk_operand){half, true};
        v->combine(&k);
        for (size_t i = 0; i < ROWS * N; i++) {
            double w = (double)want[i];
            assert_true(fabs((double)y[i] - w) < 1e-5);
            assert_true(fabs((double)fk_bf16_value(half[i]) - w) < 1e-5 + fabs(w) / 200.0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_is_as_defined),
        cmocka_unit_test(masked_scores_become_nothing),
        cmocka_unit_test(activations_come_behind_the_bias),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
