/* Compile a graph to steps, give every buffer its place, run. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "base/trace.h"

static fk_compile_fn *const COMPILERS[FK_OP_COUNT] = {
    [FK_CONST] = fk_compile_const,         [FK_CONV] = fk_compile_conv,
    [FK_BATCHNORM] = fk_compile_norm,      [FK_ACT] = fk_compile_act,
    [FK_BINARY] = fk_compile_binary,       [FK_POOL] = fk_compile_pool,
    [FK_MEAN] = fk_compile_mean,           [FK_DENSE] = fk_compile_dense,
    [FK_MATMUL] = fk_compile_matmul,       [FK_RESHAPE] = fk_compile_reshape,
    [FK_TRANSPOSE] = fk_compile_transpose, [FK_CONCAT] = fk_compile_concat,
    [FK_SLICE] = fk_compile_slice,         [FK_PAD] = fk_compile_pad,
    [FK_SOFTMAX] = fk_compile_softmax,     [FK_DROPOUT] = fk_compile_dropout,
};

/* --- tensors, buffers, steps ----------------------------------------------------------------- */

static ferkd_status new_buffer(fk_plan *p, size_t bytes, int first, int last, int *out)
{
    TRY(fk_grow(&p->buffers, &p->cap_buffers, p->n_buffers + 1, sizeof *p->buffers));
    *out = (int)p->n_buffers;
    p->buffers[p->n_buffers++] = (fk_buffer){.bytes = bytes, .first = first, .last = last};
    return FERKD_OK;
}

static ferkd_status new_tensor(fk_plan *p, fk_tensor t, int *out)
{
    ferkd_status st = fk_grow(&p->tensors, &p->cap_tensors, p->n_tensors + 1, sizeof *p->tensors);
    fk_md *plain = NULL;

    if (st == FERKD_OK)
        st = fk_md_plain(&plain, &t.shape);
    if (st != FERKD_OK) {
        fk_md_free(t.md);
        return st;
    }
    t.plain = fk_md_equal(plain, t.md);
    fk_md_free(plain);
    t.grad_step = -1;
    *out = (int)p->n_tensors;
    p->tensors[p->n_tensors++] = t;
    return FERKD_OK;
}

ferkd_status fk_step_new(fk_plan *p, fk_step **out, const fk_node *node, int n_in)
{
    fk_step *s = NULL;

    TRY(fk_grow(&p->steps, &p->cap_steps, p->n_steps + 1, sizeof *p->steps));
    TRY(fk_calloc(&s, 1, sizeof *s, "a step"));
    s->node = node;
    s->number = (int)p->n_steps;
    s->n_in = n_in;
    s->out = -1;
    p->steps[p->n_steps++] = s; /* the plan owns it from here on */
    TRY(fk_calloc(&s->in, (size_t)n_in, sizeof *s->in, "a step"));
    TRY(fk_calloc(&s->din, (size_t)n_in, sizeof *s->din, "a step"));
    TRY(fk_calloc(&s->add_din, (size_t)n_in, sizeof *s->add_din, "a step"));
    for (int i = 0; i < n_in; i++)
        s->din[i] = -1;
    for (size_t i = 0; i < FK_COUNT(s->buffers); i++)
        s->buffers[i] = -1;
    *out = s;
    return FERKD_OK;
}

static bool is_trained(const fk_plan *p, const fk_node *n)
{
    for (int i = 0; n && i < FK_MAX_PARAMS; i++) {
        if (n->param[i] >= 0 && p->g->params[n->param[i]].kind != FK_BUFFER)
            return true;
    }
    return false;
}

ferkd_status fk_step_output(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape, int node)
{
    fk_tensor t = {.md = md, .shape = *shape, .node = node, .step = s->number, .param = -1};

    t.needs_grad = p->o.train && is_trained(p, s->node);
    for (int i = 0; i < s->n_in; i++)
        t.needs_grad = t.needs_grad || (p->o.train && p->tensors[s->in[i]].needs_grad);
    ferkd_status st = new_buffer(p, fk_md_bytes(md), s->number, s->number, &t.data);
    if (st != FERKD_OK) {
        fk_md_free(md);
        return st;
    }
    TRY(new_tensor(p, t, &s->out));
    if (node >= 0 && p->tensor_of[node] < 0)
        p->tensor_of[node] = s->out;
    return FERKD_OK;
}

