/* Add, subtract, multiply, divide. Equal shapes run in the layout at hand; with broadcasting (NumPy's
 * rules) both sides are row-major and neighbouring dimensions that behave alike are merged. */
#include "base/compat.h"

#include "engine/step.h"

static float apply(fk_binary kind, float a, float b)
{
    switch (kind) {
    case FK_ADD:
        return a + b;
    case FK_SUB:
        return a - b;
    case FK_MUL:
        return a * b;
    case FK_DIV:
        return a / b;
    case FK_POW:
        return powf(a, b);
    case FK_MAX:
        return a > b ? a : b;
    case FK_MIN:
        return a < b ? a : b;
    case FK_EQUAL:
        return a == b;
    case FK_GREATER:
        return a > b;
    case FK_LESS:
    case FK_BINARY_COUNT:
        break;
    }
    return a < b;
}

static ferkd_status same_forward(fk_plan *p, fk_step *s)
{
    const float *a = fk_data(p, s->in[0]);
    const float *b = fk_data(p, s->in[1]);
    float *y = fk_data(p, s->out);
    size_t n = fk_floats(p, s->out);
    fk_binary kind = s->node->u.binary.kind;

    if (kind == FK_ADD) {
        fk_add(fk_data_operand(p, s->out), fk_data_operand(p, s->in[0]),
               fk_data_operand(p, s->in[1]), n);
    } else if (kind == FK_MUL) {
#pragma omp parallel for simd schedule(static)
        for (size_t i = 0; i < n; i++)
            y[i] = a[i] * b[i];
    } else {
        for (size_t i = 0; i < n; i++)
            y[i] = apply(kind, a[i], b[i]);
    }
    return FERKD_OK;
}

/* d/da and d/db of one element, times dy. Where a = b, max and min give each half. */
static float slope_a(fk_binary kind, float a, float b, float dy)
{
    switch (kind) {
    case FK_ADD:
    case FK_SUB:
        return dy;
    case FK_MUL:
        return dy * b;
    case FK_DIV:
        return dy / b;
    case FK_POW:
        return b == 2.0f ? 2.0f * a * dy : b * powf(a, b - 1.0f) * dy;
    case FK_MAX:
        return a > b ? dy : a == b ? 0.5f * dy : 0.0f;
    case FK_MIN:
        return a < b ? dy : a == b ? 0.5f * dy : 0.0f;
    case FK_EQUAL:
    case FK_GREATER:
    case FK_LESS:
    case FK_BINARY_COUNT:
        break;
    }
    return 0.0f;
}

static float slope_b(fk_binary kind, float a, float b, float dy)
{
    switch (kind) {
    case FK_ADD:
        return dy;
    case FK_SUB:
        return -dy;
    case FK_MUL:
        return dy * a;
    case FK_DIV:
        return -dy * a / (b * b);
    case FK_POW:
        return a > 0.0f ? powf(a, b) * logf(a) * dy : 0.0f;
    case FK_MAX:
    case FK_MIN:
        return slope_a(kind, b, a, dy);
    case FK_EQUAL:
    case FK_GREATER:
    case FK_LESS:
    case FK_BINARY_COUNT:
        break;
    }
    return 0.0f;
}

static ferkd_status same_backward(fk_plan *p, fk_step *s)
{
    const float *dy = fk_grad(p, s->out);
    size_t n = fk_floats(p, s->out);
    fk_binary kind = s->node->u.binary.kind;
    bool reads = kind != FK_ADD && kind != FK_SUB;
    const float *a = reads ? fk_data(p, s->in[0]) : dy;
    const float *b = reads ? fk_data(p, s->in[1]) : dy;
    float *da = fk_wants_din(p, s, 0) ? fk_din(p, s, 0) : NULL;
    float *db = fk_wants_din(p, s, 1) ? fk_din(p, s, 1) : NULL;

    if (kind == FK_ADD) { /* the residual connection: worth its own loop */
        for (int i = 0; i < 2; i++) {
            fk_operand to = fk_buffer_operand(p, s->din[i], fk_md_half(p->tensors[s->in[i]].md));
            fk_operand g =
                fk_buffer_operand(p, p->tensors[s->out].grad, fk_md_half(p->tensors[s->out].md));
            if (to.data)
                fk_add(to, g, (fk_operand){0}, n);
        }
        return FERKD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (da)
            da[i] = slope_a(kind, a[i], b[i], dy[i]);
        if (db)
            db[i] = slope_b(kind, a[i], b[i], dy[i]);
    }
    return FERKD_OK;
}

