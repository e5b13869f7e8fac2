/* The ops of a graph as ONNX nodes, opsets 13 to 18. */
#include "base/compat.h"

#include "exchange/onnx_writer.h"

/* --- the ops --------------------------------------------------------------------------------- */

/* Weight and bias of node id, as they are or from 8 bits: their names. */
static void weight_names(fk_writer *w, int id, char *names[2])
{
    const fk_node *from = &w->g->nodes[id];

    if (fk_writer_has_bytes(w, from)) {
        fk_writer_quantised_params(w, id, names);
        return;
    }
    for (int i = 0; i < 2; i++)
        names[i] = from->param[i] < 0 ? NULL : fk_writer_param(w, from->param[i]);
}

static void set_params(fk_writer *w, Onnx__NodeProto *n, const fk_node *from, size_t first,
                       int count)
{
    for (int i = 0; n && i < count; i++)
        n->input[first + (size_t)i] = fk_writer_param(w, from->param[i]);
}

static void write_window(fk_writer *w, Onnx__NodeProto *n, const fk_window *v)
{
    int64_t pads[4] = {v->begin[0], v->begin[1], v->end[0], v->end[1]};

    fk_writer_ints(w, n, "kernel_shape", v->kernel, 2);
    fk_writer_ints(w, n, "strides", v->stride, 2);
    fk_writer_ints(w, n, "pads", pads, 4);
}

static void write_conv(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    size_t params = from->param[1] >= 0 ? 2 : 1;
    char *names[2] = {NULL, NULL};

    weight_names(w, id, names);
    Onnx__NodeProto *n = fk_writer_node(w, "Conv", id, 1 + params);
    if (!n)
        return;
    memcpy(n->input + 1, names, params * sizeof *names);
    write_window(w, n, &from->u.conv.window);
    fk_writer_ints(w, n, "dilations", from->u.conv.window.dilation, 2);
    fk_writer_int(w, n, "group", from->u.conv.groups);
}

