/* ONNX operators to nodes of the graph: what is done element by element, and reductions. */
#include "base/compat.h"

#include "exchange/onnx_import.h"

/* --- activations ----------------------------------------------------------------------------- */

static ferkd_status act(fk_reader *r, fk_act kind, float a, float b)
{
    int x;
    fk_node n = FK_NODE(.op = FK_ACT, .n_in = 1, .u.act = {kind, a, b});

    TRY(fk_import_input(r, 0, &x));
    n.in = &x;
    return fk_import_emit(r, &n);
}

/* Those without attributes. */
static const struct {
    const char *op;
    fk_act kind;
} PLAIN[] = {
    {"Relu", FK_RELU},
    {"Sigmoid", FK_SIGMOID},
    {"Tanh", FK_TANH},
    {"Erf", FK_ERF},
    {"HardSwish", FK_HARDSWISH},
    {"Exp", FK_EXP},
    {"Log", FK_LOG},
    {"Sqrt", FK_SQRT},
    {"Abs", FK_ABS},
    {"Sign", FK_SIGN},
    {"Reciprocal", FK_RECIPROCAL},
    {"Softplus", FK_SOFTPLUS},
    {"Mish", FK_MISH},
    {"Softsign", FK_SOFTSIGN},
    {"Round", FK_ROUND},
    {"Floor", FK_FLOOR},
    {"Ceil", FK_CEIL},
    {"Not", FK_NOT},
    {"FastGelu", FK_GELU_TANH},
};

/* x sigmoid(alpha x) */
static ferkd_status swish(fk_reader *r, float alpha)
{
    int x;
    int y;

    if (alpha == 1.0f)
        return act(r, FK_SILU, 0, 0);
    TRY(fk_import_input(r, 0, &x));
    y = x;
    TRY(fk_import_number(r, &y, FK_MUL, alpha));
    TRY(fk_import_act_of(r, &y, FK_SIGMOID, 0, 0));
    TRY(fk_import_binary_of(r, &y, FK_MUL, x));
    return fk_import_alias(r, y);
}

/* gamma ELU(x; alpha), or ELU(x / alpha) alpha: CELU. */
static ferkd_status scaled_elu(fk_reader *r, float before, float alpha, float after)
{
    int x;

    TRY(fk_import_input(r, 0, &x));
    if (before != 1.0f)
        TRY(fk_import_number(r, &x, FK_MUL, before));
    TRY(fk_import_act_of(r, &x, FK_ELU, alpha, 0));
    if (after != 1.0f)
        TRY(fk_import_number(r, &x, FK_MUL, after));
    return fk_import_alias(r, x);
}

static ferkd_status clip(fk_reader *r)
{
    float low = 0;
    float high = 0;

    TRY(fk_import_scalar(r, "min", 1, -3.4e38f, &low));
    TRY(fk_import_scalar(r, "max", 2, 3.4e38f, &high));
    return act(r, FK_CLIP, low, high);
}

/* x where x > alpha, else 0. */
static ferkd_status thresholded(fk_reader *r)
{
    int x;
    int y;

    TRY(fk_import_input(r, 0, &x));
    y = x;
    TRY(fk_import_number(r, &y, FK_GREATER, fk_attr_float(r, "alpha", 1.0f)));
    TRY(fk_import_binary_of(r, &y, FK_MUL, x));
    return fk_import_alias(r, y);
}

ferkd_status fk_import_act(fk_reader *r)
{
    int x;

    for (size_t i = 0; i < FK_COUNT(PLAIN); i++) {
        if (fk_import_is(r, PLAIN[i].op) && r->node->n_input == 1)
            return act(r, PLAIN[i].kind, 0, 0);
    }
    if (fk_import_is(r, "LeakyRelu"))
        return act(r, FK_LEAKY, fk_attr_float(r, "alpha", 0.01f), 0);
    if (fk_import_is(r, "Elu"))
        return act(r, FK_ELU, fk_attr_float(r, "alpha", 1.0f), 0);
    if (fk_import_is(r, "Selu"))
        return scaled_elu(r, 1.0f, fk_attr_float(r, "alpha", 1.67326319f),
                          fk_attr_float(r, "gamma", 1.05070102f));
    if (fk_import_is(r, "Celu")) {
        float alpha = fk_attr_float(r, "alpha", 1.0f);
        return scaled_elu(r, 1.0f / alpha, 1.0f, alpha);
    }
    if (fk_import_is(r, "HardSigmoid"))
        return act(r, FK_HARDSIGMOID, fk_attr_float(r, "alpha", 0.2f),
                   fk_attr_float(r, "beta", 0.5f));
    if (fk_import_is(r, "Gelu"))
        return act(r, fk_import_word(r, "approximate", "tanh") ? FK_GELU_TANH : FK_GELU, 0, 0);
    if (fk_import_is(r, "QuickGelu"))
        return swish(r, fk_attr_float(r, "alpha", 1.702f));
    if (fk_import_is(r, "Swish"))
        return swish(r, fk_attr_float(r, "alpha", 1.0f));
    if (fk_import_is(r, "ThresholdedRelu"))
        return thresholded(r);
    if (fk_import_is(r, "Clip"))
        return clip(r);
    if (fk_import_is(r, "Neg")) {
        TRY(fk_import_input(r, 0, &x));
        TRY(fk_import_number(r, &x, FK_MUL, -1.0f));
        return fk_import_alias(r, x);
    }
    if (fk_import_is(r, "FastGelu")) /* with a bias */
        return fk_import_bias_gelu(r);
    return fk_reader_refuse(r, "this form is not supported");
}

