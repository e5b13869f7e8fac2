/* Values by index: constants, expansion (dimensions repeated), gathering, selection; on row-major tensors. */
#include "base/compat.h"

#include "engine/step.h"

static ferkd_status plain_output(fk_plan *p, fk_step *s, const fk_node *n, int id)
{
    fk_md *md = NULL;

    TRY(fk_md_plain(&md, &n->shape));
    return fk_step_output(p, s, md, &n->shape, id);
}

/* --- constants ------------------------------------------------------------------------------- */

static ferkd_status const_forward(fk_plan *p, fk_step *s)
{
    memcpy(fk_data(p, s->out), fk_graph_values(p->g, s->node->param[0]),
           p->g->params[s->node->param[0]].count * sizeof(float));
    return FERKD_OK;
}

static ferkd_status const_backward(fk_plan *p, fk_step *s)
{
    const fk_param *param = &p->g->params[s->node->param[0]];

    if (p->tensors[s->out].grad < 0) /* a product has it as its scale, and sees to its gradient */
        return FERKD_OK;
    memcpy(p->grads + param->offset, fk_grad(p, s->out), param->count * sizeof(float));
    return FERKD_OK;
}

/* One that is trained is a step, so that its gradient comes to it as to any value. */
ferkd_status fk_compile_const(fk_plan *p, const fk_node *n, int id)
{
    fk_tensor t = {.shape = n->shape, .node = id, .step = -1, .data = -1, .param = n->param[0]};
    fk_step *s = NULL;

    if (!p->o.train || p->g->params[n->param[0]].kind == FK_BUFFER) {
        TRY(fk_md_plain(&t.md, &n->shape));
        return fk_new_tensor(p, t, &p->tensor_of[id]);
    }
    TRY(fk_step_new(p, &s, n, 0));
    s->forward = const_forward;
    s->backward = const_backward;
    return plain_output(p, s, n, id);
}

/* --- expansion ------------------------------------------------------------------------------- */

/* Repeats: the input is `outer` blocks of `inner` values, each of which the output has `times` times, one after
 * the other. An expansion of several dimensions is several of these. */
typedef struct repeat {
    size_t outer, times, inner;
} repeat;

/* The innermost run of expanded dimensions below dimension `end` of the output; its first dimension, or -1. */
static int next_repeat(const fk_shape *in, const fk_shape *out, int end, repeat *r)
{
    int skip = out->n - in->n;
    int last = end - 1;

    for (; last >= 0; last--) {
        int64_t d = last >= skip ? in->d[last - skip] : 1;
        if (d != out->d[last])
            break;
    }
    if (last < 0)
        return -1;
    *r = (repeat){1, 1, 1};
    for (int i = last + 1; i < out->n; i++)
        r->inner *= (size_t)out->d[i];
    int first = last;
    for (; first >= 0; first--) {
        int64_t d = first >= skip ? in->d[first - skip] : 1;
        if (d != 1)
            break;
        r->times *= (size_t)out->d[first];
    }
    for (int i = 0; i <= first; i++)
        r->outer *= i >= skip ? (size_t)in->d[i - skip] : 1;
    return first + 1;
}

static size_t repeats_of(const fk_shape *in, const fk_shape *out, repeat *list)
{
    size_t n = 0;

    for (int end = out->n; (end = next_repeat(in, out, end, &list[n])) >= 0 && n < FK_MAX_DIMS;)
        n++;
    return n;
}

/* From the back, so that it works in place. */
static void expand_once(const repeat *r, const float *x, float *y)
{
    for (size_t o = r->outer; o-- > 0;) {
        for (size_t t = r->times; t-- > 0;)
            memmove(y + (o * r->times + t) * r->inner, x + o * r->inner, r->inner * sizeof *y);
    }
}

static void fold_once(const repeat *r, float *y)
{
    for (size_t o = 0; o < r->outer; o++) {
        float *to = y + o * r->inner;
        if (o)
            memmove(to, y + o * r->times * r->inner, r->inner * sizeof *to);
        for (size_t t = 1; t < r->times; t++) {
            const float *from = y + (o * r->times + t) * r->inner;
            for (size_t i = 0; i < r->inner; i++)
                to[i] += from[i];
        }
    }
}

static ferkd_status expand_forward(fk_plan *p, fk_step *s)
{
    repeat list[FK_MAX_DIMS + 1];
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    size_t n = repeats_of(in, &s->node->shape, list);
    float *y = fk_data(p, s->out);

    memcpy(y, fk_data(p, s->in[0]), (size_t)fk_shape_count(in) * sizeof *y);
    for (size_t i = 0; i < n; i++)
        expand_once(&list[i], y, y);
    return FERKD_OK;
}

enum { FOLDED };

