/* The ground floor: random numbers, files, options, the conveyor. */
#include "base/compat.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/conveyor.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/rng.h"

/* The known answers that come with Random123 (kat_vectors, philox4x32 10). */
static void philox_gives_the_published_vectors(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } KAT[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    uint32_t out[4];

    (void)state;
    for (size_t i = 0; i < FK_COUNT(KAT); i++) {
        fk_philox(KAT[i].counter, KAT[i].key, out);
        assert_memory_equal(out, KAT[i].want, sizeof out);
    }
}

static void draws_have_their_distributions(void **state)
{
    fk_rng r = fk_rng_at(5, FK_RNG_TEST, 1, 2);
    double sum = 0;
    double square = 0;
    double beta = 0;
    uint32_t order[100];
    bool seen[100] = {0};

    (void)state;
    for (int i = 0; i < 20000; i++) {
        double v = fk_rng_normal(&r);
        sum += v;
        square += v * v;
        double b = fk_rng_beta(&r, 0.3);
        assert_true(b >= 0 && b <= 1);
        beta += b * (1 - b);
    }
    assert_true(fabs(sum / 20000) < 0.03);
    assert_true(fabs(square / 20000 - 1) < 0.05);
    assert_true(fabs(beta / 20000 - 0.3 / (2 * 1.6)) < 0.01); /* E b(1-b) = a / (2 (2a + 1)) */
    fk_rng_shuffle(&r, order, 100);
    for (int i = 0; i < 100; i++) {
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
    }
}

static void files_appear_whole_or_not_at_all(void **state)
{
    char path[] = "/tmp/ferkd-test-XXXXXX";
    uint8_t *bytes = NULL;
    size_t n;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(fk_file_replace(path, "hello", 5), FERKD_OK);
    assert_int_equal(fk_file_read(&bytes, &n, path, 100, false), FERKD_OK);
    assert_int_equal(n, 5);
    assert_string_equal((char *)bytes, "hello");
    free(bytes);
    bytes = NULL;
    assert_int_equal(fk_file_read(&bytes, &n, path, 4, false), FERKD_LIMIT);
    assert_int_equal(fk_file_replace("/nonexistent/x", "a", 1), FERKD_IO);
    assert_non_null(strstr(ferkd_last_error(), "/nonexistent/x"));
    (void)unlink(path);
    assert_int_equal(fk_file_read(&bytes, &n, path, 4, false), FERKD_ABSENT);
}

typedef struct sample {
    int64_t whole;
    double real;
    bool flag;
    char *text, *choice;
} sample;

static const fk_option TABLE[] = {
    {"whole", 0, FK_OPT_INT, offsetof(sample, whole), "3", 0, 10, NULL, "N", ""},
    {"real-number", 0, FK_OPT_REAL, offsetof(sample, real), "0.5", 0, 1, NULL, "X", ""},
    {"flag", 0, FK_OPT_FLAG, offsetof(sample, flag), "false", 0, 0, NULL, NULL, ""},
    {"text", 0, FK_OPT_TEXT, offsetof(sample, text), NULL, 0, 0, NULL, "T", ""},
    {"choice", 0, FK_OPT_CHOICE, offsetof(sample, choice), "red", 0, 0, "red|green", NULL, ""},
};

static void options_are_checked(void **state)
{
    sample s = {0};
    const size_t n = FK_COUNT(TABLE);
    char *text = NULL;

    (void)state;
    assert_int_equal(fk_options_init(TABLE, n, &s), FERKD_OK);
    assert_int_equal(s.whole, 3);
    assert_string_equal(s.choice, "red");
    assert_int_equal(fk_option_set(&TABLE[0], &s, "11"), FERKD_USAGE);
    assert_int_equal(fk_option_set(&TABLE[0], &s, "1.5"), FERKD_USAGE);
    assert_int_equal(fk_option_set(&TABLE[0], &s, "x"), FERKD_USAGE);
    assert_int_equal(fk_option_set(&TABLE[0], &s, "7"), FERKD_OK);
    assert_int_equal(fk_option_set(&TABLE[1], &s, "nan"), FERKD_USAGE);
    assert_int_equal(fk_option_set(&TABLE[4], &s, "gree"), FERKD_USAGE);
    assert_int_equal(fk_option_set(&TABLE[4], &s, "green"), FERKD_OK);
    assert_int_equal(fk_option_text(&TABLE[4], &s, &text), FERKD_OK);
    assert_string_equal(text, "green");
    free(text);
    assert_ptr_equal(fk_option_find(TABLE, n, "real_number"), &TABLE[1]);
    assert_string_equal(fk_option_nearest(TABLE, n, "choise"), "choice");
    assert_null(fk_option_nearest(TABLE, n, "zzzzzz"));
    assert_int_equal(fk_word_distance("ab", "ba"), 1);
    fk_options_fini(TABLE, n, &s);
}

