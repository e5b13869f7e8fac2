/* Constant folding: the chains of Shape, Gather, Concat and the like with which exporters compute
 * paddings and reshapes, and arithmetic on weights. */
#include "base/compat.h"

#include "exchange/onnx_graph.h"

#include "base/mem.h"

typedef ferkd_status fold_fn(fk_reader *r, const fk_constant *const *in, size_t n,
                             fk_constant **out);

#define MAX_IN 64

/* What is worked out has no file behind it that would bound it. */
static ferkd_status new_constant(fk_constant **out, bool real, const fk_shape *shape)
{
    int64_t n = 1;

    for (int i = 0; i < shape->n; i++) {
        if (shape->d[i] < 0 || __builtin_mul_overflow(n, shape->d[i], &n) ||
            n > (int64_t)FK_MAX_FOLDED)
            return fk_fail(FERKD_LIMIT, "a constant of more than %u elements is worked out",
                           FK_MAX_FOLDED);
    }
    return fk_constant_new(out, real, shape);
}

static void strides_of(const fk_shape *s, int64_t *strides)
{
    int64_t step = 1;

    for (int i = s->n - 1; i >= 0; i--) {
        strides[i] = step;
        step *= s->d[i];
    }
}

/* --- element by element ---------------------------------------------------------------------- */

static double combine(const char *op, double a, double b, bool real)
{
    if (strcmp(op, "Add") == 0)
        return a + b;
    if (strcmp(op, "Sub") == 0)
        return a - b;
    if (strcmp(op, "Mul") == 0)
        return a * b;
    if (strcmp(op, "Div") == 0)
        return real ? a / b : b != 0 ? trunc(a / b) : 0.0;
    if (strcmp(op, "Mod") == 0)
        return b != 0 ? a - floor(a / b) * b : 0.0;
    if (strcmp(op, "Pow") == 0)
        return pow(a, b);
    if (strcmp(op, "Max") == 0)
        return fmax(a, b);
    if (strcmp(op, "Min") == 0)
        return fmin(a, b);
    return a == b; /* Equal */
}

static ferkd_status fold_binary(fk_reader *r, const fk_constant *const *in, size_t n,
                                fk_constant **out)
{
    const fk_constant *a = in[0];
    const fk_constant *b = n > 1 ? in[1] : NULL;
    const char *op = r->node->op_type;
    fk_shape s = {0};
    int64_t sa[FK_MAX_DIMS];
    int64_t sb[FK_MAX_DIMS];

    if (!a || !b)
        return fk_reader_refuse(r, "an input is missing");
    s.n = fk_max_int(a->shape.n, b->shape.n);
    for (int i = 0; i < s.n; i++) {
        int ia = i - (s.n - a->shape.n);
        int ib = i - (s.n - b->shape.n);
        int64_t da = ia >= 0 ? a->shape.d[ia] : 1;
        int64_t db = ib >= 0 ? b->shape.d[ib] : 1;
        if (da != db && da != 1 && db != 1)
            return fk_reader_refuse(r, "the constants don't broadcast");
        s.d[i] = da == 1 ? db : da;
    }
    bool real = (a->real || b->real) && strcmp(op, "Equal") != 0;
    TRY(new_constant(out, real, &s));
    strides_of(&a->shape, sa);
    strides_of(&b->shape, sb);
    for (int64_t k = 0; k < fk_shape_count(&s); k++) {
        int64_t rest = k;
        int64_t at_a = 0;
        int64_t at_b = 0;
        for (int i = s.n - 1; i >= 0; i--) {
            int64_t at = rest % s.d[i];
            rest /= s.d[i];
            int ia = i - (s.n - a->shape.n);
            int ib = i - (s.n - b->shape.n);
            at_a += ia >= 0 && a->shape.d[ia] > 1 ? at * sa[ia] : 0;
            at_b += ib >= 0 && b->shape.d[ib] > 1 ? at * sb[ib] : 0;
        }
        fk_constant_set(*out, k,
                        combine(op, fk_constant_get(a, at_a), fk_constant_get(b, at_b), real));
    }
    return FERKD_OK;
}

