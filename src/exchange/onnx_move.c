/* ONNX operators to nodes of the graph: what only moves elements. */
#include "base/compat.h"

#include "exchange/onnx_import.h"

#include "base/mem.h"

static ferkd_status reshape(fk_reader *r, int x, const fk_shape *to)
{
    fk_node n = {.op = FK_RESHAPE, .in = &x, .n_in = 1, .param = {-1, -1, -1, -1}, .shape = *to};

    return fk_import_emit(r, &n);
}

ferkd_status fk_import_flatten(fk_reader *r)
{
    int x;
    fk_shape to = fk_shape_of(2, (int64_t)1, (int64_t)1);

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    int64_t axis = fk_attr_int(r, "axis", 1);
    axis = axis < 0 ? axis + s.n : axis;
    for (int i = 0; i < s.n; i++)
        to.d[i >= axis] *= s.d[i];
    return reshape(r, x, &to);
}

ferkd_status fk_import_reshape(fk_reader *r)
{
    int x;
    fk_shape to;

    TRY(fk_import_input(r, 0, &x));
    fk_shape in = fk_import_shape(r, x);
    TRY(fk_reshape_target(r, &in, &to));
    fk_node attention;
    int qkv;
    if (fk_import_attention_at(r, x, &to, &attention, &qkv)) {
        attention.in = &qkv;
        return fk_import_emit(r, &attention);
    }
    return reshape(r, x, &to);
}

ferkd_status fk_import_squeeze(fk_reader *r)
{
    fk_shape to;
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape in = fk_import_shape(r, x);
    TRY(fk_squeeze_target(r, &in, &to));
    return reshape(r, x, &to);
}

ferkd_status fk_import_transpose(fk_reader *r)
{
    int64_t perm[FK_MAX_DIMS];
    int given;
    fk_node n = {.op = FK_TRANSPOSE, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_ints(r, "perm", SIZE_MAX, perm, FK_MAX_DIMS, &given));
    int rank = fk_import_shape(r, x).n;
    if (given && given != rank)
        return fk_reader_refuse(r, "perm is no permutation");
    for (int i = 0; i < rank; i++)
        n.u.transpose.perm[i] = given ? (int)perm[i] : rank - 1 - i;
    n.in = &x;
    return fk_import_emit(r, &n);
}

ferkd_status fk_import_concat(fk_reader *r)
{
    fk_node n = {.op = FK_CONCAT, .n_in = (int)r->node->n_input, .param = {-1, -1, -1, -1}};
    int *in = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&in, r->node->n_input, sizeof *in, "a concatenation"));
    for (size_t i = 0; i < r->node->n_input; i++)
        TRY_DONE(fk_import_input(r, i, &in[i]));
    if (n.n_in < 1) {
        st = fk_reader_refuse(r, "an input is missing");
        goto done;
    }
    TRY_DONE(fk_axis(r, fk_attr_int(r, "axis", 1), fk_import_shape(r, in[0]).n, &n.u.axis.axis));
    n.in = in;
    TRY_DONE(fk_import_emit(r, &n));
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

ferkd_status fk_import_slice(fk_reader *r)
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

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_ints(r, "starts", 1, starts, FK_MAX_DIMS, &n_starts));
    TRY(fk_ints(r, "ends", 2, ends, FK_MAX_DIMS, &n_ends));
    TRY(fk_ints(r, "axes", 3, axes, FK_MAX_DIMS, &n_axes));
    TRY(fk_ints(r, "steps", 4, steps, FK_MAX_DIMS, &n_steps));
    for (int i = 0; i < n_starts && i < n_ends; i++) {
        fk_shape s = fk_import_shape(r, x);
        int axis;
        int64_t first;
        int64_t count;
        int64_t step = i < n_steps ? steps[i] : 1;
        TRY(fk_axis(r, i < n_axes ? axes[i] : i, s.n, &axis));
        TRY(fk_slice_range(r, starts[i], ends[i], step, s.d[axis], &first, &count));
        if (first != 0 || count != s.d[axis] || step != 1)
            TRY(slice_node(r, x, axis, first, count, step, fk_import_name(r), &x));
    }
    return fk_import_alias(r, x);
}

