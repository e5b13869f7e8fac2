/* Output shapes, and the checks that make a node's arithmetic well defined. */
#include "net/graph.h"

static const fk_shape *in_shape(const fk_graph *g, const fk_node *n, int i)
{
    return &g->nodes[n->in[i]].shape;
}

static ferkd_status bad(const fk_graph *g, const fk_node *n, const char *why)
{
    char text[128] = "nothing";

    if (n->n_in)
        fk_shape_text(in_shape(g, n, 0), text, sizeof text);
    return fk_fail(FERKD_CORRUPT, "%s: node %s (%s) on %s: %s", g->name, n->name, fk_op_name(n->op),
                   text, why);
}

/* H and W of a window's output. */
static ferkd_status slide(const fk_graph *g, const fk_node *n, const fk_window *w,
                          const fk_shape *in, fk_shape *out)
{
    for (int i = 0; i < 2; i++) {
        if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1 || w->begin[i] < 0 ||
            w->end[i] < 0 || w->kernel[i] > (1 << 20) || w->dilation[i] > (1 << 20) ||
            w->begin[i] > (1 << 20) || w->end[i] > (1 << 20))
            return bad(g, n, "kernel, stride, dilation or padding out of range");
        int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t room = in->d[2 + i] + w->begin[i] + w->end[i] - span;
        if (room < 0)
            return bad(g, n, "the kernel is larger than the padded image");
        out->d[2 + i] = room / w->stride[i] + 1;
    }
    return FERKD_OK;
}

static ferkd_status infer_conv(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    const fk_shape *w = &g->params[n->param[0]].shape;

    if (in->n != 4 || w->n != 4)
        return bad(g, n, "a convolution needs N C H W and a 4-dimensional weight");
    if (n->u.conv.groups < 1 || in->d[1] % n->u.conv.groups || w->d[0] % n->u.conv.groups ||
        w->d[1] != in->d[1] / n->u.conv.groups)
        return bad(g, n, "channels, groups and weight don't fit together");
    if (w->d[2] != n->u.conv.window.kernel[0] || w->d[3] != n->u.conv.window.kernel[1])
        return bad(g, n, "kernel_shape is not the weight's");
    if (n->param[1] >= 0 && g->params[n->param[1]].count != (size_t)w->d[0])
        return bad(g, n, "one bias an output channel is needed");
    n->shape = *in;
    n->shape.d[1] = w->d[0];
    return slide(g, n, &n->u.conv.window, in, &n->shape);
}

static ferkd_status infer_norm(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);

    if (in->n < 2)
        return bad(g, n, "BatchNorm needs a channel dimension");
    for (int i = 0; i < 4; i++) {
        if (g->params[n->param[i]].count != (size_t)in->d[1])
            return bad(g, n, "one value a channel is needed");
    }
    n->shape = *in;
    return FERKD_OK;
}

/* NumPy's broadcasting of a and b. */
static ferkd_status broadcast(const fk_graph *g, fk_node *n, const fk_shape *a, const fk_shape *b,
                              int skip)
{
    n->shape = (fk_shape){.n = fk_max_int(a->n, b->n)};
    for (int i = skip; i < n->shape.n; i++) { /* from the last dimension */
        int64_t x = i < a->n ? a->d[a->n - 1 - i] : 1;
        int64_t y = i < b->n ? b->d[b->n - 1 - i] : 1;
        if (x != y && x != 1 && y != 1)
            return bad(g, n, "the two shapes don't broadcast");
        n->shape.d[n->shape.n - 1 - i] = x == 1 ? y : x;
    }
    return FERKD_OK;
}

static ferkd_status infer_pool(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    const fk_window *w = &n->u.pool.window;

    if (in->n != 4)
        return bad(g, n, "pooling needs N C H W");
    for (int i = 0; i < 2; i++) {
        if (w->begin[i] >= w->kernel[i])
            return bad(g, n, "padding as large as the kernel");
    }
    n->shape = *in;
    return slide(g, n, w, in, &n->shape);
}

static ferkd_status infer_reduce(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);

    n->shape = (fk_shape){.n = 0};
    for (int i = 0; i < in->n; i++) {
        bool gone = n->u.reduce.axes >> i & 1u;
        if (!gone || n->u.reduce.keep)
            n->shape.d[n->shape.n++] = gone ? 1 : in->d[i];
    }
    return FERKD_OK;
}

