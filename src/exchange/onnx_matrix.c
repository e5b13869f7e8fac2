/* ONNX operators to nodes of the graph: products of matrices, normalisation of rows, attention. */
#include "base/compat.h"

#include "exchange/onnx_import.h"

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
    ferkd_status st = fk_import_param_of(r, w, r->node->input[1], FK_WEIGHT, id);
    fk_constant_free(w);
    return st;
}

/* alpha x B + beta C with a constant B; a C of one value a column becomes the bias, others are added. */
ferkd_status fk_import_gemm(fk_reader *r)
{
    static const int TURN[] = {1, 0};
    fk_node n = FK_NODE(.op = FK_DENSE, .n_in = 1);
    bool bad;
    const fk_constant *b = fk_input_constant(r, 1, &bad);
    float beta = fk_attr_float(r, "beta", 1.0f);
    int x;
    int y;

    TRY(fk_import_input(r, 0, &x));
    if (bad || !b || !b->real || b->shape.n != 2 || fk_import_shape(r, x).n != 2)
        return fk_reader_refuse(r, "only a constant second matrix");
    if (fk_attr_int(r, "transA", 0))
        TRY(fk_import_permute(r, &x, TURN));
    bool turned = fk_attr_int(r, "transB", 0) != 0;
    TRY(matrix(r, b, !turned, fk_attr_float(r, "alpha", 1.0f), &n.param[0]));
    const fk_constant *c = fk_input_constant(r, 2, &bad);
    bool is_bias = c && c->shape.n >= 1 && fk_shape_count(&c->shape) == b->shape.d[!turned] &&
                   c->shape.d[c->shape.n - 1] == b->shape.d[!turned];
    if (is_bias)
        TRY(fk_import_param(r, 2, FK_BIAS, &n.param[1]));
    for (size_t i = 0; is_bias && i < r->g->params[n.param[1]].count; i++)
        r->g->params[n.param[1]].given[i] *= beta;
    n.in = &x;
    if (is_bias || !fk_input(r, 2))
        return fk_import_emit(r, &n);
    n.name = fk_import_name(r);
    TRY(fk_graph_add(r->g, &n, &x));
    TRY(fk_import_input(r, 2, &y));
    if (beta != 1.0f)
        TRY(fk_import_number(r, &y, FK_MUL, beta));
    TRY(fk_import_binary_of(r, &x, FK_ADD, y));
    return fk_import_alias(r, x);
}

ferkd_status fk_import_matmul(fk_reader *r)
{
    bool bad;
    const fk_constant *b = fk_input_constant(r, 1, &bad);
    int in[2];

    TRY(fk_import_input(r, 0, &in[0]));
    if (b && b->real && b->shape.n == 2) {
        fk_node n = {.op = FK_DENSE, .in = in, .n_in = 1, .param = {-1, -1, -1, -1}};
        TRY(matrix(r, b, true, 1.0f, &n.param[0]));
        return fk_import_emit(r, &n);
    }
    TRY(fk_import_input(r, 1, &in[1]));
    fk_node n = {.op = FK_MATMUL, .in = in, .n_in = 2, .param = {-1, -1, -1, -1}};
    return fk_import_emit(r, &n);
}

/* --- Einsum of one or two values -------------------------------------------------------------- */

typedef struct term {
    char labels[FK_MAX_DIMS + 1];
    int n;
    int node;
} term;

static ferkd_status read_term(fk_reader *r, const char **at, const char *end, term *t)
{
    for (; *at < end && **at != ',' && **at != '-'; (*at)++) {
        if (**at == ' ')
            continue;
        if (**at < 'A' || t->n >= FK_MAX_DIMS || memchr(t->labels, **at, (size_t)t->n))
            return fk_reader_refuse(r, "this equation (ellipsis, or a letter twice)");
        t->labels[t->n++] = **at;
    }
    return FERKD_OK;
}

static int find_label(const term *t, char label)
{
    const char *p = memchr(t->labels, label, (size_t)t->n);

    return p ? (int)(p - t->labels) : -1;
}

/* Sum over the labels of t that neither `other` nor `out` has. */
static ferkd_status sum_out(fk_reader *r, term *t, const term *other, const term *out)
{
    int in = t->node;
    fk_node n = FK_NODE(.op = FK_REDUCE, .name = fk_import_name(r), .in = &in, .n_in = 1,
                        .u.reduce = {0, false, FK_BY_SUM});
    term left = {.node = t->node};

    for (int i = 0; i < t->n; i++) {
        if (find_label(out, t->labels[i]) < 0 && (!other || find_label(other, t->labels[i]) < 0))
            n.u.reduce.axes |= 1u << i;
        else
            left.labels[left.n++] = t->labels[i];
    }
    if (n.u.reduce.axes)
        TRY(fk_graph_add(r->g, &n, &left.node));
    *t = left;
    return FERKD_OK;
}