ferkd_status fk_import_bias_gelu(fk_reader *r)
{
    int x;
    int bias;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_import_input(r, 1, &bias));
    TRY(fk_import_binary_of(r, &x, FK_ADD, bias));
    TRY(fk_import_act_of(r, &x, fk_import_is(r, "FastGelu") ? FK_GELU_TANH : FK_GELU, 0, 0));
    return fk_import_alias(r, x);
}

/* max(x, 0) + slope min(x, 0) */
ferkd_status fk_import_prelu(fk_reader *r)
{
    int x;
    int slope;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_import_input(r, 1, &slope));
    int low = x;
    TRY(fk_import_act_of(r, &low, FK_CLIP, -3.4e38f, 0.0f));
    TRY(fk_import_binary_of(r, &low, FK_MUL, slope));
    TRY(fk_import_act_of(r, &x, FK_RELU, 0, 0));
    TRY(fk_import_binary_of(r, &x, FK_ADD, low));
    return fk_import_alias(r, x);
}

/* --- what exporters write in several nodes ------------------------------------------------------ */

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

/* Is node id a constant, all of whose values are near v? */
static bool is_number(const fk_reader *r, int id, float v)
{
    const fk_node *n = &r->g->nodes[id];

    if (n->op != FK_CONST || r->g->params[n->param[0]].count != 1)
        return false;
    const float *given = r->g->params[n->param[0]].given;
    return given && fabsf(given[0] - v) < 1e-4f;
}

/* Node id as `kind` of something and the number v: the something, or -1. */
static int with_number(const fk_reader *r, int id, fk_binary kind, float v)
{
    const fk_node *n = &r->g->nodes[id];

    if (n->op != FK_BINARY || n->u.binary.kind != kind)
        return -1;
    if (is_number(r, n->in[1], v))
        return n->in[0];
    return kind != FK_DIV && is_number(r, n->in[0], v) ? n->in[1] : -1;
}

/* 1 + erf(x / sqrt(2)): x, or -1. */
static int one_and_erf(const fk_reader *r, int id)
{
    int e = with_number(r, id, FK_ADD, 1.0f);

    if (e < 0 || r->g->nodes[e].op != FK_ACT || r->g->nodes[e].u.act.kind != FK_ERF)
        return -1;
    e = r->g->nodes[e].in[0];
    int x = with_number(r, e, FK_DIV, 1.41421356f);
    return x >= 0 ? x : with_number(r, e, FK_MUL, 0.70710678f);
}

/* a b, where one of them is 0.5 and the other x (1 + erf), or one is 0.5 x and the other 1 + erf: x, else -1. */
static int gelu_of(const fk_reader *r, int a, int b)
{
    for (int k = 0; k < 2; k++) {
        int one = k ? a : b;
        int other = k ? b : a;
        const fk_node *n = &r->g->nodes[one];
        if (is_number(r, other, 0.5f) && n->op == FK_BINARY && n->u.binary.kind == FK_MUL) {
            int x = one_and_erf(r, n->in[1]);
            if (x >= 0 && x == n->in[0])
                return x;
            x = one_and_erf(r, n->in[0]);
            if (x >= 0 && x == n->in[1])
                return x;
        }
        int x = one_and_erf(r, one);
        if (x >= 0 && with_number(r, other, FK_MUL, 0.5f) == x)
            return x;
    }
    return -1;
}

/* How often the file uses a name. */
static size_t uses_of(const fk_reader *r, const char *name)
{
    const Onnx__GraphProto *g = r->model->graph;
    size_t uses = 0;

    for (size_t i = 0; i < g->n_node; i++) {
        for (size_t k = 0; k < g->node[i]->n_input; k++)
            uses += strcmp(g->node[i]->input[k], name) == 0;
    }
    for (size_t i = 0; i < g->n_output; i++)
        uses += g->output[i]->name && strcmp(g->output[i]->name, name) == 0;
    return uses;
}

