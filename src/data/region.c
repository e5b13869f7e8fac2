/* Random regions: torchvision's RandomResizedCrop (area, log-ratio, then top and left; 10 tries;
 * central fallback) and flip, each drawn from (seed, image, region) alone. */
#include "base/compat.h"

#include "ferkd/data.h"

#include "base/rng.h"

#define TRIES 10

ferkd_sampler ferkd_sampler_defaults(void)
{
    return (ferkd_sampler){.scale_min = 0.08,
                           .scale_max = 1.0,
                           .ratio_min = 3.0 / 4.0,
                           .ratio_max = 4.0 / 3.0,
                           .flip = 0.5};
}

/* What torchvision cuts when ten tries failed: the largest central box within the ratios. */
static ferkd_box fallback(const ferkd_sampler *s, uint32_t width, uint32_t height)
{
    double in = (double)width / height;
    double w = width;
    double h = height;

    if (in < s->ratio_min)
        h = rint(width / s->ratio_min);
    else if (in > s->ratio_max)
        w = rint(height * s->ratio_max);
    uint32_t box_w = (uint32_t)fmin(w, width);
    uint32_t box_h = (uint32_t)fmin(h, height);
    return (ferkd_box){(height - box_h) / 2, (width - box_w) / 2, box_h, box_w};
}

static ferkd_box draw_box(const ferkd_sampler *s, fk_rng *r, uint32_t width, uint32_t height)
{
    double area = (double)width * height;
    double low = log(s->ratio_min);
    double high = log(s->ratio_max);

    for (int i = 0; i < TRIES; i++) {
        double u = s->scale_min + fk_rng_unit(r) * (s->scale_max - s->scale_min);
        double ratio = exp(low + fk_rng_unit(r) * (high - low));
        double w = rint(sqrt(area * u * ratio));
        double h = rint(sqrt(area * u / ratio));
        if (w > 0 && w <= width && h > 0 && h <= height) {
            uint32_t top = fk_rng_below(r, height - (uint32_t)h + 1);
            uint32_t left = fk_rng_below(r, width - (uint32_t)w + 1);
            return (ferkd_box){top, left, (uint32_t)h, (uint32_t)w};
        }
    }
    return fallback(s, width, height);
}

ferkd_region ferkd_region_at(const ferkd_sampler *s, uint32_t image, uint32_t region,
                             uint32_t width, uint32_t height)
{
    fk_rng r = fk_rng_at(s->seed, FK_RNG_REGION, image, region);
    bool flip = fk_rng_unit(&r) < s->flip;

    return (ferkd_region){draw_box(s, &r, width, height), flip};
}