/* The dimensions of t in the order of `labels`. */
static ferkd_status reorder(fk_reader *r, term *t, const char *labels)
{
    int perm[FK_MAX_DIMS];

    for (int i = 0; i < t->n; i++)
        perm[i] = find_label(t, labels[i]);
    TRY(fk_import_permute(r, &t->node, perm));
    memcpy(t->labels, labels, (size_t)t->n);
    return FERKD_OK;
}

/* Labels by what they are to the product: in both and the output, in one, in both only. */
typedef struct classes {
    char batch[FK_MAX_DIMS], left[FK_MAX_DIMS], right[FK_MAX_DIMS], inner[FK_MAX_DIMS];
    int n_batch, n_left, n_right, n_inner;
} classes;

static classes classify(const term *a, const term *b, const term *out)
{
    classes c = {.n_batch = 0};

    for (int i = 0; i < a->n; i++) {
        char l = a->labels[i];
        bool both = find_label(b, l) >= 0;
        if (both && find_label(out, l) >= 0)
            c.batch[c.n_batch++] = l;
        else if (both)
            c.inner[c.n_inner++] = l;
        else
            c.left[c.n_left++] = l;
    }
    for (int i = 0; i < b->n; i++) {
        if (find_label(a, b->labels[i]) < 0)
            c.right[c.n_right++] = b->labels[i];
    }
    return c;
}

/* [batch..., x..., y...] with x and y each as one dimension; gives the sizes of the three. */
static ferkd_status as_matrices(fk_reader *r, term *t, int n_batch, int n_x, int64_t *batch,
                                int64_t *x, int64_t *y)
{
    const fk_shape *s = &r->g->nodes[t->node].shape;

    *batch = *x = *y = 1;
    for (int i = 0; i < s->n; i++)
        *(i < n_batch ? batch : i < n_batch + n_x ? x : y) *= s->d[i];
    return fk_import_reshape_to(r, &t->node, fk_shape_of(3, *batch, *x, *y));
}

static ferkd_status product(fk_reader *r, term *a, term *b, const term *out)
{
    classes c = classify(a, b, out);
    char order[3 * FK_MAX_DIMS];
    fk_shape to = {0};
    int64_t batch;
    int64_t m;
    int64_t n;
    int64_t k;
    term sum = {.n = c.n_batch + c.n_left + c.n_right};

    if (sum.n != out->n)
        return fk_reader_refuse(r, "an output with letters that the inputs lack");
    memcpy(sum.labels, c.batch, (size_t)c.n_batch);
    memcpy(sum.labels + c.n_batch, c.left, (size_t)c.n_left);
    memcpy(sum.labels + c.n_batch + c.n_left, c.right, (size_t)c.n_right);
    for (int i = 0; i < sum.n; i++) {
        const term *from = find_label(a, sum.labels[i]) >= 0 ? a : b;
        to.d[to.n++] = r->g->nodes[from->node].shape.d[find_label(from, sum.labels[i])];
    }
    memcpy(order, sum.labels, (size_t)(c.n_batch + c.n_left));
    memcpy(order + c.n_batch + c.n_left, c.inner, (size_t)c.n_inner);
    TRY(reorder(r, a, order));
    memcpy(order + c.n_batch, c.inner, (size_t)c.n_inner);
    memcpy(order + c.n_batch + c.n_inner, c.right, (size_t)c.n_right);
    TRY(reorder(r, b, order));
    TRY(as_matrices(r, a, c.n_batch, c.n_left, &batch, &m, &k));
    TRY(as_matrices(r, b, c.n_batch, c.n_inner, &batch, &k, &n));
    int in[2] = {a->node, b->node};
    fk_node matmul = FK_NODE(.op = FK_MATMUL, .name = fk_import_name(r), .in = in, .n_in = 2);
    TRY(fk_graph_add(r->g, &matmul, &sum.node));
    TRY(fk_import_reshape_to(r, &sum.node, to));
    TRY(reorder(r, &sum, out->labels));
    return fk_import_alias(r, sum.node);
}

