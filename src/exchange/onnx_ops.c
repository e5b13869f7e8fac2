/* ONNX operators to nodes of the graph, opsets 7 to 23: the table of operators, what they all use, and what slides
 * windows over feature maps. */
#include "base/compat.h"

#include "exchange/onnx_import.h"

#include "base/mem.h"

/* --- helpers --------------------------------------------------------------------------------- */

const char *fk_import_name(const fk_reader *r)
{
    return r->node->n_output ? r->node->output[0] : "?";
}

/* Add n and call output 0 by its name. */
ferkd_status fk_import_emit(fk_reader *r, fk_node *n)
{
    int id;

    n->name = n->name ? n->name : fk_import_name(r);
    TRY(fk_graph_add(r->g, n, &id));
    return fk_reader_set(r, fk_import_name(r), NULL, id);
}

/* Output 0 is the value of node id. */
ferkd_status fk_import_alias(fk_reader *r, int id)
{
    return fk_reader_set(r, fk_import_name(r), NULL, id);
}

/* A constant as a parameter of the graph. */
ferkd_status fk_import_param_of(fk_reader *r, const fk_constant *c, const char *name,
                                fk_param_kind kind, int *id)
{
    if (!c->real)
        return fk_reader_refuse(r, "a weight of integers");
    return fk_graph_param(r->g, name, c->shape, kind, c->f, id);
}

/* A constant of the file that a network would train: a class token, positions, the weight of a channel. Constants that
 * exporters made have names of their own making. */
static fk_param_kind kind_of(const fk_value *v)
{
    bool made = strchr(v->name, '/') || strncmp(v->name, "val_", 4) == 0 ||
                strncmp(v->name, "onnx::", 6) == 0;

    return v->given && !made && fk_shape_count(&v->constant->shape) > 1 ? FK_BIAS : FK_BUFFER;
}

/* Input i as a node: constants become FK_CONST nodes, one for all uses. */
ferkd_status fk_import_input(fk_reader *r, size_t i, int *id)
{
    const fk_value *v = fk_input(r, i);
    fk_node n = FK_NODE(.op = FK_CONST);
    fk_constant *real = NULL;

    if (!v)
        return fk_reader_refuse(r, "an input is missing");
    if (!v->constant || v->as_node) {
        *id = v->constant ? v->as_node - 1 : v->node;
        return FERKD_OK;
    }
    if (!v->constant->real) { /* as numbers */
        TRY(fk_constant_new(&real, true, &v->constant->shape));
        for (int64_t k = 0; k < fk_shape_count(&real->shape); k++)
            fk_constant_set(real, k, fk_constant_get(v->constant, k));
    }
    ferkd_status st = fk_import_param_of(r, real ? real : v->constant, v->name,
                                         real ? FK_BUFFER : kind_of(v), &n.param[0]);
    fk_constant_free(real);
    TRY(st);
    n.name = v->name;
    TRY(fk_graph_add(r->g, &n, id));
    fk_reader_set_node(r, v, *id);
    return FERKD_OK;
}

/* The one constant input i, as a parameter; -1 if it is left out. */
ferkd_status fk_import_param(fk_reader *r, size_t i, fk_param_kind kind, int *id)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    *id = -1;
    if (bad)
        return fk_reader_refuse(r, "a weight is computed while running");
    return c ? fk_import_param_of(r, c, r->node->input[i], kind, id) : FERKD_OK;
}

/* A scalar from an attribute (old opsets) or a constant input (new ones). */
ferkd_status fk_import_scalar(fk_reader *r, const char *name, size_t i, float initial, float *out)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    if (bad || (c && fk_shape_count(&c->shape) != 1))
        return fk_reader_refuse(r, "a bound is computed while running");
    *out = c ? (float)fk_constant_get(c, 0) : fk_attr_float(r, name, initial);
    return FERKD_OK;
}

fk_shape fk_import_shape(const fk_reader *r, int id)
{
    return r->g->nodes[id].shape;
}

