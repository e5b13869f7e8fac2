/* Decoding and resizing are Pillow's, bit for bit; the fast resampling code equals the plain one;
 * decoding only a box equals decoding the whole, inside the box. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "ferkd/image.h"
#include "image/resample.h"

static FILE *open_list(const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/golden/%s", TEST_SOURCE, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

static void load(ferkd_image *image, const char *name, const ferkd_decode_options *o)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/data/images/%s", TEST_SOURCE, name);
    if (ferkd_image_load(image, path, o) != FERKD_OK)
        fail_msg("%s", ferkd_last_error());
}

static unsigned long crc_of(const ferkd_image *i)
{
    return crc32(0, i->px, (uInt)((size_t)i->width * i->height * i->channels));
}

static void decoding_is_pillows(void **state)
{
    char line[256];
    int n = 0;
    ferkd_image image = {0};
    FILE *f = open_list("decode.txt");

    (void)state;
    while (fgets(line, sizeof line, f)) {
        char name[64];
        unsigned w;
        unsigned h;
        unsigned uw;
        unsigned uh;
        unsigned long crc;
        unsigned long up;
        if (sscanf(line, "%63s %u %u %lx %u %u %lx", name, &w, &h, &crc, &uw, &uh, &up) != 7)
            continue;
        load(&image, name, &(ferkd_decode_options){.ignore_exif = true});
        if (image.width != w || image.height != h || crc_of(&image) != crc)
            fail_msg("%s: %ux%u %08lx, Pillow has %ux%u %08lx", name, image.width, image.height,
                     crc_of(&image), w, h, crc);
        load(&image, name, NULL);
        if (image.width != uw || image.height != uh || crc_of(&image) != up)
            fail_msg("%s upright: %ux%u %08lx, Pillow has %ux%u %08lx", name, image.width,
                     image.height, crc_of(&image), uw, uh, up);
        n++;
    }
    (void)fclose(f);
    ferkd_image_fini(&image);
    assert_true(n >= 30);
}

static void check_resize(const char *line, int *n)
{
    char name[64];
    char filter[16];
    ferkd_box b;
    unsigned dw;
    unsigned dh;
    int flip;
    unsigned long crc;
    ferkd_image src = {0};
    ferkd_image dst = {0};

    if (sscanf(line, "%63s %u %u %u %u %u %u %15s %d %lx", name, &b.top, &b.left, &b.height,
               &b.width, &dw, &dh, filter, &flip, &crc) != 10)
        return;
    load(&src, name, NULL);
    for (int plain = 0; plain < 2; plain++) {
        ferkd_image_use_plain(plain);
        assert_int_equal(
            ferkd_image_crop_resize(&dst, &src, b, dw, dh, ferkd_filter_parse(filter), flip),
            FERKD_OK);
        if (crc_of(&dst) != crc)
            fail_msg("%s %s: %08lx", plain ? "plain" : "fast", line, crc_of(&dst));
    }
    ferkd_image_use_plain(false);
    (*n)++;
    ferkd_image_fini(&src);
    ferkd_image_fini(&dst);
}

static void resizing_is_pillows(void **state)
{
    char line[256];
    int n = 0;
    FILE *f = open_list("resize.txt");

    (void)state;
    while (fgets(line, sizeof line, f))
        check_resize(line, &n);
    (void)fclose(f);
    assert_int_equal(n, 720);
}

/* One twin against the plain one, grey and RGB. */
static void check_twin(const fk_resample_fns *fast)
{
    uint8_t src[4096 + 64];
    uint8_t a[4096];
    uint8_t b[4096 + 64];
    fk_rng r = fk_rng_at(1, FK_RNG_TEST, 0, 0);
    int32_t first[16];
    int32_t count[16];
    int32_t k[16 * 9 + 16];
    fk_taps t = {first, count, k, 9, 16};

    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof src; i++)
            src[i] = (uint8_t)fk_rng_u32(&r);
        for (int i = 0; i < 16; i++) {
            first[i] = (int32_t)fk_rng_below(&r, 30);
            count[i] = 1 + (int32_t)fk_rng_below(&r, 9);
            for (int j = 0; j < 9; j++)
                k[i * 9 + j] = (int32_t)fk_rng_below(&r, 1 << 21) - (1 << 19);
        }
        for (int channels = 1; channels <= 3; channels += 2) {
            fk_resample_plain.horizontal(a, src, 120, 8, &t, channels);
            fast->horizontal(b, src, 120, 8, &t, channels);
            assert_memory_equal(a, b, (size_t)(8 * 16 * channels));
        }
        fk_resample_plain.vertical(a, src, 97, &t, 0);
        fast->vertical(b, src, 97, &t, 0);
        assert_memory_equal(a, b, 16 * 97);
    }
}