/* Lives are noted with marks that are turned into times when the number of steps is known:
 * backward of step s is -1 - s until then. */
static int backward_mark(int step)
{
    return -1 - step;
}

ferkd_status fk_step_buffer(fk_plan *p, fk_step *s, int slot, size_t bytes, fk_life life)
{
    int back = backward_mark(s->number);

    switch (life) {
    case FK_LIFE_FORWARD:
        return new_buffer(p, bytes, s->number, s->number, &s->buffers[slot]);
    case FK_LIFE_BOTH:
        return new_buffer(p, bytes, s->number, back, &s->buffers[slot]);
    case FK_LIFE_BACKWARD:
        return new_buffer(p, bytes, back, back, &s->buffers[slot]);
    case FK_LIFE_ALWAYS:
        break;
    }
    return new_buffer(p, bytes, 0, FK_ALWAYS, &s->buffers[slot]);
}

void fk_step_keep(fk_plan *p, int tensor, const fk_step *s)
{
    int buffer = p->tensors[tensor].data;

    if (!p->o.train || buffer < 0)
        return;
    fk_buffer *b = &p->buffers[buffer];
    int back = backward_mark(s->number);
    if (b->last >= 0 || back > b->last) /* the earliest step runs backward last */
        b->last = b->last == FK_ALWAYS ? FK_ALWAYS : back;
}

ferkd_status fk_step_prim(fk_plan *p, fk_step *s, int role, fk_pd *pd, const char *what,
                          const fk_arg *args, int n_args)
{
    char text[160];
    fk_bound_prim *b = &s->prims[role];

    (void)snprintf(text, sizeof text, "%s %s", what, s->node ? s->node->name : "");
    ferkd_status st = fk_prim_new(p->dn, &b->prim, pd, text);
    fk_pd_free(pd);
    TRY(st);
    assert(n_args <= FK_MAX_ARGS);
    memcpy(b->args, args, (size_t)n_args * sizeof *args);
    b->n_args = n_args;
    return FERKD_OK;
}

bool fk_wants_din(const fk_plan *p, const fk_step *s, int i)
{
    return p->o.train && p->tensors[s->in[i]].needs_grad;
}

const fk_node *fk_only_user(const fk_plan *p, int id, int *user)
{
    if (p->uses[id] != 1 || p->g->output == id)
        return NULL;
    for (size_t i = (size_t)id + 1; i < p->g->n_nodes; i++) {
        for (int k = 0; p->uses[i] && k < p->g->nodes[i].n_in; k++) {
            if (p->g->nodes[i].in[k] == id) {
                *user = (int)i;
                return &p->g->nodes[i];
            }
        }
    }
    return NULL;
}

/* --- layouts --------------------------------------------------------------------------------- */

enum { REORDER, REORDER_BACK };

static ferkd_status reorder_forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, REORDER);
}

static ferkd_status reorder_backward(fk_plan *p, fk_step *s)
{
    return fk_wants_din(p, s, 0) ? fk_run(p, s, REORDER_BACK) : FERKD_OK;
}

