/* Rules applied: which region gets what treatment, and what target comes of it. */
#include "base/compat.h"

#include "label/auto.h"
#include "label/labels.h"
#include "label/rules.h"
#include "label/survey.h"

#include "base/mem.h"

struct ferkd_calibration {
    char *text, *words;
    fk_rules rules;
    fk_survey survey;
    uint32_t classes; /* of the data set */
    uint32_t over;    /* that labels are over: these, then others of the teacher's */
};

static const struct {
    const char *name, *rules, *about;
} PRESETS[] = {
    {"auto", NULL, "what a run of this length has use for; says what and why"},
    {"ferkd-paper", "max < 0.15: discard; max > 0.95: discard; max < 0.3: smooth 0.1; else: keep",
     "FerKD's groups (ICCV 2023): least and most sure regions discarded, hard ones smoothed"},
    {"fkd", "focus 0.5; else: keep",
     "every soft label (FKD, ECCV 2022), half of it among the data set's classes where it is over "
     "others as well"},
    {"relabel", "else: teacher 0.1",
     "the teacher's own choice for each region as a smoothed hard label (after ReLabel, CVPR "
     "2021)"},
};

const char *ferkd_preset_name(uint32_t i)
{
    return i < FK_COUNT(PRESETS) ? PRESETS[i].name : NULL;
}

const char *ferkd_preset_about(uint32_t i)
{
    return i < FK_COUNT(PRESETS) ? PRESETS[i].about : NULL;
}

ferkd_group ferkd_group_of(ferkd_treatment t)
{
    return t.action == FERKD_DISCARD ? FERKD_UR : t.action == FERKD_KEEP ? FERKD_IR : FERKD_HR;
}

/* --- judging ----------------------------------------------------------------------------------- */

#define RANKED \
    1024 /* regions whose measures are worked out once for an image, not once for each other */

/* One image that is judged. */
typedef struct image {
    const ferkd_soft_label *labels;
    uint32_t n, truth;
    double moment;
    const fk_condition *ranked; /* the condition that v is about, or NULL */
    float v[RANKED];
} image;

static float value_of(const ferkd_calibration *c, const image *im, const fk_condition *when,
                      uint32_t i)
{
    return when == im->ranked
               ? im->v[i]
               : ferkd_measure_of(when->measure, &im->labels[i], im->truth, c->classes);
}

/* Is region i among the `share` lowest (highest) of its image? Exactly that many are; equals in
 * their order. (33% of 3 is one.) */
static bool ranks(const ferkd_calibration *c, const image *im, const fk_condition *when,
                  double share, uint32_t i)
{
    float v = value_of(c, im, when, i);
    uint32_t before = 0;

    for (uint32_t j = 0; j < im->n; j++) {
        float w = value_of(c, im, when, j);
        before += w < v || (w == v && j < i);
    }
    return when->kind == FK_LESS ? before < (uint32_t)(share * im->n + 0.1)
                                 : before >= im->n - (uint32_t)((1.0 - share) * im->n + 0.1);
}

static bool is_ranked(const fk_condition *when)
{
    return (when->kind == FK_LESS || when->kind == FK_MORE) && when->bound.quantile &&
           when->bound.scope == FK_OF_IMAGE;
}

static bool holds(const ferkd_calibration *c, const image *im, const fk_condition *when, uint32_t i)
{
    if (when->kind == FK_WRONG || when->kind == FK_RIGHT)
        return (im->labels[i].index[0] == im->truth) == (when->kind == FK_RIGHT);
    double at = fk_bound_at(&when->bound, im->moment);
    if (is_ranked(when))
        return ranks(c, im, when, at, i);
    if (when->bound.quantile) {
        if (when->kind == FK_LESS ? at <= 0.0 : at >= 1.0)
            return false; /* 0% and 100% cut nothing off */
        int32_t class = when->bound.scope == FK_OF_CLASS ? (int32_t)im->truth : -1;
        at = fk_survey_quantile(&c->survey, when->measure, class, at,
                                when->kind == FK_LESS ? -0.5 : 0.5);
    }
    double v = (double)value_of(c, im, when, i);
    return when->kind == FK_LESS ? v < at : v > at;
}

