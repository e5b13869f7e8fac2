/* What labels regions: one teacher, or several whose answers are averaged; each sees a region as it is, or mirrored, too. */
#ifndef FK_PANEL_H
#define FK_PANEL_H

#include "ferkd/train.h"
#include "train/cutter.h"
#include "train/pixels.h"

typedef struct fk_panel_member {
    ferkd_model *model;
    uint32_t view;
    fk_pixels pixels;
    double weight; /* all sum to 1 */
    uint32_t
        *column; /* [classes]: of the first member's classes among this one's; NULL: as they are */
} fk_panel_member;

typedef struct fk_panel {
    fk_panel_member member[FERKD_MAX_TEACHERS];
    fk_cut view[FERKD_MAX_TEACHERS];
    uint32_t n, n_views;
    uint32_t classes, channels; /* of the teachers; of the images */
    size_t crop_bytes;          /* of one region, all views */
    ferkd_average average;
    bool flips;
    double temperature;
    char *name;              /* "a.onnx+b.onnx" */
    uint8_t fingerprint[16]; /* of one teacher: its own */
    float *probs;            /* [classes]: of one answer */
} fk_panel;

/* first, then options' others. FERKD_USAGE: they have other classes, or a weight is not above 0. */
FERKD_CHECK ferkd_status fk_panel_init(fk_panel *p, ferkd_model *first,
                                       const ferkd_label_options *options, uint32_t channels);
void fk_panel_fini(fk_panel *p);

/* Make plans for batches of (about) n; choices: a file each, of this name and, from the second on, a number. */
FERKD_CHECK ferkd_status fk_panel_prepare(fk_panel *p, uint32_t n, const char *choices,
                                          bool resumes);
/* Remove these files. */
void fk_panel_forget(const fk_panel *p, const char *choices);

/* What the panel says of n regions: logits, float[n][classes], whose softmax at the panel's temperature is the average. */
FERKD_CHECK ferkd_status fk_panel_ask(fk_panel *p, uint8_t *crops, uint32_t n, float *logits);

#endif