/* The loops of a broadcast: dimensions from the outermost, merged where both strides allow. */
typedef struct loops {
    int n;
    size_t d[FK_MAX_DIMS];
    size_t a[FK_MAX_DIMS], b[FK_MAX_DIMS]; /* strides in elements, 0: broadcast */
} loops;

static void strides_of(const fk_shape *s, const fk_shape *out, size_t *strides)
{
    size_t step = 1;

    for (int i = 0; i < out->n; i++) {
        int k = s->n - 1 - i;
        int64_t d = k >= 0 ? s->d[k] : 1;
        strides[out->n - 1 - i] = d == 1 ? 0 : step;
        step *= (size_t)d;
    }
}

static loops make_loops(const fk_shape *a, const fk_shape *b, const fk_shape *out)
{
    size_t sa[FK_MAX_DIMS] = {0};
    size_t sb[FK_MAX_DIMS] = {0};
    loops l = {0};

    strides_of(a, out, sa);
    strides_of(b, out, sb);
    for (int i = 0; i < out->n; i++) {
        size_t d = (size_t)out->d[i];
        int k = l.n - 1;
        if (d == 1)
            continue;
        if (k >= 0 && l.a[k] == sa[i] * d && l.b[k] == sb[i] * d) {
            l.d[k] *= d;
            l.a[k] = sa[i];
            l.b[k] = sb[i];
        } else {
            l.d[l.n] = d;
            l.a[l.n] = sa[i];
            l.b[l.n++] = sb[i];
        }
    }
    if (l.n == 0)
        l = (loops){.n = 1, .d = {1}, .a = {1}, .b = {1}};
    return l;
}

/* Where row number `row` of the innermost loop begins in a and b. */
static void row_start(const loops *l, size_t row, size_t *at_a, size_t *at_b)
{
    *at_a = *at_b = 0;
    for (int i = l->n - 2; i >= 0; i--) {
        size_t k = row % l->d[i];
        row /= l->d[i];
        *at_a += k * l->a[i];
        *at_b += k * l->b[i];
    }
}

/* kind and the steps are constants where this is called, so each call becomes a loop of its own. */
static inline __attribute__((always_inline)) void line(fk_binary kind, const float *a,
                                                       size_t step_a, const float *b, size_t step_b,
                                                       float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = apply(kind, a[i * step_a], b[i * step_b]);
}

static void any_line(fk_binary kind, const float *a, size_t step_a, const float *b, size_t step_b,
                     float *y, size_t n)
{
    if (kind == FK_ADD && step_a == 1 && step_b == 1)
        line(FK_ADD, a, 1, b, 1, y, n);
    else if (kind == FK_MUL && step_a == 1 && step_b == 1)
        line(FK_MUL, a, 1, b, 1, y, n);
    else if (kind == FK_ADD && step_a == 1 && step_b == 0)
        line(FK_ADD, a, 1, b, 0, y, n);
    else if (kind == FK_MUL && step_a == 1 && step_b == 0)
        line(FK_MUL, a, 1, b, 0, y, n);
    else
        line(kind, a, step_a, b, step_b, y, n);
}

