/* Calibration: the language, each measure, ranks within an image, moving thresholds, targets. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "label/auto.h"
#include "label/packer.h"
#include "label/rules.h"
#include "label/store_writer.h"
#include "scratch.h"

enum { IMAGES = 40, REGIONS = 4, CLASSES = 5, ALL_CLASSES = 100, TOPK = 3 };

static char path[96];
static ferkd_store *store;

/* Image i, region r: the first class has 0.5 + r / 10, the second half of what is left, the third a
 * quarter; the teacher's largest probability grows with i and r; image i is of class i % 5, and the
 * teacher says so except in region 0 of every fourth image and in all of image 7. */
static bool is_wrong(uint32_t i, uint32_t r)
{
    return i == 7 || (i % 4 == 0 && r == 0);
}

static bool always_right; /* the teacher, but for image 7 */
static float right_from;  /* if above 0: right in regions from this area on, but for image 7 */
static float areas[IMAGES][REGIONS];

static void make(float *probs, uint32_t i, uint32_t r)
{
    bool wrong = right_from > 0.0f ? i == 7 || areas[i][r] < right_from
                                   : is_wrong(i, r) && !(always_right && i != 7);
    uint32_t first = (i + wrong) % CLASSES;
    float top = 0.5f + (float)r / 10.0f;

    for (uint32_t c = 0; c < CLASSES; c++)
        probs[c] = (1.0f - top) / 8.0f;
    probs[first] = top;
    probs[(first + 1) % CLASSES] = (1.0f - top) / 2.0f;
    probs[(first + 2) % CLASSES] = (1.0f - top) / 4.0f;
}

static float max_of(uint32_t i, uint32_t r)
{
    return ((float)(i * REGIONS + r) + 0.5f) / (IMAGES * REGIONS);
}

static ferkd_status write_store_of(const char *to, uint32_t teacher_classes, uint32_t label_classes,
                                   ferkd_store **out)
{
    ferkd_store_info info = {.images = IMAGES,
                             .regions = REGIONS,
                             .topk = TOPK,
                             .classes = CLASSES,
                             .teacher_classes = teacher_classes,
                             .label_classes = label_classes,
                             .sampler = ferkd_sampler_defaults(),
                             .teacher_px = 224,
                             .filter = FERKD_BICUBIC,
                             .temperature = 1.0,
                             .teacher = "t.onnx",
                             .dataset = "data"};
    fk_store_writer *w = NULL;
    fk_packer *p = NULL;
    float probs[ALL_CLASSES] = {0};
    const uint8_t *block;
    uint32_t n;

    TRY(fk_store_writer_open(&w, to, &info, 8, false));
    TRY(fk_packer_new(&p, fk_store_writer_codec(w)));
    for (uint32_t i = 0; i < IMAGES; i++) {
        for (uint32_t r = 0; r < REGIONS; r++) {
            make(probs, i, r);
            fk_packer_add(p, &(fk_verdict){probs, max_of(i, r), max_of(i, r)});
        }
        fk_packer_seal(p, i, FK_BLOCK_LABELLED, i % CLASSES, &block, &n);
        TRY(fk_store_writer_append(w, block, n));
    }
    fk_packer_free(&p);
    TRY(fk_store_writer_commit(w));
    fk_store_writer_close(&w);
    return ferkd_store_open(out, to);
}

static int begin(void **state)
{
    if (scratch_begin(state))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s.ferkd", scratch);
    return write_store_of(path, ALL_CLASSES, CLASSES, &store) == FERKD_OK ? 0 : -1;
}

static int end(void **state)
{
    ferkd_store_close(&store);
    return scratch_end(state);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-3;
}

/* A store of the same labels over all of a teacher's classes, who is always right but for image 7. */
static ferkd_store *wide_store(void)
{
    char wide[160];
    ferkd_store *s = NULL;

    (void)snprintf(wide, sizeof wide, "%s/wide.ferkd", scratch);
    (void)remove(wide);
    always_right = true;
    assert_int_equal(write_store_of(wide, ALL_CLASSES, ALL_CLASSES, &s), FERKD_OK);
    always_right = false;
    return s;
}

/* --- the language ------------------------------------------------------------------------------ */

