/* Mean, sum, largest, smallest and length over some axes of a row-major tensor; the global pool of feature maps is
 * oneDNN's (op_pool.c). */
#include "base/compat.h"

#include "engine/step.h"

/* The dimensions that stay and those that go, each with its stride in the input. */
typedef struct axes {
    int n[2];
    size_t d[2][FK_MAX_DIMS], step[2][FK_MAX_DIMS];
    size_t outputs, each; /* results, and elements that make one */
} axes;

static axes axes_of(const fk_shape *in, unsigned gone)
{
    axes a = {.outputs = 1, .each = 1};
    size_t step = 1;

    for (int i = in->n - 1; i >= 0; i--) { /* innermost first */
        int side = gone >> i & 1u;
        size_t d = (size_t)in->d[i];
        a.d[side][a.n[side]] = d;
        a.step[side][a.n[side]++] = step;
        step *= d;
        *(side ? &a.each : &a.outputs) *= d;
    }
    return a;
}

static size_t place(const axes *a, int side, size_t i)
{
    size_t at = 0;

    for (int k = 0; k < a->n[side]; k++) {
        at += i % a->d[side][k] * a->step[side][k];
        i /= a->d[side][k];
    }
    return at;
}

static float reduce(const axes *a, fk_reduce kind, const float *x)
{
    double sum = 0.0;
    float best = x[0];

    for (size_t i = 0; i < a->each; i++) {
        float v = x[place(a, 1, i)];
        sum += kind == FK_BY_L2 ? (double)v * (double)v : (double)v;
        best = (kind == FK_BY_MAX ? v > best : v < best) ? v : best;
    }
    switch (kind) {
    case FK_BY_MEAN:
        return (float)(sum / (double)a->each);
    case FK_BY_L2:
        return (float)sqrt(sum);
    case FK_BY_SUM:
        return (float)sum;
    case FK_BY_MAX:
    case FK_BY_MIN:
        break;
    }
    return best;
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    axes a = axes_of(&p->tensors[s->in[0]].shape, s->node->u.reduce.axes);

#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < a.outputs; o++)
        y[o] = reduce(&a, s->node->u.reduce.kind, x + place(&a, 0, o));
    return FERKD_OK;
}

/* The gradient of the elements behind one result; equal largest ones share it. */
static void spread(const axes *a, fk_reduce kind, const float *x, float y, float dy, float *dx)
{
    size_t equal = 0;

    for (size_t i = 0; i < a->each && (kind == FK_BY_MAX || kind == FK_BY_MIN); i++)
        equal += x[place(a, 1, i)] == y;
    for (size_t i = 0; i < a->each; i++) {
        size_t at = place(a, 1, i);
        if (kind == FK_BY_MEAN)
            dx[at] = dy / (float)a->each;
        else if (kind == FK_BY_SUM)
            dx[at] = dy;
        else if (kind == FK_BY_L2)
            dx[at] = y > 0.0f ? dy * x[at] / y : 0.0f;
        else
            dx[at] = x[at] == y ? dy / (float)equal : 0.0f;
    }
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    fk_reduce kind = s->node->u.reduce.kind;
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    bool reads = kind != FK_BY_MEAN && kind != FK_BY_SUM;
    const float *x = reads ? fk_data(p, s->in[0]) : dx; /* the latter is not read */
    const float *y = reads ? fk_data(p, s->out) : dy;
    axes a = axes_of(&p->tensors[s->in[0]].shape, s->node->u.reduce.axes);

#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < a.outputs; o++) {
        size_t at = place(&a, 0, o);
        spread(&a, kind, x + at, y[o], dy[o], dx + at);
    }
    return FERKD_OK;
}

ferkd_status fk_compile_reduce(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    int in = p->tensor_of[n->in[0]];
    fk_reduce kind = n->u.reduce.kind;

    if (kind == FK_BY_MEAN && p->tensors[in].shape.n == 4 &&
        n->u.reduce.axes == (1u << 2 | 1u << 3))
        return fk_compile_global_pool(p, n, id);
    TRY(fk_want_plain(p, in, &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    if (kind != FK_BY_MEAN && kind != FK_BY_SUM) {
        fk_step_keep(p, in, s);
        fk_step_keep(p, s->out, s);
    }
    return FERKD_OK;
}
