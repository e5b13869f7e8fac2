/* SGD as torch.optim.SGD, AdamW as torch.optim.AdamW; clipping as clip_grad_norm_; the average of
 * weights (EMA) in the same pass. */
#include "engine/optim.h"

#include "base/mem.h"
#include "net/layers.h"

/* Bao, Dong, Piao and Wei 2022 (BEiT), as timm: decay ^ (layers above). */
ferkd_status fk_optim_rates(fk_optim *s, const fk_graph *g, double head_rate)
{
    double decay = s->o.layer_decay > 0 ? s->o.layer_decay : 1.0;
    double head = head_rate > 0 ? head_rate : 1.0;
    int *layer = NULL;

    free(s->rate);
    s->rate = NULL;
    if (!(decay < 1.0) && !(head < 1.0) && !(head > 1.0))
        return FERKD_OK;
    TRY(fk_calloc(&layer, g->n_params + 1, sizeof *layer, "the optimiser"));
    ferkd_status st = fk_calloc(&s->rate, g->n_params + 1, sizeof *s->rate, "the optimiser");
    int n = fk_graph_layers(g, layer);
    for (size_t i = 0; st == FERKD_OK && i < g->n_params; i++)
        s->rate[i] = (float)((g->params[i].head ? head : 1.0) * pow(decay, n - layer[i]));
    free(layer);
    return st;
}

ferkd_status fk_optim_init(fk_optim *s, const fk_graph *g, const fk_optim_options *o)
{
    *s = (fk_optim){.o = *o, .n = g->n_trained};
    if (o->half_states)
        TRY(fk_calloc_aligned(&s->half_m, s->n * sizeof *s->half_m, "the optimiser"));
    else
        TRY(fk_calloc_aligned(&s->m, s->n * sizeof *s->m, "the optimiser"));
    if (o->kind == FK_ADAMW && o->half_states)
        TRY(fk_calloc_aligned(&s->half_v, s->n * sizeof *s->half_v, "the optimiser"));
    else if (o->kind == FK_ADAMW)
        TRY(fk_calloc_aligned(&s->v, s->n * sizeof *s->v, "the optimiser"));
    TRY(fk_optim_rates(s, g, o->head_rate));
    if (o->ema > 0) {
        TRY(fk_calloc_aligned(&s->ema, g->n_values * sizeof *s->ema, "the average of weights"));
        memcpy(s->ema, g->values, g->n_values * sizeof *s->ema);
    }
    return FERKD_OK;
}

void fk_optim_fini(fk_optim *s)
{
    free(s->m);
    free(s->v);
    free(s->half_m);
    free(s->half_v);
    free(s->ema);
    free(s->rate);
    *s = (fk_optim){0};
}

/* Summed in fixed pieces, so that the result does not depend on the number of threads. */
static double norm_of(const float *g, size_t n)
{
    enum { PIECE = 65536 };

    double sum = 0.0;
    size_t pieces = (n + PIECE - 1) / PIECE;
    double *part = calloc(pieces + 1, sizeof *part);

    if (!part)
        return 0.0;
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < pieces; k++) {
        size_t end = fk_min_size(n, (k + 1) * PIECE);
        double s = 0.0;
        for (size_t i = k * PIECE; i < end; i++)
            s += (double)g[i] * (double)g[i];
        part[k] = s;
    }
    for (size_t k = 0; k < pieces; k++)
        sum += part[k];
    free(part);
    return sqrt(sum);
}

/* d = g + decay w; m = momentum m + d; w -= lr (nesterov ? d + momentum m : m) */
static void sgd(fk_optim *s, float *w, const float *g, size_t at, size_t n, fk_rates r)
{
    float *m = s->m + at;
    float momentum = r.start ? 0.0f : (float)s->o.momentum;
    float ahead = (float)s->o.momentum;
    bool nesterov = s->o.nesterov;
    float *e = r.average;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        m[i] = momentum * m[i] + d;
        w[i] -= r.lr * (nesterov ? d + ahead * m[i] : m[i]);
        if (e)
            e[i] = r.keep * e[i] + (1.0f - r.keep) * w[i];
    }
}

static void adamw(fk_optim *s, float *w, const float *g, size_t at, size_t n, fk_rates r)
{
    float *m = s->m + at;
    float *v = s->v + at;
    float b1 = (float)s->o.beta1;
    float b2 = (float)s->o.beta2;
    float eps = (float)s->o.eps;
    float *e = r.average;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * r.scale;
        m[i] = b1 * m[i] + (1.0f - b1) * d;
        v[i] = b2 * v[i] + (1.0f - b2) * d * d;
        float root = sqrtf(v[i] * r.second) + eps;
        w[i] -= r.lr * (r.decay * w[i] + m[i] * r.first / root);
        if (e)
            e[i] = r.keep * e[i] + (1.0f - r.keep) * w[i];
    }
}

