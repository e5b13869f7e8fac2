/* The preset "auto": rules chosen from what a store holds. */
#ifndef FK_AUTO_H
#define FK_AUTO_H

#include "label/survey.h"

#define FK_AUTO_TEXT 1024

/* visits: regions of each image that the run will train on. rules and words: FK_AUTO_TEXT bytes each. */
void fk_auto_choose(const fk_survey *s, const ferkd_store_info *info, double visits, char *rules,
                    char *words);

#endif