static ferkd_status copy_as(const fk_constant *c, const fk_shape *shape, fk_constant **out)
{
    TRY(new_constant(out, c->real, shape));
    size_t n = (size_t)fk_shape_count(shape);
    if (c->real)
        memcpy((*out)->f, c->f, n * sizeof *c->f);
    else
        memcpy((*out)->i, c->i, n * sizeof *c->i);
    return FERKD_OK;
}

static ferkd_status fold_unary(fk_reader *r, const fk_constant *const *in, size_t n,
                               fk_constant **out)
{
    const char *op = r->node->op_type;

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    bool real = in[0]->real;
    if (strcmp(op, "Cast") == 0) {
        int64_t to = fk_attr_int(r, "to", 1);
        real = to == 1 || to == 10 || to == 11 || to == 16;
    }
    TRY(new_constant(out, real, &in[0]->shape));
    for (int64_t k = 0; k < fk_shape_count(&in[0]->shape); k++) {
        double v = fk_constant_get(in[0], k);
        if (strcmp(op, "Sqrt") == 0)
            v = sqrt(v);
        else if (strcmp(op, "Floor") == 0)
            v = floor(v);
        else if (strcmp(op, "Ceil") == 0)
            v = ceil(v);
        else if (strcmp(op, "Neg") == 0)
            v = -v;
        else if (strcmp(op, "Not") == 0)
            v = v == 0;
        else if (strcmp(op, "Reciprocal") == 0)
            v = 1.0 / v;
        if (!real && !in[0]->real && strcmp(op, "Cast") == 0)
            (*out)->i[k] = in[0]->i[k];
        else
            fk_constant_set(*out, k, v);
    }
    return FERKD_OK;
}

/* --- shapes ---------------------------------------------------------------------------------- */

static ferkd_status fold_reshape(fk_reader *r, const fk_constant *const *in, size_t n,
                                 fk_constant **out)
{
    fk_shape to;

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    TRY(fk_reshape_target(r, &in[0]->shape, &to));
    return copy_as(in[0], &to, out);
}

static ferkd_status fold_transpose(fk_reader *r, const fk_constant *const *in, size_t n,
                                   fk_constant **out)
{
    const fk_constant *c = in[0];
    int64_t perm[FK_MAX_DIMS];
    int64_t strides[FK_MAX_DIMS];
    fk_shape to = {0};
    int given;

    if (n < 1 || !c)
        return fk_reader_refuse(r, "an input is missing");
    TRY(fk_ints(r, "perm", SIZE_MAX, perm, FK_MAX_DIMS, &given));
    to.n = c->shape.n;
    strides_of(&c->shape, strides);
    for (int i = 0; i < to.n; i++) {
        if (!given)
            perm[i] = to.n - 1 - i;
        if (perm[i] < 0 || perm[i] >= to.n || (given && given != to.n))
            return fk_reader_refuse(r, "perm is no permutation");
        to.d[i] = c->shape.d[perm[i]];
    }
    TRY(new_constant(out, c->real, &to));
    for (int64_t k = 0; k < fk_shape_count(&to); k++) {
        int64_t rest = k;
        int64_t at = 0;
        for (int i = to.n - 1; i >= 0; i--) {
            at += rest % to.d[i] * strides[perm[i]];
            rest /= to.d[i];
        }
        fk_constant_set(*out, k, fk_constant_get(c, at));
    }
    return FERKD_OK;
}

static ferkd_status fold_gather(fk_reader *r, const fk_constant *const *in, size_t n,
                                fk_constant **out)
{
    int axis;
    fk_shape to = {0};

    if (n < 2 || !in[0] || !in[1] || in[1]->real)
        return fk_reader_refuse(r, "an input is missing");
    const fk_constant *c = in[0];
    const fk_constant *index = in[1];
    TRY(fk_axis(r, fk_attr_int(r, "axis", 0), c->shape.n, &axis));
    if (c->shape.n - 1 + index->shape.n > FK_MAX_DIMS)
        return fk_reader_refuse(r, "too many dimensions");
    int64_t outer = 1;
    int64_t inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= to.d[to.n++] = c->shape.d[i];
    for (int i = 0; i < index->shape.n; i++)
        to.d[to.n++] = index->shape.d[i];
    for (int i = axis + 1; i < c->shape.n; i++)
        inner *= to.d[to.n++] = c->shape.d[i];
    TRY(new_constant(out, c->real, &to));
    int64_t count = fk_shape_count(&index->shape);
    int64_t dim = c->shape.d[axis];
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t k = 0; k < count; k++) {
            int64_t at = index->i[k] < 0 ? index->i[k] + dim : index->i[k];
            if (at < 0 || at >= dim)
                return fk_reader_refuse(r, "an index out of range");
            for (int64_t i = 0; i < inner; i++)
                fk_constant_set(*out, (o * count + k) * inner + i,
                                fk_constant_get(c, (o * dim + at) * inner + i));
        }
    }
    return FERKD_OK;
}

