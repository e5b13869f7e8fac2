/* Scores, one image at a time. */
#ifndef FK_EVAL_H
#define FK_EVAL_H

#include "train/model.h"
#include "train/view.h"

#define FK_ECE_BINS 15

typedef struct fk_score {
    ferkd_eval_result *r;
    const uint32_t *map; /* the data set's classes among the model's */
    uint64_t top1, top5, top1_mapped, top5_mapped;
    double loss;
    double confidence[FK_ECE_BINS];
    uint64_t right[FK_ECE_BINS], count[FK_ECE_BINS];
    float *probs; /* [classes of the data set] */
} fk_score;

/* r->classes and r->model_classes are set by the caller. */
FERKD_CHECK ferkd_status fk_score_init(fk_score *s, ferkd_eval_result *r, const uint32_t *map);
void fk_score_add(fk_score *s, const float *logits, uint32_t truth);
/* Fill in r. */
void fk_score_end(fk_score *s);
void fk_score_fini(fk_score *s);

/* Put every image of data through plan (of batch o->batch) and into the score. */
FERKD_CHECK ferkd_status fk_evaluate(fk_plan *plan, const ferkd_dataset *data,
                                     const fk_view_options *o, fk_score *score,
                                     const ferkd_watch *watch);

#endif
