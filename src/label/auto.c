/* Which regions a run can do without, and how far their labels are believed, told from the store and the length of the run.
 * Measured on Imagenette in runs of 5 to 30 epochs and on Fashion-MNIST (docs/results.md).
 *
 * In a short run small regions teach least, whatever the teacher thinks of them: a network that sees an image ten times
 * learns more from most of it than from its corners. A long run needs the variety of small regions, too. So the smallest
 * region that is trained on shrinks as the run gets longer: from 0.35 of the image at ten looks with the square root of
 * their number. Labels over all the teacher's classes say more of what is beside these than of the data set's own, which
 * the student is for: where the teacher agrees with the ground truth, half of the label is that. Where it does not, its
 * word stands, so images that are labelled wrongly do no harm.
 *
 * A teacher that is hardly better than its student teaches little, and least in small regions: where it is often wrong in large
 * regions of images that it does not dispute altogether (those may be labelled wrongly), half of each label is the ground truth
 * and only large regions are kept, however long the run. In small ones any teacher is.
 *
 * Labels among the data set's classes alone say nothing of regions in which the teacher sees something else: there each
 * image keeps those with most of it inside these classes, as many as the run looks at two and a half times each. */
#include "base/compat.h"

#include "label/auto.h"

#define AREA      0.35 /* of the image, at */
#define AT_LOOKS  10.0
#define AREA_MOST 0.5
#define DOUBTFUL  0.05 /* a teacher's share of mistakes */
#define LOOKS     2.5  /* at each region kept, of labels among the data set's classes */

#define SENTENCE 256

/* --- by area --------------------------------------------------------------------------------- */

/* The smallest share of an image, in hundredths, that a run of so many looks at each has use for. */
static double least_area(double visits)
{
    double area = AREA * sqrt(AT_LOOKS / fmax(visits, 1.0));

    return rint(100.0 * fmin(area, AREA_MOST)) / 100.0;
}

/* Of all regions, those below an area. */
static double share_below(const fk_survey *s, double area)
{
    const uint32_t *upto = s->upto[FERKD_AREA];
    uint32_t bin = (uint32_t)(area * (FK_SURVEY_BINS - 1));

    return (double)upto[bin] / fmax((double)upto[FK_SURVEY_BINS - 1], 1.0);
}

/* Of regions from an area on, in how many is the teacher wrong, if it is right in others of the same image? */
static double wrong_above(const fk_survey *s, double area)
{
    const uint32_t *wrong = s->wrong_upto[FERKD_AREA];
    const uint32_t *upto = s->upto[FERKD_AREA];
    uint32_t bin = (uint32_t)(area * (FK_SURVEY_BINS - 1));
    uint32_t last = FK_SURVEY_BINS - 1;

    return (double)(wrong[last] - wrong[bin]) / fmax((double)(upto[last] - upto[bin]), 1.0);
}

static void by_area(const fk_survey *s, double area, const char *because, char *rule, char *why)
{
    double below = share_below(s, area);

    if (below > 0.0) {
        (void)snprintf(rule, SENTENCE, "area < %g and area < 75%% of image: discard; ", area);
        (void)snprintf(why, SENTENCE,
                       "regions below %g of the image, %.0f%% of all, are %s; the largest quarter "
                       "of each image stays",
                       area, 100.0 * below, because);
    } else {
        rule[0] = '\0';
        (void)snprintf(why, SENTENCE, "no region is too small for that (below %g of the image)",
                       area);
    }
}

/* --- by what the teacher sees ------------------------------------------------------------------ */

static void by_inside(const ferkd_store_info *info, double visits, char *rule, char *why)
{
    double keep = ceil(fmax(visits / LOOKS, info->regions / 4.0));

    keep = fmin(keep, floor(0.9 * info->regions));
    keep = fmin(fmax(keep, 2.0), info->regions);
    rule[0] = '\0';
    if (keep < info->regions)
        (void)snprintf(rule, SENTENCE, "inside < %.6g%% of image: discard; ",
                       100.0 * (info->regions - keep) / info->regions);
    (void)snprintf(why, SENTENCE,
                   "its best %.0f of %u regions are kept, by the probability for the data set's %u "
                   "classes among the teacher's %u",
                   keep, info->regions, info->classes, info->teacher_classes);
}

void fk_auto_choose(const fk_survey *s, const ferkd_store_info *info, double visits, char *rules,
                    char *words)
{
    bool wide = info->label_classes > info->classes;
    char rule[SENTENCE];
    char why[SENTENCE];
    char doubt[SENTENCE] = "";

    if (wide || info->teacher_classes == info->classes) {
        double area = least_area(visits);
        double from = share_below(s, AREA_MOST) < 0.9 ? AREA_MOST : area;
        double wrong = wrong_above(s, from);
        if (wrong > DOUBTFUL) {
            (void)snprintf(doubt, sizeof doubt,
                           "the teacher is wrong in %.0f%% of those from %g on, images aside that "
                           "it disputes altogether: half of each label is the ground truth\n",
                           100.0 * wrong, from);
            by_area(s, AREA_MOST, "too small for so doubtful a teacher", rule, why);
        } else {
            by_area(s, area, "too small for so short a run", rule, why);
        }
    } else {
        by_inside(info, visits, rule, why);
    }
    bool believed = wide && !*doubt;
    (void)snprintf(rules, FK_AUTO_TEXT, "%s%s", rule,
                   believed ? "wrong: keep; else: mix 0.5"
                   : *doubt ? "else: mix 0.5"
                            : "else: keep");
    (void)snprintf(
        words, FK_AUTO_TEXT,
        "each image is looked at %.0f times: %s\n%s%s"
        "the teacher's first class is the ground truth in %.2f%% of all regions; it disputes "
        "%" PRIu64 " of %" PRIu64 " images altogether",
        visits, why, doubt,
        believed ? "labels are over all of the teacher's classes: where it agrees with the ground "
                   "truth, half of each label is that\n"
                 : "",
        100.0 * (1.0 - (double)s->wrong / fmax((double)s->regions, 1.0)), s->disputed, s->images);
}
