/* Losses in double, rows independent of each other. */
#include "base/compat.h"

#include "train/loss.h"

/* log sum exp of a row / temperature */
static double log_sum(const float *z, uint32_t n, double temperature, double *top)
{
    double sum = 0.0;

    *top = -INFINITY;
    for (uint32_t c = 0; c < n; c++)
        *top = fmax(*top, (double)z[c] / temperature);
    for (uint32_t c = 0; c < n; c++)
        sum += exp((double)z[c] / temperature - *top);
    return log(sum) + *top;
}

double fk_soft_cross_entropy(const float *z, const float *targets, uint32_t n, uint32_t classes,
                             double temperature, float *dz)
{
    double loss = 0.0;

    for (uint32_t i = 0; i < n; i++, z += classes, targets += classes, dz += classes) {
        double top;
        double lse = log_sum(z, classes, temperature, &top);
        double mass = 0.0;
        for (uint32_t c = 0; c < classes; c++)
            mass += (double)targets[c];
        for (uint32_t c = 0; c < classes; c++) {
            double logp = (double)z[c] / temperature - lse;
            double y = (double)targets[c];
            loss -= y != 0.0 ? y * logp : 0.0;
            dz[c] = (float)((mass * exp(logp) - y) / (temperature * n));
        }
    }
    return loss / n;
}

double fk_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                       uint32_t classes, double alpha, double temperature, float *dz)
{
    double total = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        double top;
        double hard = log_sum(z, classes, 1.0, &top);
        double soft = log_sum(z, classes, temperature, &top);
        double said = log_sum(teacher, classes, temperature, &top);
        for (uint32_t c = 0; c < classes; c++) {
            double y = (double)targets[c];
            double log_hard = (double)z[c] - hard;
            double log_soft = (double)z[c] / temperature - soft;
            double log_said = (double)teacher[c] / temperature - said;
            double t = exp(log_said);
            total += alpha * (y != 0.0 ? -y * log_hard : 0.0) +
                     (1.0 - alpha) * temperature * temperature * t * (log_said - log_soft);
            dz[c] = (float)((alpha * (exp(log_hard) - y) +
                             (1.0 - alpha) * temperature * (exp(log_soft) - t)) /
                            n);
        }
        z += classes;
        targets += classes;
        teacher += classes;
        dz += classes;
    }
    return total / n;
}

void fk_mix_in_choices(float *targets, const float *teacher, uint32_t n, uint32_t classes,
                       float alpha)
{
    for (uint32_t i = 0; i < n; i++, targets += classes, teacher += classes) {
        uint32_t best = 0;
        for (uint32_t c = 0; c < classes; c++) {
            best = teacher[c] > teacher[best] ? c : best;
            targets[c] *= alpha;
        }
        targets[best] += 1.0f - alpha;
    }
}

void fk_label_smoothing(float *target, uint32_t classes, uint32_t truth, double eps)
{
    for (uint32_t c = 0; c < classes; c++)
        target[c] = (float)(eps / classes);
    target[truth] += (float)(1.0 - eps);
}