ferkd_status fk_import_einsum(fk_reader *r)
{
    const Onnx__AttributeProto *e = fk_attr(r, "equation");
    term t[2] = {{.n = 0}, {.n = 0}};
    term out = {.n = 0};
    size_t n = r->node->n_input;

    if (!e || !e->has_s || n < 1 || n > 2)
        return fk_reader_refuse(r, "more than two values");
    const char *at = (const char *)e->s.data;
    const char *end = at + e->s.len;
    for (size_t i = 0; i < n; i++) {
        TRY(read_term(r, &at, end, &t[i]));
        at += at < end && *at == ',';
        TRY(fk_import_input(r, i, &t[i].node));
        if (r->g->nodes[t[i].node].shape.n != t[i].n)
            return fk_reader_refuse(r, "the equation does not fit the inputs");
    }
    if (end - at < 2 || at[0] != '-' || at[1] != '>')
        return fk_reader_refuse(r, "an equation without an arrow");
    at += 2;
    TRY(read_term(r, &at, end, &out));
    TRY(sum_out(r, &t[0], n > 1 ? &t[1] : NULL, &out));
    if (n > 1) {
        TRY(sum_out(r, &t[1], &t[0], &out));
        return product(r, &t[0], &t[1], &out);
    }
    if (t[0].n != out.n)
        return fk_reader_refuse(r, "an output with letters that the inputs lack");
    TRY(reorder(r, &t[0], out.labels));
    return fk_import_alias(r, t[0].node);
}

/* --- normalisation of rows -------------------------------------------------------------------- */

/* LayerNorm of x over its dimensions from `axis` on, with weight and bias from inputs i and i + 1. */
static ferkd_status layernorm(fk_reader *r, int *x, int axis, size_t i, double eps)
{
    fk_shape s = r->g->nodes[*x].shape;
    fk_shape flat = {.n = axis + 1};
    bool bad[2];
    const fk_constant *c[2] = {fk_input_constant(r, i, &bad[0]),
                               fk_input_constant(r, i + 1, &bad[1])};
    int in;
    fk_node n = FK_NODE(.op = FK_LAYERNORM, .name = fk_import_name(r), .in = &in, .n_in = 1,
                        .u.norm = {eps, 0});

    flat.d[axis] = 1;
    for (int k = 0; k < s.n; k++)
        flat.d[fk_min_int(k, axis)] = k < axis ? s.d[k] : flat.d[axis] * s.d[k];
    for (int k = 0; k < 2; k++) {
        if (c[k] && fk_shape_count(&c[k]->shape) == flat.d[axis])
            TRY(fk_import_param(r, i + (size_t)k, k ? FK_BIAS : FK_NORM_WEIGHT, &n.param[k]));
    }
    TRY(fk_import_reshape_to(r, x, flat));
    in = *x;
    TRY(fk_graph_add(r->g, &n, x));
    TRY(fk_import_reshape_to(r, x, s));
    for (int k = 0; k < 2; k++) { /* those that are computed, or broadcast */
        int y;
        if (!fk_input(r, i + (size_t)k) || n.param[k] >= 0)
            continue;
        TRY(fk_import_input(r, i + (size_t)k, &y));
        TRY(fk_import_binary_of(r, x, k ? FK_ADD : FK_MUL, y));
    }
    return FERKD_OK;
}

ferkd_status fk_import_layernorm(fk_reader *r)
{
    int x;
    int axis;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_axis(r, fk_attr_int(r, "axis", -1), fk_import_shape(r, x).n, &axis));
    TRY(layernorm(r, &x, axis, 1, (double)fk_attr_float(r, "epsilon", 1e-5f)));
    return fk_import_alias(r, x);
}

/* ONNX Runtime's: LayerNorm(input + skip + bias); inputs: input, skip, gamma, beta, bias. */
ferkd_status fk_import_skip_layernorm(fk_reader *r)
{
    int x;
    int y;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_import_input(r, 1, &y));
    TRY(fk_import_binary_of(r, &x, FK_ADD, y));
    if (fk_input(r, 4)) {
        TRY(fk_import_input(r, 4, &y));
        TRY(fk_import_binary_of(r, &x, FK_ADD, y));
    }
    if (r->node->n_output > 3 && *r->node->output[3])
        TRY(fk_reader_set(r, r->node->output[3], NULL, x));
    TRY(layernorm(r, &x, fk_import_shape(r, x).n - 1, 2,
                  (double)fk_attr_float(r, "epsilon", 1e-12f)));
    return fk_import_alias(r, x);
}