static ferkd_status broadcast_forward(fk_plan *p, fk_step *s)
{
    const float *a = fk_data(p, s->in[0]);
    const float *b = fk_data(p, s->in[1]);
    float *y = fk_data(p, s->out);
    fk_binary kind = s->node->u.binary.kind;
    loops l = make_loops(&p->tensors[s->in[0]].shape, &p->tensors[s->in[1]].shape, &s->node->shape);
    size_t inner = l.d[l.n - 1];
    size_t rows = (size_t)fk_shape_count(&s->node->shape) / inner;
    size_t step_a = l.a[l.n - 1];
    size_t step_b = l.b[l.n - 1];

#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        size_t at_a;
        size_t at_b;
        row_start(&l, r, &at_a, &at_b);
        any_line(kind, a + at_a, step_a, b + at_b, step_b, y + r * inner, inner);
    }
    return FERKD_OK;
}

/* Gradients of what was broadcast are summed; one thread, so that the order is fixed. */
static ferkd_status broadcast_backward(fk_plan *p, fk_step *s)
{
    const float *a = fk_data(p, s->in[0]);
    const float *b = fk_data(p, s->in[1]);
    const float *dy = fk_grad(p, s->out);
    float *da = fk_wants_din(p, s, 0) ? fk_din(p, s, 0) : NULL;
    float *db = fk_wants_din(p, s, 1) ? fk_din(p, s, 1) : NULL;
    fk_binary kind = s->node->u.binary.kind;
    loops l = make_loops(&p->tensors[s->in[0]].shape, &p->tensors[s->in[1]].shape, &s->node->shape);
    size_t inner = l.d[l.n - 1];
    size_t rows = (size_t)fk_shape_count(&s->node->shape) / inner;

    if (da)
        memset(da, 0, fk_floats(p, s->in[0]) * sizeof *da);
    if (db)
        memset(db, 0, fk_floats(p, s->in[1]) * sizeof *db);
    for (size_t r = 0; r < rows; r++) {
        size_t at_a;
        size_t at_b;
        row_start(&l, r, &at_a, &at_b);
        if (kind == FK_ADD && l.a[l.n - 1] == 1 && l.b[l.n - 1] == 1) { /* a bias, a position */
            for (size_t i = 0; da && i < inner; i++)
                da[at_a + i] += dy[r * inner + i];
            for (size_t i = 0; db && i < inner; i++)
                db[at_b + i] += dy[r * inner + i];
            continue;
        }
        for (size_t i = 0; i < inner; i++) {
            size_t ia = at_a + i * l.a[l.n - 1];
            size_t ib = at_b + i * l.b[l.n - 1];
            float g = dy[r * inner + i];
            if (da)
                da[ia] += slope_a(kind, a[ia], b[ib], g);
            if (db)
                db[ib] += slope_b(kind, a[ia], b[ib], g);
        }
    }
    return FERKD_OK;
}

ferkd_status fk_compile_binary(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    int a = p->tensor_of[n->in[0]];
    int b = p->tensor_of[n->in[1]];
    fk_binary kind = n->u.binary.kind;
    bool same = fk_shape_equal(&p->tensors[a].shape, &p->tensors[b].shape);

    if (kind == FK_MUL && fk_is_gate(p, a, b))
        return fk_compile_gate(p, n, id, a, b);
    if (kind == FK_MUL && fk_is_gate(p, b, a))
        return fk_compile_gate(p, n, id, b, a);
    if (kind != FK_ADD) {
        TRY(fk_want_f32(p, a, &a));
        TRY(fk_want_f32(p, b, &b));
    }
    if (same && kind <= FK_MUL) { /* 0/0 in the padding of a layout would be a NaN */
        TRY(fk_want(p, b, p->tensors[a].md, &b));
    } else {
        TRY(fk_want_plain(p, a, &a));
        TRY(fk_want_plain(p, b, &b));
    }
    TRY(fk_step_new(p, &s, n, 2));
    s->in[0] = a;
    s->in[1] = b;
    s->forward = same ? same_forward : broadcast_forward;
    s->backward = same ? same_backward : broadcast_backward;
    if (same)
        TRY(fk_md_copy(&md, p->tensors[a].md));
    else
        TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    if (!same || kind >= FK_MUL) {
        fk_step_keep(p, a, s);
        fk_step_keep(p, b, s);
    }
    return FERKD_OK;
}