static ferkd_status fold_concat(fk_reader *r, const fk_constant *const *in, size_t n,
                                fk_constant **out)
{
    int axis;

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    fk_shape to = in[0]->shape;
    TRY(fk_axis(r, fk_attr_int(r, "axis", 0), to.n, &axis));
    for (size_t k = 1; k < n; k++) {
        if (!in[k] || in[k]->shape.n != to.n || in[k]->real != in[0]->real)
            return fk_reader_refuse(r, "constants that don't fit together");
        to.d[axis] += in[k]->shape.d[axis];
        for (int i = 0; i < to.n; i++) {
            if (i != axis && in[k]->shape.d[i] != to.d[i])
                return fk_reader_refuse(r, "constants that don't fit together");
        }
    }
    int64_t outer = 1;
    int64_t inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= to.d[i];
    for (int i = axis + 1; i < to.n; i++)
        inner *= to.d[i];
    TRY(new_constant(out, in[0]->real, &to));
    int64_t at = 0;
    for (int64_t o = 0; o < outer; o++) {
        for (size_t k = 0; k < n; k++) {
            int64_t run = in[k]->shape.d[axis] * inner;
            for (int64_t i = 0; i < run; i++)
                fk_constant_set(*out, at++, fk_constant_get(in[k], o * run + i));
        }
    }
    return FERKD_OK;
}

static ferkd_status slice_axis(const fk_constant *c, int axis, int64_t first, int64_t count,
                               int64_t step, fk_constant **out)
{
    fk_shape to = c->shape;
    int64_t outer = 1;
    int64_t inner = 1;

    to.d[axis] = count;
    for (int i = 0; i < axis; i++)
        outer *= to.d[i];
    for (int i = axis + 1; i < to.n; i++)
        inner *= to.d[i];
    TRY(new_constant(out, c->real, &to));
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t k = 0; k < count; k++) {
            int64_t from = (o * c->shape.d[axis] + first + k * step) * inner;
            for (int64_t i = 0; i < inner; i++)
                fk_constant_set(*out, (o * count + k) * inner + i, fk_constant_get(c, from + i));
        }
    }
    return FERKD_OK;
}

static ferkd_status fold_slice(fk_reader *r, const fk_constant *const *in, size_t n,
                               fk_constant **out)
{
    int64_t starts[FK_MAX_DIMS];
    int64_t ends[FK_MAX_DIMS];
    int64_t axes[FK_MAX_DIMS];
    int64_t steps[FK_MAX_DIMS];
    int n_starts;
    int n_ends;
    int n_axes;
    int n_steps;
    fk_constant *now = NULL;

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    TRY(fk_ints(r, "starts", 1, starts, FK_MAX_DIMS, &n_starts));
    TRY(fk_ints(r, "ends", 2, ends, FK_MAX_DIMS, &n_ends));
    TRY(fk_ints(r, "axes", 3, axes, FK_MAX_DIMS, &n_axes));
    TRY(fk_ints(r, "steps", 4, steps, FK_MAX_DIMS, &n_steps));
    TRY(copy_as(in[0], &in[0]->shape, &now));
    for (int i = 0; i < n_starts && i < n_ends; i++) {
        int axis;
        int64_t first;
        int64_t count;
        int64_t step = i < n_steps ? steps[i] : 1;
        fk_constant *next = NULL;
        ferkd_status st = fk_axis(r, i < n_axes ? axes[i] : i, now->shape.n, &axis);
        if (st == FERKD_OK)
            st = fk_slice_range(r, starts[i], ends[i], step, now->shape.d[axis], &first, &count);
        if (st == FERKD_OK)
            st = slice_axis(now, axis, first, count, step, &next);
        fk_constant_free(now);
        if (st != FERKD_OK) {
            fk_constant_free(next);
            return st;
        }
        now = next;
    }
    *out = now;
    return FERKD_OK;
}