ferkd_status fk_import_split(fk_reader *r)
{
    enum { MAX_PARTS = 64 };

    int64_t parts[MAX_PARTS];
    int n_parts;
    int axis;
    int x;
    int n_out = (int)r->node->n_output;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_ints(r, "split", 1, parts, MAX_PARTS, &n_parts));
    fk_shape s = fk_import_shape(r, x);
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

ferkd_status fk_import_pad(fk_reader *r)
{
    const Onnx__AttributeProto *mode = fk_attr(r, "mode");
    int64_t pads[2 * FK_MAX_DIMS];
    int64_t axes[FK_MAX_DIMS];
    int n_pads;
    int n_axes;
    fk_node n = {.op = FK_PAD, .n_in = 1, .param = {-1, -1, -1, -1}};
    int x;

    TRY(fk_import_input(r, 0, &x));
    if (mode && mode->has_s && (mode->s.len != 8 || memcmp(mode->s.data, "constant", 8) != 0))
        return fk_reader_refuse(r, "only constant padding");
    TRY(fk_ints(r, "pads", 1, pads, 2 * FK_MAX_DIMS, &n_pads));
    TRY(fk_ints(r, "axes", 3, axes, FK_MAX_DIMS, &n_axes));
    TRY(fk_import_scalar(r, "value", 2, 0.0f, &n.u.pad.value));
    int rank = fk_import_shape(r, x).n;
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
    return fk_import_emit(r, &n);
}

ferkd_status fk_import_identity(fk_reader *r)
{
    int x;

    int64_t to = fk_attr_int(r, "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);

    bool bad;
    const fk_constant *training = fk_input_constant(r, 2, &bad);
    if (fk_import_is(r, "Dropout") && (bad || (training && fk_constant_get(training, 0) != 0.0)))
        return fk_reader_refuse(r, "export the model in eval mode");
    TRY(fk_import_input(r, 0, &x));
    if (fk_import_is(r, "Cast") && to != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT &&
        to != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 && to != ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE)
        return fk_reader_refuse(r, "only casts to floating point");
    return fk_import_alias(r, x);
}

/* --- repeating and choosing ------------------------------------------------------------------- */

ferkd_status fk_import_expand(fk_reader *r)
{
    int64_t dims[FK_MAX_DIMS];
    fk_shape to = {0};
    int x;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_ints(r, "shape", 1, dims, FK_MAX_DIMS, &to.n));
    memcpy(to.d, dims, (size_t)to.n * sizeof *dims);
    to = fk_import_broadcast(&r->g->nodes[x].shape, &to);
    if (to.n < 0)
        return fk_reader_refuse(r, "the shapes don't broadcast");
    TRY(fk_import_expand_to(r, &x, to));
    return fk_import_alias(r, x);
}

ferkd_status fk_import_tile(fk_reader *r)
{
    enum { MAX_TIMES = 64 };

    int64_t times[FK_MAX_DIMS];
    int in[MAX_TIMES];
    int n;
    int x;

    TRY(fk_import_input(r, 0, &x));
    TRY(fk_ints(r, "repeats", 1, times, FK_MAX_DIMS, &n));
    if (n != fk_import_shape(r, x).n)
        return fk_reader_refuse(r, "one number of repeats a dimension is needed");
    for (int axis = 0; axis < n; axis++) {
        fk_node concat = FK_NODE(.op = FK_CONCAT, .name = fk_import_name(r), .in = in,
                                 .n_in = (int)times[axis], .u.axis = {.axis = axis});
        if (times[axis] < 1 || times[axis] > MAX_TIMES)
            return fk_reader_refuse(r, "a number of repeats out of range");
        for (int64_t k = 0; k < times[axis]; k++)
            in[k] = x;
        if (times[axis] > 1)
            TRY(fk_graph_add(r->g, &concat, &x));
    }
    return fk_import_alias(r, x);
}

/* 0, 1, ... to n - 1: what exporters make of a view. */
static bool is_all_in_order(const fk_constant *index, int64_t n)
{
    if (fk_shape_count(&index->shape) != n)
        return false;
    for (int64_t i = 0; i < n; i++) {
        if (fk_constant_get(index, i) != (double)i)
            return false;
    }
    return true;
}

