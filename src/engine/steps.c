/* What the ops use while they compile: tensors, buffers and their lives, steps, layouts, and what can be taken into the
 * step of the node before it. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"

/* --- tensors, buffers, steps ----------------------------------------------------------------- */

ferkd_status fk_plan_buffer(fk_plan *p, size_t bytes, int first, int last, int *out)
{
    TRY(fk_grow(&p->buffers, &p->cap_buffers, p->n_buffers + 1, sizeof *p->buffers));
    *out = (int)p->n_buffers;
    p->buffers[p->n_buffers++] = (fk_buffer){
        .bytes = bytes, .kind = FK_MEMORY_GRADIENTS, .first = first, .last = last, .until = -1};
    return FERKD_OK;
}

ferkd_status fk_new_tensor(fk_plan *p, fk_tensor t, int *out)
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
    t.lay = fk_md_lay(t.md);
    t.lazy = t.grad = t.grad2 = -1;
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
    s->out = s->residual = s->passes = s->scale_param = -1;
    s->norm_behind = s->moments_by = s->sums_by = s->spread_by = -1;
    p->steps[p->n_steps++] = s; /* the plan owns it from here on */
    TRY(fk_calloc(&s->in, (size_t)n_in, sizeof *s->in, "a step"));
    TRY(fk_calloc(&s->din, (size_t)n_in, sizeof *s->din, "a step"));
    TRY(fk_calloc(&s->sums, (size_t)n_in, sizeof *s->sums, "a step"));
    for (int i = 0; i < n_in; i++) {
        s->din[i] = -1;
        s->sums[i].dst = -1;
    }
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

/* The output tensor, in buffer `data`. */
static ferkd_status add_output(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape, int node,
                               int data)
{
    fk_tensor t = {
        .md = md, .shape = *shape, .node = node, .step = s->number, .data = data, .param = -1};

    t.needs_grad = p->o.train && is_trained(p, s->node);
    for (int i = 0; i < s->n_in; i++)
        t.needs_grad = t.needs_grad || (p->o.train && p->tensors[s->in[i]].needs_grad);
    TRY(fk_new_tensor(p, t, &s->out));
    if (node >= 0 && p->tensor_of[node] < 0)
        p->tensor_of[node] = s->out;
    return FERKD_OK;
}

ferkd_status fk_step_output(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape, int node)
{
    int data = -1;
    ferkd_status st = fk_plan_buffer(p, fk_md_bytes(md), s->number, s->number, &data);

    if (st != FERKD_OK) {
        fk_md_free(md);
        return st;
    }
    p->buffers[data].kind = FK_MEMORY_VALUES;
    return add_output(p, s, md, shape, node, data);
}

ferkd_status fk_step_output_in(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape, int node,
                               int tensor)
{
    return add_output(p, s, md, shape, node, p->tensors[tensor].data);
}

/* Lives are noted with marks that are turned into times when the number of steps is known:
 * backward of step s is -1 - s until then. */
int fk_backward_mark(int step)
{
    return -1 - step;
}

ferkd_status fk_step_buffer(fk_plan *p, fk_step *s, int slot, size_t bytes, fk_life life)
{
    int back = fk_backward_mark(s->number);
    int first = life == FK_LIFE_BACKWARD ? back : life == FK_LIFE_ALWAYS ? 0 : s->number;
    int last = life == FK_LIFE_FORWARD ? s->number : life == FK_LIFE_ALWAYS ? FK_ALWAYS : back;

    TRY(fk_plan_buffer(p, bytes, first, last, &s->buffers[slot]));
    p->buffers[s->buffers[slot]].kind =
        life == FK_LIFE_ALWAYS ? FK_MEMORY_WEIGHTS : FK_MEMORY_SCRATCH;
    return FERKD_OK;
}

/* The buffer is needed until backward of step s, too. */
void fk_keep_until_backward(fk_plan *p, int buffer, int step)
{
    fk_buffer *b = &p->buffers[buffer];
    int back = fk_backward_mark(step);

    if (b->last != FK_ALWAYS &&
        (b->last >= 0 || back > b->last)) /* the earliest step is the last */
        b->last = back;
}

void fk_step_keep(fk_plan *p, int tensor, const fk_step *s)
{
    if (p->o.train && p->tensors[tensor].data >= 0)
        fk_keep_until_backward(p, p->tensors[tensor].data, s->number);
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
    if (n_args)
        memcpy(b->args, args, (size_t)n_args * sizeof *args);
    b->n_args = n_args;
    return FERKD_OK;
}

bool fk_wants_din(const fk_plan *p, const fk_step *s, int i)
{
    return p->o.train && p->tensors[s->in[i]].needs_grad;
}