static ferkd_status infer_dense(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    const fk_shape *w = &g->params[n->param[0]].shape;

    if (in->n < 2 || w->n != 2 || in->d[in->n - 1] != w->d[1])
        return bad(g, n, "the weight does not fit the input");
    if (n->param[1] >= 0 && g->params[n->param[1]].count != (size_t)w->d[0])
        return bad(g, n, "one bias an output is needed");
    n->shape = *in;
    n->shape.d[in->n - 1] = w->d[0];
    return FERKD_OK;
}

static ferkd_status infer_matmul(const fk_graph *g, fk_node *n)
{
    const fk_shape *a = in_shape(g, n, 0);
    const fk_shape *b = in_shape(g, n, 1);

    if (a->n < 2 || b->n < 2 || a->d[a->n - 1] != b->d[b->n - 2])
        return bad(g, n, "the matrices don't fit");
    TRY(broadcast(g, n, a, b, 2));
    n->shape.d[n->shape.n - 2] = a->d[a->n - 2];
    n->shape.d[n->shape.n - 1] = b->d[b->n - 1];
    return FERKD_OK;
}

static ferkd_status infer_transpose(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    unsigned seen = 0;

    n->shape.n = in->n;
    for (int i = 0; i < in->n; i++) {
        int from = n->u.transpose.perm[i];
        if (from < 0 || from >= in->n || (seen >> from & 1u))
            return bad(g, n, "perm is no permutation");
        seen |= 1u << from;
        n->shape.d[i] = in->d[from];
    }
    return FERKD_OK;
}

static ferkd_status infer_concat(const fk_graph *g, fk_node *n)
{
    int axis = n->u.axis.axis;

    n->shape = *in_shape(g, n, 0);
    if (axis < 0 || axis >= n->shape.n)
        return bad(g, n, "axis out of range");
    for (int i = 1; i < n->n_in; i++) {
        fk_shape s = *in_shape(g, n, i);
        if (s.n != n->shape.n)
            return bad(g, n, "inputs of different ranks");
        n->shape.d[axis] += s.d[axis];
        s.d[axis] = n->shape.d[axis];
        if (!fk_shape_equal(&s, &n->shape))
            return bad(g, n, "inputs differ beside the axis");
    }
    return FERKD_OK;
}

static ferkd_status infer_slice(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    int axis = n->u.axis.axis;
    int64_t count = n->shape.d[0]; /* the proto brings the number of elements here */

    if (axis < 0 || axis >= in->n || count < 1)
        return bad(g, n, "an empty slice, or an axis out of range");
    int64_t last = n->u.axis.start + (count - 1) * n->u.axis.step;
    if (n->u.axis.start < 0 || n->u.axis.start >= in->d[axis] || last < 0 || last >= in->d[axis])
        return bad(g, n, "the slice leaves the tensor");
    n->shape = *in;
    n->shape.d[axis] = count;
    return FERKD_OK;
}

static ferkd_status infer_pad(const fk_graph *g, fk_node *n)
{
    n->shape = *in_shape(g, n, 0);
    for (int i = 0; i < n->shape.n; i++) {
        if (n->u.pad.begin[i] < 0 || n->u.pad.end[i] < 0 || n->u.pad.begin[i] > (1 << 20) ||
            n->u.pad.end[i] > (1 << 20))
            return bad(g, n, "padding out of range");
        n->shape.d[i] += n->u.pad.begin[i] + n->u.pad.end[i];
    }
    return FERKD_OK;
}

static ferkd_status infer_layernorm(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);

    if (in->n < 1)
        return bad(g, n, "LayerNorm needs a dimension");
    for (int i = 0; i < 2; i++) {
        if (n->param[i] >= 0 && g->params[n->param[i]].count != (size_t)in->d[in->n - 1])
            return bad(g, n, "one weight and bias for each value of a row is needed");
    }
    n->shape = *in;
    return FERKD_OK;
}

