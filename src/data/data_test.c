/* Data sets of every format, and regions. */
#include "base/compat.h"

#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "ferkd/data.h"
#include "scratch.h"

static void put(const char *name, const void *bytes, size_t n)
{
    char path[512];
    char folder[512];

    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    (void)snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(fk_make_folder(folder), FERKD_OK);
    assert_int_equal(fk_file_replace(path, bytes, n), FERKD_OK);
}

/* The order that torchvision was seen to have (design notes, section 5.1). */
static void folders_are_in_torchvisions_order(void **state)
{
    static const char *const FILES[] = {
        "b/2.JPG",     "b/10.jpeg",          "b/A.png", "b/.dot.jpg", "b/a/1.png",
        "b/sub/z.png", "b/sub2/deep/q.webp", "b/a.txt", ".hid/x.png", "B/x.png",
        "a10/x.png",   "a2/x.png",           "root.png"};
    static const char *const CLASSES[] = {".hid", "B", "a10", "a2", "b"};
    static const char *const ORDER[] = {"b/.dot.jpg", "b/10.jpeg",   "b/2.JPG",           "b/A.png",
                                        "b/a/1.png",  "b/sub/z.png", "b/sub2/deep/q.webp"};
    ferkd_dataset *d = NULL;

    (void)state;
    for (size_t i = 0; i < FK_COUNT(FILES); i++)
        put(FILES[i], "x", 1);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    assert_int_equal(ferkd_dataset_classes(d), 5);
    assert_int_equal(ferkd_dataset_images(d), 11);
    for (uint32_t c = 0; c < 5; c++)
        assert_string_equal(ferkd_dataset_class_name(d, c), CLASSES[c]);
    for (uint32_t i = 0; i < 7; i++) {
        assert_string_equal(ferkd_dataset_name(d, 4 + i), ORDER[i]);
        assert_int_equal(ferkd_dataset_label(d, 4 + i), 4);
    }
    ferkd_dataset_close(&d);
    put("empty/readme.txt", "x", 1);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_ABSENT);
    assert_non_null(strstr(ferkd_last_error(), "empty"));
}

static void fingerprints_follow_names_and_sizes(void **state)
{
    uint8_t a[16];
    uint8_t b[16];
    ferkd_dataset *d = NULL;

    (void)state;
    put("cat/1.png", "xx", 2);
    put("dog/1.png", "yyy", 3);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    ferkd_dataset_fingerprint(d, a);
    ferkd_dataset_close(&d);
    put("cat/1.png", "zz", 2);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    ferkd_dataset_fingerprint(d, b);
    ferkd_dataset_close(&d);
    assert_memory_equal(a, b, 16);
    put("cat/1.png", "zzz", 3);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    ferkd_dataset_fingerprint(d, b);
    ferkd_dataset_close(&d);
    assert_memory_not_equal(a, b, 16);
}

