/* What only moves elements: transpose, concatenate, slice, pad. All of them are one strided copy, on
 * row-major tensors. */
#include "base/compat.h"

#include "engine/step.h"

/* A box of elements inside a tensor: from `at`, with a stride a dimension (negative ones too). */
typedef struct view {
    float *at;
    int64_t stride[FK_MAX_DIMS];
} view;

static view view_of(float *data, const fk_shape *s)
{
    view v = {.at = data};
    int64_t step = 1;

    for (int i = s->n - 1; i >= 0; i--) {
        v.stride[i] = step;
        step *= s->d[i];
    }
    return v;
}

/* dst[...] = src[...] over the box `shape`. */
static void copy_box(view dst, view src, const fk_shape *shape)
{
    int last = shape->n - 1;
    int64_t inner = last >= 0 ? shape->d[last] : 1;
    int64_t rows = fk_shape_count(shape) / inner;
    int64_t step_dst = last >= 0 ? dst.stride[last] : 1;
    int64_t step_src = last >= 0 ? src.stride[last] : 1;

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *d = dst.at;
        const float *s = src.at;
        int64_t rest = r;
        for (int i = last - 1; i >= 0; i--) {
            int64_t k = rest % shape->d[i];
            rest /= shape->d[i];
            d += k * dst.stride[i];
            s += k * src.stride[i];
        }
        if (step_dst == 1 && step_src == 1) {
            memcpy(d, s, (size_t)inner * sizeof *d);
            continue;
        }
        for (int64_t i = 0; i < inner; i++)
            d[i * step_dst] = s[i * step_src];
    }
}

/* Where input i of the step lies in its output: the box, as a view of `out`, shaped as the input; or,
 * for a slice, where the output lies in the input. */
static view place_in(const fk_plan *p, const fk_step *s, float *out, int i)
{
    const fk_node *n = s->node;
    view v = view_of(out, &n->shape);

    if (n->op == FK_TRANSPOSE) {
        view t = v;
        for (int k = 0; k < n->shape.n; k++)
            v.stride[n->u.transpose.perm[k]] = t.stride[k];
    } else if (n->op == FK_CONCAT) {
        for (int k = 0; k < i; k++)
            v.at += p->tensors[s->in[k]].shape.d[n->u.axis.axis] * v.stride[n->u.axis.axis];
    } else if (n->op == FK_PAD) {
        for (int k = 0; k < n->shape.n; k++)
            v.at += n->u.pad.begin[k] * v.stride[k];
    }
    return v;
}

static ferkd_status spread_forward(fk_plan *p, fk_step *s)
{
    float *y = fk_data(p, s->out);

    if (s->node->op == FK_PAD) {
        size_t n = fk_floats(p, s->out);
        for (size_t k = 0; k < n; k++)
            y[k] = s->node->u.pad.value;
    }
    for (int i = 0; i < s->n_in; i++) {
        const fk_shape *in = &p->tensors[s->in[i]].shape;
        copy_box(place_in(p, s, y, i), view_of(fk_data(p, s->in[i]), in), in);
    }
    return FERKD_OK;
}

static ferkd_status spread_backward(fk_plan *p, fk_step *s)
{
    for (int i = 0; i < s->n_in; i++) {
        const fk_shape *in = &p->tensors[s->in[i]].shape;
        if (fk_wants_din(p, s, i))
            copy_box(view_of(fk_din(p, s, i), in), place_in(p, s, fk_grad(p, s->out), i), in);
    }
    return FERKD_OK;
}

/* The elements of `in` that a slice takes. */
static view sliced(const fk_plan *p, const fk_step *s, float *in)
{
    int axis = s->node->u.axis.axis;
    view v = view_of(in, &p->tensors[s->in[0]].shape);

    v.at += s->node->u.axis.start * v.stride[axis];
    v.stride[axis] *= s->node->u.axis.step;
    return v;
}

static ferkd_status slice_forward(fk_plan *p, fk_step *s)
{
    const fk_shape *out = &s->node->shape;

    copy_box(view_of(fk_data(p, s->out), out), sliced(p, s, fk_data(p, s->in[0])), out);
    return FERKD_OK;
}

static ferkd_status slice_backward(fk_plan *p, fk_step *s)
{
    const fk_shape *out = &s->node->shape;
    float *dx = fk_din(p, s, 0);

    memset(dx, 0, fk_floats(p, s->in[0]) * sizeof *dx);
    copy_box(sliced(p, s, dx), view_of(fk_grad(p, s->out), out), out);
    return FERKD_OK;
}

