/* Products of matrices while signals arrive, as Ctrl-C does, or a profiler's clock. */
#include "base/compat.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <omp.h>
#include <sys/time.h>

#include "engine/dnnl_glue.h"

enum { M = 320, N = 192, K = 192, TIMES = 4000 };

static volatile sig_atomic_t ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void tick_every(long us)
{
    struct itimerval t = {{0, us}, {0, us}};

    assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

/* M x K, and N x K that is turned: of the kinds of products the one that a handler's frame broke first. */
static void a_product_minds_no_signal(void **state)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    float *a = test_malloc(M * K * sizeof *a);
    float *b = test_malloc(N * K * sizeof *b);
    float *c = test_malloc(M * N * sizeof *c);
    float *first = test_malloc(M * N * sizeof *first);
    fk_gemm_args g = {.turn_b = true,
                      .m = M,
                      .n = N,
                      .k = K,
                      .alpha = 1.0f,
                      .a = a,
                      .lda = K,
                      .b = b,
                      .ldb = K,
                      .c = c,
                      .ldc = N};

    (void)state;
    omp_set_num_threads(1); /* as within a team */
    for (int i = 0; i < M * K; i++)
        a[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < N * K; i++)
        b[i] = (float)(i * 5 % 11 - 5);
    assert_true(fk_gemm(&g, NULL));
    memcpy(first, c, M * N * sizeof *c);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    tick_every(100);
    for (int i = 0; i < TIMES; i++) {
        assert_true(fk_gemm(&g, NULL));
        assert_memory_equal(first, c, M * N * sizeof *c);
    }
    tick_every(0);
    assert_true(ticks > 10); /* they did arrive, between products */
    test_free(a);
    test_free(b);
    test_free(c);
    test_free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_product_minds_no_signal)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