/* A product by a matrix, alone used here, plus a constant a channel: the constant becomes the bias. */
static ferkd_status try_bias(fk_reader *r, bool *done)
{
    *done = false;
    for (size_t k = 0; k < 2; k++) {
        const fk_value *x = fk_input(r, k);
        const fk_value *c = fk_input(r, 1 - k);
        if (!x || !c || x->constant || !c->constant || !c->constant->real)
            continue;
        fk_node *n = &r->g->nodes[x->node];
        if (n->op != FK_DENSE || n->param[1] >= 0 || c->constant->shape.n != 1 ||
            c->constant->shape.d[0] != n->shape.d[n->shape.n - 1] ||
            strcmp(n->name, r->node->input[k]) != 0 || uses_of(r, r->node->input[k]) != 1)
            continue;
        TRY(fk_import_param(r, 1 - k, FK_BIAS, &n->param[1]));
        *done = true;
        return fk_import_alias(r, x->node);
    }
    return FERKD_OK;
}

/* --- two and more values ------------------------------------------------------------------------ */

ferkd_status fk_import_binary(fk_reader *r)
{
    static const char *const OPS[] = {"Add", "Sub", "Mul", "Div", "Pow"};
    fk_node n = FK_NODE(.op = FK_BINARY, .n_in = 2);
    int in[2];
    bool done = false;

    for (size_t i = 0; i < FK_COUNT(OPS); i++) {
        if (fk_import_is(r, OPS[i]))
            n.u.binary.kind = (fk_binary)i;
    }
    if (n.u.binary.kind == FK_ADD)
        TRY(try_bias(r, &done));
    if (done)
        return FERKD_OK;
    TRY(fk_import_input(r, 0, &in[0]));
    TRY(fk_import_input(r, 1, &in[1]));
    if (n.u.binary.kind == FK_MUL) {
        fk_node a = FK_NODE(.op = FK_ACT, .n_in = 1, .u.act = {FK_SILU, 0, 0});
        int x = silu_of(r, in[0], in[1]);
        if (x < 0) {
            x = gelu_of(r, in[0], in[1]);
            a.u.act.kind = FK_GELU;
        }
        a.in = &x;
        if (x >= 0)
            return fk_import_emit(r, &a);
    }
    n.in = in;
    return fk_import_emit(r, &n);
}

/* Max, Min, Sum and Mean of any number of values. */
ferkd_status fk_import_many(fk_reader *r)
{
    fk_binary kind = fk_import_is(r, "Max") ? FK_MAX : fk_import_is(r, "Min") ? FK_MIN : FK_ADD;
    int x;

    TRY(fk_import_input(r, 0, &x));
    for (size_t i = 1; i < r->node->n_input; i++) {
        int y;
        TRY(fk_import_input(r, i, &y));
        TRY(fk_import_binary_of(r, &x, kind, y));
    }
    if (fk_import_is(r, "Mean"))
        TRY(fk_import_number(r, &x, FK_DIV, (float)r->node->n_input));
    return fk_import_alias(r, x);
}

ferkd_status fk_import_compare(fk_reader *r)
{
    int x;
    int y;
    bool turned = fk_import_is(r, "GreaterOrEqual") || fk_import_is(r, "LessOrEqual");
    fk_binary kind = fk_import_is(r, "Equal")                                       ? FK_EQUAL
                     : fk_import_is(r, "Greater") || fk_import_is(r, "LessOrEqual") ? FK_GREATER
                                                                                    : FK_LESS;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_import_input(r, 1, &y));
    TRY(fk_import_binary_of(r, &x, kind, y));
    if (turned)
        TRY(fk_import_act_of(r, &x, FK_NOT, 0, 0));
    return fk_import_alias(r, x);
}

ferkd_status fk_import_where(fk_reader *r)
{
    int in[3];
    fk_node n = FK_NODE(.op = FK_SELECT, .in = in, .n_in = 3);

    for (size_t i = 0; i < 3; i++)
        TRY(fk_import_input(r, i, &in[i]));
    fk_shape to = r->g->nodes[in[0]].shape;
    for (size_t i = 1; i < 3 && to.n >= 0; i++)
        to = fk_import_broadcast(&to, &r->g->nodes[in[i]].shape);
    if (to.n < 0)
        return fk_reader_refuse(r, "the shapes don't broadcast");
    for (size_t i = 0; i < 3; i++)
        TRY(fk_import_expand_to(r, &in[i], to));
    return fk_import_emit(r, &n);
}