ferkd_status fk_want(fk_plan *p, int tensor, const fk_md *md, int *out)
{
    fk_step *s = NULL;
    fk_md *copy = NULL;
    fk_pd *pd = NULL;
    const fk_tensor *from = &p->tensors[tensor];
    int node = from->node;

    for (size_t i = 0; i < p->n_tensors; i++) {
        if (p->tensors[i].node == node && fk_shape_equal(&p->tensors[i].shape, &from->shape) &&
            fk_md_equal(p->tensors[i].md, md)) {
            *out = (int)i;
            return FERKD_OK;
        }
    }
    TRY(fk_step_new(p, &s, NULL, 1));
    s->in[0] = tensor;
    s->forward = reorder_forward;
    s->backward = reorder_backward;
    TRY(fk_md_copy(&copy, md));
    fk_shape shape = from->shape;
    TRY(fk_step_output(p, s, copy, &shape, node));
    const fk_md *in_md = p->tensors[tensor].md;
    TRY(fk_pd_reorder(p->dn, &pd, in_md, md));
    TRY(fk_step_prim(p, s, REORDER, pd, "reorder",
                     (fk_arg[]){{FK_SRC, {FK_REF_DATA, tensor}}, {FK_DST, {FK_REF_DATA, s->out}}},
                     2));
    if (fk_wants_din(p, s, 0)) {
        TRY(fk_pd_reorder(p->dn, &pd, md, in_md));
        TRY(fk_step_prim(p, s, REORDER_BACK, pd, "reorder back",
                         (fk_arg[]){{FK_SRC, {FK_REF_GRAD, s->out}}, {FK_DST, {FK_REF_DIN, 0}}},
                         2));
    }
    *out = s->out;
    return FERKD_OK;
}

ferkd_status fk_want_plain(fk_plan *p, int tensor, int *out)
{
    fk_md *md = NULL;

    if (p->tensors[tensor].plain) {
        *out = tensor;
        return FERKD_OK;
    }
    TRY(fk_md_plain(&md, &p->tensors[tensor].shape));
    ferkd_status st = fk_want(p, tensor, md, out);
    fk_md_free(md);
    return st;
}

/* --- running --------------------------------------------------------------------------------- */

void *fk_buffer_at(const fk_plan *p, int buffer)
{
    return p->arena + p->buffers[buffer].offset;
}

float *fk_data(const fk_plan *p, int tensor)
{
    const fk_tensor *t = &p->tensors[tensor];

    return t->data < 0 ? fk_graph_values(p->g, t->param) : fk_buffer_at(p, t->data);
}

float *fk_grad(const fk_plan *p, int tensor)
{
    const fk_tensor *t = &p->tensors[tensor];

    if (t->grad_step < 0)
        return fk_buffer_at(p, p->out_grad);
    return fk_buffer_at(p, p->steps[t->grad_step]->din[t->grad_input]);
}

float *fk_din(const fk_plan *p, const fk_step *s, int i)
{
    return fk_buffer_at(p, s->din[i]);
}

size_t fk_floats(const fk_plan *p, int tensor)
{
    return fk_md_bytes(p->tensors[tensor].md) / sizeof(float);
}

void *fk_ref_pointer(const fk_plan *p, const fk_step *s, fk_ref r)
{
    switch (r.kind) {
    case FK_REF_BUFFER:
        return fk_buffer_at(p, s->buffers[r.i]);
    case FK_REF_DATA:
        return fk_data(p, r.i);
    case FK_REF_GRAD:
        return fk_grad(p, r.i);
    case FK_REF_VALUES:
        return fk_graph_values(p->g, r.i);
    case FK_REF_GRADS:
        return p->grads + p->g->params[r.i].offset;
    case FK_REF_SCRATCH:
        return p->scratch;
    case FK_REF_DIN:
        break;
    }
    return fk_din(p, s, r.i);
}

ferkd_status fk_run(fk_plan *p, const fk_step *s, int role)
{
    return fk_prim_run(p->dn, s->prims[role].prim);
}

ferkd_status fk_plan_refresh(fk_plan *p)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i]->refresh)
            TRY(p->steps[i]->refresh(p, p->steps[i]));
    }
    return FERKD_OK;
}

ferkd_status fk_plan_forward(fk_plan *p, uint64_t step)
{
    p->step = step;
    for (size_t i = 0; i < p->n_steps; i++)
        TRY(p->steps[i]->forward(p, p->steps[i]));
    return FERKD_OK;
}

/* Where a value is used more than once, its gradient is the sum of what each use says. */
static void add_gradients(fk_plan *p, const fk_step *s)
{
    for (int i = 0; i < s->n_in; i++) {
        if (!s->add_din[i])
            continue;
        float *sum = fk_grad(p, s->in[i]);
        const float *more = fk_din(p, s, i);
        size_t n = fk_floats(p, s->in[i]);
#pragma omp parallel for simd schedule(static)
        for (size_t k = 0; k < n; k++)
            sum[k] += more[k];
    }
}