static ferkd_status compile_move(fk_plan *p, const fk_node *n, int id)
{
    bool slice = n->op == FK_SLICE;
    fk_step *s = NULL;
    fk_md *md = NULL;
    int *in = calloc((size_t)n->n_in, sizeof *in);
    ferkd_status st = FERKD_OK;

    if (!in)
        return fk_fail(FERKD_MEMORY, "node %s: no memory", n->name);
    for (int i = 0; i < n->n_in; i++)
        TRY_DONE(fk_want_plain(p, p->tensor_of[n->in[i]], &in[i]));
    TRY_DONE(fk_step_new(p, &s, n, n->n_in));
    memcpy(s->in, in, (size_t)n->n_in * sizeof *in);
    s->forward = slice ? slice_forward : spread_forward;
    s->backward = slice ? slice_backward : spread_backward;
    TRY_DONE(fk_md_plain(&md, &n->shape));
    TRY_DONE(fk_step_output(p, s, md, &n->shape, id));
done:
    free(in);
    return st;
}

/* --- another shape --------------------------------------------------------------------------- */

static ferkd_status view_forward(fk_plan *p, fk_step *s)
{
    if (!s->is_view)
        memcpy(fk_data(p, s->out), fk_data(p, s->in[0]), fk_floats(p, s->out) * sizeof(float));
    return FERKD_OK;
}

static ferkd_status view_backward(fk_plan *p, fk_step *s)
{
    if (fk_din(p, s, 0) != fk_grad(p, s->out))
        memcpy(fk_din(p, s, 0), fk_grad(p, s->out), fk_floats(p, s->out) * sizeof(float));
    return FERKD_OK;
}

/* Tensor `in`, as it lies in memory, is the node's output in the layout `md`, which is taken over. */
static ferkd_status same_bytes(fk_plan *p, const fk_node *n, int in, fk_md *md, int id)
{
    fk_step *s = NULL;
    ferkd_status st = fk_step_new(p, &s, n, 1);

    if (st != FERKD_OK) {
        fk_md_free(md);
        return st;
    }
    s->in[0] = in;
    s->forward = view_forward;
    s->backward = view_backward;
    s->is_view = true;
    s->passes = 0;
    return fk_step_output_in(p, s, md, &n->shape, id, in);
}

/* N C H W to N H W C: what oneDNN calls channels last is the other row-major. */
static ferkd_status to_last(fk_plan *p, const fk_node *n, int in, int id)
{
    fk_md *md = NULL;

    TRY(fk_md_last(&md, &p->tensors[in].shape, false));
    ferkd_status st = fk_want(p, in, md, &in);
    fk_md_free(md);
    TRY(st);
    TRY(fk_md_plain(&md, &n->shape));
    return same_bytes(p, n, in, md, id);
}

static ferkd_status from_last(fk_plan *p, const fk_node *n, int in, int id)
{
    fk_md *md = NULL;

    TRY(fk_want_plain(p, in, &in));
    TRY(fk_md_last(&md, &n->shape, false));
    return same_bytes(p, n, in, md, id);
}

static bool is_perm(const fk_node *n, int a, int b, int c, int d)
{
    const int *perm = n->u.transpose.perm;

    return n->shape.n == 4 && perm[0] == a && perm[1] == b && perm[2] == c && perm[3] == d;
}

ferkd_status fk_compile_transpose(fk_plan *p, const fk_node *n, int id)
{
    int in = p->tensor_of[n->in[0]];
    bool may_share = p->tensors[in].step >= 0 && p->o.max_bytes == 0;

    if (may_share && is_perm(n, 0, 2, 3, 1))
        return to_last(p, n, in, id);
    if (may_share && is_perm(n, 0, 3, 1, 2))
        return from_last(p, n, in, id);
    return compile_move(p, n, id);
}

ferkd_status fk_compile_concat(fk_plan *p, const fk_node *n, int id)
{
    return fk_is_channel_concat(p, n) ? fk_compile_channel_concat(p, n, id)
                                      : compile_move(p, n, id);
}

ferkd_status fk_compile_slice(fk_plan *p, const fk_node *n, int id)
{
    return fk_is_channel_slice(p, n) ? fk_compile_channel_slice(p, n, id) : compile_move(p, n, id);
}

ferkd_status fk_compile_pad(fk_plan *p, const fk_node *n, int id)
{
    return compile_move(p, n, id);
}

/* In the same place, but for parameters, and where values are to be made anew in backward (recompute.c), which
 * knows one maker for each. */
ferkd_status fk_view_step(fk_plan *p, const fk_node *n, int in, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;

    TRY(fk_want_plain(p, in, &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = view_forward;
    s->backward = view_backward;
    s->is_view = p->tensors[in].step >= 0 && p->o.max_bytes == 0;
    s->passes = s->is_view ? 0 : -1;
    TRY(fk_md_plain(&md, &n->shape));
    return s->is_view ? fk_step_output_in(p, s, md, &n->shape, id, in)
                      : fk_step_output(p, s, md, &n->shape, id);
}

ferkd_status fk_compile_reshape(fk_plan *p, const fk_node *n, int id)
{
    return fk_view_step(p, n, p->tensor_of[n->in[0]], id);
}
