/* What is done to tokens, as ONNX nodes: LayerNorm and attention, for which opset 13 has no operators. */
#include "base/compat.h"

#include "exchange/onnx_writer.h"

/* --- LayerNorm ------------------------------------------------------------------------------- */

static char *mean_of(fk_writer *w, int id, char *x, int axis)
{
    int64_t last = axis;
    Onnx__NodeProto *n = fk_writer_step(w, "ReduceMean", id, false, &x, 1);

    if (!n)
        return NULL;
    fk_writer_ints(w, n, "axes", &last, 1);
    return n->output[0];
}

/* Before opset 17 there was no operator for it. */
static void write_layernorm_parts(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    char *x = fk_writer_value(w, from->in[0]);
    int axis = from->shape.n - 1;
    char *param[2] = {NULL, NULL};

    for (int i = 0; i < 2; i++) {
        if (from->param[i] >= 0)
            param[i] = fk_writer_param(w, from->param[i]);
    }
    x = fk_writer_apply(w, "Sub", id, false, x, mean_of(w, id, x, axis));
    char *y = mean_of(w, id, fk_writer_apply(w, "Mul", id, false, x, x), axis);
    y = fk_writer_apply(w, "Add", id, false, y,
                        fk_writer_setting(w, id, "epsilon", from->u.norm.eps));
    y = fk_writer_apply(w, "Sqrt", id, false, y, NULL);
    x = fk_writer_apply(w, "Div", id, !param[0] && !param[1], x, y);
    if (param[0])
        x = fk_writer_apply(w, "Mul", id, !param[1], x, param[0]);
    if (param[1])
        (void)fk_writer_apply(w, "Add", id, true, x, param[1]);
}

static void write_layernorm_operator(fk_writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    char *in[3] = {fk_writer_value(w, from->in[0])};
    int64_t width = from->shape.d[from->shape.n - 1];

    if (from->param[0] >= 0) {
        in[1] = fk_writer_param(w, from->param[0]);
    } else { /* it must have a weight */
        float *ones = fk_writer_take(w, (size_t)width, sizeof *ones);
        char *name = fk_writer_text(w, "v%d_ones", id);
        Onnx__TensorProto *t = fk_writer_tensor(w, name, 1, &width);
        if (!ones || !t)
            return;
        for (int64_t i = 0; i < width; i++)
            ones[i] = 1.0f;
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
        t->raw_data.data = (uint8_t *)ones;
        t->raw_data.len = (size_t)width * sizeof *ones;
        in[1] = name;
    }
    if (from->param[1] >= 0)
        in[2] = fk_writer_param(w, from->param[1]);
    Onnx__NodeProto *n =
        fk_writer_step(w, "LayerNormalization", id, true, in, from->param[1] >= 0 ? 3 : 2);
    if (!n)
        return;
    fk_writer_int(w, n, "axis", -1);
    fk_writer_float(w, n, "epsilon", from->u.norm.eps);
}

void fk_writer_layernorm(fk_writer *w, int id)
{
    if (w->opset < 17)
        write_layernorm_parts(w, id);
    else
        write_layernorm_operator(w, id);
}

/* --- attention ------------------------------------------------------------------------------- */

/* Part i of queries, keys, values: [B, T, 3 D] to [B, H, T, d]; keys turned. */
static char *part_of(fk_writer *w, int id, char *qkv, int64_t i)
{
    static const char *const TAILS[3][2] = {
        {"q_from", "q_to"}, {"k_from", "k_to"}, {"v_from", "v_to"}};
    static const int64_t PERM[] = {0, 2, 1, 3};
    static const int64_t TURNED[] = {0, 2, 3, 1};
    const fk_node *from = &w->g->nodes[id];
    int64_t width = from->shape.d[2];
    int64_t heads = from->u.attention.heads;
    int64_t shape[] = {-1, from->shape.d[1], heads, width / heads};
    int64_t at[2] = {i * width, (i + 1) * width};
    int64_t axis = 2;
    char *in[4] = {qkv, fk_writer_integers(w, fk_writer_text(w, "v%d_%s", id, TAILS[i][0]), at, 1),
                   fk_writer_integers(w, fk_writer_text(w, "v%d_%s", id, TAILS[i][1]), at + 1, 1),
                   fk_writer_integers(w, fk_writer_text(w, "v%d_axis%d", id, (int)i), &axis, 1)};
    Onnx__NodeProto *n = fk_writer_step(w, "Slice", id, false, in, 4);

    if (!n)
        return NULL;
    char *x = fk_writer_reshape(w, id, false, n->output[0], fk_writer_text(w, "heads%d", (int)i), 4,
                                shape);
    return fk_writer_permute(w, id, false, x, 4, i == 1 ? TURNED : PERM);
}

/* What is added to the scores, [W, heads or 1, T, T]: batch entries are taken W at a time. */
static char *add_bias(fk_writer *w, int id, char *s)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t windows = w->g->nodes[from->in[1]].shape.d[0];
    int64_t tokens = from->shape.d[1];
    int64_t heads = from->u.attention.heads;
    const int64_t split[] = {-1, windows, heads, tokens, tokens};
    const int64_t joined[] = {-1, heads, tokens, tokens};
    char *bias = fk_writer_value(w, from->in[1]);

    if (windows == 1)
        return fk_writer_apply(w, "Add", id, false, s, bias);
    s = fk_writer_reshape(w, id, false, s, "windows", 5, split);
    s = fk_writer_apply(w, "Add", id, false, s, bias);
    return fk_writer_reshape(w, id, false, s, "scores", 4, joined);
}

void fk_writer_attention(fk_writer *w, int id)
{
    static const int64_t PERM[] = {0, 2, 1, 3};
    const fk_node *from = &w->g->nodes[id];
    char *qkv = fk_writer_value(w, from->in[0]);
    char *q = part_of(w, id, qkv, 0);
    char *s = fk_writer_apply(w, "MatMul", id, false, q, part_of(w, id, qkv, 1));

    s = fk_writer_apply(w, "Mul", id, false, s,
                        fk_writer_setting(w, id, "scale", from->u.attention.scale));
    if (from->n_in > 1)
        s = add_bias(w, id, s);
    Onnx__NodeProto *soft = fk_writer_step(w, "Softmax", id, false, &s, 1);
    if (!soft)
        return;
    fk_writer_int(w, soft, "axis", -1);
    s = fk_writer_apply(w, "MatMul", id, false, soft->output[0], part_of(w, id, qkv, 2));
    s = fk_writer_permute(w, id, false, s, 4, PERM);
    (void)fk_writer_reshape(w, id, true, s, "shape", 3, from->shape.d);
}
