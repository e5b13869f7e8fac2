/* Activations (oneDNN's, in whatever layout the input has), hard sigmoid (ours) and dropout. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/rng.h"

enum { RUN, RUN_BACK };

enum { MASK };

static ferkd_status act_forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN);
}

static ferkd_status act_backward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN_BACK);
}

/* y = clip(a x + b, 0, 1) */
static ferkd_status hardsigmoid_forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    size_t n = fk_floats(p, s->out);
    float a = s->node->u.act.a;
    float b = s->node->u.act.b;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++)
        y[i] = fminf(fmaxf(a * x[i] + b, 0.0f), 1.0f);
    return FERKD_OK;
}

static ferkd_status hardsigmoid_backward(fk_plan *p, fk_step *s)
{
    const float *y = fk_data(p, s->out);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    size_t n = fk_floats(p, s->out);
    float a = s->node->u.act.a;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0.0f && y[i] < 1.0f ? a * dy[i] : 0.0f;
    return FERKD_OK;
}

static ferkd_status erf_forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    size_t n = fk_floats(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        y[i] = erff(x[i]);
    return FERKD_OK;
}

/* d erf(x) / dx = 2 / sqrt(pi) exp(-x^2) */
static ferkd_status erf_backward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    size_t n = fk_floats(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * 1.1283791671f * expf(-x[i] * x[i]);
    return FERKD_OK;
}

bool fk_act_is_dnnl(fk_act kind)
{
    return kind != FK_HARDSIGMOID && kind != FK_ERF;
}

/* A step with one input, its output in the same layout. */
static ferkd_status same_layout(fk_plan *p, fk_step **s, const fk_node *n, int in, int id)
{
    fk_md *md = NULL;

    TRY(fk_step_new(p, s, n, 1));
    (*s)->in[0] = in;
    TRY(fk_md_copy(&md, p->tensors[in].md));
    return fk_step_output(p, *s, md, &n->shape, id);
}

static ferkd_status compile_own(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    int in;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in)); /* f(0) is not 0: no padded layouts */
    TRY(same_layout(p, &s, n, in, id));
    bool erf_act = n->u.act.kind == FK_ERF;
    s->forward = erf_act ? erf_forward : hardsigmoid_forward;
    s->backward = erf_act ? erf_backward : hardsigmoid_backward;
    fk_step_keep(p, erf_act ? in : s->out, s);
    return FERKD_OK;
}

ferkd_status fk_compile_act(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_pd *back = NULL;
    int in = p->tensor_of[n->in[0]];
    fk_post act = {1, n->u.act.kind, n->u.act.a, n->u.act.b};

    if (!fk_act_is_dnnl(n->u.act.kind))
        return compile_own(p, n, id);
    TRY(same_layout(p, &s, n, in, id));
    s->forward = act_forward;
    s->backward = act_backward;
    const fk_md *md = p->tensors[in].md;
    TRY(fk_pd_act(p->dn, &pd, p->o.train ? FK_TRAINING : FK_INFERENCE, md, &act, NULL));
    if (fk_wants_din(p, s, 0)) {
        fk_step_keep(p, in, s);
        ferkd_status st = fk_pd_act(p->dn, &back, FK_BACKWARD_DATA, md, &act, pd);
        if (st == FERKD_OK)
            st = fk_step_prim(p, s, RUN_BACK, back, "activation, gradient of",
                              (fk_arg[]){{FK_SRC, {FK_REF_DATA, in}},
                                         {FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                         {FK_DIFF_SRC, {FK_REF_DIN, 0}}},
                              3);
        if (st != FERKD_OK) {
            fk_pd_free(pd);
            return st;
        }
    }
    return fk_step_prim(p, s, RUN, pd, "activation",
                        (fk_arg[]){{FK_SRC, {FK_REF_DATA, in}}, {FK_DST, {FK_REF_DATA, s->out}}},
                        2);
}

/* The mask is drawn from (seed, step, node), so a resumed run draws the same. */
static ferkd_status dropout_forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    float *mask = fk_buffer_at(p, s->buffers[MASK]);
    size_t n = fk_floats(p, s->out);
    double ratio = s->node->u.dropout.ratio;
    float scale = (float)(1.0 / (1.0 - ratio));
    fk_rng r = fk_rng_at(p->o.seed, FK_RNG_DROPOUT, (uint32_t)p->step, (uint32_t)s->number);

    for (size_t i = 0; i < n; i++) {
        mask[i] = fk_rng_unit(&r) < ratio ? 0.0f : scale;
        y[i] = x[i] * mask[i];
    }
    return FERKD_OK;
}

static ferkd_status dropout_backward(fk_plan *p, fk_step *s)
{
    const float *mask = fk_buffer_at(p, s->buffers[MASK]);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    size_t n = fk_floats(p, s->out);

    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * mask[i];
    return FERKD_OK;
}

ferkd_status fk_compile_dropout(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    int in = p->tensor_of[n->in[0]];

    if (!p->o.train || n->u.dropout.ratio <= 0.0) {
        p->tensor_of[id] = in;
        return FERKD_OK;
    }
    TRY(fk_want_f32(p, in, &in));
    TRY(same_layout(p, &s, n, in, id));
    s->forward = dropout_forward;
    s->backward = dropout_backward;
    return fk_step_buffer(p, s, MASK, fk_floats(p, s->out) * sizeof(float), FK_LIFE_BOTH);
}