/* Measures of all regions, for the rule's first condition that ranks them. */
static void rank_for(const ferkd_calibration *c, image *im, const fk_rule *rule)
{
    im->ranked = NULL;
    for (int k = 0; k < rule->n && im->n <= RANKED; k++) {
        if (!is_ranked(&rule->when[k]))
            continue;
        for (uint32_t i = 0; i < im->n; i++)
            im->v[i] = value_of(c, im, &rule->when[k], i);
        im->ranked = &rule->when[k];
        return;
    }
}

static ferkd_treatment treatment_of(const ferkd_calibration *c, const image *im,
                                    const fk_rule *rule, uint32_t i)
{
    double amount = rule->by_measure ? (double)ferkd_measure_of(rule->amount_of, &im->labels[i],
                                                                im->truth, c->classes)
                                     : rule->amount;

    return (ferkd_treatment){rule->action, (float)amount};
}

void ferkd_calibration_judge(const ferkd_calibration *c, double moment, uint32_t truth,
                             const ferkd_soft_label *labels, uint32_t n, ferkd_treatment *out)
{
    const float undecided = -1.0f; /* no amount */
    image im;

    im.labels = labels;
    im.n = n;
    im.truth = truth;
    im.moment = moment;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (ferkd_treatment){FERKD_KEEP, undecided};
    for (int r = 0; r < c->rules.n; r++) {
        const fk_rule *rule = &c->rules.rule[r];
        rank_for(c, &im, rule);
        for (uint32_t i = 0; i < n; i++) {
            bool all = out[i].amount == undecided;
            for (int k = 0; all && k < rule->n; k++)
                all = holds(c, &im, &rule->when[k], i);
            if (all)
                out[i] = treatment_of(c, &im, rule, i);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (out[i].amount == undecided)
            out[i].amount = 1.0f;
    }
}

/* --- targets ----------------------------------------------------------------------------------- */

/* 1 - eps on one class, the rest on the others evenly. */
static void smooth(float *target, uint32_t classes, uint32_t class, float eps)
{
    for (uint32_t c = 0; c < classes; c++)
        target[c] = classes > 1 ? eps / (float)(classes - 1) : 0.0f;
    target[class] = classes > 1 ? 1.0f - eps : 1.0f;
}

/* softmax(log p / temperature) of a label; classes beyond its top k share alike. */
static void expand(const ferkd_soft_label *l, uint32_t classes, double temperature, float *target)
{
    double sum = 0.0;

    ferkd_soft_label_expand(l, classes, target);
    if (temperature == 1.0)
        return;
    double others = (double)classes - l->k;
    float rest = others > 0 ? (float)pow((double)l->rest / others, 1.0 / temperature) : 0.0f;
    for (uint32_t c = 0; c < classes; c++)
        target[c] = rest;
    for (uint32_t k = 0; k < l->k; k++)
        target[l->index[k]] = (float)pow((double)l->prob[k], 1.0 / temperature);
    for (uint32_t c = 0; c < classes; c++)
        sum += (double)target[c];
    for (uint32_t c = 0; c < classes; c++)
        target[c] = (float)((double)target[c] / sum);
}

/* A share of the label is told among the data set's classes, which are the first, alone: these in their proportions, and
 * no others. A label without any of them stays as it is. */
static void focus(float *target, uint32_t classes, uint32_t over, float share)
{
    double inside = 0.0;

    for (uint32_t c = 0; c < classes; c++)
        inside += (double)target[c];
    if (inside <= 0.0)
        return;
    float factor = 1.0f - share + (float)((double)share / inside);
    for (uint32_t c = 0; c < over; c++)
        target[c] *= c < classes ? factor : 1.0f - share;
}

/* The first of the label's classes that is the data set's. */
static uint32_t choice(const ferkd_soft_label *l, uint32_t classes, uint32_t otherwise)
{
    for (uint32_t k = 0; k < l->k; k++) {
        if (l->index[k] < classes)
            return l->index[k];
    }
    return otherwise;
}

void ferkd_calibration_target(const ferkd_calibration *c, ferkd_treatment t,
                              const ferkd_soft_label *label, uint32_t truth, float *target)
{
    float flat = (1.0f - t.amount) / (float)c->over;

    if (t.action == FERKD_SMOOTH || t.action == FERKD_TEACHER) {
        bool teacher = t.action == FERKD_TEACHER;
        memset(target, 0, c->over * sizeof *target);
        smooth(target, c->classes, teacher ? choice(label, c->classes, truth) : truth, t.amount);
        return;
    }
    expand(label, c->over, c->rules.temperature, target);
    if (c->rules.focus > 0.0 && c->over > c->classes)
        focus(target, c->classes, c->over, (float)c->rules.focus);
    if (t.action != FERKD_MIX && t.action != FERKD_BLUR)
        return;
    for (uint32_t k = 0; k < c->over; k++)
        target[k] = t.amount * target[k] + (t.action == FERKD_BLUR ? flat : 0.0f);
    target[truth] += t.action == FERKD_MIX ? 1.0f - t.amount : 0.0f;
}

/* --- the temperature that fits ----------------------------------------------------------------- */

#define FIT_REGIONS 20000u

/* Mean -log of what the labels at a temperature say of the ground truth, over a sample of the store;
 * images that the teacher always calls something else say nothing of its confidence. */
static ferkd_status surprise(const ferkd_calibration *c, const ferkd_store *store, fk_labels *l,
                             double temperature, float *target, double *out)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    uint32_t step = (uint32_t)((uint64_t)info->images * info->regions / FIT_REGIONS + 1);
    double sum = 0.0;
    uint64_t n = 0;

    for (uint32_t i = 0; i < info->images; i += step) {
        uint32_t truth = ferkd_store_truth(store, i);
        uint32_t right = 0;
        bool has;
        TRY(fk_labels_find(l, store, i, &has));
        if (!has || truth >= info->classes)
            continue;
        for (uint32_t r = 0; r < l->n; r++)
            right += l->label[r].index[0] == truth;
        for (uint32_t r = 0; right && r < l->n; r++, n++) {
            expand(&l->label[r], c->classes, temperature, target);
            sum -= log(fmax((double)target[truth], 1e-6));
        }
    }
    *out = n ? sum / (double)n : 0.0;
    return FERKD_OK;
}

