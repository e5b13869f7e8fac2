/* A teacher's logits over all its classes become what a store holds. */
#ifndef FK_JUDGE_H
#define FK_JUDGE_H

#include "ferkd/train.h"
#include "label/packer.h"

typedef struct fk_judge {
    uint32_t all, classes;
    uint32_t over;       /* that verdicts are over: classes or all */
    const uint32_t *map; /* [classes]: the data set's classes among all */
    double temperature;
    float *probs;     /* [all] */
    float *mine;      /* [over] */
    uint32_t *others; /* [all - classes]: not the data set's, in order, if over is all */
} fk_judge;

/* How many classes labels are over: the data set's, or the teacher's. FERKD_USAGE: these are asked for, and two classes of
 * the data set are one of them. */
FERKD_CHECK ferkd_status fk_judge_width(ferkd_label_width width, uint32_t all, uint32_t classes,
                                        const uint32_t *map, uint32_t *over);
FERKD_CHECK ferkd_status fk_judge_init(fk_judge *j, uint32_t all, uint32_t classes, uint32_t over,
                                       const uint32_t *map, double temperature);
void fk_judge_fini(fk_judge *j);
/* FERKD_CORRUPT: NaN or infinity; name is for the sentence. v points into j. */
FERKD_CHECK ferkd_status fk_judge_region(fk_judge *j, const float *logits, const char *name,
                                         fk_verdict *v);

#endif