/* Shape s with that of the indices in place of an axis. */
static bool gathered(const fk_shape *s, int axis, const fk_shape *index, fk_shape *out)
{
    if (s->n - 1 + index->n > FK_MAX_DIMS)
        return false;
    out->n = 0;
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; i == axis && k < index->n; k++)
            out->d[out->n++] = index->d[k];
        if (i != axis)
            out->d[out->n++] = s->d[i];
    }
    return out->n > 0;
}

ferkd_status fk_import_gather(fk_reader *r)
{
    bool bad;
    const fk_constant *index = fk_input_constant(r, 1, &bad);
    fk_node n = FK_NODE(.op = FK_GATHER, .n_in = 1);
    fk_constant *copy = NULL;
    fk_shape to;
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    TRY(fk_axis(r, fk_attr_int(r, "axis", 0), s.n, &n.u.axis.axis));
    if (bad || !index)
        return fk_reader_refuse(r, "indices that are computed while running");
    if (is_all_in_order(index, s.d[n.u.axis.axis]) &&
        gathered(&s, n.u.axis.axis, &index->shape, &to)) {
        TRY(fk_import_reshape_to(r, &x, to));
        return fk_import_alias(r, x);
    }
    TRY(fk_constant_new(&copy, true, &index->shape));
    ferkd_status st = FERKD_OK;
    for (int64_t i = 0; i < fk_shape_count(&index->shape) && st == FERKD_OK; i++) {
        double v = fk_constant_get(index, i);
        int64_t d = s.d[n.u.axis.axis];
        if (v < (double)-d || v >= (double)d)
            st = fk_reader_refuse(r, "an index out of range");
        fk_constant_set(copy, i, v);
    }
    if (st == FERKD_OK)
        st = fk_import_param_of(r, copy, r->node->input[1], FK_BUFFER, &n.param[0]);
    fk_constant_free(copy);
    TRY(st);
    n.in = &x;
    return fk_import_emit(r, &n);
}

/* Blocks of b x b pixels from channels, or into them. */
ferkd_status fk_import_depth_space(fk_reader *r)
{
    static const int OF_DEPTH[] = {0, 3, 4, 1, 5, 2};   /* N b b C H W to N C H b W b */
    static const int OF_COLUMNS[] = {0, 1, 4, 2, 5, 3}; /* N C b b H W likewise */
    static const int TO_COLUMNS[] = {0, 1, 3, 5, 2, 4};
    static const int TO_DEPTH[] = {0, 3, 5, 1, 2, 4}; /* N C H b W b to N b b C H W */
    bool deep = fk_import_is(r, "DepthToSpace");
    bool columns = fk_import_word(r, "mode", "CRD");
    int64_t b = fk_attr_int(r, "blocksize", 1);
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape s = fk_import_shape(r, x);
    if (s.n != 4 || b < 1 || (deep ? s.d[1] % (b * b) != 0 : s.d[2] % b || s.d[3] % b))
        return fk_reader_refuse(r, "blocks that don't fit");
    if (!deep) {
        TRY(fk_import_reshape_to(r, &x,
                                 fk_shape_of(6, s.d[0], s.d[1], s.d[2] / b, b, s.d[3] / b, b)));
        TRY(fk_import_permute(r, &x, columns ? TO_COLUMNS : TO_DEPTH));
        TRY(fk_import_reshape_to(r, &x,
                                 fk_shape_of(4, s.d[0], s.d[1] * b * b, s.d[2] / b, s.d[3] / b)));
        return fk_import_alias(r, x);
    }
    int64_t c = s.d[1] / (b * b);
    TRY(fk_import_reshape_to(r, &x,
                             columns ? fk_shape_of(6, s.d[0], c, b, b, s.d[2], s.d[3])
                                     : fk_shape_of(6, s.d[0], b, b, c, s.d[2], s.d[3])));
    TRY(fk_import_permute(r, &x, columns ? OF_COLUMNS : OF_DEPTH));
    TRY(fk_import_reshape_to(r, &x, fk_shape_of(4, s.d[0], c, s.d[2] * b, s.d[3] * b)));
    return fk_import_alias(r, x);
}
