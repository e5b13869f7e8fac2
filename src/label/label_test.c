/* The codec and the store: what goes in comes out, damage is found, interrupted work goes on. */
#include "base/compat.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "label/store_writer.h"

enum { IMAGES = 10, REGIONS = 3, CLASSES = 12, TOPK = 4, CHUNK = 4 };

static char folder[64];
static char path[96];
static char part[112];

static int begin(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ferkd-label-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s.ferkd", folder);
    (void)snprintf(part, sizeof part, "%s.part", path);
    return 0;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static ferkd_store_info make_info(void)
{
    return (ferkd_store_info){.images = IMAGES,
                              .regions = REGIONS,
                              .topk = TOPK,
                              .classes = CLASSES,
                              .teacher_classes = 100,
                              .sampler = ferkd_sampler_defaults(),
                              .teacher_px = 224,
                              .filter = FERKD_BICUBIC,
                              .temperature = 1.0,
                              .teacher = "t.onnx",
                              .dataset = "data"};
}

static void make_probs(float *probs, uint32_t image, uint32_t region, uint32_t classes)
{
    fk_rng r = fk_rng_at(9, FK_RNG_TEST, image, region);
    double sum = 0;

    for (uint32_t c = 0; c < classes; c++) {
        probs[c] = (float)pow(fk_rng_unit(&r), 4.0);
        sum += (double)probs[c];
    }
    for (uint32_t c = 0; c < classes; c++)
        probs[c] = (float)((double)probs[c] / sum);
}

/* Append images until `until`; image 5 is one that could not be read. */
static ferkd_status write_until(fk_store_writer *w, uint32_t until)
{
    const fk_codec *c = fk_store_writer_codec(w);
    uint8_t block[512];
    float probs[CLASSES];

    while (fk_store_writer_next(w) < until) {
        uint32_t i = fk_store_writer_next(w);
        memset(block, 0, sizeof block);
        for (uint32_t r = 0; i != 5 && r < REGIONS; r++) {
            make_probs(probs, i, r, CLASSES);
            fk_codec_put(c, block, r, &(fk_verdict){probs, 0.25f, 0.2f});
        }
        fk_codec_seal(c, block, i, i == 5 ? FK_BLOCK_SKIPPED : FK_BLOCK_LABELLED, i % CLASSES);
        TRY(fk_store_writer_append(w, block, 1));
    }
    return FERKD_OK;
}

static void write_store(void)
{
    ferkd_store_info info = make_info();
    fk_store_writer *w = NULL;

    assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_OK);
    assert_int_equal(write_until(w, IMAGES), FERKD_OK);
    assert_int_equal(fk_store_writer_commit(w), FERKD_OK);
    fk_store_writer_close(&w);
}

static void labels_come_back(void **state)
{
    ferkd_store *s = NULL;
    uint16_t index[TOPK];
    float prob[TOPK];
    float probs[CLASSES];
    float dense[CLASSES];
    bool has;

    (void)state;
    write_store();
    assert_int_equal(ferkd_store_open(&s, path), FERKD_OK);
    assert_int_equal(ferkd_store_about(s)->labelled, IMAGES - 1);
    for (uint32_t i = 0; i < IMAGES; i++) {
        assert_int_equal(ferkd_store_has(s, i, &has), FERKD_OK);
        assert_int_equal(has, i != 5);
        assert_int_equal(ferkd_store_truth(s, i), i % CLASSES);
        for (uint32_t r = 0; has && r < REGIONS; r++) {
            ferkd_soft_label l;
            assert_int_equal(ferkd_store_label(s, i, r, (ferkd_label_room){index, prob}, &l),
                             FERKD_OK);
            make_probs(probs, i, r, CLASSES);
            for (uint32_t k = 0; k < TOPK; k++)
                assert_true(fabs((double)l.prob[k] - (double)probs[l.index[k]]) < 1.0 / 4096);
            assert_true(fabs((double)l.inside - 0.25) < 1e-4);
            assert_true(fabs((double)l.teacher_max - 0.2) < 1e-4);
            ferkd_soft_label_expand(&l, CLASSES, dense);
            double sum = 0;
            for (uint32_t c = 0; c < CLASSES; c++) {
                sum += (double)dense[c];
                assert_true(c == l.index[0] || dense[c] <= dense[l.index[0]]);
            }
            assert_true(fabs(sum - 1) < 1e-6);
        }
    }
    ferkd_soft_label l;
    assert_int_equal(ferkd_store_label(s, 5, 0, (ferkd_label_room){index, prob}, &l), FERKD_ABSENT);
    assert_int_equal(ferkd_store_label(s, 0, 99, (ferkd_label_room){index, prob}, &l), FERKD_USAGE);
    ferkd_store_close(&s);
}

