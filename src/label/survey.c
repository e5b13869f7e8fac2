/* Histograms fine enough that a quantile is a value that the store can hold. */
#include "base/compat.h"

#include "label/survey.h"

#include "base/mem.h"
#include "label/labels.h"

#define ENOUGH (1u << 21) /* regions: quantiles are then known to a thousandth */

static uint32_t bin_of(const fk_survey *s, ferkd_measure m, float v, uint32_t bins)
{
    double at = rint((double)v / s->top[m] * (bins - 1));

    return at <= 0.0 ? 0 : at >= bins - 1 ? bins - 1 : (uint32_t)at;
}

static void add_region(fk_survey *s, const ferkd_soft_label *l, uint32_t truth, bool disputed)
{
    bool wrong = l->index[0] != truth;

    s->regions++;
    s->wrong += wrong;
    s->disputed_regions += disputed;
    for (ferkd_measure m = 0; m < FERKD_MEASURES; m++) {
        float v = ferkd_measure_of(m, l, truth, s->classes);
        uint32_t b = bin_of(s, m, v, FK_SURVEY_BINS);
        s->upto[m][b]++;
        s->wrong_upto[m][b] += wrong && !disputed;
        if (s->by_class[m])
            s->by_class[m][(size_t)truth * FK_SURVEY_CLASS_BINS +
                           bin_of(s, m, v, FK_SURVEY_CLASS_BINS)]++;
    }
}

static ferkd_status add_image(fk_survey *s, const ferkd_store *store, uint32_t image, fk_labels *l)
{
    uint32_t truth = ferkd_store_truth(store, image);
    uint32_t right = 0;
    bool has;

    TRY(fk_labels_find(l, store, image, &has));
    if (!has || truth >= s->classes)
        return FERKD_OK;
    ferkd_store_place(store, image, 0, 0, l->label);
    for (uint32_t r = 0; r < l->n; r++)
        right += l->label[r].index[0] == truth;
    s->images++;
    s->disputed += right == 0;
    for (uint32_t r = 0; r < l->n; r++)
        add_region(s, &l->label[r], truth, right == 0);
    return FERKD_OK;
}

static ferkd_status allocate(fk_survey *s, unsigned by_class)
{
    for (ferkd_measure m = 0; m < FERKD_MEASURES; m++) {
        s->top[m] = m == FERKD_ENTROPY ? log((double)s->classes) : 1.0;
        TRY(fk_calloc(&s->upto[m], FK_SURVEY_BINS, sizeof(uint32_t), "statistics"));
        TRY(fk_calloc(&s->wrong_upto[m], FK_SURVEY_BINS, sizeof(uint32_t), "statistics"));
        if (by_class >> m & 1u)
            TRY(fk_calloc(&s->by_class[m], (size_t)s->classes * FK_SURVEY_CLASS_BINS,
                          sizeof(uint32_t), "statistics"));
    }
    return FERKD_OK;
}

static void accumulate(uint32_t *counts, uint32_t n)
{
    for (uint32_t b = 1; b < n; b++)
        counts[b] += counts[b - 1];
}

static void accumulate_all(fk_survey *s)
{
    for (ferkd_measure m = 0; m < FERKD_MEASURES; m++) {
        accumulate(s->upto[m], FK_SURVEY_BINS);
        accumulate(s->wrong_upto[m], FK_SURVEY_BINS);
        for (uint32_t c = 0; s->by_class[m] && c < s->classes; c++)
            accumulate(s->by_class[m] + (size_t)c * FK_SURVEY_CLASS_BINS, FK_SURVEY_CLASS_BINS);
    }
}

ferkd_status fk_survey_take(fk_survey *s, const ferkd_store *store, unsigned by_class)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    uint64_t all = (uint64_t)info->images * info->regions;
    uint32_t step = (uint32_t)(all / ENOUGH + 1);
    fk_labels l = {0};
    ferkd_status st = FERKD_OK;

    *s = (fk_survey){.classes = info->classes};
    TRY_DONE(allocate(s, by_class));
    TRY_DONE(fk_labels_init(&l, store));
    for (uint32_t i = 0; i < info->images; i += step)
        TRY_DONE(add_image(s, store, i, &l));
    accumulate_all(s);
done:
    fk_labels_fini(&l);
    if (st != FERKD_OK)
        fk_survey_fini(s);
    return st;
}

void fk_survey_fini(fk_survey *s)
{
    for (ferkd_measure m = 0; m < FERKD_MEASURES; m++) {
        free(s->upto[m]);
        free(s->wrong_upto[m]);
        free(s->by_class[m]);
    }
    *s = (fk_survey){0};
}

double fk_survey_quantile(const fk_survey *s, ferkd_measure m, int32_t class, double q, double edge)
{
    uint32_t n = class < 0 ? FK_SURVEY_BINS : FK_SURVEY_CLASS_BINS;
    const uint32_t *upto = class < 0 ? s->upto[m] : s->by_class[m] + (size_t) class * n;
    double all = upto[n - 1];
    uint32_t rank = all > 0.0 ? (uint32_t)fmin(q * all, all - 1.0) : 0;
    uint32_t low = 0; /* the first bin with upto > rank lies in low..high */
    uint32_t high = n - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (upto[middle] > rank)
            high = middle;
        else
            low = middle + 1;
    }
    return s->top[m] * (low + edge) / (n - 1);
}