/* Golden section on the logarithm of the temperature (Guo et al. 2017, temperature scaling). */
static ferkd_status fit_temperature(ferkd_calibration *c, const ferkd_store *store)
{
    const double ratio = 0.6180339887498949;
    double a = log(0.25);
    double b = log(10.0);
    double fx = 0.0;
    double fy = 0.0;
    fk_labels l = {0};
    float *target = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_labels_init(&l, store));
    TRY_DONE(fk_calloc(&target, c->classes, sizeof *target, "calibration"));
    while (b - a > 0.01) {
        double x = b - ratio * (b - a);
        double y = a + ratio * (b - a);
        TRY_DONE(surprise(c, store, &l, exp(x), target, &fx));
        TRY_DONE(surprise(c, store, &l, exp(y), target, &fy));
        if (fx <= fy)
            b = y;
        else
            a = x;
    }
    c->rules.temperature = exp((a + b) / 2.0);
done:
    fk_labels_fini(&l);
    free(target);
    return st;
}

/* --- life -------------------------------------------------------------------------------------- */

/* Look at the store, where a rule asks for a quantile of it that is not known yet. */
static ferkd_status survey_for_rules(ferkd_calibration *c, const ferkd_store *store)
{
    unsigned by_class = 0;
    bool needed = false;

    for (int r = 0; r < c->rules.n; r++) {
        for (int k = 0; k < c->rules.rule[r].n; k++) {
            const fk_condition *when = &c->rules.rule[r].when[k];
            if (!when->bound.quantile || when->bound.scope == FK_OF_IMAGE)
                continue;
            needed = true;
            if (when->bound.scope == FK_OF_CLASS)
                by_class |= 1u << when->measure;
        }
    }
    if (!needed || (c->survey.regions && !by_class))
        return FERKD_OK;
    fk_survey_fini(&c->survey);
    return fk_survey_take(&c->survey, store, by_class);
}

/* What the store's quantiles came out as, for the first and the last epoch. */
static void describe(const ferkd_calibration *c, FILE *f)
{
    for (int r = 0; r < c->rules.n; r++) {
        for (int k = 0; k < c->rules.rule[r].n; k++) {
            const fk_condition *when = &c->rules.rule[r].when[k];
            const fk_bound *b = &when->bound;
            if (!b->quantile || b->scope != FK_OF_STORE)
                continue;
            (void)fprintf(f, "%s %g%% is %.4f", ferkd_measure_name(when->measure), 100.0 * b->at[0],
                          fk_survey_quantile(&c->survey, when->measure, -1, b->at[0], 0.0));
            if (b->stops > 1)
                (void)fprintf(
                    f, ", in the last epoch %g%%: %.4f", 100.0 * b->at[b->stops - 1],
                    fk_survey_quantile(&c->survey, when->measure, -1, b->at[b->stops - 1], 0.0));
            (void)fputc('\n', f);
        }
    }
    if (c->rules.fit)
        (void)fprintf(f, "temperature %.3f predicts the ground truth best\n", c->rules.temperature);
}

