/* What a store holds, in numbers. */
#include "base/compat.h"

#include "ferkd/calibrate.h"

#include "base/mem.h"
#include "label/labels.h"

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

static void fill_quantiles(double *out, float *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    for (int q = 0; q <= 100; q++)
        out[q] = (double)values[(size_t)((double)(n - 1) * q / 100.0)];
}

typedef struct tally {
    float *p;
    float *inside;
    size_t n;
} tally;

static ferkd_status add_image(const ferkd_store *s, uint32_t image, fk_labels *labels,
                              ferkd_store_stats *out, tally *t)
{
    bool has;

    TRY(fk_labels_find(labels, s, image, &has));
    for (uint32_t r = 0; has && r < labels->n; r++) {
        const ferkd_soft_label *l = &labels->label[r];
        t->p[t->n] = l->teacher_max;
        t->inside[t->n++] = l->inside;
        int bin = (int)(l->teacher_max * (float)FK_COUNT(out->histogram));
        out->histogram[fk_min_int(bin, (int)FK_COUNT(out->histogram) - 1)]++;
        out->top1_agrees += l->index[0] == ferkd_store_truth(s, image);
        out->mean_top1 += (double)l->prob[0];
        out->mean_entropy +=
            (double)ferkd_measure_of(FERKD_ENTROPY, l, 0, ferkd_store_about(s)->classes);
    }
    return FERKD_OK;
}

ferkd_status ferkd_store_statistics(const ferkd_store *s, ferkd_store_stats *out)
{
    const ferkd_store_info *info = ferkd_store_about(s);
    fk_labels labels = {0};
    tally t = {0};
    ferkd_status st = FERKD_OK;
    size_t all;

    *out = (ferkd_store_stats){0};
    TRY(fk_size_mul(&all, info->images, info->regions));
    TRY_DONE(fk_calloc(&t.p, all, sizeof *t.p, "statistics"));
    TRY_DONE(fk_calloc(&t.inside, all, sizeof *t.inside, "statistics"));
    TRY_DONE(fk_labels_init(&labels, s));
    for (uint32_t i = 0; i < info->images; i++)
        TRY_DONE(add_image(s, i, &labels, out, &t));
    out->regions = t.n;
    if (t.n) {
        out->top1_agrees /= (double)t.n;
        out->mean_top1 /= (double)t.n;
        out->mean_entropy /= (double)t.n;
        fill_quantiles(out->quantile, t.p, t.n);
        fill_quantiles(out->inside_quantile, t.inside, t.n);
    }
done:
    free(t.p);
    free(t.inside);
    fk_labels_fini(&labels);
    return st;
}