/* Every twin that this processor can run. */
static void twins_agree(void **state)
{
    (void)state;
    check_twin(fk_resample_best());
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        check_twin(&fk_resample_avx2);
#endif
}

static void a_box_is_part_of_the_whole(void **state)
{
    static const char *const NAMES[] = {"large420.jpg", "rgb420.jpg", "rgb444.jpg", "grey.jpg",
                                        "progressive.jpg"};
    fk_rng r = fk_rng_at(2, FK_RNG_TEST, 0, 0);
    ferkd_image whole = {0};
    ferkd_image part = {0};

    (void)state;
    for (int n = 0; n < 150; n++) {
        const char *name = NAMES[n % FK_COUNT(NAMES)];
        load(&whole, name, NULL);
        ferkd_box b = {.height = 1 + fk_rng_below(&r, whole.height / 2),
                       .width = 1 + fk_rng_below(&r, whole.width / 4)};
        b.top = fk_rng_below(&r, whole.height - b.height + 1);
        b.left = fk_rng_below(&r, whole.width - b.width + 1);
        load(&part, name, &(ferkd_decode_options){.box = &b});
        assert_int_equal(part.width, whole.width);
        for (size_t y = b.top; y < b.top + b.height; y++) {
            size_t at = (y * whole.width + b.left) * 3;
            if (memcmp(part.px + at, whole.px + at, 3 * (size_t)b.width) != 0)
                fail_msg("%s: row %zu of box %u %u %u %u", name, y, b.top, b.left, b.height,
                         b.width);
        }
    }
    ferkd_image_fini(&whole);
    ferkd_image_fini(&part);
}

static void scaling_keeps_the_side_asked_for(void **state)
{
    ferkd_image image = {0};

    (void)state;
    load(&image, "large420.jpg", &(ferkd_decode_options){.min_side_px = 46});
    assert_int_equal(image.height, 47); /* 187 / 4, rounded up */
    load(&image, "large420.jpg", &(ferkd_decode_options){.min_side_px = 100});
    assert_int_equal(image.height, 187);
    ferkd_image_fini(&image);
}

static void damage_is_named(void **state)
{
    ferkd_image image = {0};
    uint8_t bytes[4000];
    char path[512];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/data/images/rgb420.jpg", TEST_SOURCE);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    assert_true(n > 800);
    assert_int_equal(ferkd_image_decode(&image, bytes, 0, "x.jpg", NULL), FERKD_CORRUPT);
    assert_int_equal(ferkd_image_decode(&image, bytes, n / 2, "x.jpg", NULL), FERKD_CORRUPT);
    assert_non_null(strstr(ferkd_last_error(), "x.jpg"));
    assert_int_equal(ferkd_image_decode(&image, bytes, 100, "x.jpg", NULL), FERKD_CORRUPT);
    assert_int_equal(ferkd_image_decode(&image, "hello, world", 12, "x.txt", NULL),
                     FERKD_UNSUPPORTED);
    /* a header that promises 60000 x 60000 pixels */
    for (size_t i = 0; i + 9 < n; i++) {
        if (bytes[i] == 0xff && bytes[i + 1] == 0xc0)
            memcpy(bytes + i + 5, "\xea\x60\xea\x60", 4);
    }
    assert_int_equal(ferkd_image_decode(&image, bytes, n, "big.jpg", NULL), FERKD_LIMIT);
    assert_non_null(strstr(ferkd_last_error(), "big.jpg"));
    ferkd_image_fini(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_pillows),
        cmocka_unit_test(resizing_is_pillows),
        cmocka_unit_test(twins_agree),
        cmocka_unit_test(a_box_is_part_of_the_whole),
        cmocka_unit_test(scaling_keeps_the_side_asked_for),
        cmocka_unit_test(damage_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
