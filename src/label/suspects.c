/* Images whose ground truth is likely wrong: the teacher says another class, over all their regions. */
#include "base/compat.h"

#include "ferkd/label.h"

#include "base/mem.h"
#include "label/labels.h"

/* Scores of one image; belief: double[classes], scratch. */
static ferkd_suspect judge(const fk_labels *l, uint32_t image, uint32_t truth, uint32_t classes,
                           double *belief)
{
    ferkd_suspect s = {.image = image, .truth = truth};
    double mass = 0.0;

    memset(belief, 0, classes * sizeof *belief);
    for (uint32_t r = 0; r < l->n; r++) {
        const ferkd_soft_label *at = &l->label[r];
        double w = fmax((double)at->inside, 1e-4);
        for (uint32_t k = 0; k < at->k; k++)
            belief[at->index[k]] += w * (double)at->prob[k];
        s.agreeing += at->index[0] == truth;
        mass += w;
    }
    for (uint32_t c = 1; c < classes; c++)
        s.said = belief[c] > belief[s.said] ? c : s.said;
    s.score = (float)((belief[s.said] - belief[truth]) / mass);
    return s;
}

/* Put s in its place among the *found best; where n are there, the last makes room. */
static void insert(ferkd_suspect *out, uint32_t n, uint32_t *found, ferkd_suspect s)
{
    uint32_t at = *found < n ? (*found)++ : n - 1;

    while (at > 0 && out[at - 1].score < s.score) {
        out[at] = out[at - 1];
        at--;
    }
    out[at] = s;
}

ferkd_status ferkd_store_suspects(const ferkd_store *store, uint32_t n, ferkd_suspect *out,
                                  uint32_t *found)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    fk_labels l = {0};
    double *belief = NULL;
    ferkd_status st = FERKD_OK;

    *found = 0;
    TRY_DONE(fk_labels_init(&l, store));
    TRY_DONE(fk_calloc(&belief, info->classes, sizeof *belief, "suspects"));
    for (uint32_t i = 0; i < info->images; i++) {
        uint32_t truth = ferkd_store_truth(store, i);
        bool has;
        TRY_DONE(fk_labels_find(&l, store, i, &has));
        if (!has || truth >= info->classes)
            continue;
        ferkd_suspect s = judge(&l, i, truth, info->classes, belief);
        if (s.score > 0.0f && (*found < n || (n && s.score > out[n - 1].score)))
            insert(out, n, found, s);
    }
done:
    fk_labels_fini(&l);
    free(belief);
    return st;
}