static ferkd_status infer_attention(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    int64_t heads = n->u.attention.heads;

    if (in->n != 3 || heads < 1 || in->d[2] % (3 * heads))
        return bad(g, n, "attention needs [batch, tokens, 3 heads width]");
    n->shape = *in;
    n->shape.d[2] /= 3;
    if (n->n_in < 2)
        return FERKD_OK;
    const fk_shape *b = in_shape(g, n, 1);
    if (b->n != 4 || (b->d[1] != heads && b->d[1] != 1) || b->d[2] != in->d[1] ||
        b->d[3] != in->d[1] || in->d[0] % b->d[0])
        return bad(g, n, "what is added to the scores has another shape");
    return FERKD_OK;
}

static ferkd_status infer_expand(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);

    if (n->shape.n < in->n)
        return bad(g, n, "an expansion to fewer dimensions");
    for (int i = 0; i < in->n; i++) {
        int64_t d = in->d[in->n - 1 - i];
        if (d != 1 && d != n->shape.d[n->shape.n - 1 - i])
            return bad(g, n, "only dimensions of 1 can be expanded");
    }
    return FERKD_OK;
}

static ferkd_status infer_gather(const fk_graph *g, fk_node *n)
{
    const fk_shape *in = in_shape(g, n, 0);
    const fk_shape *index = &g->params[n->param[0]].shape;
    int axis = n->u.axis.axis;

    if (axis < 0 || axis >= in->n || in->n - 1 + index->n > FK_MAX_DIMS)
        return bad(g, n, "axis out of range, or too many dimensions");
    n->shape = (fk_shape){.n = 0};
    for (int i = 0; i < axis; i++)
        n->shape.d[n->shape.n++] = in->d[i];
    for (int i = 0; i < index->n; i++)
        n->shape.d[n->shape.n++] = index->d[i];
    for (int i = axis + 1; i < in->n; i++)
        n->shape.d[n->shape.n++] = in->d[i];
    return FERKD_OK;
}

static ferkd_status infer_select(const fk_graph *g, fk_node *n)
{
    for (int i = 1; i < 3; i++) {
        if (!fk_shape_equal(in_shape(g, n, 0), in_shape(g, n, i)))
            return bad(g, n, "condition and values differ in shape");
    }
    n->shape = *in_shape(g, n, 0);
    return FERKD_OK;
}

ferkd_status fk_shape_infer(const fk_graph *g, fk_node *n)
{
    switch (n->op) {
    case FK_CONV:
        return infer_conv(g, n);
    case FK_BATCHNORM:
        return infer_norm(g, n);
    case FK_BINARY:
        return broadcast(g, n, in_shape(g, n, 0), in_shape(g, n, 1), 0);
    case FK_POOL:
        return infer_pool(g, n);
    case FK_REDUCE:
        return infer_reduce(g, n);
    case FK_DENSE:
        return infer_dense(g, n);
    case FK_MATMUL:
        return infer_matmul(g, n);
    case FK_TRANSPOSE:
        return infer_transpose(g, n);
    case FK_CONCAT:
        return infer_concat(g, n);
    case FK_SLICE:
        return infer_slice(g, n);
    case FK_PAD:
        return infer_pad(g, n);
    case FK_RESHAPE:
        if (fk_shape_count(&n->shape) != fk_shape_count(in_shape(g, n, 0)))
            return bad(g, n, "the number of elements changes");
        return FERKD_OK;
    case FK_CONST:
        n->shape = g->params[n->param[0]].shape;
        return FERKD_OK;
    case FK_SOFTMAX:
        if (n->u.axis.axis < 0 || n->u.axis.axis >= in_shape(g, n, 0)->n)
            return bad(g, n, "axis out of range");
        n->shape = *in_shape(g, n, 0);
        return FERKD_OK;
    case FK_ACT:
    case FK_DROPOUT:
        n->shape = *in_shape(g, n, 0);
        return FERKD_OK;
    case FK_LAYERNORM:
        return infer_layernorm(g, n);
    case FK_ATTENTION:
        return infer_attention(g, n);
    case FK_EXPAND:
        return infer_expand(g, n);
    case FK_GATHER:
        return infer_gather(g, n);
    case FK_SELECT:
        return infer_select(g, n);
    case FK_INPUT:
    case FK_OP_COUNT:
        break;
    }
    return FERKD_OK;
}
