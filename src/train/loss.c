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

/* Of one row. */
static double row_loss(const float *z, const float *targets, uint32_t n, uint32_t classes,
                       double temperature, float *dz)
{
    double loss = 0.0;
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
    return loss;
}

double fk_soft_cross_entropy(const float *z, const float *targets, uint32_t n, uint32_t classes,
                             double temperature, float *dz)
{
    enum { ROWS = 64 }; /* at a time: their losses are added up in order, whatever the threads */

    double losses[ROWS];
    double loss = 0.0;

    for (uint32_t first = 0; first < n; first += ROWS) {
        uint32_t rows = n - first < ROWS ? n - first : ROWS;
#pragma omp parallel for schedule(static)
        for (uint32_t i = 0; i < rows; i++) {
            size_t at = (size_t)(first + i) * classes;
            losses[i] = row_loss(z + at, targets + at, n, classes, temperature, dz + at);
        }
        for (uint32_t i = 0; i < rows; i++)
            loss += losses[i];
    }
    return loss / n;
}

double fk_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                       uint32_t classes, uint32_t heads, double alpha, double temperature,
                       float *dz)
{
    size_t second = (size_t)(heads - 1) * classes; /* where the teacher's head begins */
    double total = 0.0;

    memset(dz, 0, (size_t)n * heads * classes * sizeof *dz);
    for (uint32_t i = 0; i < n; i++) {
        double top;
        const float *zt = z + second;
        double hard = log_sum(z, classes, 1.0, &top);
        double soft = log_sum(zt, classes, temperature, &top);
        double said = log_sum(teacher, classes, temperature, &top);
        for (uint32_t c = 0; c < classes; c++) {
            double y = (double)targets[c];
            double log_hard = (double)z[c] - hard;
            double log_soft = (double)zt[c] / temperature - soft;
            double log_said = (double)teacher[c] / temperature - said;
            double t = exp(log_said);
            total += alpha * (y != 0.0 ? -y * log_hard : 0.0) +
                     (1.0 - alpha) * temperature * temperature * t * (log_said - log_soft);
            dz[c] += (float)(alpha * (exp(log_hard) - y) / n);
            dz[second + c] += (float)((1.0 - alpha) * temperature * (exp(log_soft) - t) / n);
        }
        z += heads * classes;
        dz += heads * classes;
        targets += classes;
        teacher += classes;
    }
    return total / n;
}

/* weight CE(y, z) of one row, y a distribution or (NULL) the class `choice`; its gradient is added to dz. */
static double add_cross_entropy(const float *z, const float *y, uint32_t choice, uint32_t classes,
                                double weight, uint32_t n, float *dz)
{
    double top;
    double lse = log_sum(z, classes, 1.0, &top);
    double loss = 0.0;

    for (uint32_t c = 0; c < classes; c++) {
        double target = y ? (double)y[c] : c == choice ? 1.0 : 0.0;
        double logp = (double)z[c] - lse;
        loss -= target != 0.0 ? target * logp : 0.0;
        dz[c] += (float)(weight * (exp(logp) - target) / n);
    }
    return weight * loss;
}

double fk_hard_distillation(const float *z, const float *targets, const float *teacher, uint32_t n,
                            uint32_t classes, uint32_t heads, double alpha, float *dz)
{
    size_t second = (size_t)(heads - 1) * classes;
    double total = 0.0;

    memset(dz, 0, (size_t)n * heads * classes * sizeof *dz);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t best = 0;
        for (uint32_t c = 1; c < classes; c++)
            best = teacher[c] > teacher[best] ? c : best;
        total += add_cross_entropy(z, targets, 0, classes, alpha, n, dz);
        total += add_cross_entropy(z + second, NULL, best, classes, 1.0 - alpha, n, dz + second);
        z += heads * classes;
        dz += heads * classes;
        targets += classes;
        teacher += classes;
    }
    return total / n;
}

void fk_label_smoothing(float *target, uint32_t classes, uint32_t truth, double eps)
{
    for (uint32_t c = 0; c < classes; c++)
        target[c] = (float)(eps / classes);
    target[truth] += (float)(1.0 - eps);
}