/* x / sqrt(mean(x^2) + eps) scale, over the dimensions from axis on. */
ferkd_status fk_import_rmsnorm(fk_reader *r)
{
    int x;
    int y;
    int axis;

    TRY(fk_import_input(r, 0, &x));
    int rank = fk_import_shape(r, x).n;
    TRY(fk_axis(r, fk_attr_int(r, "axis", -1), rank, &axis));
    y = x;
    TRY(fk_import_binary_of(r, &y, FK_MUL, x));
    fk_node mean =
        FK_NODE(.op = FK_REDUCE, .name = fk_import_name(r), .in = &y, .n_in = 1,
                .u.reduce = {((1u << rank) - 1) & ~((1u << axis) - 1), true, FK_BY_MEAN});
    int root;
    TRY(fk_graph_add(r->g, &mean, &root));
    TRY(fk_import_number(r, &root, FK_ADD, fk_attr_float(r, "epsilon", 1e-5f)));
    TRY(fk_import_act_of(r, &root, FK_SQRT, 0, 0));
    TRY(fk_import_binary_of(r, &x, FK_DIV, root));
    TRY(fk_import_input(r, 1, &y));
    TRY(fk_import_binary_of(r, &x, FK_MUL, y));
    return fk_import_alias(r, x);
}

/* GroupNorm is LayerNorm of each group's values, InstanceNorm of each channel's; then a weight and a bias a channel,
 * or (GroupNormalization before opset 21) a group. */
ferkd_status fk_import_groupnorm(fk_reader *r)
{
    int x;
    int in;

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    if (s.n < 3)
        return fk_reader_refuse(r, "a feature map is needed");
    int64_t groups =
        fk_import_is(r, "InstanceNormalization") ? s.d[1] : fk_attr_int(r, "num_groups", 1);
    if (groups < 1 || s.d[1] % groups)
        return fk_reader_refuse(r, "groups that don't divide the channels");
    TRY(fk_import_reshape_to(r, &x,
                             fk_shape_of(3, s.d[0], groups, fk_shape_count(&s) / s.d[0] / groups)));
    in = x;
    fk_node n = FK_NODE(.op = FK_LAYERNORM, .name = fk_import_name(r), .in = &in, .n_in = 1,
                        .u.norm = {(double)fk_attr_float(r, "epsilon", 1e-5f), 0});
    TRY(fk_graph_add(r->g, &n, &x));
    for (size_t i = 1; i < 3; i++) {
        int y;
        TRY(fk_import_input(r, i, &y));
        int64_t count = fk_shape_count(&r->g->nodes[y].shape);
        if (count != s.d[1] && count != groups)
            return fk_reader_refuse(r, "one weight and bias a channel is needed");
        fk_shape to = fk_shape_of(3, (int64_t)1, count, (int64_t)1);
        TRY(fk_import_reshape_to(
            r, &x, fk_shape_of(3, s.d[0], count, fk_shape_count(&s) / s.d[0] / count)));
        TRY(fk_import_reshape_to(r, &y, to));
        TRY(fk_import_binary_of(r, &x, i == 1 ? FK_MUL : FK_ADD, y));
    }
    TRY(fk_import_reshape_to(r, &x, s));
    return fk_import_alias(r, x);
}

/* --- attention ---------------------------------------------------------------------------------- */

/* softmax(scale q k' + mask) v, each [B, H, T, d]. mask: node or -1. */
static ferkd_status attend(fk_reader *r, int q, int k, int v, float scale, int mask, int *out)
{
    const int turn[] = {0, 1, 3, 2};

    TRY(fk_import_permute(r, &k, turn));
    int in[2] = {q, k};
    fk_node n = FK_NODE(.op = FK_MATMUL, .name = fk_import_name(r), .in = in, .n_in = 2);
    TRY(fk_graph_add(r->g, &n, out));
    TRY(fk_import_number(r, out, FK_MUL, scale));
    if (mask >= 0)
        TRY(fk_import_binary_of(r, out, FK_ADD, mask));
    int scores = *out;
    fk_node soft = FK_NODE(.op = FK_SOFTMAX, .name = fk_import_name(r), .in = &scores, .n_in = 1,
                           .u.axis = {.axis = 3});
    TRY(fk_graph_add(r->g, &soft, out));
    in[0] = *out;
    in[1] = v;
    return fk_graph_add(r->g, &n, out);
}

