/* Batches, sizes, and learning rates: warm-up, cosine (Loshchilov and Hutter 2017), one-cycle (Smith 2018, torch's form), steps. */
#include "base/compat.h"

#include "train/schedule.h"

#define PI 3.14159265358979323846

static double cosine(double from, double to, double x)
{
    return to + 0.5 * (from - to) * (1.0 + cos(PI * fmin(fmax(x, 0.0), 1.0)));
}

bool fk_uses_adamw(const ferkd_recipe *r)
{
    bool left = strcmp(r->optimizer, "auto") == 0 && r->lr < 0.0;

    return strcmp(r->optimizer, "adamw") == 0 || (left && r->init);
}

/* What suits networks from scratch, where the recipe leaves it to us: in batches of 64; of smaller ones each step says
 * less. And a run of few steps has no time to come back from what large ones do to it. Pretrained weights, above all
 * those with BatchNorms folded into them, are soon lost by steps as large (docs/results.md, "Few images" and "Pretrained
 * weights"). */
double fk_highest_rate(const ferkd_recipe *r, bool has_norms, uint64_t regions, uint64_t steps)
{
    bool moves = r->init && !r->freeze;
    double most = !moves ? 1.0 : has_norms ? 0.3 : fk_uses_adamw(r) ? 0.03 : 0.003;

    if (r->lr >= 0.0)
        return r->lr;
    if (fk_uses_adamw(r))
        return 0.001 * most;
    return most * 0.1 * fmin((double)regions / FK_WHOLE_BATCH, 1.0) *
           fmin((double)steps / FK_FEW_STEPS, 1.0);
}

/* Are batches of so many regions too large for a run over so many images? */
static bool is_large(const ferkd_recipe *r, uint64_t images, uint32_t batch)
{
    double steps = (double)(images / batch / (uint64_t)r->accumulate) * (double)r->epochs;

    return batch > images || (batch > 16 && steps < FK_MANY_STEPS);
}

uint32_t fk_batch(const ferkd_recipe *r, uint64_t images)
{
    uint32_t batch = r->batch ? (uint32_t)r->batch : FK_WHOLE_BATCH;

    while (!r->batch && is_large(r, images, batch) && batch / 2 >= r->regions_per_image &&
           batch / 2 % r->regions_per_image == 0)
        batch /= 2;
    return batch;
}

double fk_learning_rate(const ferkd_recipe *r, double lr, uint64_t step, uint64_t steps_per_epoch)
{
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
