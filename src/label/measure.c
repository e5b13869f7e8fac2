/* What can be asked of a label: one number each. */
#include "base/compat.h"

#include "ferkd/calibrate.h"

static const char *const NAMES[FERKD_MEASURES] = {
    [FERKD_MAX] = "max",     [FERKD_TOP] = "top",         [FERKD_INSIDE] = "inside",
    [FERKD_TRUTH] = "truth", [FERKD_ENTROPY] = "entropy", [FERKD_MARGIN] = "margin",
    [FERKD_AREA] = "area"};

const char *ferkd_measure_name(ferkd_measure m)
{
    return NAMES[m];
}

/* Of one class that is not among the top k. */
static float spread(const ferkd_soft_label *l, uint32_t classes)
{
    return classes > l->k ? l->rest / (float)(classes - l->k) : 0.0f;
}

static float truth(const ferkd_soft_label *l, uint32_t class, uint32_t classes)
{
    for (uint32_t k = 0; k < l->k; k++) {
        if (l->index[k] == class)
            return l->prob[k];
    }
    return spread(l, classes);
}

static float entropy(const ferkd_soft_label *l, uint32_t classes)
{
    double h = 0.0;

    for (uint32_t k = 0; k < l->k; k++) {
        double p = (double)l->prob[k];
        if (p > 0.0)
            h -= p * log(p);
    }
    double others = (double)classes - l->k;
    if (others > 0 && l->rest > 0.0f)
        h -= (double)l->rest * log((double)l->rest / others);
    return (float)h;
}

float ferkd_measure_of(ferkd_measure m, const ferkd_soft_label *l, uint32_t class, uint32_t classes)
{
    switch (m) {
    case FERKD_MAX:
        return l->teacher_max;
    case FERKD_TOP:
        return l->prob[0];
    case FERKD_INSIDE:
        return l->inside;
    case FERKD_TRUTH:
        return truth(l, class, classes);
    case FERKD_ENTROPY:
        return entropy(l, classes);
    case FERKD_MARGIN:
        return l->prob[0] - (l->k > 1 ? l->prob[1] : spread(l, classes));
    case FERKD_AREA:
        return l->area;
    case FERKD_MEASURES:
        break;
    }
    assert(!"a measure");
    return 0.0f;
}