/* Those that opset 13 has no operator for. */
static bool write_composed(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    char *x = fk_writer_value(w, from->in[0]);
    char *y;

    switch (from->u.act.kind) {
    case FK_SILU:
        y = fk_writer_apply(w, "Sigmoid", id, false, x, NULL);
        break;
    case FK_HARDSWISH: {
        Onnx__NodeProto *n = fk_writer_step(w, "HardSigmoid", id, false, &x, 1);
        if (n) {
            fk_writer_float(w, n, "alpha", 1.0 / 6.0);
            fk_writer_float(w, n, "beta", 0.5);
        }
        y = n ? n->output[0] : NULL;
        break;
    }
    case FK_MISH:
        y = fk_writer_apply(w, "Softplus", id, false, x, NULL);
        y = fk_writer_apply(w, "Tanh", id, false, y, NULL);
        break;
    case FK_GELU: /* 0.5 (1 + erf(x / sqrt(2))) */
        y = fk_writer_apply(w, "Div", id, false, x, fk_writer_setting(w, id, "root", sqrt(2.0)));
        y = fk_writer_apply(w, "Erf", id, false, y, NULL);
        y = fk_writer_apply(w, "Add", id, false, y, fk_writer_setting(w, id, "one", 1.0));
        y = fk_writer_apply(w, "Mul", id, false, y, fk_writer_setting(w, id, "half", 0.5));
        break;
    case FK_GELU_TANH: /* 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
        y = fk_writer_apply(w, "Mul", id, false, x, x);
        y = fk_writer_apply(w, "Mul", id, false, y,
                            fk_writer_setting(w, id, "cubic", 0.035677408136300125));
        y = fk_writer_apply(w, "Add", id, false, y,
                            fk_writer_setting(w, id, "linear", 0.7978845608028654));
        y = fk_writer_apply(w, "Mul", id, false, y, x);
        y = fk_writer_apply(w, "Tanh", id, false, y, NULL);
        y = fk_writer_apply(w, "Add", id, false, y, fk_writer_setting(w, id, "one", 1.0));
        y = fk_writer_apply(w, "Mul", id, false, y, fk_writer_setting(w, id, "half", 0.5));
        break;
    default:
        return false;
    }
    (void)fk_writer_apply(w, "Mul", id, true, x, y);
    return true;
}

/* For OpenCV 4.6, which reads no Clip with inputs: high HardSigmoid(x / high). */
static bool write_relu6(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    double high = (double)from->u.act.b;

    if (!w->for_opencv4 || from->u.act.kind != FK_CLIP || from->u.act.a < 0.0f ||
        from->u.act.a > 0.0f || !isfinite(high) || high <= 0.0)
        return false;
    char *x = fk_writer_value(w, from->in[0]);
    Onnx__NodeProto *n = fk_writer_step(w, "HardSigmoid", id, false, &x, 1);
    if (!n)
        return true;
    fk_writer_float(w, n, "alpha", 1.0 / high);
    fk_writer_float(w, n, "beta", 0.0);
    (void)fk_writer_apply(w, "Mul", id, true, n->output[0], fk_writer_setting(w, id, "high", high));
    return true;
}

/* What 8 bits keep of a value: there and back. */
static bool write_levels(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];

    if (from->u.act.kind != FK_LEVELS)
        return false;
    if (w->half) {
        w->st =
            fk_fail(FERKD_UNSUPPORTED,
                    "%s: values are in 8 bits already, which ONNX has not beside float16", w->path);
        return true;
    }
    Onnx__TensorProto *zero = fk_writer_tensor(w, fk_writer_text(w, "v%d_zero", id), 0, NULL);
    uint8_t *byte = fk_writer_take(w, 1, 1);
    if (!zero || !byte)
        return true;
    *byte = (uint8_t)-from->u.act.b;
    zero->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
    zero->raw_data.data = byte;
    zero->raw_data.len = 1;
    char *in[3] = {fk_writer_value(w, from->in[0]),
                   fk_writer_setting(w, id, "scale", (double)from->u.act.a), zero->name};
    Onnx__NodeProto *n = fk_writer_step(w, "QuantizeLinear", id, false, in, 3);
    in[0] = n ? n->output[0] : NULL;
    (void)fk_writer_step(w, "DequantizeLinear", id, true, in, 3);
    return true;
}

static void write_act(fk_writer *w, int id)
{
    static const char *const NAMES[FK_ACT_COUNT] = {
        [FK_RELU] = "Relu",         [FK_CLIP] = "Clip",
        [FK_SIGMOID] = "Sigmoid",   [FK_LEAKY] = "LeakyRelu",
        [FK_ELU] = "Elu",           [FK_HARDSIGMOID] = "HardSigmoid",
        [FK_TANH] = "Tanh",         [FK_ERF] = "Erf",
        [FK_EXP] = "Exp",           [FK_LOG] = "Log",
        [FK_SQRT] = "Sqrt",         [FK_ABS] = "Abs",
        [FK_SIGN] = "Sign",         [FK_RECIPROCAL] = "Reciprocal",
        [FK_SOFTPLUS] = "Softplus", [FK_SOFTSIGN] = "Softsign",
        [FK_ROUND] = "Round",       [FK_FLOOR] = "Floor",
        [FK_CEIL] = "Ceil"};
    const fk_node *from = &w->g->nodes[id];
    const char *op = NAMES[from->u.act.kind];

    if (write_composed(w, id) || write_relu6(w, id) || write_levels(w, id))
        return;
    if (!op) {
        w->st = fk_fail(FERKD_UNSUPPORTED, "%s: no ONNX form of the activation %s", w->path,
                        fk_act_name(from->u.act.kind));
        return;
    }
    bool clip = from->u.act.kind == FK_CLIP;
    Onnx__NodeProto *n = fk_writer_node(w, op, id, clip ? 3 : 1);
    if (!n)
        return;
    if (clip) {
        n->input[1] = fk_writer_setting(w, id, "min", (double)from->u.act.a);
        n->input[2] = fk_writer_setting(w, id, "max", (double)from->u.act.b);
    } else if (from->u.act.kind == FK_LEAKY || from->u.act.kind == FK_ELU) {
        fk_writer_float(w, n, "alpha", (double)from->u.act.a);
    } else if (from->u.act.kind == FK_HARDSIGMOID) {
        fk_writer_float(w, n, "alpha", (double)from->u.act.a);
        fk_writer_float(w, n, "beta", (double)from->u.act.b);
    }
}

static void write_pool(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = fk_writer_node(w, from->u.pool.max ? "MaxPool" : "AveragePool", id, 1);

    if (!n)
        return;
    write_window(w, n, &from->u.pool.window);
    if (!from->u.pool.max)
        fk_writer_int(w, n, "count_include_pad", from->u.pool.include_pad);
}

static void write_reduce(fk_writer *w, int id)
{
    static const char *const NAMES[] = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
                                        "ReduceL2"};
    const fk_node *from = &w->g->nodes[id];
    /* axes are an input since opset 13 or 18 */
    bool input = from->u.reduce.kind == FK_BY_SUM || w->opset >= 18;
    int64_t axes[FK_MAX_DIMS];
    size_t count = 0;
    char name[64];
    Onnx__NodeProto *n = fk_writer_node(w, NAMES[from->u.reduce.kind], id, input ? 2 : 1);

    if (!n)
        return;
    for (int i = 0; i < FK_MAX_DIMS; i++) {
        if (from->u.reduce.axes >> i & 1u)
            axes[count++] = i;
    }
    (void)snprintf(name, sizeof name, "v%d_axes", id);
    if (input)
        n->input[1] = fk_writer_integers(w, name, axes, count);
    else
        fk_writer_ints(w, n, "axes", axes, count);
    fk_writer_int(w, n, "keepdims", from->u.reduce.keep);
}