static ferkd_status resolve(ferkd_calibration *c, const char *rules, const ferkd_store *store,
                            double visits, FILE *words)
{
    char chosen[FK_AUTO_TEXT];
    char why[FK_AUTO_TEXT];
    const char *text = rules;

    for (size_t i = 0; i < FK_COUNT(PRESETS); i++) {
        if (strcmp(rules, PRESETS[i].name) == 0)
            text = PRESETS[i].rules;
    }
    if (!text) {
        TRY(fk_survey_take(&c->survey, store, 0));
        fk_auto_choose(&c->survey, ferkd_store_about(store), visits, chosen, why);
        (void)fprintf(words, "%s\n", why);
        text = chosen;
    }
    TRY(fk_strdup(&c->text, text));
    return fk_rules_parse(&c->rules, text);
}

ferkd_status ferkd_calibration_new(ferkd_calibration **out, const char *rules,
                                   const ferkd_store *store, double visits)
{
    ferkd_calibration *c = NULL;
    ferkd_status st = FERKD_OK;
    size_t n = 0;
    FILE *words = NULL;

    TRY(fk_calloc(&c, 1, sizeof *c, "calibration"));
    c->classes = ferkd_store_about(store)->classes;
    c->over = ferkd_store_about(store)->label_classes;
    if (ferkd_store_about(store)->labelled == 0) {
        st = fk_fail(FERKD_USAGE, "%s: holds no labels", ferkd_store_path(store));
        goto done;
    }
    words = open_memstream(&c->words, &n);
    if (!words) {
        st = fk_fail(FERKD_MEMORY, "calibration: no memory");
        goto done;
    }
    TRY_DONE(resolve(c, rules, store, visits, words));
    TRY_DONE(survey_for_rules(c, store));
    if (c->rules.fit)
        TRY_DONE(fit_temperature(c, store));
    describe(c, words);
    (void)fclose(words);
    words = NULL;
    *out = c;
    c = NULL;
done:
    if (words)
        (void)fclose(words);
    ferkd_calibration_free(&c);
    return st;
}

void ferkd_calibration_free(ferkd_calibration **c)
{
    if (!*c)
        return;
    fk_survey_fini(&(*c)->survey);
    free((*c)->text);
    free((*c)->words);
    free(*c);
    *c = NULL;
}

const char *ferkd_calibration_rules(const ferkd_calibration *c)
{
    return c->text;
}

const char *ferkd_calibration_words(const ferkd_calibration *c)
{
    return c->words;
}

ferkd_status ferkd_calibration_count(const ferkd_calibration *c, const ferkd_store *store,
                                     double moment, ferkd_calibration_counts *out)
{
    fk_labels l = {0};
    ferkd_treatment *t = NULL;
    ferkd_status st = FERKD_OK;
    uint32_t images = ferkd_store_about(store)->images;

    *out = (ferkd_calibration_counts){0};
    TRY_DONE(fk_labels_init(&l, store));
    TRY_DONE(fk_calloc(&t, l.n, sizeof *t, "calibration"));
    for (uint32_t i = 0; i < images; i++) {
        uint32_t truth = ferkd_store_truth(store, i);
        uint32_t left = 0;
        bool has;
        TRY_DONE(fk_labels_find(&l, store, i, &has));
        if (!has)
            continue;
        ferkd_store_place(store, i, 0, 0, l.label);
        ferkd_calibration_judge(c, moment, truth, l.label, l.n, t);
        for (uint32_t r = 0; r < l.n; r++) {
            ferkd_group g = ferkd_group_of(t[r]);
            out->regions++;
            out->group[g]++;
            out->group_right[g] += l.label[r].index[0] == truth;
            left += g != FERKD_UR;
        }
        out->images++;
        out->images_without += left == 0;
    }
done:
    fk_labels_fini(&l);
    free(t);
    return st;
}
