/* Sums of outer products of bf16 against those in double: whole numbers, so they are equal. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "kernel/outer.h"

typedef struct problem {
    size_t pixels, rows, columns;
} problem;

/* No pixels, one, an odd number, more than a time's; channels that are no whole vectors, and several blocks of them. */
static const problem PROBLEMS[] = {{0, 8, 8},    {1, 16, 16},  {7, 24, 144},
                                   {131, 8, 40}, {400, 40, 8}, {333, 16, 96}};

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(p);
    memset(p, 0xff, (bytes + 63) / 64 * 64);
    return p;
}

/* As the end of a block of memory, so that AddressSanitizer sees what is read behind it. */
static uint16_t *map_of(size_t n, uint32_t *state)
{
    static const uint16_t WHOLE[] = {0x0000, 0x3f80, 0xbf80, 0x4000, 0xc040}; /* 0, 1, -1, 2, -3 */
    uint16_t *map = malloc(n ? n * sizeof *map : 1);

    assert_non_null(map);
    for (size_t i = 0; i < n; i++) {
        *state = *state * 1664525u + 1013904223u;
        map[i] = WHOLE[(*state >> 8) % FK_COUNT(WHOLE)];
    }
    return map;
}

/* In two calls, of which the second adds, as in one. */
static void check(fk_outer_kernel *kernel, const problem *z)
{
    uint32_t state = 1;
    uint16_t *a = map_of(z->pixels * z->rows, &state);
    uint16_t *b = map_of(z->pixels * z->columns, &state);
    size_t stride = fk_outer_stride(z->columns);
    size_t first = z->pixels / 3;
    fk_outer k = {.pixels = first,
                  .rows = z->rows,
                  .columns = z->columns,
                  .a = a,
                  .b = b,
                  .sums = memory(z->rows * stride * sizeof(float)),
                  .room = memory(fk_outer_room(z->rows, z->columns) * sizeof(uint32_t))};

    kernel(&k);
    k.add = true;
    k.pixels = z->pixels - first;
    k.a = a + first * z->rows;
    k.b = b + first * z->columns;
    kernel(&k);
    for (size_t r = 0; r < z->rows; r++)
        for (size_t c = 0; c < stride; c++) {
            double want = 0.0;
            for (size_t p = 0; c < z->columns && p < z->pixels; p++)
                want += (double)fk_bf16_value(a[p * z->rows + r]) *
                        (double)fk_bf16_value(b[p * z->columns + c]);
            assert_true((double)k.sums[r * stride + c] == want);
        }
    free(a), free(b), free(k.sums), free(k.room);
}

static void sums_are_exact(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < FK_COUNT(PROBLEMS); i++) {
        check(fk_outer_plain16, &PROBLEMS[i]);
        if (fk_outer_best())
            check(fk_outer_best(), &PROBLEMS[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_exact)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