/* --- states in bf16 -------------------------------------------------------------------------- */

static inline float widen(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

/* To one of the two bf16 beside x, by chance according to its distance from them; `chance` has 16 random bits. */
static inline uint16_t narrow(float x, uint32_t chance)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + (isfinite(x) ? chance & 0xffffu : 0u)) >> 16);
}

/* 32 bits for element i of a step; a hash, so that they depend on neither threads nor order. */
static inline uint32_t chance_of(uint64_t step, size_t i)
{
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u + step * 0xd1342543de82ef95u;

    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return (uint32_t)(x >> 32);
}

static void sgd_half(fk_optim *s, float *w, const float *g, size_t at, size_t n, fk_rates r)
{
    uint16_t *m = s->half_m + at;
    float momentum = r.start ? 0.0f : (float)s->o.momentum;
    float ahead = (float)s->o.momentum;
    bool nesterov = s->o.nesterov;

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        float now = momentum * widen(m[i]) + d;
        m[i] = narrow(now, chance_of(s->step, at + i));
        w[i] -= r.lr * (nesterov ? d + ahead * now : now);
    }
}

static void adamw_half(fk_optim *s, float *w, const float *g, size_t at, size_t n, fk_rates r)
{
    uint16_t *m = s->half_m + at;
    uint16_t *v = s->half_v + at;
    float b1 = (float)s->o.beta1;
    float b2 = (float)s->o.beta2;
    float eps = (float)s->o.eps;

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        uint32_t chance = chance_of(s->step, at + i);
        float d = g[i] * r.scale;
        float first = b1 * widen(m[i]) + (1.0f - b1) * d;
        float second = b2 * widen(v[i]) + (1.0f - b2) * d * d;
        m[i] = narrow(first, chance);
        v[i] = narrow(second, chance >> 16);
        w[i] -= r.lr * (r.decay * w[i] + first * r.first / (sqrtf(second * r.second) + eps));
    }
}

/* --- a step ---------------------------------------------------------------------------------- */

/* Running statistics are not trained, but averaged. */
static void average(const fk_param *p, const float *w, fk_rates r)
{
    for (size_t i = 0; i < p->count; i++)
        r.average[i] = r.keep * r.average[i] + (1.0f - r.keep) * w[i];
}

void fk_optim_begin(fk_optim *s, double lr, double scale)
{
    double t = (double)++s->step;

    s->rates =
        (fk_rates){.lr = (float)lr,
                   .scale = (float)scale,
                   .first = (float)(1.0 / (1.0 - pow(s->o.beta1, t))),
                   .second = (float)(1.0 / (1.0 - pow(s->o.beta2, t))),
                   .start = s->step == 1,
                   .keep = (float)fmin(s->o.ema, (1.0 + t) / (10.0 + t))}; /* warms up as in timm */
}

void fk_optim_param(fk_optim *s, fk_graph *g, size_t param, const float *grad)
{
    const fk_param *p = &g->params[param];
    float *w = g->values + p->offset;
    fk_rates r = s->rates;

    r.average = s->ema ? s->ema + p->offset : NULL;
    if (p->kind == FK_BUFFER || (s->head_only && !p->head)) {
        if (r.average)
            average(p, w, r);
        return;
    }
    r.lr *= s->rate ? s->rate[param] : 1.0f;
    r.decay = p->kind == FK_WEIGHT || s->o.decay_all ? (float)s->o.decay : 0.0f;
    if (s->o.kind == FK_SGD)
        (s->half_m ? sgd_half : sgd)(s, w, grad, p->offset, p->count, r);
    else
        (s->half_m ? adamw_half : adamw)(s, w, grad, p->offset, p->count, r);
}

/* Clipping needs the norm first; all else is one pass over the parameters. */
double fk_optim_step(fk_optim *s, fk_graph *g, float *grads, double lr, double scale)
{
    double norm = s->o.clip > 0 ? norm_of(grads, s->n) * scale : 0.0;

    fk_optim_begin(s, lr, scale);
    if (s->o.clip > 0 && norm > s->o.clip)
        s->rates.scale = (float)(scale * s->o.clip / (norm + 1e-6));
    for (size_t i = 0; i < g->n_params; i++)
        fk_optim_param(s, g, i, grads + g->params[i].offset);
    return norm;
}
