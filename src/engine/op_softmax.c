/* Softmax along one axis of a row-major tensor. */
#include "base/compat.h"

#include "engine/step.h"

typedef struct axis_loop {
    size_t outer, n, inner;
} axis_loop;

static axis_loop loop_of(const fk_node *node)
{
    axis_loop l = {1, (size_t)node->shape.d[node->u.axis.axis], 1};

    for (int i = 0; i < node->u.axis.axis; i++)
        l.outer *= (size_t)node->shape.d[i];
    for (int i = node->u.axis.axis + 1; i < node->shape.n; i++)
        l.inner *= (size_t)node->shape.d[i];
    return l;
}

static void softmax_line(const float *x, float *y, size_t n, size_t step)
{
    float top = x[0];
    double sum = 0.0;

    for (size_t i = 1; i < n; i++)
        top = fmaxf(top, x[i * step]);
    for (size_t i = 0; i < n; i++) {
        y[i * step] = expf(x[i * step] - top);
        sum += (double)y[i * step];
    }
    for (size_t i = 0; i < n; i++)
        y[i * step] = (float)((double)y[i * step] / sum);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);
    axis_loop l = loop_of(s->node);

#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < l.outer * l.inner; k++) {
        size_t at = k / l.inner * l.n * l.inner + k % l.inner;
        softmax_line(x + at, y + at, l.n, l.inner);
    }
    return FERKD_OK;
}

/* dx = y (dy - sum(dy y)) */
static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const float *y = fk_data(p, s->out);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);
    axis_loop l = loop_of(s->node);

#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < l.outer * l.inner; k++) {
        size_t at = k / l.inner * l.n * l.inner + k % l.inner;
        double dot = 0.0;
        for (size_t i = 0; i < l.n; i++)
            dot += (double)dy[at + i * l.inner] * (double)y[at + i * l.inner];
        for (size_t i = 0; i < l.n; i++)
            dx[at + i * l.inner] =
                (float)((double)y[at + i * l.inner] * ((double)dy[at + i * l.inner] - dot));
    }
    return FERKD_OK;
}

ferkd_status fk_compile_softmax(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    int in;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    fk_step_keep(p, s->out, s);
    return FERKD_OK;
}