static ferkd_status expand_backward(fk_plan *p, fk_step *s)
{
    repeat list[FK_MAX_DIMS + 1];
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    size_t n = repeats_of(in, &s->node->shape, list);
    float *room = fk_buffer_at(p, s->buffers[FOLDED]);

    memcpy(room, fk_grad(p, s->out), fk_floats(p, s->out) * sizeof *room);
    for (size_t i = n; i-- > 0;)
        fold_once(&list[i], room);
    memcpy(fk_din(p, s, 0), room, (size_t)fk_shape_count(in) * sizeof *room);
    return FERKD_OK;
}

ferkd_status fk_compile_expand(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    int in;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = expand_forward;
    s->backward = expand_backward;
    TRY(plain_output(p, s, n, id));
    return fk_wants_din(p, s, 0)
               ? fk_step_buffer(p, s, FOLDED, fk_floats(p, s->out) * sizeof(float),
                                FK_LIFE_BACKWARD)
               : FERKD_OK;
}

/* --- gathering ------------------------------------------------------------------------------- */

typedef struct gather {
    size_t outer, dim, count, inner;
    const float *index;
} gather;

static gather gather_of(const fk_plan *p, const fk_step *s)
{
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    int axis = s->node->u.axis.axis;
    gather g = {1, (size_t)in->d[axis], p->g->params[s->node->param[0]].count, 1,
                fk_graph_values(p->g, s->node->param[0])};

    for (int i = 0; i < axis; i++)
        g.outer *= (size_t)in->d[i];
    for (int i = axis + 1; i < in->n; i++)
        g.inner *= (size_t)in->d[i];
    return g;
}

/* Index k, kept within the axis: the file may say anything. */
static size_t index_at(const gather *g, size_t k)
{
    float v = g->index[k] < 0 ? g->index[k] + (float)g->dim : g->index[k];

    return v >= 0 && v < (float)g->dim ? (size_t)v : 0;
}

static ferkd_status gather_forward(fk_plan *p, fk_step *s)
{
    gather g = gather_of(p, s);
    const float *x = fk_data(p, s->in[0]);
    float *y = fk_data(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < g.outer; o++) {
        for (size_t k = 0; k < g.count; k++)
            memcpy(y + (o * g.count + k) * g.inner, x + (o * g.dim + index_at(&g, k)) * g.inner,
                   g.inner * sizeof *y);
    }
    return FERKD_OK;
}

static ferkd_status gather_backward(fk_plan *p, fk_step *s)
{
    gather g = gather_of(p, s);
    const float *dy = fk_grad(p, s->out);
    float *dx = fk_din(p, s, 0);

    memset(dx, 0, fk_floats(p, s->in[0]) * sizeof *dx);
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < g.outer; o++) {
        for (size_t k = 0; k < g.count; k++) {
            float *to = dx + (o * g.dim + index_at(&g, k)) * g.inner;
            const float *from = dy + (o * g.count + k) * g.inner;
            for (size_t i = 0; i < g.inner; i++)
                to[i] += from[i];
        }
    }
    return FERKD_OK;
}

ferkd_status fk_compile_gather(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    int in;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = gather_forward;
    s->backward = gather_backward;
    return plain_output(p, s, n, id);
}

/* --- selection ------------------------------------------------------------------------------- */

static ferkd_status select_forward(fk_plan *p, fk_step *s)
{
    const float *which = fk_data(p, s->in[0]);
    const float *a = fk_data(p, s->in[1]);
    const float *b = fk_data(p, s->in[2]);
    float *y = fk_data(p, s->out);
    size_t n = fk_floats(p, s->out);

    for (size_t i = 0; i < n; i++)
        y[i] = which[i] != 0.0f ? a[i] : b[i];
    return FERKD_OK;
}

static ferkd_status select_backward(fk_plan *p, fk_step *s)
{
    const float *which = fk_data(p, s->in[0]);
    const float *dy = fk_grad(p, s->out);
    size_t n = fk_floats(p, s->out);

    for (int k = 1; k < 3; k++) {
        float *dx = fk_wants_din(p, s, k) ? fk_din(p, s, k) : NULL;
        for (size_t i = 0; dx && i < n; i++)
            dx[i] = (which[i] != 0.0f) == (k == 1) ? dy[i] : 0.0f;
    }
    if (fk_wants_din(p, s, 0)) /* a condition has no slope */
        memset(fk_din(p, s, 0), 0, n * sizeof(float));
    return FERKD_OK;
}

ferkd_status fk_compile_select(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    int in[3];

    for (int i = 0; i < 3; i++)
        TRY(fk_want_plain(p, p->tensor_of[n->in[i]], &in[i]));
    TRY(fk_step_new(p, &s, n, 3));
    memcpy(s->in, in, sizeof in);
    s->forward = select_forward;
    s->backward = select_backward;
    TRY(plain_output(p, s, n, id));
    fk_step_keep(p, in[0], s);
    return FERKD_OK;
}