static ferkd_status fold_squeeze(fk_reader *r, const fk_constant *const *in, size_t n,
                                 fk_constant **out)
{
    fk_shape to;

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    TRY(fk_squeeze_target(r, &in[0]->shape, &to));
    return copy_as(in[0], &to, out);
}

/* --- making constants ------------------------------------------------------------------------ */

static ferkd_status fold_constant_of_shape(fk_reader *r, const fk_constant *const *in, size_t n,
                                           fk_constant **out)
{
    const Onnx__AttributeProto *a = fk_attr(r, "value");
    fk_constant *value = NULL;
    fk_shape to = {0};

    if (n < 1 || !in[0] || in[0]->real || in[0]->shape.n != 1 || in[0]->shape.d[0] > FK_MAX_DIMS)
        return fk_reader_refuse(r, "the shape is no short list of integers");
    for (to.n = 0; to.n < in[0]->shape.d[0]; to.n++)
        to.d[to.n] = in[0]->i[to.n];
    if (a && a->t) {
        TRY(fk_constant_decode(&value, a->t, r->node->name ? r->node->name : "ConstantOfShape"));
        if (fk_shape_count(&value->shape) != 1) {
            fk_constant_free(value);
            return fk_reader_refuse(r, "its value is not one number");
        }
    }
    ferkd_status st = new_constant(out, !value || value->real, &to);
    double v = value ? fk_constant_get(value, 0) : 0.0;
    for (int64_t k = 0; st == FERKD_OK && k < fk_shape_count(&to); k++)
        fk_constant_set(*out, k, v);
    fk_constant_free(value);
    return st;
}

static ferkd_status fold_range(fk_reader *r, const fk_constant *const *in, size_t n,
                               fk_constant **out)
{
    if (n < 3 || !in[0] || !in[1] || !in[2])
        return fk_reader_refuse(r, "an input is missing");
    for (int i = 0; i < 3; i++) {
        if (fk_shape_count(&in[i]->shape) != 1)
            return fk_reader_refuse(r, "start, limit and delta are one number each");
    }
    double start = fk_constant_get(in[0], 0);
    double delta = fk_constant_get(in[2], 0);
    double count = ceil((fk_constant_get(in[1], 0) - start) / delta);
    if (!(count >= 0 && count < 1e8))
        return fk_reader_refuse(r, "a range without end");
    fk_shape to = fk_shape_of(1, (int64_t)count);
    TRY(new_constant(out, in[0]->real, &to));
    for (int64_t k = 0; k < to.d[0]; k++)
        fk_constant_set(*out, k, start + (double)k * delta);
    return FERKD_OK;
}

static ferkd_status fold_where(fk_reader *r, const fk_constant *const *in, size_t n,
                               fk_constant **out)
{
    if (n < 3 || !in[0] || !in[1] || !in[2])
        return fk_reader_refuse(r, "an input is missing");
    int64_t count = fk_shape_count(&in[0]->shape);
    int64_t many[2] = {fk_shape_count(&in[1]->shape), fk_shape_count(&in[2]->shape)};
    for (int i = 0; i < 2; i++) {
        if (many[i] != count && many[i] != 1)
            return fk_reader_refuse(r, "constants that don't fit together");
    }
    TRY(new_constant(out, in[1]->real, &in[0]->shape));
    for (int64_t k = 0; k < count; k++) {
        int side = fk_constant_get(in[0], k) != 0 ? 0 : 1;
        fk_constant_set(*out, k, fk_constant_get(in[1 + side], many[side] == 1 ? 0 : k));
    }
    return FERKD_OK;
}

/* --- arithmetic on weights ------------------------------------------------------------------- */

