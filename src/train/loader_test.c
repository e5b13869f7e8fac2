/* Batches for programs that train elsewhere: stored regions, as stored and mirrored. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ferkd/loader.h"
#include "scratch.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE, IMAGES = 3, BATCHES = 4 };

static char images[96], store[96];

static void put(const char *name, const uint8_t *head, size_t n_head, const uint8_t *bytes,
                size_t n)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, n_head, f), n_head);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Images that are nothing like their mirrors, one region of each, which is all of it. */
static int begin(void **state)
{
    static const uint8_t OF_IMAGES[] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    static const uint8_t OF_LABELS[] = {0, 0, 8, 1, 0, 0, 0, IMAGES};
    static const uint8_t LABELS[IMAGES] = {0, 1, 2};
    uint8_t pixels[IMAGES * PIXELS];

    if (scratch_begin(state))
        return -1;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i % SIDE * 24 + i / PIXELS * 30);
    put("t-images-idx3-ubyte", OF_IMAGES, sizeof OF_IMAGES, pixels, sizeof pixels);
    put("t-labels-idx1-ubyte", OF_LABELS, sizeof OF_LABELS, LABELS, sizeof LABELS);
    (void)snprintf(images, sizeof images, "%s/t-images-idx3-ubyte", scratch);
    (void)snprintf(store, sizeof store, "%s/s.ferkd", scratch);
    return 0;
}

static void label(void)
{
    ferkd_scribe_options o = ferkd_scribe_defaults();
    ferkd_dataset *data = NULL;
    ferkd_scribe *s = NULL;
    uint8_t crops[IMAGES * PIXELS * 3];
    float logits[IMAGES * IMAGES] = {0};
    uint32_t first, got;

    o.regions = 1;
    o.topk = 3;
    o.size_px = SIDE;
    o.teacher = "t";
    o.sampler.scale_min = o.sampler.ratio_min = o.sampler.ratio_max = 1.0;
    o.sampler.flip = 0.0;
    assert_int_equal(ferkd_dataset_open(&data, images, NULL), FERKD_OK);
    assert_int_equal(ferkd_scribe_open(&s, data, store, &o), FERKD_OK);
    assert_int_equal(ferkd_scribe_crops(s, IMAGES, crops, &first, &got), FERKD_OK);
    assert_int_equal(got, IMAGES);
    assert_int_equal(ferkd_scribe_logits(s, logits), FERKD_OK);
    assert_int_equal(ferkd_scribe_commit(s), FERKD_OK);
    ferkd_scribe_close(&s);
    ferkd_dataset_close(&data);
}

/* All batches of IMAGES rows, one after the other. */
static void load(const char *mirror, float *to)
{
    const char *const KEYS[] = {"data",  "labels", "method", "mirror",   "size",
                                "batch", "epochs", "seed",   "crop-pct", "threads"};
    const char *const VALUES[] = {images, store, "fkd", mirror, "8", "3", "4", "5", "1", "1"};
    ferkd_loader *l = NULL;
    ferkd_loader_info about;

    assert_int_equal(ferkd_loader_open(&l, KEYS, VALUES, FK_COUNT(KEYS)), FERKD_OK);
    ferkd_loader_about(l, &about);
    assert_int_equal(about.batches, BATCHES);
    size_t n = (size_t)IMAGES * about.channels * PIXELS;
    for (size_t b = 0; b < BATCHES; b++) {
        const float *inputs, *targets;
        assert_int_equal(ferkd_loader_next(l, &inputs, &targets), FERKD_OK);
        for (size_t i = 0; i < (size_t)IMAGES * PIXELS; i++) /* the first channel of each */
            to[b * IMAGES * PIXELS + i] = inputs[i / PIXELS * (n / IMAGES) + i % PIXELS];
    }
    ferkd_loader_close(&l);
}

/* Is the row among those of the first epoch, as it is or mirrored? */
static bool is_there(const float *rows, const float *row, bool mirrored)
{
    for (size_t k = 0; k < IMAGES; k++) {
        bool same = true;
        for (size_t i = 0; i < PIXELS; i++) {
            size_t at = mirrored ? i / SIDE * SIDE + (SIDE - 1 - i % SIDE) : i;
            same = same && fabsf(rows[k * PIXELS + i] - row[at]) < 1e-6f;
        }
        if (same)
            return true;
    }
    return false;
}

static void stored_regions_are_mirrored_every_second_time(void **state)
{
    static float plain[BATCHES * IMAGES * PIXELS], mirrored[BATCHES * IMAGES * PIXELS];

    (void)state;
    label();
    load("never", plain);
    load("always", mirrored);
    for (size_t r = 0; r < (size_t)BATCHES * IMAGES; r++) {
        bool second = r / IMAGES % 2 == 1;
        assert_true(is_there(plain, plain + r * PIXELS, false));
        assert_true(is_there(plain, mirrored + r * PIXELS, second));
        assert_false(is_there(plain, mirrored + r * PIXELS, !second));
    }
}

/* An epoch is as many regions as there are images, however many of one are in a batch. */
static void an_epoch_looks_once_at_each_image(void **state)
{
    static const char *const KEYS[] = {"data", "labels", "batch",    "regions-per-image",
                                       "size", "epochs", "crop-pct", "threads"};
    static const char *const VALUES[] = {images, store, "3", "3", "8", "4", "1", "1"};
    ferkd_loader *l = NULL;
    ferkd_loader_info about;

    (void)state;
    label();
    assert_int_equal(ferkd_loader_open(&l, KEYS, VALUES, FK_COUNT(KEYS)), FERKD_OK);
    ferkd_loader_about(l, &about);
    assert_int_equal(about.batches, 4);
    assert_non_null(strstr(about.words, "looked at 4 times"));
    ferkd_loader_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stored_regions_are_mirrored_every_second_time, begin,
                                        scratch_end),
        cmocka_unit_test_setup_teardown(an_epoch_looks_once_at_each_image, begin, scratch_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
