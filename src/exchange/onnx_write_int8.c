/* Values and weights in 8 bits, as QuantizeLinear and DequantizeLinear around the operators (ONNX opset 13): engines
 * that have an operator for bytes take all three for one. Values: uint8 with a zero point, one scale each. Weights: int8
 * without, a scale for each output channel. Biases: int32 with the product of both scales. */
#include "base/compat.h"

#include "exchange/onnx_writer.h"

bool fk_writer_in_bytes(const fk_writer *w, int id)
{
    return w->ranges && w->ranges[id].low <= w->ranges[id].high;
}

static Onnx__TensorProto *tensor(fk_writer *w, const char *name, int64_t n, bool scalar, int type,
                                 void *data, size_t bytes)
{
    Onnx__TensorProto *t = fk_writer_tensor(w, name, scalar ? 0 : 1, &n);

    if (!t || !data)
        return NULL;
    t->data_type = type;
    t->raw_data.data = data;
    t->raw_data.len = bytes;
    return t;
}

/* The range of a value: what a max-pooling passes on is what it was given. */
static fk_range range_of(const fk_writer *w, int id)
{
    const fk_node *n = &w->g->nodes[id];

    while (n->op == FK_POOL && n->u.pool.max &&
           fk_writer_in_bytes(w, fk_value_of(w->g, n->in[0]))) {
        id = fk_value_of(w->g, n->in[0]);
        n = &w->g->nodes[id];
    }
    return w->ranges[id];
}

static float scale_of(const fk_writer *w, int id)
{
    fk_range r = range_of(w, id);

    return r.high > r.low ? (r.high - r.low) / 255.0f : 1.0f;
}

void fk_writer_quantise_value(fk_writer *w, int id)
{
    const char *name = fk_writer_result(w, id);
    float scale = scale_of(w, id);
    uint8_t *zero = fk_writer_take(w, 1, 1);

    if (!zero || !name)
        return;
    *zero = (uint8_t)lrintf(fminf(fmaxf(-range_of(w, id).low / scale, 0.0f), 255.0f));
    Onnx__TensorProto *z = tensor(w, fk_writer_text(w, "%s_zero", name), 1, true,
                                  ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, zero, 1);
    char *in[3] = {fk_writer_text(w, "%s", name),
                   fk_writer_number(w, fk_writer_text(w, "%s_scale", name), scale),
                   z ? z->name : NULL};
    Onnx__NodeProto *q = fk_writer_step(w, "QuantizeLinear", id, false, in, 3);
    if (!q)
        return;
    in[0] = q->output[0];
    Onnx__NodeProto *d = fk_writer_step(w, "DequantizeLinear", id, false, in, 3);
    if (d)
        d->output[0] = fk_writer_value(w, id);
}

/* name, scales and zeros through a DequantizeLinear by output channel: its output. */
static char *dequantise(fk_writer *w, int id, const char *name, int64_t channels, float *scales,
                        char *zeros)
{
    Onnx__TensorProto *s =
        tensor(w, fk_writer_text(w, "%s_scale", name), channels, false,
               ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, scales, (size_t)channels * sizeof *scales);
    char *in[3] = {fk_writer_text(w, "%s", name), s ? s->name : NULL, zeros};
    Onnx__NodeProto *n = fk_writer_step(w, "DequantizeLinear", id, false, in, zeros ? 3 : 2);

    if (!n)
        return NULL;
    fk_writer_int(w, n, "axis", 0);
    return n->output[0];
}

/* A scale for each output channel: the largest of its weights is 127. */
static float *weight_scales(fk_writer *w, const fk_param *p, int64_t channels)
{
    float *scales = fk_writer_take(w, (size_t)channels, sizeof *scales);
    size_t each = p->count / (size_t)channels;
    const float *v = w->g->values + p->offset;

    for (int64_t c = 0; scales && c < channels; c++) {
        float top = 0.0f;
        for (size_t i = 0; i < each; i++)
            top = fmaxf(top, fabsf(v[(size_t)c * each + i]));
        scales[c] = top > 0.0f ? top / 127.0f : 1.0f;
    }
    return scales;
}

static char *write_weight(fk_writer *w, int id, const fk_param *p, int64_t channels, float *scales)
{
    const char *name = fk_writer_text(w, "v%d_weight_int8", id);
    const float *v = w->g->values + p->offset;
    size_t each = p->count / (size_t)channels;
    int8_t *q = fk_writer_take(w, p->count, 1);
    int8_t *zeros = fk_writer_take(w, (size_t)channels, 1);

    for (size_t i = 0; q && scales && i < p->count; i++)
        q[i] = (int8_t)lrintf(v[i] / scales[i / each]);
    Onnx__TensorProto *t = fk_writer_tensor(w, name, (size_t)p->shape.n, p->shape.d);
    Onnx__TensorProto *z = tensor(w, fk_writer_text(w, "%s_zero", name), channels, false,
                                  ONNX__TENSOR_PROTO__DATA_TYPE__INT8, zeros, (size_t)channels);
    if (!t || !z || !q)
        return NULL;
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT8;
    t->raw_data.data = (uint8_t *)q;
    t->raw_data.len = p->count;
    return dequantise(w, id, name, channels, scales, z->name);
}

static char *write_bias(fk_writer *w, int id, const fk_param *p, const float *scales, float in)
{
    const char *name = fk_writer_text(w, "v%d_bias_int32", id);
    const float *v = w->g->values + p->offset;
    int32_t *q = fk_writer_take(w, p->count, sizeof *q);
    float *products = fk_writer_take(w, p->count, sizeof *products);

    for (size_t i = 0; q && products && scales && i < p->count; i++) {
        products[i] = scales[i] * in;
        q[i] = (int32_t)lrint(
            fmin(fmax((double)v[i] / (double)products[i], (double)INT32_MIN), (double)INT32_MAX));
    }
    (void)tensor(w, name, (int64_t)p->count, false, ONNX__TENSOR_PROTO__DATA_TYPE__INT32, q,
                 p->count * sizeof *q);
    return dequantise(w, id, name, (int64_t)p->count, products, NULL);
}

bool fk_writer_has_bytes(const fk_writer *w, const fk_node *n)
{
    return (n->op == FK_CONV || n->op == FK_DENSE) &&
           fk_writer_in_bytes(w, fk_value_of(w->g, n->in[0]));
}

void fk_writer_quantised_params(fk_writer *w, int id, char *names[2])
{
    const fk_node *n = &w->g->nodes[id];
    const fk_param *p = &w->g->params[n->param[0]];
    float *scales = weight_scales(w, p, p->shape.d[0]);

    names[0] = write_weight(w, id, p, p->shape.d[0], scales);
    if (n->param[1] >= 0)
        names[1] = write_bias(w, id, &w->g->params[n->param[1]], scales,
                              scale_of(w, fk_value_of(w->g, n->in[0])));
}