/* Gemm knows matrices only: other inputs become one, and the output is shaped back. */
static void write_dense(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int params = from->param[1] >= 0 ? 2 : 1;
    bool flat = from->shape.n == 2;
    char *in[3] = {fk_writer_value(w, from->in[0])};
    int64_t matrix[2] = {-1, w->g->params[from->param[0]].shape.d[1]};

    if (!flat)
        in[0] = fk_writer_reshape(w, id, false, in[0], "matrix", 2, matrix);
    weight_names(w, id, in + 1);
    Onnx__NodeProto *n = fk_writer_step(w, "Gemm", id, flat, in, 1 + (size_t)params);
    if (!n)
        return;
    fk_writer_int(w, n, "transB", 1);
    if (!flat)
        (void)fk_writer_reshape(w, id, true, n->output[0], "shape", from->shape.n, from->shape.d);
}

/* What a value is expanded to: 1 where it has that many already, which may be open. */
static void expanded(const fk_shape *in, const fk_shape *out, int64_t *dims)
{
    int more = out->n - in->n;

    for (int i = 0; i < out->n; i++)
        dims[i] = i >= more && in->d[i - more] == out->d[i] ? 1 : out->d[i];
}

/* To the batch that the input has, where the first dimension is expanded to the graph's. */
static void write_expand(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    const fk_shape *in = &w->g->nodes[from->in[0]].shape;
    bool batch = (in->n < from->shape.n || in->d[0] == 1) &&
                 from->shape.d[0] == w->g->nodes[w->g->input].shape.d[0];
    int64_t dims[FK_MAX_DIMS];
    char *shape = NULL;

    expanded(in, &from->shape, dims);
    if (batch) {
        int64_t zero = 0;
        int64_t one = 1;
        char *cut[3] = {fk_writer_apply(w, "Shape", id, false, fk_writer_text(w, "input"), NULL),
                        fk_writer_integers(w, fk_writer_text(w, "v%d_zero", id), &zero, 1),
                        fk_writer_integers(w, fk_writer_text(w, "v%d_one", id), &one, 1)};
        Onnx__NodeProto *slice = fk_writer_step(w, "Slice", id, false, cut, 3);
        char *parts[2] = {slice ? slice->output[0] : NULL,
                          fk_writer_integers(w, fk_writer_text(w, "v%d_rest", id), dims + 1,
                                             (size_t)from->shape.n - 1)};
        Onnx__NodeProto *concat = fk_writer_step(w, "Concat", id, false, parts, 2);
        if (!concat)
            return;
        fk_writer_int(w, concat, "axis", 0);
        shape = concat->output[0];
    } else {
        shape =
            fk_writer_integers(w, fk_writer_text(w, "v%d_shape", id), dims, (size_t)from->shape.n);
    }
    (void)fk_writer_apply(w, "Expand", id, true, fk_writer_value(w, from->in[0]), shape);
}

static void write_gather(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    const fk_param *p = &w->g->params[from->param[0]];
    int64_t *index = fk_writer_take(w, p->count, sizeof *index);
    Onnx__TensorProto *t =
        fk_writer_tensor(w, fk_writer_text(w, "v%d_indices", id), (size_t)p->shape.n, p->shape.d);

    if (!index || !t)
        return;
    for (size_t i = 0; i < p->count; i++)
        index[i] = (int64_t)fk_graph_values(w->g, from->param[0])[i];
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    t->raw_data.data = (uint8_t *)index;
    t->raw_data.len = p->count * sizeof *index;
    char *in[2] = {fk_writer_value(w, from->in[0]), t->name};
    Onnx__NodeProto *n = fk_writer_step(w, "Gather", id, true, in, 2);
    if (n)
        fk_writer_int(w, n, "axis", from->u.axis.axis);
}

/* The condition as a bool. */
static void write_select(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    char *x = fk_writer_value(w, from->in[0]);
    Onnx__NodeProto *cast = fk_writer_step(w, "Cast", id, false, &x, 1);

    if (!cast)
        return;
    fk_writer_int(w, cast, "to", ONNX__TENSOR_PROTO__DATA_TYPE__BOOL);
    char *in[3] = {cast->output[0], fk_writer_value(w, from->in[1]),
                   fk_writer_value(w, from->in[2])};
    (void)fk_writer_step(w, "Where", id, true, in, 3);
}

static void write_transpose(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t perm[FK_MAX_DIMS];

    for (int i = 0; i < from->shape.n; i++)
        perm[i] = from->u.transpose.perm[i];
    (void)fk_writer_permute(w, id, true, fk_writer_value(w, from->in[0]), from->shape.n, perm);
}

