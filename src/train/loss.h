/* The losses, with their gradients at the logits. */
#ifndef FK_LOSS_H
#define FK_LOSS_H

#include "base/compat.h"

/* Soft cross-entropy, -sum y log softmax(z / temperature), mean over n rows (FKD: no T^2 factor).
 * dz is written; gives the loss. targets: float[n][classes], rows of sum 1. */
double fk_soft_cross_entropy(const float *z, const float *targets, uint32_t n, uint32_t classes,
                             double temperature, float *dz);

/* Vanilla distillation (Hinton, Vinyals, Dean, 2015): alpha CE(y, z) + (1 - alpha) T^2 KL(t || z) with
 * both at temperature T; teacher: its logits among the same classes. */
double fk_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                       uint32_t classes, double alpha, double temperature, float *dz);

/* DeiT's hard distillation (Touvron et al. 2021): targets become alpha of what they are and 1 - alpha on the class
 * that the teacher gives the largest logit. */
void fk_mix_in_choices(float *targets, const float *teacher, uint32_t n, uint32_t classes,
                       float alpha);

/* (1 - eps) on truth plus eps / classes everywhere (label smoothing, Szegedy et al. 2016; torch). */
void fk_label_smoothing(float *target, uint32_t classes, uint32_t truth, double eps);

#endif
