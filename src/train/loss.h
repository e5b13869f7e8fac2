/* The losses, with their gradients at the logits. */
#ifndef FK_LOSS_H
#define FK_LOSS_H

#include "base/compat.h"

/* Soft cross-entropy, -sum y log softmax(z / temperature), mean over n rows (FKD: no T^2 factor).
 * dz is written; gives the loss. targets: float[n][classes], rows of sum 1. */
double fk_soft_cross_entropy(const float *z, const float *targets, uint32_t n, uint32_t classes,
                             double temperature, float *dz);

/* Vanilla distillation (Hinton, Vinyals, Dean, 2015): alpha CE(y, z) + (1 - alpha) T^2 KL(t || z) with
 * both at temperature T; teacher: its logits among the same classes. heads: of the student; rows of z have heads * classes
 * numbers, and of two heads the first learns the targets, the second what the teacher says. */
double fk_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                       uint32_t classes, uint32_t heads, double alpha, double temperature,
                       float *dz);

/* DeiT's hard distillation (Touvron et al. 2021, section 4): alpha CE(y, z) + (1 - alpha) CE(class of the teacher's largest
 * logit, z); heads as above. */
double fk_hard_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                            uint32_t classes, uint32_t heads, double alpha, float *dz);

/* (1 - eps) on truth plus eps / classes everywhere (label smoothing, Szegedy et al. 2016; torch). */
void fk_label_smoothing(float *target, uint32_t classes, uint32_t truth, double eps);

#endif
