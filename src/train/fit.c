/* Parameter by parameter; second moments stay above 0. */
#include "base/compat.h"

#include "train/fit.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "train/positions.h"

ferkd_status fk_fit_param(const fk_param *p, const float *values, size_t there, float *out)
{
    size_t output =
        p->count / (size_t)p->shape.d[0]; /* outputs are the first dimension of a head */
    fk_position_fit fit;

    if (there == p->count || (p->head && there > p->count && there % output == 0)) {
        memcpy(out, values, p->count * sizeof *out);
        return FERKD_OK;
    }
    if (p->kind == FK_BUFFER && p->init == FK_INIT_GIVEN) /* which token goes where, at this size */
        return FERKD_OK;
    if (fk_positions_fit(p, there, &fit) && fit.more == 0)
        return fk_fit_positions(&fit, values, out);
    return fk_fail(
        FERKD_UNSUPPORTED,
        "%s: %zu values at one size of image, %zu at another, and they are no positions: "
        "this network is trained and evaluated at one size",
        p->name, there, p->count);
}

/* Of all parameters, or of those that are trained. */
static ferkd_status fit_all(const fk_graph *to, float *out, const fk_graph *from,
                            const float *values, bool trained_only)
{
    assert(to->n_params == from->n_params);
    for (size_t i = 0; i < to->n_params; i++) {
        const fk_param *p = &to->params[i];
        const fk_param *old = &from->params[i];
        if (p->kind != FK_BUFFER || !trained_only)
            TRY(fk_fit_param(p, values + old->offset, old->count, out + p->offset));
    }
    return FERKD_OK;
}

ferkd_status fk_fit_values(fk_graph *to, const fk_graph *from, const float *values)
{
    return fit_all(to, to->values, from, values, false);
}

/* --- what an optimiser keeps --------------------------------------------------------------------- */

static ferkd_status fit_floats(const fk_graph *to, const fk_graph *from, float **values,
                               bool trained_only)
{
    float *fitted = NULL;

    if (!*values)
        return FERKD_OK;
    TRY(fk_calloc_aligned(&fitted, (trained_only ? to->n_trained : to->n_values) * sizeof *fitted,
                          "the optimiser"));
    if (!trained_only)
        memcpy(fitted, to->values, to->n_values * sizeof *fitted);
    ferkd_status st = fit_all(to, fitted, from, *values, trained_only);
    if (st != FERKD_OK) {
        free(fitted);
        return st;
    }
    free(*values);
    *values = fitted;
    return FERKD_OK;
}

static ferkd_status fit_half(const fk_graph *to, const fk_graph *from, uint16_t **half)
{
    float *values = NULL;
    uint16_t *fitted = NULL;
    ferkd_status st = FERKD_OK;

    if (!*half)
        return FERKD_OK;
    TRY_DONE(fk_calloc_aligned(&values, from->n_trained * sizeof *values, "the optimiser"));
    for (size_t i = 0; i < from->n_trained; i++)
        values[i] = fk_bf16_value((*half)[i]);
    TRY_DONE(fit_floats(to, from, &values, true));
    TRY_DONE(fk_calloc_aligned(&fitted, to->n_trained * sizeof *fitted, "the optimiser"));
    for (size_t i = 0; i < to->n_trained; i++)
        fitted[i] = fk_bf16_bits(values[i]);
    free(*half);
    *half = fitted;
done:
    free(values);
    return st;
}

static bool is_alike(const fk_graph *a, const fk_graph *b)
{
    for (size_t i = 0; i < a->n_params; i++) {
        if (a->params[i].count != b->params[i].count)
            return false;
    }
    return true;
}

ferkd_status fk_fit_optim(const fk_graph *to, const fk_graph *from, fk_optim *optim,
                          float **gradients)
{
    if (is_alike(to, from))
        return FERKD_OK;
    TRY(fit_floats(to, from, &optim->m, true));
    TRY(fit_floats(to, from, &optim->v, true));
    TRY(fit_half(to, from, &optim->half_m));
    TRY(fit_half(to, from, &optim->half_v));
    TRY(fit_floats(to, from, &optim->ema, false));
    TRY(fit_floats(to, from, gradients, true));
    optim->n = to->n_trained;
    for (size_t i = 0; optim->v && i < optim->n; i++)
        optim->v[i] = fmaxf(optim->v[i], 0.0f); /* bicubic overshoots */
    for (size_t i = 0; optim->half_v && i < optim->n; i++)
        optim->half_v[i] = optim->half_v[i] & 0x8000 ? 0 : optim->half_v[i];
    return FERKD_OK;
}
