/* Means, deviations and the intervals that a few seeds allow. */
#ifndef FK_STATS_H
#define FK_STATS_H

#include "base/compat.h"

typedef struct fk_sample {
    int n;
    double mean;
    double deviation; /* n - 1 in the denominator; 0 for n < 2 */
    double low, high; /* 95% interval of the mean, Student's t; infinite for n < 2 */
} fk_sample;

fk_sample fk_sample_of(const double *values, int n);

/* P(T < t) of Student's distribution with `degrees` degrees of freedom. */
double fk_t_probability(double t, double degrees);
/* The t with P(T < t) = p. */
double fk_t_quantile(double p, double degrees);

#endif
