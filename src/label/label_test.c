/* The codec and the store: what goes in comes out, damage is found, interrupted work goes on. */
#include "base/compat.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "label/labels.h"
#include "label/packer.h"
#include "label/store_writer.h"
#include "scratch.h"

enum { IMAGES = 10, REGIONS = 3, CLASSES = 12, TOPK = 4, CHUNK = 4 };

static char path[96];
static char part[112];

static int begin(void **state)
{
    if (scratch_begin(state))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s.ferkd", scratch);
    (void)snprintf(part, sizeof part, "%s.part", path);
    return 0;
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
    fk_packer *p = NULL;
    float probs[CLASSES];
    ferkd_status st = FERKD_OK;

    TRY(fk_packer_new(&p, fk_store_writer_codec(w)));
    while (st == FERKD_OK && fk_store_writer_next(w) < until) {
        uint32_t i = fk_store_writer_next(w);
        const uint8_t *block;
        uint32_t n;
        for (uint32_t r = 0; i != 5 && r < REGIONS; r++) {
            make_probs(probs, i, r, CLASSES);
            fk_packer_add(p, &(fk_verdict){probs, 0.25f, 0.2f});
        }
        fk_packer_seal(p, i, i == 5 ? FK_BLOCK_SKIPPED : FK_BLOCK_LABELLED, i % CLASSES, &block,
                       &n);
        st = fk_store_writer_append(w, block, n);
    }
    fk_packer_free(&p);
    return st;
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
            assert_true(l.k > 0 && l.k <= TOPK);
            for (uint32_t k = 0; k < l.k; k++)
                assert_true(fabs((double)l.prob[k] - (double)probs[l.index[k]]) < 1.0 / 4096);
            assert_true(fabs((double)l.inside - 0.25) < 2.0 / 4096);
            assert_true(fabs((double)l.teacher_max - 0.2) < 2.0 / 4096);
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

/* Every width of label: classes in their order, each probability within 1/256, the label within 0.01 total
 * variation of the top k with the rest spread evenly. */
static void labels_are_as_exact_as_promised(void **state)
{
    static const struct {
        uint32_t classes, topk;
    } kinds[] = {{2, 1},    {2, 2},    {10, 3},    {10, 10},  {100, 5},
                 {1000, 1}, {1000, 5}, {1000, 10}, {1000, 20}};

    enum { MOST = 1000, N = 40 };

    static float probs[N][MOST], dense[MOST];
    static uint16_t index[N * 20];
    static float prob[N * 20];
    ferkd_soft_label l[N];
    uint8_t bytes[1 << 16];

    (void)state;
    for (size_t i = 0; i < FK_COUNT(kinds); i++) {
        uint32_t C = kinds[i].classes;
        uint32_t K = kinds[i].topk;
        fk_codec c;
        fk_packer *p = NULL;
        const uint8_t *block;
        uint32_t n;
        assert_int_equal(fk_codec_init(&c, N, K, C, 0, false, false), FERKD_OK);
        assert_int_equal(fk_packer_new(&p, &c), FERKD_OK);
        for (uint32_t r = 0; r < N; r++) {
            make_probs(probs[r], (uint32_t)i, r, C);
            if (r % 3 == 0) /* a sure one */
                for (uint32_t k = 0; k < C; k++)
                    probs[r][k] = probs[r][k] * 0.05f + (k == r % C ? 0.95f : 0.0f);
            fk_packer_add(p, &(fk_verdict){probs[r], 1.0f, 1.0f});
        }
        fk_packer_seal(p, 7, FK_BLOCK_LABELLED, 1, &block, &n);
        assert_true(n + FK_READ_PAST <= sizeof bytes);
        memcpy(bytes, block, n);
        assert_true(fk_codec_check(&c, bytes, n, 7, &n));
        assert_false(fk_codec_check(&c, bytes, n, 8, &n));
        fk_codec_labels(&c, bytes, N, bytes + n, (ferkd_label_room){index, prob}, true, l);
        for (uint32_t r = 0; r < N; r++) {
            double variation = 0.0;
            double top = 0.0;
            assert_true(l[r].k >= 1 && l[r].k <= K);
            ferkd_soft_label_expand(&l[r], C, dense);
            for (uint32_t k = 0; k < l[r].k; k++) {
                float want = probs[r][l[r].index[k]];
                assert_true(fabsf(l[r].prob[k] - want) <= 1.0f / 256.0f);
                assert_true(k == 0 || probs[r][l[r].index[k - 1]] >= want);
                top += (double)want;
            }
            /* The true top K, with what is left spread over the other classes. */
            float kept[MOST] = {0};
            double left = 1.0;
            float last = INFINITY;
            for (uint32_t k = 0; k < K; k++) {
                uint32_t best = C;
                for (uint32_t j = 0; j < C; j++)
                    if (kept[j] == 0.0f && probs[r][j] <= last &&
                        (best == C || probs[r][j] > probs[r][best]))
                        best = j;
                kept[best] = last = probs[r][best];
                left -= (double)last;
            }
            for (uint32_t j = 0; j < C; j++) {
                double want =
                    kept[j] > 0.0f ? (double)kept[j] : fmax(left, 0.0) / fmax((double)C - K, 1.0);
                variation += 0.5 * fabs(want - (double)dense[j]);
            }
            assert_true(variation <= 0.01);
            assert_true(top <= 1.0 + 1e-5);
        }
        fk_packer_free(&p);
    }
}

/* Labels over all the teacher's classes, narrowed to the data set's, are what a store of these alone would hold. */
static void narrowed_is_as_asked_at_once(void **state)
{
    enum { N = 40, C = 3, ALL = 20, K = 12 };

    ferkd_store_info info = {.regions = N,
                             .topk = K,
                             .classes = C,
                             .teacher_classes = ALL,
                             .label_classes = ALL,
                             .prob_bits = 16};
    float probs[N][ALL];
    uint16_t index[N * K];
    float prob[N * K];
    uint16_t few_index[K];
    float few_prob[K];
    ferkd_soft_label l[N];
    ferkd_soft_label narrow;
    uint8_t bytes[1 << 14];
    fk_codec c;
    fk_packer *p = NULL;
    const uint8_t *block;
    uint32_t n;
    uint32_t told = 0;

    (void)state;
    info.label_classes = C + 1;
    assert_int_equal(fk_codec_of(&c, &info), FERKD_LIMIT);
    info.label_classes = ALL;
    assert_int_equal(fk_codec_of(&c, &info), FERKD_OK);
    assert_int_equal(fk_packer_new(&p, &c), FERKD_OK);
    for (uint32_t r = 0; r < N; r++) {
        make_probs(probs[r], 1, r, ALL);
        float most = probs[r][0];
        for (uint32_t k = 1; k < ALL; k++)
            most = fmaxf(most, probs[r][k]);
        fk_packer_add(p, &(fk_verdict){probs[r], probs[r][0] + probs[r][1] + probs[r][2], most});
    }
    fk_packer_seal(p, 7, FK_BLOCK_LABELLED, 1, &block, &n);
    memcpy(bytes, block, n);
    fk_codec_labels(&c, bytes, N, bytes + n, (ferkd_label_room){index, prob}, true, l);
    for (uint32_t r = 0; r < N; r++) {
        float dense[C];
        float inside = probs[r][0] + probs[r][1] + probs[r][2];
        ferkd_soft_label_narrow(&l[r], C, (ferkd_label_room){few_index, few_prob}, &narrow);
        ferkd_soft_label_expand(&narrow, C, dense);
        assert_true(fabsf(dense[0] + dense[1] + dense[2] - 1.0f) < 1e-5f);
        assert_true(fabsf(l[r].teacher_max - l[r].prob[0]) < 1e-6f);
        told += narrow.k == C;
        for (uint32_t k = 0; k < narrow.k && narrow.k == C; k++)
            assert_true(fabsf(narrow.prob[k] - probs[r][narrow.index[k]] / inside) < 2e-3f);
    }
    assert_true(told > 3 && told < N); /* in others, not all of the three are among the top */
    /* No class of the data set at all: nothing is known. */
    ferkd_soft_label none = {.k = 1, .index = (uint16_t[]){9}, .prob = (float[]){1.0f}};
    ferkd_soft_label_narrow(&none, C, (ferkd_label_room){few_index, few_prob}, &narrow);
    assert_true(narrow.k == 1 && fabsf(narrow.prob[0] - 1.0f / C) < 1e-6f &&
                fabsf(narrow.rest - 2.0f / C) < 1e-6f);
    fk_packer_free(&p);
}

/* Blocks of random bytes with a right checksum: the labels are nonsense, and in bounds. */
static void nonsense_with_a_right_checksum_does_no_harm(void **state)
{
    enum { N = 16, K = 5, C = 300 };

    uint16_t index[N * K];
    float prob[N * K];
    ferkd_soft_label l[N];
    fk_codec c;

    (void)state;
    assert_int_equal(fk_codec_init(&c, N, K, C, 0, true, false), FERKD_OK);
    for (uint32_t t = 0; t < 3000; t++) {
        fk_rng rng = fk_rng_at(t, FK_RNG_TEST, 0, 0);
        uint32_t n = 14 + fk_rng_below(&rng, 60);
        uint8_t *block = malloc(n + FK_READ_PAST); /* its own, so that a step out of it is seen */
        assert_non_null(block);
        for (uint32_t i = 0; i < n + FK_READ_PAST; i++)
            block[i] = (uint8_t)fk_rng_u32(&rng);
        fk_put_u32(block, n);
        block[FK_AT_STATUS] = FK_BLOCK_LABELLED;
        fk_put_u32(block + n - 4, fk_codec_sum(block, n, t));
        assert_true(fk_codec_check(&c, block, n, t, &n));
        fk_codec_labels(&c, block, N, block + n, (ferkd_label_room){index, prob}, true, l);
        for (uint32_t r = 0; r < N; r++) {
            float sum = l[r].rest;
            assert_true(l[r].k >= 1 && l[r].k <= K);
            for (uint32_t k = 0; k < l[r].k; k++) {
                assert_true(l[r].index[k] < C);
                sum += l[r].prob[k];
            }
            assert_true(fabsf(sum - 1.0f) < 1e-4f && l[r].inside <= 1.0f &&
                        l[r].teacher_max <= 1.0f);
        }
        free(block);
    }
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

/* A disk that is full after so many bytes, for every number of bytes: the write says so, and with room again the same
 * call goes on to the same bytes. */
static void a_full_disk_loses_nothing(void **state)
{
    uint8_t *want = NULL;
    uint8_t *got = NULL;
    size_t n;
    size_t m;
    ferkd_store_info info = make_info();
    struct rlimit before;

    (void)state;
    write_store();
    assert_int_equal(fk_file_read(&want, &n, path, 1 << 20, false), FERKD_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    for (size_t room = 0; room < n; room += 5) {
        struct rlimit limit = {room, before.rlim_max};
        fk_store_writer *w = NULL;
        (void)unlink(path);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        ferkd_status st = fk_store_writer_open(&w, path, &info, CHUNK, false);
        if (st == FERKD_OK)
            st = write_until(w, IMAGES);
        if (st == FERKD_OK)
            st = fk_store_writer_commit(w);
        fk_store_writer_close(&w);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(st, FERKD_IO);
        assert_non_null(strstr(ferkd_last_error(), path));
        assert_false(fk_is_file(path));
        assert_int_equal(fk_store_writer_open(&w, path, &info, CHUNK, false), FERKD_OK);
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
        cmocka_unit_test_setup_teardown(labels_come_back, begin, scratch_end),
        cmocka_unit_test(labels_are_as_exact_as_promised),
        cmocka_unit_test(narrowed_is_as_asked_at_once),
        cmocka_unit_test(nonsense_with_a_right_checksum_does_no_harm),
        cmocka_unit_test_setup_teardown(interrupted_is_as_uninterrupted, begin, scratch_end),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_nothing, begin, scratch_end),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_found, begin, scratch_end),
        cmocka_unit_test_setup_teardown(other_settings_are_refused, begin, scratch_end),
        cmocka_unit_test_setup_teardown(a_newer_version_is_refused, begin, scratch_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
