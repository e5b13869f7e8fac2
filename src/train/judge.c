/* Softmax over all classes; what falls on the data set's, and how it is shared among them. */
#include "base/compat.h"

#include "train/judge.h"

#include "base/mem.h"
#include "train/model.h"

ferkd_status fk_judge_init(fk_judge *j, uint32_t all, uint32_t classes, const uint32_t *map,
                           double temperature)
{
    *j = (fk_judge){.all = all, .classes = classes, .map = map, .temperature = temperature};
    TRY(fk_calloc(&j->probs, all, sizeof *j->probs, "labelling"));
    return fk_calloc(&j->mine, classes, sizeof *j->mine, "labelling");
}

void fk_judge_fini(fk_judge *j)
{
    free(j->probs);
    free(j->mine);
    *j = (fk_judge){0};
}

ferkd_status fk_judge_region(fk_judge *j, const float *logits, const char *name, fk_verdict *v)
{
    double inside = 0.0;
    float top = 0.0f;

    for (uint32_t c = 0; c < j->all; c++) {
        if (!isfinite(logits[c]))
            return fk_fail(FERKD_CORRUPT, "%s: the teacher says NaN or infinity", name);
    }
    fk_softmax(logits, j->all, j->temperature, j->probs);
    for (uint32_t c = 0; c < j->all; c++)
        top = fmaxf(top, j->probs[c]);
    for (uint32_t c = 0; c < j->classes; c++)
        inside += (double)j->probs[j->map[c]];
    for (uint32_t c = 0; c < j->classes; c++)
        j->mine[c] =
            inside > 0 ? (float)((double)j->probs[j->map[c]] / inside) : 1.0f / (float)j->classes;
    *v = (fk_verdict){j->mine, (float)fmin(inside, 1.0), top};
    return FERKD_OK;
}
