/* An image is taken for some classes, the first of which leads by far or hardly; regions differ from it by noise.
 * EfficientNet-Lite0 on regions of ImageNet images has mean probabilities 0.60, 0.09, 0.05, 0.02, 0.02 and 32 classes
 * among the top 5 of 80 regions; these labels have 0.62, 0.08, 0.04, 0.03, 0.02 and 27. */
#include "base/compat.h"

#include "label/synthetic.h"

static bool has_class(const fk_synthetic *s, uint32_t n, uint32_t class)
{
    for (uint32_t i = 0; i < n; i++) {
        if (s->class[i] == class)
            return true;
    }
    return false;
}

void fk_synthetic_image(fk_synthetic *s, uint64_t seed, uint32_t image, uint32_t classes)
{
    fk_rng r = fk_rng_at(seed, FK_RNG_TEST, image, UINT32_MAX);

    *s = (fk_synthetic){.seed = seed,
                        .image = image,
                        .kinds = classes < FK_SYNTHETIC_KINDS ? classes : FK_SYNTHETIC_KINDS};
    for (uint32_t i = 0; i < s->kinds; i++) {
        uint32_t class = fk_rng_below(&r, classes);
        while (has_class(s, i, class))
            class = (class + 1) % classes;
        s->class[i] = (uint16_t) class;
        s->base[i] = (float)(fk_rng_normal(&r) - log(i + 1.0));
    }
    s->base[0] = (float)(3.1 + 1.5 * fk_rng_normal(&r));
}

/* Four bytes of one random number, summed: nearly normal, of deviation 1. */
static float noise(fk_rng *r)
{
    uint32_t v = fk_rng_u32(r);
    uint32_t sum = (v & 255) + (v >> 8 & 255) + (v >> 16 & 255) + (v >> 24);

    return ((float)sum - 510.0f) * (1.0f / 147.8f);
}

void fk_synthetic_label(const fk_synthetic *s, uint32_t region, uint32_t k, uint32_t classes,
                        uint16_t *class, float *prob)
{
    fk_rng r = fk_rng_at(s->seed, FK_RNG_TEST, s->image, region);
    float p[FK_SYNTHETIC_KINDS];
    float sum = 0.0f;
    float spoil = 1.2f * noise(&r); /* how little the region shows */
    uint32_t n = k < s->kinds ? k : s->kinds;

    for (uint32_t i = 0; i < s->kinds; i++) {
        p[i] = expf(s->base[i] + 1.1f * noise(&r) + (i ? 0.0f : spoil));
        sum += p[i];
    }
    for (uint32_t at = 0; at < n; at++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < s->kinds; i++)
            best = p[i] > p[best] ? i : best;
        class[at] = s->class[best];
        prob[at] = p[best] / sum;
        p[best] = -1.0f;
    }
    for (uint32_t at = n; at < k; at++) {
        class[at] = (uint16_t)(classes - 1 - (at - n)); /* never written: their share is 0 */
        prob[at] = 0.0f;
    }
}