static void rules_are_read(void **state)
{
    fk_rules r;

    (void)state;
    assert_int_equal(fk_rules_parse(&r, "max < 5%: discard; wrong and inside > 0.25: smooth 0.1;\n"
                                        "entropy>10%..20%..5% of class:mix inside; temperature 2;"
                                        "focus 0.25;"
                                        "else: teacher; "),
                     FERKD_OK);
    assert_int_equal(r.n, 4);
    assert_true(r.rule[0].when[0].bound.quantile && r.rule[0].when[0].bound.at[0] == 0.05);
    assert_int_equal(r.rule[1].n, 2);
    assert_int_equal(r.rule[1].when[0].kind, FK_WRONG);
    assert_true(r.rule[1].when[1].bound.at[0] == 0.25 && !r.rule[1].when[1].bound.quantile);
    assert_true(r.rule[1].amount == 0.1);
    assert_int_equal(r.rule[2].when[0].bound.stops, 3);
    assert_int_equal(r.rule[2].when[0].bound.scope, FK_OF_CLASS);
    assert_true(r.rule[2].by_measure && r.rule[2].amount_of == FERKD_INSIDE);
    assert_int_equal(r.rule[3].n, 0);
    assert_int_equal(r.rule[3].action, FERKD_TEACHER);
    assert_true(r.temperature == 2.0 && r.focus == 0.25);
    assert_true(near(fk_bound_at(&r.rule[2].when[0].bound, 0.25), 0.15));
    assert_true(near(fk_bound_at(&r.rule[2].when[0].bound, 1.0), 0.05));
}

static void faults_are_shown_with_their_place(void **state)
{
    static const char *const bad[][2] = {
        {"", "(the end)"},
        {"max 5%: keep", "5%: keep"},
        {"max < : keep", ": keep"},
        {"maximum < 5%: keep", "maximum"},
        {"max < 5% discard", "discard"},
        {"max < 5%: throw", "throw"},
        {"max < 5%: smooth", "(the end)"},
        {"max < 5%: smooth 2", "at most 1"},
        {"max < 101%: keep", "100%"},
        {"max < 5%..0.3: keep", "same kind"},
        {"max < 0.3 of class: keep", "quantile"},
        {"max < 5% of region: keep", "region"},
        {"else: mix entropy", "not entropy"},
        {"temperature 0", "temperature"},
        {"focus 1.5", "from 0 to 1"},
        {"focus", "(the end)"},
        {"else: keep else: keep", "else"},
        {"max < 1.2.3: keep", "1.2.3"},
        {"wrong and right and wrong and right and wrong: keep", "four"},
    };
    fk_rules r;

    (void)state;
    for (size_t i = 0; i < FK_COUNT(bad); i++) {
        assert_int_equal(fk_rules_parse(&r, bad[i][0]), FERKD_USAGE);
        if (!strstr(ferkd_last_error(), bad[i][1]))
            fail_msg("\"%s\": \"%s\" does not name \"%s\"", bad[i][0], ferkd_last_error(),
                     bad[i][1]);
    }
}

/* --- what is asked of a label ------------------------------------------------------------------ */

static void measures_are_as_defined(void **state)
{
    const uint16_t index[] = {3, 0, 1};
    const float prob[] = {0.6f, 0.2f, 0.1f};
    ferkd_soft_label l = {3, index, prob, 0.1f, 0.7f, 0.45f, 0.3f, {{0, 0, 0, 0}, false}};

    (void)state;
    assert_true(near(ferkd_measure_of(FERKD_MAX, &l, 0, 5), 0.45));
    assert_true(near(ferkd_measure_of(FERKD_TOP, &l, 0, 5), 0.6));
    assert_true(near(ferkd_measure_of(FERKD_INSIDE, &l, 0, 5), 0.7));
    assert_true(near(ferkd_measure_of(FERKD_TRUTH, &l, 0, 5), 0.2));
    assert_true(near(ferkd_measure_of(FERKD_TRUTH, &l, 4, 5), 0.05));
    assert_true(near(ferkd_measure_of(FERKD_MARGIN, &l, 0, 5), 0.4));
    assert_true(near(ferkd_measure_of(FERKD_AREA, &l, 0, 5), 0.3));
    assert_true(near(ferkd_measure_of(FERKD_ENTROPY, &l, 0, 5),
                     -0.6 * log(0.6) - 0.2 * log(0.2) - 0.1 * log(0.1) - 0.1 * log(0.05)));
}

