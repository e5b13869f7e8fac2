/* Mixing two views and their targets by one lambda. */
#include "base/compat.h"

#include "train/mix.h"

/* The box of area 1 - lambda around a random centre, clipped; lambda then follows the clipped area
 * (Yun et al. 2019, algorithm 1). */
static void draw_box(fk_mix *m, fk_rng *rng)
{
    double share = sqrt(1.0 - (double)m->lambda);
    int side = (int)m->side;
    int cut = (int)(side * share);
    int cx = (int)fk_rng_below(rng, m->side);
    int cy = (int)fk_rng_below(rng, m->side);

    m->x0 = (uint32_t)fk_max_int(0, cx - cut / 2);
    m->y0 = (uint32_t)fk_max_int(0, cy - cut / 2);
    m->x1 = (uint32_t)fk_min_int(side, cx + cut / 2);
    m->y1 = (uint32_t)fk_min_int(side, cy + cut / 2);
    double area = (double)(m->x1 - m->x0) * (m->y1 - m->y0);
    m->lambda = (float)(1.0 - area / ((double)side * side));
}

/* FunMatch (Beyer et al. 2022) mixes with lambda uniform, unless told otherwise. */
static bool is_funmatch(const ferkd_recipe *r)
{
    return strcmp(r->mix, "auto") == 0 && strcmp(r->method, "funmatch") == 0;
}

bool fk_mix_is_on(const ferkd_recipe *r, uint64_t epoch)
{
    bool never = strcmp(r->mix, "none") == 0 || (strcmp(r->mix, "auto") == 0 && !is_funmatch(r));

    return !never && (r->mix_off_epoch == 0 || epoch < (uint64_t)r->mix_off_epoch);
}

fk_mix fk_mix_draw(const ferkd_recipe *r, fk_rng *rng, uint32_t side)
{
    fk_mix m = {.lambda = 1.0f, .side = side};
    bool both = strcmp(r->mix, "both") == 0;

    if (fk_rng_unit(rng) >= r->mix_prob)
        return m;
    m.on = true;
    m.cut = both ? fk_rng_unit(rng) < 0.5 : strcmp(r->mix, "cutmix") == 0;
    double alpha = is_funmatch(r) ? 1.0 : m.cut ? r->cutmix_alpha : r->mixup_alpha;
    m.lambda = (float)fk_rng_beta(rng, alpha);
    if (m.cut)
        draw_box(&m, rng);
    return m;
}

static uint32_t scaled(uint32_t v, uint32_t from, uint32_t to)
{
    return from == to ? v : (uint32_t)((2 * (uint64_t)v * to + from) / (2 * (uint64_t)from));
}

void fk_mix_inputs(const fk_mix *m, float *a, const float *b, uint32_t channels, uint32_t side,
                   bool channels_last)
{
    size_t n = (size_t)channels * side * side;

    if (!m->on)
        return;
    if (!m->cut) {
        for (size_t i = 0; i < n; i++)
            a[i] = m->lambda * a[i] + (1.0f - m->lambda) * b[i];
        return;
    }
    uint32_t x0 = scaled(m->x0, m->side, side);
    uint32_t x1 = scaled(m->x1, m->side, side);
    uint32_t y0 = scaled(m->y0, m->side, side);
    uint32_t y1 = scaled(m->y1, m->side, side);
    uint32_t planes = channels_last ? 1 : channels;
    size_t pixel = channels_last ? channels : 1;
    for (uint32_t c = 0; c < planes; c++) {
        for (uint32_t y = y0; y < y1; y++) {
            size_t at = (((size_t)c * side + y) * side + x0) * pixel;
            memcpy(a + at, b + at, (x1 - x0) * pixel * sizeof *a);
        }
    }
}

void fk_mix_targets(const fk_mix *m, float *a, const float *b, uint32_t classes)
{
    for (uint32_t c = 0; m->on && c < classes; c++)
        a[c] = m->lambda * a[c] + (1.0f - m->lambda) * b[c];
}
