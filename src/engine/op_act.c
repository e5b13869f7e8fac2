/* Activations (oneDNN's, in whatever layout the input has; others are ours) and dropout. */
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

/* --- ours: one function and one slope each ---------------------------------------------------- */

static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

static float own(const fk_node *n, float x)
{
    switch (n->u.act.kind) {
    case FK_HARDSIGMOID:
        return fminf(fmaxf(n->u.act.a * x + n->u.act.b, 0.0f), 1.0f);
    case FK_ERF:
        return erff(x);
    case FK_EXP:
        return expf(x);
    case FK_LOG:
        return logf(x);
    case FK_SQRT:
        return sqrtf(x);
    case FK_ABS:
        return fabsf(x);
    case FK_SIGN:
        return (float)((x > 0.0f) - (x < 0.0f));
    case FK_RECIPROCAL:
        return 1.0f / x;
    case FK_SOFTPLUS:
        return softplus(x);
    case FK_SOFTSIGN:
        return x / (1.0f + fabsf(x));
    case FK_ROUND:
        return nearbyintf(x);
    case FK_FLOOR:
        return floorf(x);
    case FK_CEIL:
        return ceilf(x);
    case FK_NOT:
        return x == 0.0f;
    default: /* oneDNN's */
        break;
    }
    return x;
}

/* To even, as nearbyintf rounds, of numbers below 2^22: no call, so that loops become vectors. */
static float nearest(float x)
{
    const float half_ulps = 12582912.0f; /* 1.5 2^23 */

    return (x + half_ulps) - half_ulps;
}

static void levels_forward(const float *x, size_t n, float step, float low, float *y)
{
    float high = low + 255.0f;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) {
        float v = x[i] / step;
        v = v < low ? low : v;
        y[i] = nearest(v > high ? high : v) * step;
    }
}

/* Its derivative at x, where it is y. */
static float own_slope(const fk_node *n, float x, float y)
{
    switch (n->u.act.kind) {
    case FK_HARDSIGMOID:
        return y > 0.0f && y < 1.0f ? n->u.act.a : 0.0f;
    case FK_ERF: /* 2 / sqrt(pi) exp(-x^2) */
        return 1.1283791671f * expf(-x * x);
    case FK_EXP:
        return y;
    case FK_LOG:
        return 1.0f / x;
    case FK_SQRT:
        return 0.5f / y;
    case FK_ABS:
        return (float)((x > 0.0f) - (x < 0.0f));
    case FK_RECIPROCAL:
        return -y * y;
    case FK_SOFTPLUS:
        return 1.0f / (1.0f + expf(-x));
    case FK_SOFTSIGN:
        return 1.0f / ((1.0f + fabsf(x)) * (1.0f + fabsf(x)));
    case FK_LEVELS: /* as if it did not round (Bengio, Leonard, Courville 2013: straight through) */
        return x >= n->u.act.a * n->u.act.b && x <= n->u.act.a * (n->u.act.b + 255.0f);
    default: /* steps: 0 wherever there is a slope */
        break;
    }
    return 0.0f;
}

static ferkd_status own_forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    size_t n = fk_floats(p, s->out);

    if (s->node->u.act.kind == FK_LEVELS) {
        levels_forward(x, n, s->node->u.act.a, s->node->u.act.b, y);
        return FERKD_OK;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        y[i] = own(s->node, x[i]);
    return FERKD_OK;
}

static ferkd_status own_backward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    const float *y = fk_data(p, s->out);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    size_t n = fk_floats(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * own_slope(s->node, x[i], y[i]);
    return FERKD_OK;
}

bool fk_act_is_dnnl(fk_act kind)
{
    return kind != FK_HARDSIGMOID && (kind < FK_ERF || kind == FK_MISH);
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
    int in = p->tensor_of[n->in[0]];

    if (n->u.act.kind == FK_LEVELS)
        TRY(fk_want_f32(p, in, &in));
    else
        TRY(fk_want_plain(p, in, &in)); /* f(0) is not 0: no padded layouts */
    TRY(same_layout(p, &s, n, in, id));
    s->forward = own_forward;
    s->backward = own_backward;
    fk_step_keep(p, in, s);
    fk_step_keep(p, s->out, s);
    return FERKD_OK;
}

ferkd_status fk_compile_act(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_pd *back = NULL;
    int in = p->tensor_of[n->in[0]];
    fk_post act = {1, n->u.act.kind, n->u.act.a, n->u.act.b};

    if (fk_linear_takes(p, id))
        return FERKD_OK;
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

/* The mask is drawn from (seed, step, node), so a resumed run draws the same: for each value, or for each image
 * as a whole. */
static ferkd_status dropout_forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    float *mask = fk_buffer_at(p, s->buffers[MASK]);
    size_t n = fk_floats(p, s->out);
    double ratio = s->node->u.dropout.ratio;
    float scale = (float)(1.0 / (1.0 - ratio));
    fk_rng r = fk_rng_at(p->o.seed, FK_RNG_DROPOUT, (uint32_t)p->step, (uint32_t)s->number);

    size_t together = s->node->u.dropout.whole ? n / (size_t)s->node->shape.d[0] : 1;
    float now = 0.0f;

    for (size_t i = 0; i < n; i++) {
        if (i % together == 0)
            now = fk_rng_unit(&r) < ratio ? 0.0f : scale;
        mask[i] = now;
        y[i] = x[i] * now;
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
    TRY(n->u.dropout.whole ? fk_want_plain(p, in, &in) : fk_want_f32(p, in, &in));
    TRY(same_layout(p, &s, n, in, id));
    s->forward = dropout_forward;
    s->backward = dropout_backward;
    return fk_step_buffer(p, s, MASK, fk_floats(p, s->out) * sizeof(float), FK_LIFE_BOTH);
}