static ferkd_status fold_mean(fk_reader *r, const fk_constant *const *in, size_t n,
                              fk_constant **out)
{
    int64_t axes[FK_MAX_DIMS];
    int n_axes;
    unsigned gone = 0;
    fk_shape to = {0};

    if (n < 1 || !in[0])
        return fk_reader_refuse(r, "an input is missing");
    const fk_constant *c = in[0];
    TRY(fk_ints(r, "axes", 1, axes, FK_MAX_DIMS, &n_axes));
    for (int i = 0; i < n_axes; i++) {
        int axis;
        TRY(fk_axis(r, axes[i], c->shape.n, &axis));
        gone |= 1u << axis;
    }
    gone = n_axes ? gone : ~0u;
    bool keep = fk_attr_int(r, "keepdims", 1) != 0;
    for (int i = 0; i < c->shape.n; i++) {
        if (!(gone >> i & 1u) || keep)
            to.d[to.n++] = gone >> i & 1u ? 1 : c->shape.d[i];
    }
    TRY(new_constant(out, c->real, &to));
    int64_t all = fk_shape_count(&c->shape);
    int64_t results = fk_shape_count(&to);
    double *sum = calloc((size_t)results + 1, sizeof *sum);
    if (!sum)
        return fk_fail(FERKD_MEMORY, "%s: no memory to fold a mean", r->path);
    for (int64_t k = 0; k < all; k++) {
        int64_t rest = k;
        int64_t at = 0;
        int64_t step = 1;
        for (int i = c->shape.n - 1; i >= 0; i--) {
            if (!(gone >> i & 1u)) {
                at += rest % c->shape.d[i] * step;
                step *= c->shape.d[i];
            }
            rest /= c->shape.d[i];
        }
        sum[at] += fk_constant_get(c, k);
    }
    for (int64_t k = 0; k < results; k++)
        fk_constant_set(*out, k, sum[k] * (double)results / (double)all);
    free(sum);
    return FERKD_OK;
}

/* Weight standardisation is exported as BatchNorm of a weight. */
static ferkd_status fold_norm(fk_reader *r, const fk_constant *const *in, size_t n,
                              fk_constant **out)
{
    double eps = (double)fk_attr_float(r, "epsilon", 1e-5f);

    if (n < 5 || !in[0] || in[0]->shape.n < 2)
        return fk_reader_refuse(r, "an input is missing");
    const fk_constant *c = in[0];
    int64_t channels = c->shape.d[1];
    int64_t inner = 1;
    for (int i = 2; i < c->shape.n; i++)
        inner *= c->shape.d[i];
    for (int i = 1; i < 5; i++) {
        if (!in[i] || fk_shape_count(&in[i]->shape) != channels)
            return fk_reader_refuse(r, "one value a channel is needed");
    }
    TRY(new_constant(out, true, &c->shape));
    for (int64_t k = 0; k < fk_shape_count(&c->shape); k++) {
        int64_t ch = k / inner % channels;
        double v = (fk_constant_get(c, k) - fk_constant_get(in[3], ch)) /
                   sqrt(fk_constant_get(in[4], ch) + eps);
        fk_constant_set(*out, k, v * fk_constant_get(in[1], ch) + fk_constant_get(in[2], ch));
    }
    return FERKD_OK;
}

static const struct {
    const char *op;
    fold_fn *fold;
} FOLDS[] = {
    {"Add", fold_binary},
    {"Sub", fold_binary},
    {"Mul", fold_binary},
    {"Div", fold_binary},
    {"Mod", fold_binary},
    {"Pow", fold_binary},
    {"Max", fold_binary},
    {"Min", fold_binary},
    {"Equal", fold_binary},
    {"Cast", fold_unary},
    {"Identity", fold_unary},
    {"Sqrt", fold_unary},
    {"Floor", fold_unary},
    {"Ceil", fold_unary},
    {"Neg", fold_unary},
    {"Not", fold_unary},
    {"Reciprocal", fold_unary},
    {"Reshape", fold_reshape},
    {"Transpose", fold_transpose},
    {"Gather", fold_gather},
    {"Concat", fold_concat},
    {"Slice", fold_slice},
    {"Squeeze", fold_squeeze},
    {"Unsqueeze", fold_squeeze},
    {"ConstantOfShape", fold_constant_of_shape},
    {"Range", fold_range},
    {"Where", fold_where},
    {"ReduceMean", fold_mean},
    {"BatchNormalization", fold_norm},
    {"DequantizeLinear", fk_fold_dequantize},
};