/* --- groups ------------------------------------------------------------------------------------ */

static void counts_of(const char *rules, double moment, ferkd_calibration_counts *n)
{
    ferkd_calibration *c = NULL;

    assert_int_equal(ferkd_calibration_new(&c, rules, store, 10.0), FERKD_OK);
    assert_int_equal(ferkd_calibration_count(c, store, moment, n), FERKD_OK);
    ferkd_calibration_free(&c);
}

static void groups_are_the_papers(void **state)
{
    ferkd_calibration_counts n;

    (void)state;
    counts_of("ferkd-paper", 0.0, &n); /* max runs from 0.5/160 to 159.5/160 */
    assert_int_equal(n.regions, 160);
    assert_int_equal(n.group[FERKD_UR], 24 + 8); /* below 24/160, above 152/160 */
    assert_int_equal(n.group[FERKD_HR], 24);
    assert_int_equal(n.group[FERKD_IR], 160 - 32 - 24);
    assert_int_equal(n.images_without, 8); /* 0 to 5, and the last two */
    counts_of("fkd", 0.0, &n);
    assert_int_equal(n.group[FERKD_IR], 160);
    assert_int_equal(n.group_right[FERKD_IR], 160 - 10 - 4);
    counts_of("wrong: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 14);
    assert_int_equal(n.images_without, 1);
    counts_of("relabel", 0.0, &n);
    assert_int_equal(n.group[FERKD_HR], 160);
}

static void quantiles_have_a_scope(void **state)
{
    ferkd_calibration_counts n;

    (void)state;
    counts_of("max < 25%: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 40);
    assert_int_equal(n.images_without, 10);
    counts_of("max < 25% of image: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 40);
    assert_int_equal(n.images_without, 0);
    counts_of("max > 75% of image: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 40);
    counts_of("top < 50% of image: discard", 0.0, &n); /* equal values: exactly half, still */
    assert_int_equal(n.group[FERKD_UR], 80);
    counts_of("max < 25% of class: discard", 0.0, &n); /* 32 regions a class */
    assert_int_equal(n.group[FERKD_UR], 40);
    counts_of("max < 0%: discard; max > 100%: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 0);
    counts_of("max < 50%..0%: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 80);
    counts_of("max < 50%..0%: discard", 0.5, &n);
    assert_int_equal(n.group[FERKD_UR], 40);
    counts_of("max < 50%..0%: discard", 1.0, &n);
    assert_int_equal(n.group[FERKD_UR], 0);
}

/* Areas follow from the sampler, and from the image's size where it is known. */
static void regions_have_areas(void **state)
{
    const ferkd_sampler *s = &ferkd_store_about(store)->sampler;
    ferkd_calibration_counts n;
    ferkd_soft_label l[REGIONS] = {0};
    uint64_t small = 0;

    (void)state;
    for (uint32_t i = 0; i < IMAGES; i++) {
        ferkd_store_place(store, i, 0, 0, l);
        for (uint32_t r = 0; r < REGIONS; r++)
            small += l[r].area < 0.4f;
        ferkd_store_place(store, i, 500, 375, l);
        for (uint32_t r = 0; r < REGIONS; r++) {
            ferkd_box b = ferkd_region_at(s, i, r, 500, 375).box;
            assert_true(fabs((double)l[r].area - (double)b.width * b.height / 187500.0) < 1e-6);
        }
    }
    assert_true(small > 30 && small < 80); /* of 160; about a third is expected */
    counts_of("area < 0.4: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], small);
    counts_of("area < 25% of image: discard", 0.0, &n);
    assert_int_equal(n.group[FERKD_UR], 40);
    counts_of("area < 0.05: discard", 0.0, &n); /* none is drawn below 0.08 */
    assert_int_equal(n.group[FERKD_UR], 0);
}

/* --- targets ----------------------------------------------------------------------------------- */

static void target_by(const char *rules, float *target)
{
    const uint16_t index[] = {3, 0, 1};
    const float prob[] = {0.6f, 0.2f, 0.1f};
    ferkd_soft_label l = {3, index, prob, 0.1f, 0.7f, 0.45f, 0.3f, {{0, 0, 0, 0}, false}};
    ferkd_calibration *c = NULL;
    ferkd_treatment t;
    double sum = 0.0;

    assert_int_equal(ferkd_calibration_new(&c, rules, store, 10.0), FERKD_OK);
    ferkd_calibration_judge(c, 0.0, 0, &l, 1, &t);
    ferkd_calibration_target(c, t, &l, 0, target);
    for (int k = 0; k < CLASSES; k++)
        sum += (double)target[k];
    assert_true(fabs(sum - 1.0) < 1e-6);
    ferkd_calibration_free(&c);
}

static void targets_are_as_defined(void **state)
{
    float t[CLASSES];

    (void)state;
    target_by("else: keep", t);
    assert_true(near(t[3], 0.6) && near(t[0], 0.2) && near(t[2], 0.05));
    target_by("else: hard", t);
    assert_true(near(t[0], 1.0) && near(t[3], 0.0));
    target_by("else: smooth 0.2", t);
    assert_true(near(t[0], 0.8) && near(t[3], 0.05));
    target_by("else: teacher 0.2", t);
    assert_true(near(t[3], 0.8) && near(t[0], 0.05));
    target_by("else: mix 0.25", t);
    assert_true(near(t[0], 0.75 + 0.05) && near(t[3], 0.15));
    target_by("else: mix inside", t);
    assert_true(near(t[0], 0.3 + 0.14) && near(t[3], 0.42));
    target_by("else: blur inside", t);
    assert_true(near(t[0], 0.06 + 0.14) && near(t[3], 0.06 + 0.42));
    target_by("temperature 2", t);
    double sum = sqrt(0.6) + sqrt(0.2) + sqrt(0.1) + 2.0 * sqrt(0.05);
    assert_true(near(t[3], sqrt(0.6) / sum) && near(t[4], sqrt(0.05) / sum));
}

static bool equal(float a, double b)
{
    return fabs((double)a - b) < 1e-6;
}

/* Of a label over more classes than the data set's a share is told among these alone. */
static void labels_are_focused(void **state)
{
    const uint16_t index[] = {60, 3, 0};
    const float prob[] = {0.4f, 0.3f, 0.203f};
    ferkd_soft_label l = {3, index, prob, 0.097f, 0.5f, 0.4f, 0.3f, {{0, 0, 0, 0}, false}};
    ferkd_soft_label none = {1, index, prob, 0.0f, 0.0f, 0.4f, 0.3f, {{0, 0, 0, 0}, false}};
    float t[ALL_CLASSES];
    ferkd_calibration *c = NULL;
    ferkd_store *wide = wide_store();

    (void)state;
    assert_int_equal(ferkd_calibration_new(&c, "focus 0.5; else: keep", wide, 10.0), FERKD_OK);
    ferkd_calibration_target(c, (ferkd_treatment){FERKD_KEEP, 1.0f}, &l, 3, t);
    double inside = 0.3 + 0.203 + 3 * 0.001; /* what is not told is spread evenly: 0.001 each */
    assert_true(equal(t[3], 0.15 + 0.15 / inside) && equal(t[4], 0.0005 + 0.0005 / inside));
    assert_true(equal(t[60], 0.2) && equal(t[99], 0.0005));
    ferkd_calibration_target(c, (ferkd_treatment){FERKD_MIX, 0.5f}, &l, 3, t);
    assert_true(equal(t[3], 0.5 + 0.075 + 0.075 / inside) && equal(t[60], 0.1));
    ferkd_calibration_target(c, (ferkd_treatment){FERKD_KEEP, 1.0f}, &none, 3, t);
    assert_true(equal(t[60], 0.4));
    ferkd_calibration_free(&c);
    assert_int_equal(ferkd_calibration_new(&c, "focus 1; else: keep", wide, 10.0), FERKD_OK);
    ferkd_calibration_target(c, (ferkd_treatment){FERKD_KEEP, 1.0f}, &l, 3, t);
    assert_true(equal(t[3], 0.3 / inside) && t[60] == 0.0f && t[99] == 0.0f);
    ferkd_calibration_free(&c);
    ferkd_store_close(&wide);
}

/* The fitted temperature is where the derivative of the mean surprise vanishes. */
static void the_temperature_fits(void **state)
{
    ferkd_calibration *c = NULL;

    (void)state;
    assert_int_equal(ferkd_calibration_new(&c, "temperature fit", store, 10.0), FERKD_OK);
    const char *at = strstr(ferkd_calibration_words(c), "temperature ");
    assert_non_null(at);
    double best = strtod(at + 12, NULL);
    ferkd_calibration_free(&c);
    double loss[3] = {0};
    for (int k = 0; k < 3; k++) {
        double t = best + (k - 1) * 0.05;
        for (uint32_t i = 0; i < IMAGES; i++) {
            for (uint32_t r = 0; i != 7 && r < REGIONS; r++) {
                float p[CLASSES];
                double sum = 0.0;
                make(p, i, r);
                for (int j = 0; j < CLASSES; j++)
                    sum += pow((double)p[j], 1.0 / t);
                loss[k] -= log(pow((double)p[i % CLASSES], 1.0 / t) / sum);
            }
        }
    }
    assert_true(loss[1] < loss[0] && loss[1] < loss[2]);
}

/* Image 7 is the one that the teacher always calls something else. */
static void the_mislabelled_one_is_found(void **state)
{
    ferkd_suspect s[3];
    uint32_t n;

    (void)state;
    assert_int_equal(ferkd_store_suspects(store, 3, s, &n), FERKD_OK);
    assert_int_equal(n, 1);
    assert_int_equal(s[0].image, 7);
    assert_int_equal(s[0].truth, 2);
    assert_int_equal(s[0].said, 3);
    assert_int_equal(s[0].agreeing, 0);
    assert_true(s[0].score > 0.4f && s[0].score < 0.8f);
    assert_int_equal(ferkd_store_suspects(store, 0, s, &n), FERKD_OK);
    assert_int_equal(n, 0);
}

/* A store of the same labels, but of a teacher that has the data set's classes and no others. */
static ferkd_store *store_of_own_teacher(bool right)
{
    char other[160];
    ferkd_store *s = NULL;

    (void)snprintf(other, sizeof other, "%s/%s.ferkd", scratch, right ? "right" : "own");
    (void)remove(other);
    always_right = right;
    assert_int_equal(write_store_of(other, CLASSES, CLASSES, &s), FERKD_OK);
    always_right = false;
    return s;
}

/* auto leaves out the smaller regions the shorter the run is, and keeps some of each image. */
static void auto_has_no_use_for_small_regions_in_short_runs(void **state)
{
    ferkd_store *own = store_of_own_teacher(true);
    ferkd_calibration *c = NULL;
    ferkd_calibration_counts n[3];
    static const double visits[] = {2, 10, 1000};

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ferkd_calibration_new(&c, "auto", own, visits[i]), FERKD_OK);
        assert_int_equal(ferkd_calibration_count(c, own, 0.0, &n[i]), FERKD_OK);
        assert_int_equal(n[i].images_without, 0);
        assert_null(strstr(ferkd_calibration_rules(c), "temperature"));
        if (i == 1)
            assert_string_equal(ferkd_calibration_rules(c),
                                "area < 0.35 and area < 75% of image: discard; else: keep");
        ferkd_calibration_free(&c);
    }
    assert_true(n[0].group[FERKD_UR] > n[1].group[FERKD_UR]);
    assert_true(n[1].group[FERKD_UR] > 20 && n[1].group[FERKD_UR] < 70); /* of 160 */
    assert_int_equal(n[2].group[FERKD_UR], 0);
    ferkd_store_close(&own);
}

/* Of a teacher that is often wrong auto takes half; an image of which it is always wrong does not make it so. */
static void auto_trusts_a_doubtful_teacher_half(void **state)
{
    ferkd_calibration *c = NULL;

    (void)state;
    for (int right = 0; right < 2; right++) {
        ferkd_store *own = store_of_own_teacher(right);
        assert_int_equal(ferkd_calibration_new(&c, "auto", own, 1000), FERKD_OK);
        assert_non_null(strstr(
            ferkd_calibration_rules(c),
            right ? "else: keep" : "area < 0.5 and area < 75% of image: discard; else: mix 0.5"));
        assert_int_equal(strstr(ferkd_calibration_words(c), "half of each label") == NULL, right);
        ferkd_calibration_free(&c);
        ferkd_store_close(&own);
    }
}

/* A teacher that errs in small regions alone is believed, also in long runs, which look at them. */
static void auto_does_not_doubt_a_teacher_for_small_regions(void **state)
{
    static const double visits[] = {5, 30, 100, 1000};
    ferkd_soft_label l[REGIONS] = {0};
    ferkd_calibration *c = NULL;

    (void)state;
    for (uint32_t i = 0; i < IMAGES; i++) {
        ferkd_store_place(store, i, 0, 0, l);
        for (uint32_t r = 0; r < REGIONS; r++)
            areas[i][r] = l[r].area;
    }
    for (int small = 0; small < 2; small++) {
        right_from = small ? 0.3f : 0.9f;
        ferkd_store *own = store_of_own_teacher(true);
        for (size_t i = 0; i < FK_COUNT(visits); i++) {
            assert_int_equal(ferkd_calibration_new(&c, "auto", own, visits[i]), FERKD_OK);
            assert_int_equal(strstr(ferkd_calibration_words(c), "the teacher is wrong in") == NULL,
                             small);
            ferkd_calibration_free(&c);
        }
        ferkd_store_close(&own);
    }
    right_from = 0.0f;
}

/* Of labels over all the teacher's classes, half is the ground truth, but where the teacher says otherwise. */
static void auto_makes_the_own_classes_half_of_wide_labels(void **state)
{
    ferkd_store *s = wide_store();
    ferkd_calibration *c = NULL;

    (void)state;
    assert_int_equal(ferkd_calibration_new(&c, "auto", s, 10), FERKD_OK);
    assert_string_equal(ferkd_calibration_rules(c),
                        "area < 0.35 and area < 75% of image: discard; wrong: keep; else: mix 0.5");
    assert_non_null(strstr(ferkd_calibration_words(c), "half of each label"));
    ferkd_calibration_free(&c);
    ferkd_store_close(&s);
}

/* Of labels that leave the teacher's other classes out, auto keeps as many regions of each image as the run looks at two
 * and a half times, and says so. */
static void auto_follows_the_length_of_the_run(void **state)
{
    static const struct {
        double visits;
        uint64_t discarded;
    } runs[] = {{4, 80}, {5, 80}, {6, 40}, {12, 40}, {300, 40}};

    ferkd_calibration *c = NULL;
    ferkd_calibration_counts n;

    (void)state;
    for (size_t i = 0; i < FK_COUNT(runs); i++) {
        assert_int_equal(ferkd_calibration_new(&c, "auto", store, runs[i].visits), FERKD_OK);
        assert_non_null(strstr(ferkd_calibration_rules(c), "inside < "));
        assert_non_null(strstr(ferkd_calibration_words(c), "disputes 1 of 40 images"));
        assert_int_equal(ferkd_calibration_count(c, store, 0.0, &n), FERKD_OK);
        assert_int_equal(n.group[FERKD_UR], runs[i].discarded);
        assert_int_equal(n.images_without, 0);
        ferkd_calibration_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_read),
        cmocka_unit_test(faults_are_shown_with_their_place),
        cmocka_unit_test(measures_are_as_defined),
        cmocka_unit_test(groups_are_the_papers),
        cmocka_unit_test(quantiles_have_a_scope),
        cmocka_unit_test(regions_have_areas),
        cmocka_unit_test(targets_are_as_defined),
        cmocka_unit_test(labels_are_focused),
        cmocka_unit_test(the_temperature_fits),
        cmocka_unit_test(the_mislabelled_one_is_found),
        cmocka_unit_test(auto_has_no_use_for_small_regions_in_short_runs),
        cmocka_unit_test(auto_trusts_a_doubtful_teacher_half),
        cmocka_unit_test(auto_does_not_doubt_a_teacher_for_small_regions),
        cmocka_unit_test(auto_makes_the_own_classes_half_of_wide_labels),
        cmocka_unit_test(auto_follows_the_length_of_the_run),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
