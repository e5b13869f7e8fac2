/* Calibration: how a stored label becomes a target, or no target at all. */
#ifndef FERKD_CALIBRATE_H
#define FERKD_CALIBRATE_H

#include "ferkd/label.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What can be asked of a region's label. */
typedef enum ferkd_measure {
    FERKD_MAX, /**< "max": the teacher's largest probability over all its own classes (FerKD's p) */
    FERKD_TOP, /**< "top": its largest probability among the data set's classes */
    FERKD_INSIDE,  /**< "inside": its probability for all the data set's classes together */
    FERKD_TRUTH,   /**< "truth": for the ground truth, among the data set's classes */
    FERKD_ENTROPY, /**< "entropy": of the label, nats */
    FERKD_MARGIN,  /**< "margin": largest less second largest, among the data set's classes */
    FERKD_AREA,    /**< "area": the region's share of the image, whatever the teacher says of it */
    FERKD_MEASURES
} ferkd_measure;

FERKD_API const char *ferkd_measure_name(ferkd_measure m);
/** classes: of the data set. */
FERKD_API float ferkd_measure_of(ferkd_measure m, const ferkd_soft_label *label, uint32_t truth,
                                 uint32_t classes);

/** What is done with a region. */
typedef enum ferkd_action {
    FERKD_DISCARD, /**< not trained on; another region of the image is drawn */
    FERKD_KEEP,    /**< the soft label as it is */
    FERKD_SMOOTH,  /**< 1 - amount on the ground truth, the rest on the others evenly; 0: hard */
    FERKD_TEACHER, /**< the same on the teacher's first class (DeiT's hard distillation) */
    FERKD_MIX,     /**< amount of the soft label, the rest on the ground truth */
    FERKD_BLUR     /**< amount of the soft label, the rest on all classes evenly */
} ferkd_action;

typedef struct ferkd_treatment {
    ferkd_action action;
    float amount;
} ferkd_treatment;

/** FerKD's groups (ICCV 2023, section 3.2): uninformative (discarded), important (kept), hard. */
typedef enum ferkd_group { FERKD_UR, FERKD_HR, FERKD_IR } ferkd_group;

FERKD_API ferkd_group ferkd_group_of(ferkd_treatment t);

typedef struct ferkd_calibration ferkd_calibration;

/**
 * Rules for the labels of a store. The first rule whose conditions hold decides about a region:
 *
 *     rules  = rule { ";" rule }
 *     rule   = cond { "and" cond } ":" action | "else" ":" action | "temperature" (NUMBER | "fit")
 *            | "focus" NUMBER
 *     cond   = MEASURE ("<" | ">") bound | "wrong" | "right"     the teacher's first class is (not)
 *                                                                the ground truth
 *     bound  = value { ".." value } [ "of" ("store" | "class" | "image") ]
 *     value  = NUMBER | NUMBER "%"                               "5%": that quantile of the measure
 *     action = "discard" | "keep" | "hard" | "smooth" NUMBER | "teacher" [NUMBER]
 *            | "mix" (NUMBER | MEASURE) | "blur" (NUMBER | MEASURE)
 *
 * "a..b..c" moves from a at the first epoch over b to c at the last. "temperature T" divides the
 * stored label's logits by T; "fit" takes the T with which the labels predict the ground truth best.
 * "focus W": where labels are over more classes than the data set's, a share W of each soft label is told among these alone.
 * Where no rule holds, the label is kept.
 *
 * Or the name of a preset: "auto" (thresholds from the statistics of the store), "ferkd-paper",
 * "fkd", "relabel". FERKD_USAGE: a fault in the rules, with the place.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_calibration_new(ferkd_calibration **out, const char *rules,
                                                         const ferkd_store *store, double visits);
FERKD_API void ferkd_calibration_free(ferkd_calibration **c);

/** The rules in force, presets resolved. */
FERKD_API const char *ferkd_calibration_rules(const ferkd_calibration *c);
/** For people: what was chosen and why, what the quantiles came out as. Lines. */
FERKD_API const char *ferkd_calibration_words(const ferkd_calibration *c);
/** What is done with each of an image's n regions, at a moment of training from 0 (first epoch) to 1
 *  (last). labels: among the data set's classes (ferkd_soft_label_narrow), with their
 *  areas where rules ask for them (ferkd_store_place). Any number of threads. */
FERKD_API void ferkd_calibration_judge(const ferkd_calibration *c, double moment, uint32_t truth,
                                       const ferkd_soft_label *labels, uint32_t n,
                                       ferkd_treatment *out);

/** The target: float[label_classes of the store], sum 1. label: as stored. A discarded region's is its soft label. */
FERKD_API void ferkd_calibration_target(const ferkd_calibration *c, ferkd_treatment t,
                                        const ferkd_soft_label *label, uint32_t truth,
                                        float *target);

/** What the rules do with a store. */
typedef struct ferkd_calibration_counts {
    uint64_t regions;
    uint64_t group[3];               /**< by ferkd_group */
    uint64_t group_right[3];         /**< of them: the teacher's first class is the ground truth */
    uint64_t images, images_without; /**< images, and those of which no region is left */
} ferkd_calibration_counts;

FERKD_API FERKD_CHECK ferkd_status ferkd_calibration_count(const ferkd_calibration *c,
                                                           const ferkd_store *store, double moment,
                                                           ferkd_calibration_counts *out);

/** Texts and lines about the presets, for i = 0, 1, ...; NULL after the last. */
FERKD_API const char *ferkd_preset_name(uint32_t i);
FERKD_API const char *ferkd_preset_about(uint32_t i);

#ifdef __cplusplus
}
#endif
#endif