/* [B, T, H d] to [B, H, T, d]. */
static ferkd_status split_heads(fk_reader *r, int *x, int64_t heads)
{
    const int perm[] = {0, 2, 1, 3};
    fk_shape s = r->g->nodes[*x].shape;

    if (heads < 1 || s.n != 3 || s.d[2] % heads)
        return fk_reader_refuse(r, "heads that don't divide the width");
    TRY(fk_import_reshape_to(r, x, fk_shape_of(4, s.d[0], s.d[1], heads, s.d[2] / heads)));
    return fk_import_permute(r, x, perm);
}

static ferkd_status join_heads(fk_reader *r, int *x)
{
    const int perm[] = {0, 2, 1, 3};
    fk_shape s = r->g->nodes[*x].shape;

    TRY(fk_import_permute(r, x, perm));
    return fk_import_reshape_to(r, x, fk_shape_of(3, s.d[0], s.d[2], s.d[1] * s.d[3]));
}

/* ONNX Runtime's fused Attention: input [B, T, D], weights [D, 3 D'], bias [3 D']. */
ferkd_status fk_import_ort_attention(fk_reader *r)
{
    bool bad;
    const fk_constant *w = fk_input_constant(r, 1, &bad);
    int64_t heads = fk_attr_int(r, "num_heads", 0);
    fk_node dense = FK_NODE(.op = FK_DENSE, .name = fk_import_name(r), .n_in = 1);
    int x;

    for (size_t i = 3; i < r->node->n_input; i++) {
        if (*r->node->input[i])
            return fk_reader_refuse(r, "masks and past values are not supported");
    }
    if (bad || !w || w->shape.n != 2 || !w->real || fk_attr_int(r, "unidirectional", 0))
        return fk_reader_refuse(r, "only constant weights, and attention both ways");
    TRY(fk_import_input(r, 0, &x));
    TRY(matrix(r, w, true, 1.0f, &dense.param[0]));
    TRY(fk_import_param(r, 2, FK_BIAS, &dense.param[1]));
    dense.in = &x;
    int qkv;
    TRY(fk_graph_add(r->g, &dense, &qkv));
    int64_t width = w->shape.d[1] / 3;
    if (heads < 1 || w->shape.d[1] % 3 || width % heads)
        return fk_reader_refuse(r, "heads that don't divide the width");
    float scale = fk_attr_float(r, "scale", 0.0f);
    fk_node n =
        FK_NODE(.op = FK_ATTENTION, .in = &qkv, .n_in = 1,
                .u.attention = {heads, scale > 0.0f ? (double)scale
                                                    : 1.0 / sqrt((double)width / (double)heads)});
    return fk_import_emit(r, &n);
}

/* ONNX's own Attention (opset 23): q, k, v and a mask that is added. */
ferkd_status fk_import_attention(fk_reader *r)
{
    static const char *const HEADS[] = {"q_num_heads", "kv_num_heads", "kv_num_heads"};
    int in[3];
    int mask = -1;
    int out;
    bool flat = false;
    bool bad;
    const fk_constant *m = fk_input_constant(r, 3, &bad);

    for (size_t i = 4; i < r->node->n_input; i++) {
        if (*r->node->input[i])
            return fk_reader_refuse(r, "past values are not supported");
    }
    for (size_t i = 0; i < r->node->n_attribute; i++) {
        if (strstr(r->node->attribute[i]->name, "window"))
            return fk_reader_refuse(r, "attention to a window is not supported");
    }
    if (fk_attr_int(r, "is_causal", 0) || fk_attr_float(r, "softcap", 0.0f) != 0.0f || bad ||
        (m && !m->real) || r->node->n_output > 1)
        return fk_reader_refuse(r, "only attention both ways, with a constant mask of numbers");
    for (size_t i = 0; i < 3; i++) {
        TRY(fk_import_input(r, i, &in[i]));
        flat = r->g->nodes[in[i]].shape.n == 3;
        if (flat)
            TRY(split_heads(r, &in[i], fk_attr_int(r, HEADS[i], 0)));
    }
    fk_shape q = fk_import_shape(r, in[0]);
    if (fk_import_shape(r, in[1]).d[1] != q.d[1])
        return fk_reader_refuse(r, "keys and values with fewer heads");
    if (m)
        TRY(fk_import_input(r, 3, &mask));
    float scale = fk_attr_float(r, "scale", 0.0f);
    TRY(attend(r, in[0], in[1], in[2], scale > 0.0f ? scale : 1.0f / sqrtf((float)q.d[3]), mask,
               &out));
    if (flat)
        TRY(join_heads(r, &out));
    return fk_import_alias(r, out);
}