/* Constant: the attribute is the value. */
static ferkd_status fold_literal(fk_reader *r, fk_constant **out)
{
    const Onnx__AttributeProto *a;
    fk_shape list = {.n = 1};
    fk_shape scalar = {0};

    if ((a = fk_attr(r, "value")) != NULL && a->t)
        return fk_constant_decode(out, a->t, r->node->n_output ? r->node->output[0] : "Constant");
    if ((a = fk_attr(r, "value_float")) != NULL || (a = fk_attr(r, "value_int")) != NULL) {
        bool real = strcmp(a->name, "value_float") == 0;
        TRY(new_constant(out, real, &scalar));
        fk_constant_set(*out, 0, real ? (double)a->f : (double)a->i);
        return FERKD_OK;
    }
    if ((a = fk_attr(r, "value_ints")) != NULL || (a = fk_attr(r, "value_floats")) != NULL) {
        bool real = strcmp(a->name, "value_floats") == 0;
        list.d[0] = (int64_t)(real ? a->n_floats : a->n_ints);
        TRY(new_constant(out, real, &list));
        for (int64_t i = 0; i < list.d[0]; i++)
            fk_constant_set(*out, i, real ? (double)a->floats[i] : (double)a->ints[i]);
        return FERKD_OK;
    }
    return fk_reader_refuse(r, "a constant of a kind that is not read");
}

/* Shape: known although the value is not constant. */
static ferkd_status fold_shape(fk_reader *r, fk_constant **out)
{
    const fk_value *v = fk_input(r, 0);

    if (!v)
        return fk_reader_refuse(r, "an input is missing");
    const fk_shape *s = v->constant ? &v->constant->shape : &r->g->nodes[v->node].shape;
    int64_t start = fk_attr_int(r, "start", 0);
    int64_t end = fk_attr_int(r, "end", s->n);
    start = start < 0 ? start + s->n : start;
    end = end < 0 ? end + s->n : end > s->n ? s->n : end;
    if (start < 0 || start > s->n || end < start)
        return fk_reader_refuse(r, "start or end out of range");
    fk_shape to = fk_shape_of(1, end - start);
    TRY(new_constant(out, false, &to));
    memcpy((*out)->i, s->d + start, (size_t)to.d[0] * sizeof(int64_t));
    return FERKD_OK;
}

static ferkd_status fold_known(fk_reader *r, fold_fn *fold, fk_constant **out, bool *done)
{
    const fk_constant *in[MAX_IN] = {0};
    size_t n = r->node->n_input;

    if (n == 0 || n > MAX_IN)
        return FERKD_OK;
    for (size_t i = 0; i < n; i++) {
        const fk_value *v = fk_input(r, i);
        if (v && !v->constant)
            return FERKD_OK;
        in[i] = v ? v->constant : NULL;
    }
    *done = true;
    return fold(r, in, n, out);
}

ferkd_status fk_fold_node(fk_reader *r, bool *done)
{
    const char *op = r->node->op_type;
    fk_constant *out = NULL;
    ferkd_status st = FERKD_OK;

    *done = false;
    if (strcmp(op, "Constant") == 0 || strcmp(op, "Shape") == 0) {
        *done = true;
        st = *op == 'C' ? fold_literal(r, &out) : fold_shape(r, &out);
    }
    for (size_t i = 0; !*done && i < FK_COUNT(FOLDS); i++) {
        if (strcmp(FOLDS[i].op, op) == 0)
            st = fold_known(r, FOLDS[i].fold, &out, done);
    }
    if (st == FERKD_OK && *done)
        st = r->node->n_output == 1 ? fk_reader_set(r, r->node->output[0], out, -1)
                                    : fk_reader_refuse(r, "one output is needed");
    if (st != FERKD_OK)
        fk_constant_free(out);
    return st;
}
