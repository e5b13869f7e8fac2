/* Which regions a run can do without, told from the store and the length of the run.
 *
 * Measured on Imagenette (docs/results.md): regions in which the teacher sees little of any of the data set's
 * classes teach least, and within one image they are told by their rank: a threshold over the whole store would
 * empty some images and leave others as they are. A short run gains by seeing only the best regions of each image;
 * a long one needs the variety of more. So each image keeps as many regions as the run will look at about two and a half
 * times each: no fewer than a quarter, no more than nine tenths. Labels over all the teacher's classes are flatter than a student
 * can use in so short a time: they are sharpened. */
#include "base/compat.h"

#include "label/auto.h"

#define LOOKS   2.5
#define SHARPER 0.6 /* temperature of labels over more than the data set's classes */

static uint32_t keep_of(uint32_t regions, double visits)
{
    double keep = ceil(fmax(visits / LOOKS, (double)regions / 4.0));

    keep = fmin(keep, floor(0.9 * (double)regions));
    return (uint32_t)fmin(fmax(keep, 2.0), (double)regions);
}

void fk_auto_choose(const fk_survey *s, const ferkd_store_info *info, double visits, char *rules,
                    char *words)
{
    bool outside = info->teacher_classes > info->classes;
    ferkd_measure m = outside ? FERKD_INSIDE : FERKD_MAX;
    uint32_t keep = keep_of(info->regions, visits);
    bool wide = info->label_classes > info->classes;
    char why[256];
    char temperature[32] = "";
    char sharper[128] = "";

    if (outside)
        (void)snprintf(
            why, sizeof why,
            "the teacher has %u classes, the data set %u: regions rank by the probability "
            "for all of the latter together (inside)",
            info->teacher_classes, info->classes);
    else
        (void)snprintf(why, sizeof why,
                       "teacher and data set have the same %u classes: regions rank by the largest "
                       "probability (max)",
                       info->classes);
    if (wide) {
        (void)snprintf(temperature, sizeof temperature, "temperature %g; ", SHARPER);
        (void)snprintf(
            sharper, sizeof sharper,
            "labels are over all of the teacher's classes: they are sharpened, temperature "
            "%g\n",
            SHARPER);
    }
    if (keep == info->regions)
        (void)snprintf(rules, FK_AUTO_TEXT, "%selse: keep", temperature);
    else
        (void)snprintf(rules, FK_AUTO_TEXT, "%s%s < %.6g%% of image: discard; else: keep",
                       temperature, ferkd_measure_name(m),
                       100.0 * (info->regions - keep) / (double)info->regions);
    (void)snprintf(
        words, FK_AUTO_TEXT,
        "%s\neach image is looked at %.0f times: its best %u of %u regions are kept\n%s"
        "the teacher's first class is the ground truth in %.2f%% of all regions; it disputes "
        "%" PRIu64 " of %" PRIu64 " images altogether",
        why, visits, keep, info->regions, sharper,
        100.0 * (1.0 - (double)s->wrong / fmax((double)s->regions, 1.0)), s->disputed, s->images);
}