const fk_node *fk_absorb_norm(fk_plan *p, int *id)
{
    int user = -1;
    const fk_node *next = fk_only_user(p, *id, &user);

    if (!next || next->op != FK_BATCHNORM)
        return NULL;
    p->absorbed[user] = true;
    *id = user;
    return next;
}

fk_tail fk_absorb_tail(fk_plan *p, int id, const fk_tail_rules *r)
{
    fk_tail tail = {.id = id, .residual = -1};
    int user = -1;
    const fk_node *next = fk_only_user(p, id, &user);

    if (next && next->op == FK_BINARY && next->u.binary.kind == FK_ADD) {
        int other = p->tensor_of[next->in[next->in[0] == id ? 1 : 0]];
        if (next->in[0] != next->in[1] && other >= 0 && p->tensors[other].lazy < 0 &&
            p->tensors[other].param < 0 && r->may_add(p, other, user) &&
            (r->reads < 0 || p->tensors[other].data != p->tensors[r->reads].data) &&
            fk_shape_equal(&p->tensors[other].shape, &p->g->nodes[id].shape)) {
            tail.residual = other;
            tail.id = user;
            p->absorbed[user] = true;
            next = fk_only_user(p, tail.id, &user);
        }
    }
    if (next && next->op == FK_ACT && r->has_act(next->u.act.kind) &&
        (tail.residual < 0 || r->act_with_residual(next->u.act.kind))) {
        tail.post = (fk_post){1, next->u.act.kind, next->u.act.a, next->u.act.b};
        tail.id = user;
        p->absorbed[user] = true;
    }
    return tail;
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
        if (p->tensors[i].node == node && node >= 0 &&
            fk_shape_equal(&p->tensors[i].shape, &from->shape) &&
            fk_md_equal(p->tensors[i].md, md)) {
            *out = (int)i;
            return FERKD_OK;
        }
    }
    TRY(fk_step_new(p, &s, NULL, 1));
    s->in[0] = tensor;
    s->kind = FK_KIND_REORDER;
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

ferkd_status fk_want_lanes(fk_plan *p, int tensor, int *out)
{
    fk_md *md = NULL;

    TRY(fk_md_lanes(&md, &p->tensors[tensor].shape, fk_dn_lanes(),
                    fk_md_half(p->tensors[tensor].md)));
    ferkd_status st = fk_want(p, tensor, md, out);
    fk_md_free(md);
    return st;
}

ferkd_status fk_want_f32(fk_plan *p, int tensor, int *out)
{
    fk_md *md = NULL;

    *out = tensor;
    if (!fk_md_half(p->tensors[tensor].md))
        return FERKD_OK;
    TRY(fk_md_as(&md, p->tensors[tensor].md, false));
    ferkd_status st = fk_want(p, tensor, md, out);
    fk_md_free(md);
    return st;
}

/* Do only products in bf16 read node `id` (-1: none), which would round it all the same? */
static bool feeds_product(const fk_plan *p, int id)
{
    int user = -1;
    const fk_node *next = id >= 0 ? fk_only_user(p, id, &user) : NULL;

    return p->half_conv && next && (next->op == FK_ATTENTION || fk_is_linear(next));
}

ferkd_status fk_rows_md(const fk_plan *p, const fk_shape *shape, int id, fk_md **out)
{
    fk_md *plain = NULL;

    if (!p->o.half || (!p->o.train && !feeds_product(p, id)))
        return fk_md_plain(out, shape);
    TRY(fk_md_plain(&plain, shape));
    ferkd_status st = fk_md_as(out, plain, true);
    fk_md_free(plain);
    return st;
}

ferkd_status fk_want_rows(fk_plan *p, int tensor, int *out)
{
    fk_md *plain = NULL;
    fk_md *half = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_md_plain(&plain, &p->tensors[tensor].shape));
    TRY_DONE(fk_md_as(&half, plain, true));
    if (fk_md_equal(half, p->tensors[tensor].md))
        *out = tensor;
    else
        st = fk_want_plain(p, tensor, out);
done:
    fk_md_free(plain);
    fk_md_free(half);
    return st;
}

bool fk_data_type_half(const fk_plan *p, int tensor)
{
    return fk_md_half(p->tensors[tensor].md);
}

size_t fk_step_product_room(const fk_step *s, int first, int n)
{
    size_t most = 64;

    for (int i = first; i < first + n; i++)
        most = fk_max_size(most, s->products[i] ? fk_product_room(s->products[i]) : 0);
    return most;
}

void fk_step_drop_products(fk_step *s)
{
    for (int i = 0; i < FK_MAX_PRODUCTS; i++) {
        fk_product_free(s->products[i]);
        s->products[i] = NULL;
    }
}