ferkd_status fk_plan_backward(fk_plan *p)
{
    for (size_t i = p->n_steps; i-- > 0;) {
        fk_step *s = p->steps[i];
        if (!p->tensors[s->out].needs_grad)
            continue;
        TRY(s->backward(p, s));
        add_gradients(p, s);
    }
    return FERKD_OK;
}

float *fk_plan_input(fk_plan *p)
{
    return fk_data(p, p->tensor_of[p->g->input]);
}

const float *fk_plan_output(const fk_plan *p)
{
    return fk_data(p, p->output);
}

float *fk_plan_output_grad(fk_plan *p)
{
    return fk_grad(p, p->output);
}

float *fk_plan_grads(fk_plan *p)
{
    return p->grads;
}

size_t fk_plan_bytes(const fk_plan *p)
{
    return p->arena_bytes;
}

/* --- compiling ------------------------------------------------------------------------------- */

static ferkd_status add_input(fk_plan *p)
{
    const fk_node *n = &p->g->nodes[p->g->input];
    fk_tensor t = {.shape = n->shape, .node = p->g->input, .step = -1, .param = -1};
    int id;

    TRY(fk_md_plain(&t.md, &n->shape));
    TRY(new_buffer(p, fk_md_bytes(t.md), 0, FK_ALWAYS, &t.data));
    TRY(new_tensor(p, t, &id));
    p->tensor_of[p->g->input] = id;
    return FERKD_OK;
}

ferkd_status fk_compile_const(fk_plan *p, const fk_node *n, int id)
{
    fk_tensor t = {.shape = n->shape, .node = id, .step = -1, .data = -1, .param = n->param[0]};

    TRY(fk_md_plain(&t.md, &n->shape));
    return new_tensor(p, t, &p->tensor_of[id]);
}

/* In reverse order of the steps, the first use that writes a gradient owns it; later ones are
 * added. */
static ferkd_status plan_gradients(fk_plan *p)
{
    for (size_t k = p->n_steps; k-- > 0;) {
        fk_step *s = p->steps[k];
        if (!p->tensors[s->out].needs_grad)
            continue;
        int now = backward_mark((int)k);
        for (int i = 0; i < s->n_in; i++) {
            fk_tensor *t = &p->tensors[s->in[i]];
            if (!fk_wants_din(p, s, i))
                continue;
            s->add_din[i] = t->grad_step >= 0;
            int last = s->add_din[i] ? now : backward_mark(t->step);
            TRY(new_buffer(p, fk_md_bytes(t->md), now, last, &s->din[i]));
            if (!s->add_din[i]) {
                t->grad_step = (int)k;
                t->grad_input = i;
            }
        }
    }
    return FERKD_OK;
}

/* Every tensor lives at least until its last reader. */
static void extend_lives(fk_plan *p)
{
    for (size_t k = 0; k < p->n_steps; k++) {
        for (int i = 0; i < p->steps[k]->n_in; i++) {
            int buffer = p->tensors[p->steps[k]->in[i]].data;
            if (buffer >= 0 && p->buffers[buffer].last >= 0 && p->buffers[buffer].last < (int)k)
                p->buffers[buffer].last = (int)k;
        }
    }
    p->buffers[p->tensors[p->output].data].last = FK_ALWAYS;
}

static int time_of(const fk_plan *p, int mark)
{
    return mark >= 0 ? mark : 2 * (int)p->n_steps - 1 - (-1 - mark);
}

static ferkd_status place(fk_plan *p)
{
    for (size_t i = 0; i < p->n_buffers; i++) {
        p->buffers[i].first = time_of(p, p->buffers[i].first);
        p->buffers[i].last = time_of(p, p->buffers[i].last);
    }
    fk_place_buffers(p->buffers, p->n_buffers, &p->arena_bytes);
    fk_trace("plan", "%s: %zu steps, arena %.1f MiB", p->g->name, p->n_steps,
             (double)p->arena_bytes / 1048576.0);
    return fk_calloc_aligned(&p->arena, p->arena_bytes, "the arena of a network");
}