bool fk_import_is(const fk_reader *r, const char *op)
{
    return strcmp(r->node->op_type, op) == 0;
}

bool fk_import_word(const fk_reader *r, const char *name, const char *word)
{
    const Onnx__AttributeProto *a = fk_attr(r, name);

    return a && a->has_s && a->s.len == strlen(word) && memcmp(a->s.data, word, a->s.len) == 0;
}

static ferkd_status middle(fk_reader *r, fk_node *n, int *x)
{
    n->name = fk_import_name(r);
    return fk_graph_add(r->g, n, x);
}

ferkd_status fk_import_reshape_to(fk_reader *r, int *x, fk_shape to)
{
    int in = *x;
    fk_node n = FK_NODE(.op = FK_RESHAPE, .in = &in, .n_in = 1, .shape = to);

    if (fk_shape_equal(&r->g->nodes[*x].shape, &to))
        return FERKD_OK;
    return middle(r, &n, x);
}

ferkd_status fk_import_permute(fk_reader *r, int *x, const int *perm)
{
    int in = *x;
    fk_node n = FK_NODE(.op = FK_TRANSPOSE, .in = &in, .n_in = 1);
    bool same = true;

    for (int i = 0; i < r->g->nodes[*x].shape.n; i++) {
        n.u.transpose.perm[i] = perm[i];
        same = same && perm[i] == i;
    }
    return same ? FERKD_OK : middle(r, &n, x);
}

ferkd_status fk_import_act_of(fk_reader *r, int *x, fk_act kind, float a, float b)
{
    int in = *x;
    fk_node n = FK_NODE(.op = FK_ACT, .in = &in, .n_in = 1, .u.act = {kind, a, b});

    return middle(r, &n, x);
}

ferkd_status fk_import_binary_of(fk_reader *r, int *x, fk_binary kind, int y)
{
    int in[2] = {*x, y};
    fk_node n = FK_NODE(.op = FK_BINARY, .in = in, .n_in = 2, .u.binary = {kind});

    return middle(r, &n, x);
}

ferkd_status fk_import_number(fk_reader *r, int *x, fk_binary kind, float v)
{
    fk_node c = FK_NODE(.op = FK_CONST, .name = fk_import_name(r));
    fk_shape one = fk_shape_of(1, (int64_t)1);
    int id;

    TRY(fk_graph_param(r->g, fk_import_name(r), one, FK_BUFFER, &v, &c.param[0]));
    TRY(fk_graph_add(r->g, &c, &id));
    return fk_import_binary_of(r, x, kind, id);
}

ferkd_status fk_import_expand_to(fk_reader *r, int *x, fk_shape to)
{
    int in = *x;
    fk_node n = FK_NODE(.op = FK_EXPAND, .in = &in, .n_in = 1, .shape = to);

    if (fk_shape_equal(&r->g->nodes[*x].shape, &to))
        return FERKD_OK;
    return middle(r, &n, x);
}

fk_shape fk_import_broadcast(const fk_shape *a, const fk_shape *b)
{
    fk_shape s = {.n = fk_max_int(a->n, b->n)};

    for (int i = 0; i < s.n; i++) {
        int64_t x = i < a->n ? a->d[a->n - 1 - i] : 1;
        int64_t y = i < b->n ? b->d[b->n - 1 - i] : 1;
        s.d[s.n - 1 - i] = x == 1 ? y : x;
        if (x != y && x != 1 && y != 1)
            return (fk_shape){.n = -1};
    }
    return s;
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

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_import_param(r, 1, FK_WEIGHT, &n.param[0]));
    TRY(fk_import_param(r, 2, FK_BIAS, &n.param[1]));
    if (n.param[0] < 0 || r->g->params[n.param[0]].shape.n != 4)
        return fk_reader_refuse(r, "only two-dimensional convolutions");
    n.u.conv.groups = fk_attr_int(r, "group", 1);
    for (int i = 0; i < 2; i++)
        n.u.conv.window.kernel[i] = r->g->params[n.param[0]].shape.d[2 + i];
    fk_shape in = fk_import_shape(r, x);
    TRY(read_window(r, &in, &n.u.conv.window));
    x = absorb_pad(r, x, &n.u.conv.window);
    n.in = &x;
    return fk_import_emit(r, &n);
}

