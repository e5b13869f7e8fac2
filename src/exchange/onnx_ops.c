/* ONNX operators to nodes of the graph, opsets 7 to 23. */
#include "base/compat.h"

#include "exchange/onnx_graph.h"

#include "base/mem.h"

/* --- helpers --------------------------------------------------------------------------------- */

static const char *out_name(const fk_reader *r)
{
    return r->node->n_output ? r->node->output[0] : "?";
}

/* Add n and call output 0 by its name. */
static ferkd_status emit(fk_reader *r, fk_node *n)
{
    int id;

    n->name = n->name ? n->name : out_name(r);
    TRY(fk_graph_add(r->g, n, &id));
    return fk_reader_set(r, out_name(r), NULL, id);
}

/* Output 0 is the value of node id. */
static ferkd_status alias(fk_reader *r, int id)
{
    return fk_reader_set(r, out_name(r), NULL, id);
}

/* A constant as a parameter of the graph. */
static ferkd_status param_of(fk_reader *r, const fk_constant *c, const char *name,
                             fk_param_kind kind, int *id)
{
    if (!c->real)
        return fk_reader_refuse(r, "a weight of integers");
    return fk_graph_param(r->g, name, c->shape, kind, c->f, id);
}

/* Input i as a node: constants become FK_CONST nodes. */
static ferkd_status node_of(fk_reader *r, size_t i, int *id)
{
    const fk_value *v = fk_input(r, i);
    fk_node n = {.op = FK_CONST, .param = {-1, -1, -1, -1}};

    if (!v)
        return fk_reader_refuse(r, "an input is missing");
    if (!v->constant) {
        *id = v->node;
        return FERKD_OK;
    }
    TRY(param_of(r, v->constant, v->name, FK_BUFFER, &n.param[0]));
    n.name = v->name;
    return fk_graph_add(r->g, &n, id);
}

/* The one constant input i, as a parameter; -1 if it is left out. */
static ferkd_status param_input(fk_reader *r, size_t i, fk_param_kind kind, int *id)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    *id = -1;
    if (bad)
        return fk_reader_refuse(r, "a weight is computed while running");
    return c ? param_of(r, c, r->node->input[i], kind, id) : FERKD_OK;
}

/* A scalar from an attribute (old opsets) or a constant input (new ones). */
static ferkd_status scalar(fk_reader *r, const char *name, size_t i, float initial, float *out)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    if (bad || (c && fk_shape_count(&c->shape) != 1))
        return fk_reader_refuse(r, "a bound is computed while running");
    *out = c ? (float)fk_constant_get(c, 0) : fk_attr_float(r, name, initial);
    return FERKD_OK;
}

static fk_shape shape_of(const fk_reader *r, int id)
{
    return r->g->nodes[id].shape;
}

/* --- windows --------------------------------------------------------------------------------- */

static ferkd_status pair(const fk_reader *r, const char *name, int64_t initial, int64_t *out)
{
    int n;

    out[0] = out[1] = initial;
    TRY(fk_ints(r, name, SIZE_MAX, out, 2, &n));
    return n == 0 || n == 2 ? FERKD_OK : fk_reader_refuse(r, "only two-dimensional windows");
}

/* Strides, dilations and padding, with auto_pad and ceil_mode worked out for input `in`. */
static ferkd_status read_window(const fk_reader *r, const fk_shape *in, fk_window *w)
{
    const Onnx__AttributeProto *a = fk_attr(r, "auto_pad");
    int64_t pads[4] = {0};
    int n;

    if (in->n != 4)
        return fk_reader_refuse(r, "only images (N C H W)");
    TRY(pair(r, "strides", 1, w->stride));
    TRY(pair(r, "dilations", 1, w->dilation));
    TRY(fk_ints(r, "pads", SIZE_MAX, pads, 4, &n));
    bool same = a && a->has_s && a->s.len > 4 && memcmp(a->s.data, "SAME", 4) == 0;
    bool lower = same && a->s.len == 10 && memcmp(a->s.data, "SAME_LOWER", 10) == 0;
    bool ceiling = fk_attr_int(r, "ceil_mode", 0) != 0;
    for (int i = 0; i < 2; i++) {
        if (w->stride[i] < 1 || w->dilation[i] < 1 || w->kernel[i] < 1 || w->stride[i] > 65536 ||
            w->dilation[i] > 65536 || w->kernel[i] > 65536)
            return fk_reader_refuse(r, "a window out of range");
        int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t d = in->d[2 + i];
        w->begin[i] = pads[i];
        w->end[i] = pads[2 + i];
        if (same) {
            int64_t out = (d + w->stride[i] - 1) / w->stride[i];
            int64_t need = (out - 1) * w->stride[i] + span - d;
            need = need < 0 ? 0 : need;
            w->begin[i] = lower ? (need + 1) / 2 : need / 2;
            w->end[i] = need - w->begin[i];
        } else if (ceiling) { /* the last window may hang over, but must begin inside */
            int64_t over = (d + w->begin[i] + w->end[i] - span) % w->stride[i];
            int64_t out = (d + w->begin[i] + w->end[i] - span) / w->stride[i] + 1;
            if (over && out * w->stride[i] < d + w->begin[i])
                w->end[i] += w->stride[i] - over;
        }
    }
    return FERKD_OK;
}