static ferkd_status bind_all(fk_plan *p)
{
    for (size_t k = 0; k < p->n_steps; k++) {
        fk_step *s = p->steps[k];
        for (int r = 0; r < FK_MAX_PRIMS; r++) {
            fk_bound_prim *b = &s->prims[r];
            for (int i = 0; b->prim && i < b->n_args; i++)
                TRY(fk_prim_bind(p->dn, b->prim, b->args[i].slot,
                                 fk_ref_pointer(p, s, b->args[i].ref)));
        }
    }
    return FERKD_OK;
}

static ferkd_status compile_nodes(fk_plan *p)
{
    TRY(add_input(p));
    for (size_t i = 0; i < p->g->n_nodes; i++) {
        const fk_node *n = &p->g->nodes[i];
        if (p->absorbed[i] || n->op == FK_INPUT || (p->uses[i] == 0))
            continue;
        TRY(COMPILERS[n->op](p, n, (int)i));
    }
    return fk_want_plain(p, p->tensor_of[p->g->output], &p->output);
}

static ferkd_status allocate_params(fk_plan *p)
{
    size_t largest = 0;

    for (size_t i = 0; i < p->g->n_params; i++)
        largest = p->g->params[i].count > largest ? p->g->params[i].count : largest;
    TRY(fk_calloc_aligned(&p->scratch, largest * sizeof(float), "folded weights"));
    if (!p->o.train)
        return FERKD_OK;
    return fk_calloc_aligned(&p->grads, p->g->n_trained * sizeof(float), "gradients");
}

ferkd_status fk_plan_new(fk_plan **out, fk_graph *g, const fk_plan_options *o)
{
    ferkd_status st = FERKD_OK;
    fk_plan *p = NULL;

    TRY(fk_calloc(&p, 1, sizeof *p, g->name));
    p->g = g;
    p->o = *o;
    TRY_DONE(fk_dn_new(&p->dn));
    TRY_DONE(fk_calloc(&p->tensor_of, g->n_nodes, sizeof *p->tensor_of, g->name));
    TRY_DONE(fk_calloc(&p->uses, g->n_nodes, sizeof *p->uses, g->name));
    TRY_DONE(fk_calloc(&p->absorbed, g->n_nodes, sizeof *p->absorbed, g->name));
    memset(p->tensor_of, -1, g->n_nodes * sizeof *p->tensor_of);
    fk_graph_uses(g, p->uses);
    TRY_DONE(allocate_params(p));
    TRY_DONE(compile_nodes(p));
    if (o->train) {
        int S = (int)p->n_steps; /* the caller writes the output's gradient between the passes */
        TRY_DONE(new_buffer(p, fk_md_bytes(p->tensors[p->output].md), S,
                            backward_mark(p->tensors[p->output].step), &p->out_grad));
        TRY_DONE(plan_gradients(p));
    }
    extend_lives(p);
    TRY_DONE(place(p));
    TRY_DONE(bind_all(p));
    TRY_DONE(fk_plan_refresh(p));
    *out = p;
    p = NULL;
done:
    fk_plan_free(&p);
    return st;
}

static void free_step(fk_step *s)
{
    for (int r = 0; r < FK_MAX_PRIMS; r++)
        fk_prim_free(s->prims[r].prim);
    free(s->in);
    free(s->din);
    free(s->add_din);
    free(s);
}

void fk_plan_free(fk_plan **plan)
{
    fk_plan *p = *plan;

    if (!p)
        return;
    for (size_t i = 0; i < p->n_steps; i++)
        free_step(p->steps[i]);
    for (size_t i = 0; i < p->n_tensors; i++)
        fk_md_free(p->tensors[i].md);
    free(p->steps);
    free(p->tensors);
    free(p->buffers);
    free(p->tensor_of);
    free(p->uses);
    free(p->absorbed);
    free(p->grads);
    free(p->scratch);
    free(p->arena);
    fk_dn_free(&p->dn);
    free(p);
    *plan = NULL;
}
