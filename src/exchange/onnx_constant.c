/* Constants of an ONNX file: all the ways that the format has of writing numbers down. */
#include "base/compat.h"

#include "exchange/onnx_graph.h"

#include "base/bytes.h"
#include "base/mem.h"

ferkd_status fk_constant_new(fk_constant **out, bool real, const fk_shape *shape)
{
    fk_constant *c = NULL;
    size_t n = 1;

    for (int i = 0; i < shape->n; i++) {
        if (shape->d[i] < 0 || shape->d[i] > (int64_t)FK_MAX_TENSOR)
            return fk_fail(FERKD_CORRUPT, "a constant with a dimension of %" PRId64, shape->d[i]);
        TRY(fk_size_mul(&n, n, (size_t)shape->d[i]));
    }
    if (n > FK_MAX_TENSOR)
        return fk_fail(FERKD_LIMIT, "a constant of %zu elements", n);
    TRY(fk_calloc(&c, 1, sizeof *c, "a constant"));
    c->shape = *shape;
    c->real = real;
    ferkd_status st = real ? fk_calloc(&c->f, n, sizeof *c->f, "a constant")
                           : fk_calloc(&c->i, n, sizeof *c->i, "a constant");
    if (st != FERKD_OK)
        free(c);
    else
        *out = c;
    return st;
}

void fk_constant_free(fk_constant *c)
{
    if (!c)
        return;
    free(c->f);
    free(c->i);
    free(c);
}

double fk_constant_get(const fk_constant *c, int64_t i)
{
    return c->real ? (double)c->f[i] : (double)c->i[i];
}

void fk_constant_set(fk_constant *c, int64_t i, double v)
{
    if (c->real)
        c->f[i] = (float)v;
    else if (v >= 0x1p63)
        c->i[i] = INT64_MAX;
    else
        c->i[i] = v <= -0x1p63 || isnan(v) ? INT64_MIN : (int64_t)v;
}

/* Bytes an element in raw_data; 0: a type that we don't read. */
static size_t raw_size(int type)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
        return 8;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
        return 4;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT16:
        return 2;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
        return 1;
    default:
        return 0;
    }
}

static bool is_real(int type)
{
    return type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT ||
           type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE ||
           type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ||
           type == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16;
}

static double raw_element(int type, const uint8_t *p)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        return fk_f64le(p);
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
        return (double)fk_half_value(fk_u16le(p));
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
        return (double)fk_bf16_value(fk_u16le(p));
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
        return (int32_t)fk_u32le(p);
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
        return fk_u32le(p);
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16:
        return (int16_t)fk_u16le(p);
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT16:
        return fk_u16le(p);
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
        return (int8_t)p[0];
    default:
        return p[0];
    }
}

static void decode_raw(fk_constant *c, int type, const uint8_t *p, size_t n)
{
    size_t step = raw_size(type);

    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        memcpy(c->f, p, n * sizeof *c->f);
        return;
    }
    for (size_t i = 0; i < n; i++, p += step) {
        if (step == 8 && !c->real)
            c->i[i] = (int64_t)fk_u64le(p);
        else
            fk_constant_set(c, (int64_t)i, raw_element(type, p));
    }
}

/* Numbers in one of the typed fields. How many there were. */
static size_t decode_typed(fk_constant *c, const Onnx__TensorProto *t, size_t n)
{
    if (t->n_float_data) {
        for (size_t i = 0; i < fk_min_size(n, t->n_float_data); i++)
            fk_constant_set(c, (int64_t)i, (double)t->float_data[i]);
        return t->n_float_data;
    }
    if (t->n_double_data) {
        for (size_t i = 0; i < fk_min_size(n, t->n_double_data); i++)
            fk_constant_set(c, (int64_t)i, t->double_data[i]);
        return t->n_double_data;
    }
    if (t->n_int64_data) {
        for (size_t i = 0; i < fk_min_size(n, t->n_int64_data); i++) {
            if (c->real)
                c->f[i] = (float)t->int64_data[i];
            else
                c->i[i] = t->int64_data[i];
        }
        return t->n_int64_data;
    }
    for (size_t i = 0; i < fk_min_size(n, t->n_int32_data); i++) { /* also holds half floats */
        uint32_t bits = (uint32_t)t->int32_data[i];
        double v = t->int32_data[i];
        if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16)
            v = (double)fk_half_value(bits & 0xffff);
        else if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16)
            v = (double)fk_bf16_value(bits & 0xffff);
        fk_constant_set(c, (int64_t)i, v);
    }
    return t->n_int32_data;
}

ferkd_status fk_constant_decode(fk_constant **out, const Onnx__TensorProto *t, const char *what)
{
    fk_shape shape = {.n = (int)t->n_dims};
    fk_constant *c = NULL;

    if (t->n_dims > FK_MAX_DIMS)
        return fk_fail(FERKD_UNSUPPORTED, "%s: %zu dimensions, the limit is %d", what, t->n_dims,
                       FK_MAX_DIMS);
    if (raw_size(t->data_type) == 0)
        return fk_fail(FERKD_UNSUPPORTED, "%s: elements of ONNX type %d", what, t->data_type);
    if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return fk_fail(FERKD_UNSUPPORTED,
                       "%s: its data is in another file; export the model as one file", what);
    for (size_t i = 0; i < t->n_dims; i++)
        shape.d[i] = t->dims[i];
    TRY(fk_constant_new(&c, is_real(t->data_type), &shape));
    c->type = t->data_type;
    size_t n = (size_t)fk_shape_count(&shape);
    size_t have;
    if (t->has_raw_data) {
        have = t->raw_data.len / raw_size(t->data_type);
        if (have >= n)
            decode_raw(c, t->data_type, t->raw_data.data, n);
    } else {
        have = decode_typed(c, t, n);
    }
    if (have != n) {
        fk_constant_free(c);
        return fk_fail(FERKD_CORRUPT, "%s: %zu elements where its shape needs %zu", what, have, n);
    }
    *out = c;
    return FERKD_OK;
}