typedef struct belt {
    int cells[4][8];
    uint64_t fail_at;
} belt;

static ferkd_status fill(void *ctx, int worker, uint64_t batch, uint32_t job, int slot)
{
    belt *b = ctx;

    (void)worker;
    if (batch == b->fail_at)
        return fk_fail(FERKD_CORRUPT, "batch %d is bad", (int)batch);
    b->cells[slot][job] = (int)(batch * 100 + job);
    return FERKD_OK;
}

static void batches_come_in_order_whatever_the_threads(void **state)
{
    (void)state;
    for (int threads = 1; threads < 6; threads++) {
        belt b = {.fail_at = 1000};
        fk_conveyor *c = NULL;
        fk_conveyor_options o = {threads, 4, 8, 5, 205, fill, &b};
        int slot;
        assert_int_equal(fk_conveyor_new(&c, &o), FERKD_OK);
        for (int batch = 5; batch < 205; batch++) {
            assert_int_equal(fk_conveyor_next(c, &slot), FERKD_OK);
            for (int j = 0; j < 8; j++)
                assert_int_equal(b.cells[slot][j], batch * 100 + j);
        }
        assert_int_equal(fk_conveyor_next(c, &slot), FERKD_OK);
        assert_int_equal(slot, -1);
        fk_conveyor_free(&c);
    }
}

static void a_workers_fault_reaches_the_consumer(void **state)
{
    belt b = {.fail_at = 7};
    fk_conveyor *c = NULL;
    fk_conveyor_options o = {3, 4, 8, 0, 100, fill, &b};
    int slot;
    ferkd_status st = FERKD_OK;

    (void)state;
    assert_int_equal(fk_conveyor_new(&c, &o), FERKD_OK);
    for (int i = 0; i < 8 && st == FERKD_OK; i++)
        st = fk_conveyor_next(c, &slot);
    assert_int_equal(st, FERKD_CORRUPT);
    assert_string_equal(ferkd_last_error(), "batch 7 is bad");
    fk_conveyor_free(&c); /* with work still under way */
}

/* Every half is its own nearest, and what lies between two goes to the even one. */
static void halves_are_rounded_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7C00; h++) {
        float v = fk_half_value(h);
        float next = h + 1 < 0x7C00 ? fk_half_value(h + 1) : 65536.0f;
        float middle = v + (next - v) / 2;
        assert_int_equal(fk_half_bits(v), h);
        assert_int_equal(fk_half_bits(-v), h | 0x8000u);
        assert_int_equal(fk_half_bits(middle), h % 2 ? h + 1 : h);
        assert_int_equal(fk_half_bits(nextafterf(middle, 1e9f)), h + 1);
        assert_int_equal(fk_half_bits(nextafterf(middle, 0.0f)), h);
    }
    assert_int_equal(fk_half_bits(INFINITY), 0x7C00);
    assert_int_equal(fk_half_bits(-1e9f), 0xFC00);
    assert_int_equal(fk_half_bits(NAN) & 0x7E00u, 0x7E00);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(draws_have_their_distributions),
        cmocka_unit_test(files_appear_whole_or_not_at_all),
        cmocka_unit_test(halves_are_rounded_to_even),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(batches_come_in_order_whatever_the_threads),
        cmocka_unit_test(a_workers_fault_reaches_the_consumer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