/* Zero padding of H and W before a convolution becomes the convolution's own. */
static int absorb_pad(const fk_reader *r, int x, fk_window *w)
{
    const fk_node *n = &r->g->nodes[x];

    if (n->op != FK_PAD || n->u.pad.value != 0.0f || n->shape.n != 4)
        return x;
    for (int i = 0; i < 2; i++) {
        if (n->u.pad.begin[i] || n->u.pad.end[i])
            return x;
    }
    for (int i = 0; i < 2; i++) {
        w->begin[i] += n->u.pad.begin[2 + i];
        w->end[i] += n->u.pad.end[2 + i];
    }
    return n->in[0];
}

static ferkd_status import_conv(fk_reader *r)
{
    fk_node n = {.op = FK_CONV, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    TRY(param_input(r, 1, FK_WEIGHT, &n.param[0]));
    TRY(param_input(r, 2, FK_BIAS, &n.param[1]));
    if (n.param[0] < 0 || r->g->params[n.param[0]].shape.n != 4)
        return fk_reader_refuse(r, "only two-dimensional convolutions");
    n.u.conv.groups = fk_attr_int(r, "group", 1);
    for (int i = 0; i < 2; i++)
        n.u.conv.window.kernel[i] = r->g->params[n.param[0]].shape.d[2 + i];
    fk_shape in = shape_of(r, x);
    TRY(read_window(r, &in, &n.u.conv.window));
    x = absorb_pad(r, x, &n.u.conv.window);
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_pool(fk_reader *r)
{
    bool max = strcmp(r->node->op_type, "MaxPool") == 0;
    fk_node n = {.op = FK_POOL, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    if (r->node->n_output > 1 && *r->node->output[1])
        return fk_reader_refuse(r, "MaxPool's indices are not supported");
    TRY(pair(r, "kernel_shape", 1, n.u.pool.window.kernel));
    fk_shape in = shape_of(r, x);
    TRY(read_window(r, &in, &n.u.pool.window));
    n.u.pool.max = max;
    n.u.pool.include_pad = fk_attr_int(r, "count_include_pad", 0) != 0;
    if (n.u.pool.include_pad && fk_attr_int(r, "ceil_mode", 0) != 0)
        return fk_reader_refuse(r, "count_include_pad together with ceil_mode");
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_global_pool(fk_reader *r)
{
    int x;

    TRY(node_of(r, 0, &x));
    fk_shape s = shape_of(r, x);
    if (s.n != 4)
        return fk_reader_refuse(r, "only images (N C H W)");
    if (strcmp(r->node->op_type, "GlobalAveragePool") == 0) {
        fk_node n = {.op = FK_MEAN,
                     .in = &x,
                     .n_in = 1,
                     .param = {-1, -1, -1, -1},
                     .u.mean = {1u << 2 | 1u << 3, true}};
        return emit(r, &n);
    }
    fk_node n = {
        .op = FK_POOL,
        .in = &x,
        .n_in = 1,
        .param = {-1, -1, -1, -1},
        .u.pool = {.window = {.kernel = {s.d[2], s.d[3]}, .stride = {1, 1}, .dilation = {1, 1}},
                   .max = true}};
    return emit(r, &n);
}

static ferkd_status import_mean(fk_reader *r)
{
    int64_t axes[FK_MAX_DIMS];
    int n_axes;
    fk_node n = {.op = FK_MEAN, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    TRY(fk_ints(r, "axes", 1, axes, FK_MAX_DIMS, &n_axes));
    int rank = shape_of(r, x).n;
    if (n_axes == 0 && fk_attr_int(r, "noop_with_empty_axes", 0))
        return alias(r, x);
    for (int i = 0; i < n_axes; i++) {
        int axis;
        TRY(fk_axis(r, axes[i], rank, &axis));
        n.u.mean.axes |= 1u << axis;
    }
    if (n_axes == 0)
        n.u.mean.axes = (1u << rank) - 1;
    n.u.mean.keep = fk_attr_int(r, "keepdims", 1) != 0;
    n.in = &x;
    return emit(r, &n);
}

/* --- activations ----------------------------------------------------------------------------- */

static ferkd_status act(fk_reader *r, fk_act kind, float a, float b)
{
    int x;
    fk_node n = {.op = FK_ACT, .n_in = 1, .param = {-1, -1, -1, -1}, .u.act = {kind, a, b}};

    TRY(node_of(r, 0, &x));
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_act(fk_reader *r)
{
    const char *op = r->node->op_type;
    const Onnx__AttributeProto *how;
    float low = 0;
    float high = 0;

    if (strcmp(op, "Relu") == 0)
        return act(r, FK_RELU, 0, 0);
    if (strcmp(op, "Sigmoid") == 0)
        return act(r, FK_SIGMOID, 0, 0);
    if (strcmp(op, "Tanh") == 0)
        return act(r, FK_TANH, 0, 0);
    if (strcmp(op, "Erf") == 0)
        return act(r, FK_ERF, 0, 0);
    if (strcmp(op, "HardSwish") == 0)
        return act(r, FK_HARDSWISH, 0, 0);
    if (strcmp(op, "LeakyRelu") == 0)
        return act(r, FK_LEAKY, fk_attr_float(r, "alpha", 0.01f), 0);
    if (strcmp(op, "Elu") == 0)
        return act(r, FK_ELU, fk_attr_float(r, "alpha", 1.0f), 0);
    if (strcmp(op, "HardSigmoid") == 0)
        return act(r, FK_HARDSIGMOID, fk_attr_float(r, "alpha", 0.2f),
                   fk_attr_float(r, "beta", 0.5f));
    if (strcmp(op, "Gelu") == 0) {
        how = fk_attr(r, "approximate");
        bool tanh_form = how && how->has_s && how->s.len == 4;
        return act(r, tanh_form ? FK_GELU_TANH : FK_GELU, 0, 0);
    }
    TRY(scalar(r, "min", 1, -3.4e38f, &low)); /* Clip */
    TRY(scalar(r, "max", 2, 3.4e38f, &high));
    return act(r, FK_CLIP, low, high);
}

/* x * sigmoid(x) is one activation. */
static int silu_of(const fk_reader *r, int a, int b)
{
    for (int k = 0; k < 2; k++) {
        const fk_node *n = &r->g->nodes[k ? a : b];
        int x = k ? b : a;
        if (n->op == FK_ACT && n->u.act.kind == FK_SIGMOID && n->in[0] == x)
            return x;
    }
    return -1;
}

static ferkd_status import_binary(fk_reader *r)
{
    static const char *const OPS[] = {"Add", "Sub", "Mul", "Div"};
    fk_node n = {.op = FK_BINARY, .n_in = 2, .param = {-1, -1, -1, -1}};
    int in[2];

    TRY(node_of(r, 0, &in[0]));
    TRY(node_of(r, 1, &in[1]));
    for (size_t i = 0; i < FK_COUNT(OPS); i++) {
        if (strcmp(OPS[i], r->node->op_type) == 0)
            n.u.binary.kind = (fk_binary)i;
    }
    int x = n.u.binary.kind == FK_MUL ? silu_of(r, in[0], in[1]) : -1;
    if (x >= 0) {
        fk_node silu = {
            .op = FK_ACT, .in = &x, .n_in = 1, .param = {-1, -1, -1, -1}, .u.act = {FK_SILU, 0, 0}};
        return emit(r, &silu);
    }
    n.in = in;
    return emit(r, &n);
}

static ferkd_status import_norm(fk_reader *r)
{
    static const fk_param_kind KINDS[] = {FK_NORM_WEIGHT, FK_BIAS, FK_BUFFER, FK_BUFFER};
    fk_node n = {.op = FK_BATCHNORM, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    if (fk_attr_int(r, "training_mode", 0))
        return fk_reader_refuse(r, "export the model in eval mode");
    for (size_t i = 0; i < 4; i++) {
        TRY(param_input(r, i + 1, KINDS[i], &n.param[i]));
        if (n.param[i] < 0)
            return fk_reader_refuse(r, "an input is missing");
    }
    n.u.norm.eps = (double)fk_attr_float(r, "epsilon", 1e-5f);
    n.u.norm.momentum = 1.0 - (double)fk_attr_float(r, "momentum", 0.9f);
    n.in = &x;
    return emit(r, &n);
}

/* --- matrices -------------------------------------------------------------------------------- */

/* A weight [out, in] from a constant matrix, turned over where it is [in, out], scaled. */
static ferkd_status matrix(fk_reader *r, const fk_constant *c, bool turn, float scale, int *id)
{
    int64_t rows = c->shape.d[0];
    int64_t cols = c->shape.d[1];
    fk_shape to = fk_shape_of(2, turn ? cols : rows, turn ? rows : cols);
    fk_constant *w = NULL;

    TRY(fk_constant_new(&w, true, &to));
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < cols; k++)
            w->f[turn ? k * rows + i : i * cols + k] = c->f[i * cols + k] * scale;
    }
    ferkd_status st = param_of(r, w, r->node->input[1], FK_WEIGHT, id);
    fk_constant_free(w);
    return st;
}

static ferkd_status import_gemm(fk_reader *r)
{
    fk_node n = {.op = FK_DENSE, .n_in = 1, .param = {-1, -1, -1, -1}};
    bool bad;
    const fk_constant *b = fk_input_constant(r, 1, &bad);
    int x;

    TRY(node_of(r, 0, &x));
    if (bad || !b || !b->real || b->shape.n != 2 || fk_attr_int(r, "transA", 0))
        return fk_reader_refuse(r, "only a constant second matrix, the first not transposed");
    TRY(matrix(r, b, !fk_attr_int(r, "transB", 0), fk_attr_float(r, "alpha", 1.0f), &n.param[0]));
    TRY(param_input(r, 2, FK_BIAS, &n.param[1]));
    if (n.param[1] >= 0) {
        fk_param *p = &r->g->params[n.param[1]];
        float beta = fk_attr_float(r, "beta", 1.0f);
        for (size_t i = 0; i < p->count; i++)
            p->given[i] *= beta;
    }
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_matmul(fk_reader *r)
{
    bool bad;
    const fk_constant *b = fk_input_constant(r, 1, &bad);
    int in[2];

    TRY(node_of(r, 0, &in[0]));
    if (b && b->real && b->shape.n == 2) {
        fk_node n = {.op = FK_DENSE, .in = in, .n_in = 1, .param = {-1, -1, -1, -1}};
        TRY(matrix(r, b, true, 1.0f, &n.param[0]));
        return emit(r, &n);
    }
    TRY(node_of(r, 1, &in[1]));
    fk_node n = {.op = FK_MATMUL, .in = in, .n_in = 2, .param = {-1, -1, -1, -1}};
    return emit(r, &n);
}

/* --- moving elements ------------------------------------------------------------------------- */

static ferkd_status reshape(fk_reader *r, int x, const fk_shape *to)
{
    fk_node n = {.op = FK_RESHAPE, .in = &x, .n_in = 1, .param = {-1, -1, -1, -1}, .shape = *to};

    return emit(r, &n);
}

static ferkd_status import_flatten(fk_reader *r)
{
    int x;
    fk_shape to = fk_shape_of(2, (int64_t)1, (int64_t)1);

    TRY(node_of(r, 0, &x));
    fk_shape s = shape_of(r, x);
    int64_t axis = fk_attr_int(r, "axis", 1);
    axis = axis < 0 ? axis + s.n : axis;
    for (int i = 0; i < s.n; i++)
        to.d[i >= axis] *= s.d[i];
    return reshape(r, x, &to);
}

static ferkd_status import_reshape(fk_reader *r)
{
    int x;
    fk_shape to;

    TRY(node_of(r, 0, &x));
    fk_shape in = shape_of(r, x);
    TRY(fk_reshape_target(r, &in, &to));
    return reshape(r, x, &to);
}

static ferkd_status import_squeeze(fk_reader *r)
{
    int64_t axes[FK_MAX_DIMS];
    int n_axes;
    unsigned marked = 0;
    bool grow = strcmp(r->node->op_type, "Unsqueeze") == 0;
    fk_shape to = {0};
    int x;

    TRY(node_of(r, 0, &x));
    TRY(fk_ints(r, "axes", 1, axes, FK_MAX_DIMS, &n_axes));
    fk_shape s = shape_of(r, x);
    int rank = grow ? s.n + n_axes : s.n;
    if (rank > FK_MAX_DIMS)
        return fk_reader_refuse(r, "too many dimensions");
    for (int i = 0; i < n_axes; i++) {
        int axis;
        TRY(fk_axis(r, axes[i], rank, &axis));
        marked |= 1u << axis;
    }
    for (int i = 0, k = 0; i < rank; i++) {
        bool mark = marked >> i & 1u;
        if (grow) {
            if (!mark && k >= s.n)
                return fk_reader_refuse(r, "an axis is given twice");
            to.d[to.n++] = mark ? 1 : s.d[k++];
        } else if (!(n_axes ? mark : s.d[i] == 1)) {
            to.d[to.n++] = s.d[i];
        }
    }
    return reshape(r, x, &to);
}

static ferkd_status import_transpose(fk_reader *r)
{
    int64_t perm[FK_MAX_DIMS];
    int given;
    fk_node n = {.op = FK_TRANSPOSE, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    TRY(fk_ints(r, "perm", SIZE_MAX, perm, FK_MAX_DIMS, &given));
    int rank = shape_of(r, x).n;
    if (given && given != rank)
        return fk_reader_refuse(r, "perm is no permutation");
    for (int i = 0; i < rank; i++)
        n.u.transpose.perm[i] = given ? (int)perm[i] : rank - 1 - i;
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_concat(fk_reader *r)
{
    fk_node n = {.op = FK_CONCAT, .n_in = (int)r->node->n_input, .param = {-1, -1, -1, -1}};
    int *in = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&in, r->node->n_input, sizeof *in, "a concatenation"));
    for (size_t i = 0; i < r->node->n_input; i++)
        TRY_DONE(node_of(r, i, &in[i]));
    if (n.n_in < 1) {
        st = fk_reader_refuse(r, "an input is missing");
        goto done;
    }
    TRY_DONE(fk_axis(r, fk_attr_int(r, "axis", 1), shape_of(r, in[0]).n, &n.u.axis.axis));
    n.in = in;
    TRY_DONE(emit(r, &n));
done:
    free(in);
    return st;
}

/* One axis of node x cut to count elements. */
static ferkd_status slice_node(fk_reader *r, int x, int axis, int64_t first, int64_t count,
                               int64_t step, const char *name, int *out)
{
    fk_node n = {.op = FK_SLICE,
                 .name = name,
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .shape = fk_shape_of(1, count),
                 .u.axis = {axis, first, step}};

    return fk_graph_add(r->g, &n, out);
}

static ferkd_status import_slice(fk_reader *r)
{
    int64_t starts[FK_MAX_DIMS];
    int64_t ends[FK_MAX_DIMS];
    int64_t axes[FK_MAX_DIMS];
    int64_t steps[FK_MAX_DIMS];
    int n_starts;
    int n_ends;
    int n_axes;
    int n_steps;
    int x;

    TRY(node_of(r, 0, &x));
    TRY(fk_ints(r, "starts", 1, starts, FK_MAX_DIMS, &n_starts));
    TRY(fk_ints(r, "ends", 2, ends, FK_MAX_DIMS, &n_ends));
    TRY(fk_ints(r, "axes", 3, axes, FK_MAX_DIMS, &n_axes));
    TRY(fk_ints(r, "steps", 4, steps, FK_MAX_DIMS, &n_steps));
    for (int i = 0; i < n_starts && i < n_ends; i++) {
        fk_shape s = shape_of(r, x);
        int axis;
        int64_t first;
        int64_t count;
        int64_t step = i < n_steps ? steps[i] : 1;
        TRY(fk_axis(r, i < n_axes ? axes[i] : i, s.n, &axis));
        TRY(fk_slice_range(r, starts[i], ends[i], step, s.d[axis], &first, &count));
        if (first != 0 || count != s.d[axis] || step != 1)
            TRY(slice_node(r, x, axis, first, count, step, out_name(r), &x));
    }
    return alias(r, x);
}

static ferkd_status import_split(fk_reader *r)
{
    enum { MAX_PARTS = 64 };

    int64_t parts[MAX_PARTS];
    int n_parts;
    int axis;
    int x;
    int n_out = (int)r->node->n_output;

    TRY(node_of(r, 0, &x));
    TRY(fk_ints(r, "split", 1, parts, MAX_PARTS, &n_parts));
    fk_shape s = shape_of(r, x);
    TRY(fk_axis(r, fk_attr_int(r, "axis", 0), s.n, &axis));
    if (n_out < 1 || n_out > MAX_PARTS || (n_parts && n_parts != n_out))
        return fk_reader_refuse(r, "split and outputs don't fit together");
    int64_t each = (s.d[axis] + n_out - 1) / n_out;
    int64_t at = 0;
    for (int i = 0; i < n_out; i++) {
        int64_t count = n_parts ? parts[i] : each;
        int id;
        if (!n_parts && at + count > s.d[axis])
            count = s.d[axis] - at;
        TRY(slice_node(r, x, axis, at, count, 1, r->node->output[i], &id));
        TRY(fk_reader_set(r, r->node->output[i], NULL, id));
        at += count;
    }
    return FERKD_OK;
}

static ferkd_status import_pad(fk_reader *r)
{
    const Onnx__AttributeProto *mode = fk_attr(r, "mode");
    int64_t pads[2 * FK_MAX_DIMS];
    int64_t axes[FK_MAX_DIMS];
    int n_pads;
    int n_axes;
    fk_node n = {.op = FK_PAD, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(node_of(r, 0, &x));
    if (mode && mode->has_s && (mode->s.len != 8 || memcmp(mode->s.data, "constant", 8) != 0))
        return fk_reader_refuse(r, "only constant padding");
    TRY(fk_ints(r, "pads", 1, pads, 2 * FK_MAX_DIMS, &n_pads));
    TRY(fk_ints(r, "axes", 3, axes, FK_MAX_DIMS, &n_axes));
    TRY(scalar(r, "value", 2, 0.0f, &n.u.pad.value));
    int rank = shape_of(r, x).n;
    int count = n_axes ? n_axes : rank;
    if (n_pads != 2 * count)
        return fk_reader_refuse(r, "pads and axes don't fit together");
    for (int i = 0; i < count; i++) {
        int axis;
        TRY(fk_axis(r, n_axes ? axes[i] : i, rank, &axis));
        n.u.pad.begin[axis] = pads[i];
        n.u.pad.end[axis] = pads[count + i];
    }
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_softmax(fk_reader *r)
{
    fk_node n = {.op = FK_SOFTMAX, .n_in = 1, .param = {-1, -1, -1, -1}};
    bool old = r->opset < 13; /* there the axis and all behind it are one */
    int x;

    TRY(node_of(r, 0, &x));
    fk_shape s = shape_of(r, x);
    TRY(fk_axis(r, fk_attr_int(r, "axis", old ? 1 : -1), s.n, &n.u.axis.axis));
    if (old && n.u.axis.axis != s.n - 1)
        return fk_reader_refuse(r, "a softmax over several dimensions");
    n.in = &x;
    return emit(r, &n);
}

static ferkd_status import_identity(fk_reader *r)
{
    int x;

    if (strcmp(r->node->op_type, "Cast") == 0 && fk_attr_int(r, "to", 1) != 1)
        return fk_reader_refuse(r, "only casts to float");
    TRY(node_of(r, 0, &x));
    return alias(r, x);
}

static const struct {
    const char *op;
    ferkd_status (*import)(fk_reader *r);
} OPS[] = {
    {"Conv", import_conv},
    {"BatchNormalization", import_norm},
    {"Relu", import_act},
    {"Clip", import_act},
    {"Sigmoid", import_act},
    {"HardSwish", import_act},
    {"HardSigmoid", import_act},
    {"LeakyRelu", import_act},
    {"Elu", import_act},
    {"Gelu", import_act},
    {"Tanh", import_act},
    {"Erf", import_act},
    {"Add", import_binary},
    {"Sub", import_binary},
    {"Mul", import_binary},
    {"Div", import_binary},
    {"MaxPool", import_pool},
    {"AveragePool", import_pool},
    {"GlobalAveragePool", import_global_pool},
    {"GlobalMaxPool", import_global_pool},
    {"ReduceMean", import_mean},
    {"Gemm", import_gemm},
    {"MatMul", import_matmul},
    {"Flatten", import_flatten},
    {"Reshape", import_reshape},
    {"Transpose", import_transpose},
    {"Squeeze", import_squeeze},
    {"Unsqueeze", import_squeeze},
    {"Concat", import_concat},
    {"Split", import_split},
    {"Slice", import_slice},
    {"Pad", import_pad},
    {"Softmax", import_softmax},
    {"Dropout", import_identity},
    {"Identity", import_identity},
    {"Cast", import_identity},
};

ferkd_status fk_import_node(fk_reader *r)
{
    for (size_t i = 0; i < FK_COUNT(OPS); i++) {
        if (strcmp(OPS[i].op, r->node->op_type) == 0)
            return OPS[i].import(r);
    }
    return fk_reader_refuse(r, "this operator is not supported");
}
