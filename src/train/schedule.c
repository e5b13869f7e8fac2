/* Sizes, and learning rates: warm-up, cosine (Loshchilov and Hutter 2017), one-cycle (Smith 2018, torch's form), steps. */
#include "base/compat.h"

#include "train/schedule.h"

#define PI 3.14159265358979323846

static double cosine(double from, double to, double x)
{
    return to + 0.5 * (from - to) * (1.0 + cos(PI * fmin(fmax(x, 0.0), 1.0)));
}

/* What suits networks from scratch in batches of 64, where the recipe leaves it to us. */
static double highest(const ferkd_recipe *r)
{
    return r->lr >= 0.0 ? r->lr : strcmp(r->optimizer, "adamw") == 0 ? 0.001 : 0.1;
}

double fk_learning_rate(const ferkd_recipe *r, uint64_t step, uint64_t steps_per_epoch)
{
    double lr = highest(r);
    double total = (double)steps_per_epoch * (double)r->epochs;
    double warm = r->warmup_epochs * (double)steps_per_epoch;
    double t = (double)step;

    if (strcmp(r->schedule, "one-cycle") == 0) { /* 30% up from lr/25, then down to lr-min */
        double up = 0.3 * total;
        return t < up ? cosine(lr / 25.0, lr, t / up)
                      : cosine(lr, r->lr_min, (t - up) / fmax(total - up, 1.0));
    }
    if (t < warm)
        return lr * (t + 1.0) / (warm + 1.0);
    if (strcmp(r->schedule, "cosine") == 0)
        return cosine(lr, r->lr_min, (t - warm) / fmax(total - warm, 1.0));
    if (strcmp(r->schedule, "step") == 0)
        return lr *
               pow(r->step_gamma, floor(t / ((double)r->step_epochs * (double)steps_per_epoch)));
    return lr;
}

uint32_t fk_size_at(const ferkd_recipe *r, uint64_t epoch)
{
    double grown = (double)epoch / fmax(2.0 / 3.0 * (double)r->epochs, 1.0);

    if (!r->size_start || grown >= 1.0)
        return (uint32_t)r->size;
    int64_t steps = (r->size - r->size_start) / 32;
    return (uint32_t)(r->size_start + 32 * (int64_t)(grown * (double)(steps + 1)));
}