/* --- reductions --------------------------------------------------------------------------------- */

static ferkd_status reduce_by(fk_reader *r, int *x, fk_reduce kind, unsigned axes, bool keep)
{
    int in = *x;
    fk_node n = FK_NODE(.op = FK_REDUCE, .name = fk_import_name(r), .in = &in, .n_in = 1,
                        .u.reduce = {axes, keep, kind});

    return fk_graph_add(r->g, &n, x);
}

static const struct {
    const char *op;
    fk_reduce kind;
} REDUCTIONS[] = {
    {"ReduceMean", FK_BY_MEAN}, {"ReduceSum", FK_BY_SUM}, {"ReduceMax", FK_BY_MAX},
    {"ReduceMin", FK_BY_MIN},   {"ReduceL2", FK_BY_L2},
};

/* log(sum(exp(x - top))) + top */
static ferkd_status log_sum_exp(fk_reader *r, int *x, unsigned axes, bool keep)
{
    int top = *x;

    TRY(reduce_by(r, &top, FK_BY_MAX, axes, true));
    TRY(fk_import_binary_of(r, x, FK_SUB, top));
    TRY(fk_import_act_of(r, x, FK_EXP, 0, 0));
    TRY(reduce_by(r, x, FK_BY_SUM, axes, true));
    TRY(fk_import_act_of(r, x, FK_LOG, 0, 0));
    TRY(fk_import_binary_of(r, x, FK_ADD, top));
    return keep ? FERKD_OK : reduce_by(r, x, FK_BY_SUM, axes, false); /* of one each */
}

static ferkd_status read_axes(const fk_reader *r, int rank, unsigned *axes, bool *nothing)
{
    int64_t list[FK_MAX_DIMS];
    int n;

    *axes = 0;
    TRY(fk_ints(r, "axes", 1, list, FK_MAX_DIMS, &n));
    *nothing = n == 0 && fk_attr_int(r, "noop_with_empty_axes", 0);
    for (int i = 0; i < n; i++) {
        int axis;
        TRY(fk_axis(r, list[i], rank, &axis));
        *axes |= 1u << axis;
    }
    if (n == 0)
        *axes = (1u << rank) - 1;
    return FERKD_OK;
}

ferkd_status fk_import_reduce(fk_reader *r)
{
    unsigned axes;
    bool nothing;
    int x;

    TRY(fk_import_input(r, 0, &x));
    TRY(read_axes(r, fk_import_shape(r, x).n, &axes, &nothing));
    bool keep = fk_attr_int(r, "keepdims", 1) != 0;
    if (nothing)
        axes = 0;
    for (size_t i = 0; i < FK_COUNT(REDUCTIONS); i++) {
        if (!fk_import_is(r, REDUCTIONS[i].op))
            continue;
        if (!nothing || REDUCTIONS[i].kind == FK_BY_L2)
            TRY(reduce_by(r, &x, REDUCTIONS[i].kind, axes, keep));
        return fk_import_alias(r, x);
    }
    if (fk_import_is(r, "ReduceLogSumExp")) {
        TRY(log_sum_exp(r, &x, axes, keep));
        return fk_import_alias(r, x);
    }
    if (fk_import_is(r, "ReduceL1"))
        TRY(fk_import_act_of(r, &x, FK_ABS, 0, 0));
    if (fk_import_is(r, "ReduceSumSquare"))
        TRY(fk_import_binary_of(r, &x, FK_MUL, x));
    TRY(reduce_by(r, &x, FK_BY_SUM, axes, keep));
    if (fk_import_is(r, "ReduceLogSum"))
        TRY(fk_import_act_of(r, &x, FK_LOG, 0, 0));
    return fk_import_alias(r, x);
}

ferkd_status fk_import_softmax(fk_reader *r)
{
    fk_node n = FK_NODE(.op = FK_SOFTMAX, .n_in = 1);
    bool old = r->opset < 13; /* there the axis and all behind it are one */
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    TRY(fk_axis(r, fk_attr_int(r, "axis", old ? 1 : -1), s.n, &n.u.axis.axis));
    if (old && n.u.axis.axis != s.n - 1)
        return fk_reader_refuse(r, "a softmax over several dimensions");
    if (fk_import_is(r, "LogSoftmax")) {
        int sum = x;
        TRY(log_sum_exp(r, &sum, 1u << n.u.axis.axis, true));
        TRY(fk_import_binary_of(r, &x, FK_SUB, sum));
        return fk_import_alias(r, x);
    }
    n.in = &x;
    return fk_import_emit(r, &n);
}
