/* Quantised values, as the numbers that they stand for: QuantizeLinear and DequantizeLinear, of weights while reading, of
 * values as nodes of the graph. */
#include "base/compat.h"

#include "base/mem.h"
#include "exchange/onnx_import.h"

/* Input i, one value or one a channel of `axis`, so that it broadcasts to a tensor of this rank; -1: left out. */
static ferkd_status channel_input(fk_reader *r, size_t i, int axis, const fk_shape *of, int *id)
{
    *id = -1;
    if (!fk_input(r, i))
        return FERKD_OK;
    TRY(fk_import_input(r, i, id));
    fk_shape s = r->g->nodes[*id].shape;
    if (fk_shape_count(&s) == 1) {
        fk_shape one = {.n = 1, .d = {1}};
        return fk_import_reshape_to(r, id, one);
    }
    if (s.n != 1 || s.d[0] != of->d[axis])
        return fk_reader_refuse(r, "quantisation by blocks");
    fk_shape to = {.n = of->n};
    for (int k = 0; k < to.n; k++)
        to.d[k] = k == axis ? s.d[0] : 1;
    return fk_import_reshape_to(r, id, to);
}

static ferkd_status channel_axis(const fk_reader *r, const fk_shape *s, int *axis)
{
    int64_t given = fk_attr_int(r, "axis", 1);

    *axis = 0;
    return s->n < 2 && given == 1 ? FERKD_OK : fk_axis(r, given, s->n, axis);
}

/* The value, and its scale and zero point (-1: none) in shapes that broadcast to it. */
static ferkd_status operands(fk_reader *r, int *x, int *scale, int *zero)
{
    int axis;

    TRY(fk_import_input(r, 0, x));
    fk_shape s = fk_import_shape(r, *x);
    TRY(channel_axis(r, &s, &axis));
    TRY(channel_input(r, 1, axis, &s, scale));
    TRY(channel_input(r, 2, axis, &s, zero));
    return *scale < 0 ? fk_reader_refuse(r, "an input is missing") : FERKD_OK;
}

/* --- both at once ------------------------------------------------------------------------------ */

/* Input i of the node at hand, if it is one number that is known; 0 where it is left out. */
static bool one_number(const fk_reader *r, size_t i, double *out)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    *out = c && fk_shape_count(&c->shape) == 1 ? fk_constant_get(c, 0) : 0.0;
    return !bad && (!c || fk_shape_count(&c->shape) == 1);
}

/* What stands for x after its integers were made, in one step; it is used where these are only dequantised. */
static ferkd_status keep_levels(fk_reader *r, int x, float low, float high, fk_quantised *q)
{
    *q = (fk_quantised){.levels = -1};
    if (high - low > 255.0f || !one_number(r, 1, &q->scale) || !one_number(r, 2, &q->zero) ||
        q->scale <= 0.0)
        return FERKD_OK;
    q->levels = x;
    return fk_import_act_of(r, &q->levels, FK_LEVELS, (float)q->scale, low - (float)q->zero);
}

static int levels_of(const fk_reader *r, int integers)
{
    double scale;
    double zero;

    if (!one_number(r, 1, &scale) || !one_number(r, 2, &zero))
        return -1;
    for (size_t i = r->n_quantised; i-- > 0;) {
        const fk_quantised *q = &r->quantised[i];
        if (q->integers == integers && q->scale == scale && q->zero == zero)
            return q->levels;
    }
    return -1;
}

/* --- one after the other ----------------------------------------------------------------------- */

ferkd_status fk_import_dequantize(fk_reader *r)
{
    int x;
    int scale;
    int zero;

    TRY(operands(r, &x, &scale, &zero));
    int levels = levels_of(r, x);
    if (levels >= 0)
        return fk_import_alias(r, levels);
    if (zero >= 0)
        TRY(fk_import_binary_of(r, &x, FK_SUB, zero));
    TRY(fk_import_binary_of(r, &x, FK_MUL, scale));
    return fk_import_alias(r, x);
}

/* The range of what is quantised to: by the zero point's type, or as the attribute says. */
static ferkd_status range_of(const fk_reader *r, float *low, float *high)
{
    const fk_value *v = fk_input(r, 2);
    int type = v && v->constant && v->constant->type
                   ? v->constant->type
                   : (int)fk_attr_int(r, "output_dtype", ONNX__TENSOR_PROTO__DATA_TYPE__UINT8);

    if (type == 0)
        type = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
    *low = 0.0f;
    *high = 255.0f;
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__INT8) {
        *low = -128.0f;
        *high = 127.0f;
    } else if (type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT16) {
        *high = 65535.0f;
    } else if (type == ONNX__TENSOR_PROTO__DATA_TYPE__INT16) {
        *low = -32768.0f;
        *high = 32767.0f;
    } else if (type != ONNX__TENSOR_PROTO__DATA_TYPE__UINT8) {
        return fk_reader_refuse(r, "quantisation to a type other than 8 or 16 bits");
    }
    return FERKD_OK;
}

/* clip(round(x / scale) + zero) */
ferkd_status fk_import_quantize(fk_reader *r)
{
    int x;
    int scale;
    int zero;
    float low;
    float high;
    fk_quantised q;

    TRY(operands(r, &x, &scale, &zero));
    TRY(range_of(r, &low, &high));
    TRY(keep_levels(r, x, low, high, &q));
    TRY(fk_import_binary_of(r, &x, FK_DIV, scale));
    TRY(fk_import_act_of(r, &x, FK_ROUND, 0, 0));
    if (zero >= 0)
        TRY(fk_import_binary_of(r, &x, FK_ADD, zero));
    TRY(fk_import_act_of(r, &x, FK_CLIP, low, high));
    if (q.levels >= 0) {
        TRY(fk_grow(&r->quantised, &r->cap_quantised, r->n_quantised + 1, sizeof *r->quantised));
        q.integers = x;
        r->quantised[r->n_quantised++] = q;
    }
    return fk_import_alias(r, x);
}

/* (x - zero) scale, of an initialiser; scale and zero are one number, or one for each index of `axis`. */
ferkd_status fk_fold_dequantize(fk_reader *r, const fk_constant *const *in, size_t n,
                                fk_constant **out)
{
    int axis;
    int64_t inner = 1;

    if (n < 2 || !in[0] || !in[1])
        return fk_reader_refuse(r, "an input is missing");
    const fk_shape *s = &in[0]->shape;
    TRY(channel_axis(r, s, &axis));
    int64_t channels = s->n ? s->d[axis] : 1;
    for (int i = axis + 1; i < s->n; i++)
        inner *= s->d[i];
    for (size_t i = 1; i < n && i < 3; i++) {
        if (in[i] && fk_shape_count(&in[i]->shape) != 1 &&
            (in[i]->shape.n != 1 || in[i]->shape.d[0] != channels))
            return fk_reader_refuse(r, "quantisation by blocks");
    }
    const fk_constant *zero = n > 2 ? in[2] : NULL;
    bool many = fk_shape_count(&in[1]->shape) != 1;
    bool many_zeros = zero && fk_shape_count(&zero->shape) != 1;
    TRY(fk_constant_new(out, true, s));
    for (int64_t k = 0; k < fk_shape_count(s); k++) {
        int64_t c = k / inner % channels;
        double z = zero ? fk_constant_get(zero, many_zeros ? c : 0) : 0.0;
        fk_constant_set(*out, k,
                        (fk_constant_get(in[0], k) - z) * fk_constant_get(in[1], many ? c : 0));
    }
    return FERKD_OK;
}