static ferkd_status import_pool(fk_reader *r)
{
    bool max = strcmp(r->node->op_type, "MaxPool") == 0;
    fk_node n = {.op = FK_POOL, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(fk_import_input(r, 0, &x));
    if (r->node->n_output > 1 && *r->node->output[1])
        return fk_reader_refuse(r, "MaxPool's indices are not supported");
    TRY(pair(r, "kernel_shape", 1, n.u.pool.window.kernel));
    fk_shape in = fk_import_shape(r, x);
    TRY(read_window(r, &in, &n.u.pool.window));
    n.u.pool.max = max;
    n.u.pool.include_pad = fk_attr_int(r, "count_include_pad", 0) != 0;
    if (n.u.pool.include_pad && fk_attr_int(r, "ceil_mode", 0) != 0)
        return fk_reader_refuse(r, "count_include_pad together with ceil_mode");
    n.in = &x;
    return fk_import_emit(r, &n);
}

static ferkd_status import_global_pool(fk_reader *r)
{
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    if (s.n != 4)
        return fk_reader_refuse(r, "only images (N C H W)");
    if (strcmp(r->node->op_type, "GlobalAveragePool") == 0) {
        fk_node n = {.op = FK_REDUCE,
                     .in = &x,
                     .n_in = 1,
                     .param = {-1, -1, -1, -1},
                     .u.reduce = {1u << 2 | 1u << 3, true}};
        return fk_import_emit(r, &n);
    }
    fk_node n = {
        .op = FK_POOL,
        .in = &x,
        .n_in = 1,
        .param = {-1, -1, -1, -1},
        .u.pool = {.window = {.kernel = {s.d[2], s.d[3]}, .stride = {1, 1}, .dilation = {1, 1}},
                   .max = true}};
    return fk_import_emit(r, &n);
}

/* --- normalisation by statistics ---------------------------------------------------------------- */

static ferkd_status import_norm(fk_reader *r)
{
    static const fk_param_kind KINDS[] = {FK_NORM_WEIGHT, FK_BIAS, FK_BUFFER, FK_BUFFER};
    fk_node n = {.op = FK_BATCHNORM, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(fk_import_input(r, 0, &x));
    if (fk_attr_int(r, "training_mode", 0))
        return fk_reader_refuse(r, "export the model in eval mode");
    for (size_t i = 0; i < 4; i++) {
        TRY(fk_import_param(r, i + 1, KINDS[i], &n.param[i]));
        if (n.param[i] < 0)
            return fk_reader_refuse(r, "an input is missing");
    }
    n.u.norm.eps = (double)fk_attr_float(r, "epsilon", 1e-5f);
    n.u.norm.momentum = 1.0 - (double)fk_attr_float(r, "momentum", 0.9f);
    n.in = &x;
    return fk_import_emit(r, &n);
}

static const struct {
    const char *op;
    fk_import_fn *import;
} OPS[] = {
    {"Conv", import_conv},
    {"BatchNormalization", import_norm},
    {"MaxPool", import_pool},
    {"AveragePool", import_pool},
    {"GlobalAveragePool", import_global_pool},
    {"GlobalMaxPool", import_global_pool},
    {"Relu", fk_import_act},
    {"Clip", fk_import_act},
    {"Sigmoid", fk_import_act},
    {"HardSwish", fk_import_act},
    {"HardSigmoid", fk_import_act},
    {"LeakyRelu", fk_import_act},
    {"Elu", fk_import_act},
    {"Celu", fk_import_act},
    {"Selu", fk_import_act},
    {"ThresholdedRelu", fk_import_act},
    {"Gelu", fk_import_act},
    {"Tanh", fk_import_act},
    {"Erf", fk_import_act},
    {"Exp", fk_import_act},
    {"Log", fk_import_act},
    {"Sqrt", fk_import_act},
    {"Abs", fk_import_act},
    {"Neg", fk_import_act},
    {"Sign", fk_import_act},
    {"Reciprocal", fk_import_act},
    {"Softplus", fk_import_act},
    {"Softsign", fk_import_act},
    {"Mish", fk_import_act},
    {"Swish", fk_import_act},
    {"Round", fk_import_act},
    {"Floor", fk_import_act},
    {"Ceil", fk_import_act},
    {"Not", fk_import_act},
    {"FastGelu", fk_import_act},
    {"QuickGelu", fk_import_act},
    {"BiasGelu", fk_import_bias_gelu},
    {"PRelu", fk_import_prelu},
    {"Add", fk_import_binary},
    {"Sub", fk_import_binary},
    {"Mul", fk_import_binary},
    {"Div", fk_import_binary},
    {"Pow", fk_import_binary},
    {"Max", fk_import_many},
    {"Min", fk_import_many},
    {"Sum", fk_import_many},
    {"Mean", fk_import_many},
    {"Equal", fk_import_compare},
    {"Greater", fk_import_compare},
    {"Less", fk_import_compare},
    {"GreaterOrEqual", fk_import_compare},
    {"LessOrEqual", fk_import_compare},
    {"Where", fk_import_where},
    {"ReduceMean", fk_import_reduce},
    {"ReduceSum", fk_import_reduce},
    {"ReduceMax", fk_import_reduce},
    {"ReduceMin", fk_import_reduce},
    {"ReduceL1", fk_import_reduce},
    {"ReduceL2", fk_import_reduce},
    {"ReduceSumSquare", fk_import_reduce},
    {"ReduceLogSum", fk_import_reduce},
    {"ReduceLogSumExp", fk_import_reduce},
    {"Softmax", fk_import_softmax},
    {"LogSoftmax", fk_import_softmax},
    {"QuantizeLinear", fk_import_quantize},
    {"DequantizeLinear", fk_import_dequantize},
    {"Gemm", fk_import_gemm},
    {"MatMul", fk_import_matmul},
    {"FusedMatMul", fk_import_matmul},
    {"Einsum", fk_import_einsum},
    {"LayerNormalization", fk_import_layernorm},
    {"SkipLayerNormalization", fk_import_skip_layernorm},
    {"GroupNormalization", fk_import_groupnorm},
    {"InstanceNormalization", fk_import_groupnorm},
    {"RMSNormalization", fk_import_rmsnorm},
    {"SimplifiedLayerNormalization", fk_import_rmsnorm},
    {"Resize", fk_import_resize},
    {"Upsample", fk_import_resize},
    {"Flatten", fk_import_flatten},
    {"Reshape", fk_import_reshape},
    {"Transpose", fk_import_transpose},
    {"Squeeze", fk_import_squeeze},
    {"Unsqueeze", fk_import_squeeze},
    {"Concat", fk_import_concat},
    {"Split", fk_import_split},
    {"Slice", fk_import_slice},
    {"Pad", fk_import_pad},
    {"Expand", fk_import_expand},
    {"Tile", fk_import_tile},
    {"Gather", fk_import_gather},
    {"DepthToSpace", fk_import_depth_space},
    {"SpaceToDepth", fk_import_depth_space},
    {"Dropout", fk_import_identity},
    {"Identity", fk_import_identity},
    {"Cast", fk_import_identity},
    {"CastLike", fk_import_identity},
};

ferkd_status fk_import_node(fk_reader *r)
{
    bool ort = r->node->domain && strcmp(r->node->domain, "com.microsoft") == 0;

    if (fk_import_is(r, "Attention"))
        return ort ? fk_import_ort_attention(r) : fk_import_attention(r);
    for (size_t i = 0; i < FK_COUNT(OPS); i++) {
        if (fk_import_is(r, OPS[i].op))
            return OPS[i].import(r);
    }
    return fk_reader_refuse(r, "this operator is not supported");
}
