/* TensorBoard's event files: the same bytes as TensorBoard's own writer (make_events.py). */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/file.h"
#include "exchange/tfevents.h"

/* RFC 3720, B.4: CRC-32C of 32 zero bytes is 8a9136aa; then rotated and shifted. */
static void the_checksum_is_castagnolis(void **state)
{
    const uint8_t zeros[32] = {0};
    uint32_t crc = 0x8a9136aau;

    (void)state;
    assert_int_equal(fk_masked_crc32c(zeros, 32), (crc >> 15 | crc << 17) + 0xa282ead8u);
}

static void bytes_are_tensorboards(void **state)
{
    const fk_scalar first[] = {{"loss/train", 2.25}, {"accuracy/top1", 31.25}};
    const fk_scalar second[] = {{"loss/train", 1.0 / 3.0}, {"accuracy/top1", 0.0}};
    char path[] = "/tmp/ferkd-events-XXXXXX";
    uint8_t *ours = NULL;
    uint8_t *theirs = NULL;
    size_t n = 0;
    size_t wanted = 0;

    (void)state;
    assert_true(mkstemp(path) >= 0);
    assert_int_equal(fk_tfevents_begin(path, 1000000000.0), FERKD_OK);
    assert_int_equal(fk_tfevents_add(path, 1000000000.5, 1, first, 2), FERKD_OK);
    assert_int_equal(fk_tfevents_add(path, 1000000060.25, 300, second, 2), FERKD_OK);
    assert_int_equal(fk_file_read(&ours, &n, path, 1 << 20, false), FERKD_OK);
    assert_int_equal(
        fk_file_read(&theirs, &wanted, TEST_SOURCE "/golden/events.bin", 1 << 20, false), FERKD_OK);
    assert_int_equal(n, wanted);
    assert_memory_equal(ours, theirs, n);
    free(ours);
    free(theirs);
    (void)remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_castagnolis),
        cmocka_unit_test(bytes_are_tensorboards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