/* Cut the part file at every length: the resumed store is the same bytes. */
static void interrupted_is_as_uninterrupted(void **state)
{
    uint8_t *want = NULL;
    uint8_t *got = NULL;
    size_t n;
    size_t m;
    ferkd_store_info info = make_info();

    (void)state;
    write_store();
    assert_int_equal(fk_file_read(&want, &n, path, 1 << 20, false), FERKD_OK);
    for (size_t cut = 0; cut < n; cut += 7) {
        fk_store_writer *w = NULL;
        assert_int_equal(unlink(path), 0);
        assert_int_equal(fk_file_replace(part, want, cut), FERKD_OK);
        assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_OK);
        assert_int_equal(fk_store_writer_next(w) % CHUNK == 0 || fk_store_writer_next(w) == IMAGES,
                         1);
        assert_int_equal(write_until(w, IMAGES), FERKD_OK);
        assert_int_equal(fk_store_writer_commit(w), FERKD_OK);
        fk_store_writer_close(&w);
        assert_int_equal(fk_file_read(&got, &m, path, 1 << 20, false), FERKD_OK);
        assert_int_equal(m, n);
        assert_memory_equal(got, want, n);
        free(got);
        got = NULL;
    }
    free(want);
}

/* Flip one bit anywhere: opening or verifying says so, and nothing crashes. */
static void every_flipped_bit_is_found(void **state)
{
    uint8_t *bytes = NULL;
    size_t n;

    (void)state;
    write_store();
    assert_int_equal(fk_file_read(&bytes, &n, path, 1 << 20, false), FERKD_OK);
    for (size_t i = 0; i < n; i++) {
        ferkd_store *s = NULL;
        uint32_t *bad = NULL;
        uint32_t n_bad = 0;
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(fk_file_replace(path, bytes, n), FERKD_OK);
        ferkd_status st = ferkd_store_open(&s, path);
        if (st == FERKD_OK)
            st = ferkd_store_verify(s, &bad, &n_bad);
        if (st == FERKD_OK && n_bad == 0)
            fail_msg("a flipped bit in byte %zu of %zu was not found", i, n);
        free(bad);
        ferkd_store_close(&s);
        bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
    free(bytes);
}

static void other_settings_are_refused(void **state)
{
    ferkd_store_info info = make_info();
    fk_store_writer *w = NULL;
    fk_store_writer *second = NULL;

    (void)state;
    assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_OK);
    assert_int_equal(fk_store_writer_open(&second, path, &info, CHUNK, false), FERKD_USAGE);
    assert_non_null(strstr(ferkd_last_error(), "another ferkd"));
    assert_int_equal(write_until(w, 8), FERKD_OK);
    fk_store_writer_close(&w);
    info.sampler.seed = 77;
    assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_USAGE);
    assert_non_null(strstr(ferkd_last_error(), "seed"));
    info = make_info();
    info.dataset_fingerprint[3] = 1;
    assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_USAGE);
    assert_non_null(strstr(ferkd_last_error(), "data set"));
    info = make_info();
    info.dataset = "elsewhere"; /* a moved folder is the same data */
    assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_OK);
    assert_int_equal(fk_store_writer_next(w), 8);
    fk_store_writer_close(&w);
}

static void a_newer_version_is_refused(void **state)
{
    uint8_t *bytes = NULL;
    size_t n;
    ferkd_store *s = NULL;

    (void)state;
    write_store();
    assert_int_equal(fk_file_read(&bytes, &n, path, 1 << 20, false), FERKD_OK);
    bytes[8] = 9;
    assert_int_equal(fk_file_replace(path, bytes, n), FERKD_OK);
    assert_int_equal(ferkd_store_open(&s, path), FERKD_UNSUPPORTED);
    assert_non_null(strstr(ferkd_last_error(), "format 9"));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(labels_come_back, begin, end),
        cmocka_unit_test_setup_teardown(interrupted_is_as_uninterrupted, begin, end),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_found, begin, end),
        cmocka_unit_test_setup_teardown(other_settings_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(a_newer_version_is_refused, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
