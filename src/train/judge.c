/* Softmax over all classes; what falls on the data set's, and how it is shared among them. */
#include "base/compat.h"

#include "train/judge.h"

#include "base/mem.h"
#include "train/model.h"

#define WIDE_AT_MOST 2048 /* classes that a student is given without being asked */

ferkd_label_width ferkd_label_width_of(const char *word)
{
    return strcmp(word, "teacher") == 0 ? FERKD_WIDTH_TEACHER
           : strcmp(word, "data") == 0  ? FERKD_WIDTH_DATA
                                        : FERKD_WIDTH_AUTO;
}

ferkd_status fk_judge_width(ferkd_label_width width, uint32_t all, uint32_t classes,
                            const uint32_t *map, uint32_t *over)
{
    uint32_t *others = NULL;
    uint32_t n = 0;
    bool asked = width == FERKD_WIDTH_TEACHER;

    *over = classes;
    if (width == FERKD_WIDTH_DATA || all <= classes || (!asked && all > WIDE_AT_MOST))
        return FERKD_OK;
    TRY(fk_calloc(&others, all - classes, sizeof *others, "labelling"));
    ferkd_status st = fk_map_others(map, classes, all, others, &n);
    free(others);
    TRY(st);
    if (n == all - classes)
        *over = all;
    else if (asked)
        return fk_fail(FERKD_USAGE,
                       "the class map has two classes of the data set for one of the teacher's: "
                       "only --label-classes data is possible");
    return FERKD_OK;
}

ferkd_status fk_judge_init(fk_judge *j, uint32_t all, uint32_t classes, uint32_t over,
                           const uint32_t *map, double temperature)
{
    uint32_t n;

    *j = (fk_judge){
        .all = all, .classes = classes, .over = over, .map = map, .temperature = temperature};
    TRY(fk_calloc(&j->probs, all, sizeof *j->probs, "labelling"));
    TRY(fk_calloc(&j->mine, over, sizeof *j->mine, "labelling"));
    if (over == classes)
        return FERKD_OK;
    TRY(fk_calloc(&j->others, all - classes, sizeof *j->others, "labelling"));
    return fk_map_others(map, classes, all, j->others, &n);
}

void fk_judge_fini(fk_judge *j)
{
    free(j->probs);
    free(j->mine);
    free(j->others);
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
    double of = j->over > j->classes ? 1.0 : inside;
    for (uint32_t c = 0; c < j->classes; c++)
        j->mine[c] = of > 0 ? (float)((double)j->probs[j->map[c]] / of) : 1.0f / (float)j->classes;
    for (uint32_t c = j->classes; c < j->over; c++)
        j->mine[c] = j->probs[j->others[c - j->classes]];
    *v = (fk_verdict){j->mine, (float)fmin(inside, 1.0), top};
    return FERKD_OK;
}