static void write_binary(fk_writer *w, int id)
{
    static const char *const NAMES[FK_BINARY_COUNT] = {"Add", "Sub", "Mul", "Div",
                                                       "Pow", "Max", "Min"};
    const fk_node *from = &w->g->nodes[id];
    const char *op = NAMES[from->u.binary.kind];
    const fk_node *second = &w->g->nodes[from->in[1]];

    /* OpenCV 4.6 takes x HardSigmoid(y) for HardSwish, and HardSigmoid(y) x for what it is. */
    bool turn = from->u.binary.kind == FK_MUL && second->op == FK_ACT &&
                second->u.act.kind == FK_HARDSIGMOID;
    Onnx__NodeProto *n = op ? fk_writer_node(w, op, id, 2) : NULL;
    if (n && turn) {
        char *first = n->input[0];
        n->input[0] = n->input[1];
        n->input[1] = first;
    }
    if (op)
        return;
    w->st = fk_fail(FERKD_UNSUPPORTED, "%s: no ONNX form of a comparison", w->path);
}

static void write_slice(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    static const char *const TAILS[] = {"starts", "ends", "axes", "steps"};
    int64_t count = from->shape.d[from->u.axis.axis];
    int64_t v[4] = {from->u.axis.start, from->u.axis.start + count * from->u.axis.step,
                    from->u.axis.axis, from->u.axis.step};
    Onnx__NodeProto *n = fk_writer_node(w, "Slice", id, 5);

    for (int i = 0; n && i < 4; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "v%d_%s", id, TAILS[i]);
        n->input[1 + i] = fk_writer_integers(w, name, &v[i], 1);
    }
}

static void write_pad(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t pads[2 * FK_MAX_DIMS];
    size_t rank = (size_t)from->shape.n;
    char name[64];
    Onnx__NodeProto *n = fk_writer_node(w, "Pad", id, 3);

    if (!n)
        return;
    memcpy(pads, from->u.pad.begin, rank * sizeof *pads);
    memcpy(pads + rank, from->u.pad.end, rank * sizeof *pads);
    (void)snprintf(name, sizeof name, "v%d_pads", id);
    n->input[1] = fk_writer_integers(w, name, pads, 2 * rank);
    (void)snprintf(name, sizeof name, "v%d_value", id);
    n->input[2] = fk_writer_number(w, name, from->u.pad.value);
}

static void write_reshape(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];

    (void)fk_writer_reshape(w, id, true, fk_writer_value(w, from->in[0]), "shape", from->shape.n,
                            from->shape.d);
}

void fk_writer_op(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = NULL;

    switch (from->op) {
    case FK_CONV:
        write_conv(w, id);
        return;
    case FK_BATCHNORM:
        n = fk_writer_node(w, "BatchNormalization", id, 5);
        set_params(w, n, from, 1, 4);
        if (n)
            fk_writer_float(w, n, "epsilon", from->u.norm.eps);
        return;
    case FK_ACT:
        write_act(w, id);
        return;
    case FK_BINARY:
        write_binary(w, id);
        return;
    case FK_POOL:
        write_pool(w, id);
        return;
    case FK_REDUCE:
        write_reduce(w, id);
        return;
    case FK_DENSE:
        write_dense(w, id);
        return;
    case FK_CONCAT:
        n = fk_writer_node(w, "Concat", id, (size_t)from->n_in);
        if (n)
            fk_writer_int(w, n, "axis", from->u.axis.axis);
        return;
    case FK_SOFTMAX:
        n = fk_writer_node(w, "Softmax", id, 1);
        if (n)
            fk_writer_int(w, n, "axis", from->u.axis.axis);
        return;
    case FK_SLICE:
        write_slice(w, id);
        return;
    case FK_PAD:
        write_pad(w, id);
        return;
    case FK_RESHAPE:
        write_reshape(w, id);
        return;
    case FK_MATMUL:
        (void)fk_writer_node(w, "MatMul", id, 2);
        return;
    case FK_TRANSPOSE:
        write_transpose(w, id);
        return;
    case FK_LAYERNORM:
        fk_writer_layernorm(w, id);
        return;
    case FK_ATTENTION:
        fk_writer_attention(w, id);
        return;
    case FK_EXPAND:
        write_expand(w, id);
        return;
    case FK_GATHER:
        write_gather(w, id);
        return;
    case FK_SELECT:
        write_select(w, id);
        return;
    case FK_INPUT:
    case FK_CONST:
    case FK_DROPOUT:
        return;
    default:
        break;
    }
    w->st =
        fk_fail(FERKD_UNSUPPORTED, "%s: no ONNX form of the op %s", w->path, fk_op_name(from->op));
}
