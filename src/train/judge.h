/* A teacher's logits over all its classes become what a store holds. */
#ifndef FK_JUDGE_H
#define FK_JUDGE_H

#include "label/packer.h"

typedef struct fk_judge {
    uint32_t all, classes;
    const uint32_t *map; /* [classes]: the data set's classes among all */
    double temperature;
    float *probs; /* [all] */
    float *mine;  /* [classes] */
} fk_judge;

FERKD_CHECK ferkd_status fk_judge_init(fk_judge *j, uint32_t all, uint32_t classes,
                                       const uint32_t *map, double temperature);
void fk_judge_fini(fk_judge *j);
/* FERKD_CORRUPT: NaN or infinity; name is for the sentence. v points into j. */
FERKD_CHECK ferkd_status fk_judge_region(fk_judge *j, const float *logits, const char *name,
                                         fk_verdict *v);

#endif