static void idx_is_read_plain_and_packed(void **state)
{
    static const uint8_t IMAGES[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0,  0,
                                     0, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    static const uint8_t LABELS[] = {0, 0, 8, 1, 0, 0, 0, 2, 1, 0};
    char path[128];
    ferkd_dataset *d = NULL;
    ferkd_image image = {0};
    uint8_t *file = NULL;
    size_t cap = 0;

    (void)state;
    put("train-images-idx3-ubyte", IMAGES, sizeof IMAGES);
    put("train-labels-idx1-ubyte", LABELS, sizeof LABELS);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    assert_int_equal(ferkd_dataset_images(d), 2);
    assert_int_equal(ferkd_dataset_classes(d), 2);
    assert_int_equal(ferkd_dataset_label(d, 0), 1);
    assert_int_equal(ferkd_dataset_image(d, 1, &image, &file, &cap, NULL), FERKD_OK);
    assert_int_equal(image.width, 3);
    assert_int_equal(image.channels, 1);
    assert_memory_equal(image.px, IMAGES + 22, 6);
    ferkd_image_fini(&image);
    free(file);
    ferkd_dataset_close(&d);

    (void)snprintf(path, sizeof path, "%s/z-images-idx3-ubyte.gz", scratch);
    gzFile z = gzopen(path, "wb");
    assert_int_equal(gzwrite(z, IMAGES, sizeof IMAGES), sizeof IMAGES);
    (void)gzclose(z);
    (void)snprintf(path, sizeof path, "%s/z-labels-idx1-ubyte.gz", scratch);
    z = gzopen(path, "wb");
    assert_int_equal(gzwrite(z, LABELS, sizeof LABELS), sizeof LABELS);
    (void)gzclose(z);
    (void)snprintf(path, sizeof path, "%s/z-images-idx3-ubyte.gz", scratch);
    assert_int_equal(ferkd_dataset_open(&d, path, NULL), FERKD_OK);
    ferkd_dataset_close(&d);
    put("t-images-idx3-ubyte", IMAGES, sizeof IMAGES - 1);
    (void)snprintf(path, sizeof path, "%s/t-images-idx3-ubyte", scratch);
    assert_int_equal(ferkd_dataset_open(&d, path, NULL), FERKD_CORRUPT);
}

static void cifar_is_read(void **state)
{
    enum { RECORD = 3073 };

    uint8_t *bytes = calloc(2, RECORD);
    ferkd_dataset *d = NULL;
    ferkd_image image = {0};
    uint8_t *file = NULL;
    size_t cap = 0;
    char path[128];

    (void)state;
    assert_non_null(bytes);
    bytes[RECORD] = 7;
    bytes[RECORD + 1] = 11;        /* red of the first pixel */
    bytes[RECORD + 1 + 1024] = 22; /* green */
    bytes[RECORD + 1 + 2048] = 33; /* blue */
    put("data_batch_1.bin", bytes, 2 * RECORD);
    assert_int_equal(ferkd_dataset_open(&d, scratch, NULL), FERKD_OK);
    assert_string_equal(ferkd_dataset_kind(d), "cifar10");
    assert_int_equal(ferkd_dataset_label(d, 1), 7);
    assert_int_equal(ferkd_dataset_image(d, 1, &image, &file, &cap, NULL), FERKD_OK);
    assert_int_equal(image.px[0], 11);
    assert_int_equal(image.px[1], 22);
    assert_int_equal(image.px[2], 33);
    ferkd_image_fini(&image);
    ferkd_dataset_close(&d);
    bytes[0] = 10;
    put("bad.bin", bytes, 2 * RECORD);
    (void)snprintf(path, sizeof path, "%s/bad.bin", scratch);
    assert_int_equal(ferkd_dataset_open(&d, path, NULL), FERKD_CORRUPT);
    free(bytes);
}

static void regions_are_torchvisions(void **state)
{
    ferkd_sampler s = ferkd_sampler_defaults();
    double area = 0;
    double width = 0;
    int flips = 0;

    (void)state;
    s.seed = 3;
    for (uint32_t i = 0; i < 20000; i++) {
        ferkd_region r = ferkd_region_at(&s, i, i % 7, 500, 375);
        ferkd_region again = ferkd_region_at(&s, i, i % 7, 500, 375);
        assert_memory_equal(&r.box, &again.box, sizeof r.box);
        assert_true(r.box.width > 0 && r.box.left + r.box.width <= 500);
        assert_true(r.box.height > 0 && r.box.top + r.box.height <= 375);
        area += (double)r.box.width * r.box.height / (500.0 * 375.0);
        width += r.box.width;
        flips += r.flip;
    }
    assert_true(fabs(flips / 20000.0 - 0.5) < 0.02);
    /* means of 20000 draws of torchvision 0.29: 0.4323 of the area, 281.26 pixels wide */
    assert_true(fabs(area / 20000 - 0.4323) < 0.006);
    assert_true(fabs(width / 20000 - 281.26) < 3.0);
}

/* The fallback's table, as torchvision gives it when all tries fail. */
static void the_fallback_is_central(void **state)
{
    static const struct {
        uint32_t w, h;
        ferkd_box want;
    } CASES[] = {{1000, 10, {0, 493, 10, 13}},
                 {10, 1000, {493, 0, 13, 10}},
                 {301, 10, {0, 144, 10, 13}},
                 {100, 100, {0, 0, 100, 100}}};

    ferkd_sampler s = ferkd_sampler_defaults();

    (void)state;
    s.scale_min = s.scale_max = 2.0;
    for (size_t i = 0; i < FK_COUNT(CASES); i++) {
        ferkd_region r = ferkd_region_at(&s, 0, 0, CASES[i].w, CASES[i].h);
        assert_memory_equal(&r.box, &CASES[i].want, sizeof r.box);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folders_are_in_torchvisions_order, scratch_begin,
                                        scratch_end),
        cmocka_unit_test_setup_teardown(fingerprints_follow_names_and_sizes, scratch_begin,
                                        scratch_end),
        cmocka_unit_test_setup_teardown(idx_is_read_plain_and_packed, scratch_begin, scratch_end),
        cmocka_unit_test_setup_teardown(cifar_is_read, scratch_begin, scratch_end),
        cmocka_unit_test(regions_are_torchvisions),
        cmocka_unit_test(the_fallback_is_central),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
