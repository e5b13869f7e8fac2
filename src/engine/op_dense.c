/* Matrix products: by a weight (oneDNN's inner product), and of two values (oneDNN's matmul). */
#include "base/compat.h"

#include "engine/step.h"

enum { RUN, LOAD_WEIGHTS, RUN_DATA, RUN_WEIGHTS, STORE_WEIGHTS, LOAD_DATA_WEIGHTS };

enum { WEIGHTS, DIFF_WEIGHTS, DATA_WEIGHTS };

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN);
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    if (p->g->params[s->node->param[0]].kind != FK_BUFFER) {
        TRY(fk_run(p, s, RUN_WEIGHTS));
        TRY(fk_run(p, s, STORE_WEIGHTS));
    }
    return fk_wants_din(p, s, 0) ? fk_run(p, s, RUN_DATA) : FERKD_OK;
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    TRY(fk_run(p, s, LOAD_WEIGHTS));
    return s->prims[LOAD_DATA_WEIGHTS].prim ? fk_run(p, s, LOAD_DATA_WEIGHTS) : FERKD_OK;
}

/* The weights in the layout of pd's argument `slot`; to: into the buffer, or back to the gradient. */
static ferkd_status convert(fk_plan *p, fk_step *s, const fk_pd *pd, fk_slot slot, int buffer,
                            int role, bool to)
{
    int param = s->node->param[0];
    fk_md *md = NULL;
    fk_md *plain = NULL;
    fk_pd *reorder = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_pd_md(pd, slot, &md));
    TRY_DONE(fk_md_plain(&plain, &p->g->params[param].shape));
    TRY_DONE(fk_step_buffer(p, s, buffer, fk_md_bytes(md), to ? FK_LIFE_ALWAYS : FK_LIFE_BACKWARD));
    TRY_DONE(to ? fk_pd_reorder(p->dn, &reorder, plain, md)
                : fk_pd_reorder(p->dn, &reorder, md, plain));
    fk_ref mine = {FK_REF_BUFFER, buffer};
    fk_ref values = {to ? FK_REF_VALUES : FK_REF_GRADS, param};
    TRY_DONE(fk_step_prim(p, s, role, reorder, "convert weights",
                          (fk_arg[]){{FK_SRC, to ? values : mine}, {FK_DST, to ? mine : values}},
                          2));
done:
    fk_md_free(md);
    fk_md_free(plain);
    return st;
}

static ferkd_status compile_backward(fk_plan *p, fk_step *s, fk_dense_args a)
{
    int bias = s->node->param[1];
    fk_pd *pd = NULL;

    fk_step_keep(p, s->in[0], s);
    a.prop = FK_BACKWARD_WEIGHTS;
    TRY(fk_pd_dense(p->dn, &pd, &a));
    ferkd_status st = convert(p, s, pd, FK_DIFF_WEIGHTS, DIFF_WEIGHTS, STORE_WEIGHTS, false);
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    TRY(fk_step_prim(p, s, RUN_WEIGHTS, pd, "dense, weight gradient of",
                     (fk_arg[]){{FK_SRC, {FK_REF_DATA, s->in[0]}},
                                {FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                {FK_DIFF_WEIGHTS, {FK_REF_BUFFER, DIFF_WEIGHTS}},
                                {FK_DIFF_BIASES, {FK_REF_GRADS, bias}}},
                     bias >= 0 ? 4 : 3));
    if (!fk_wants_din(p, s, 0))
        return FERKD_OK;
    a.prop = FK_BACKWARD_DATA;
    a.bias = false;
    TRY(fk_pd_dense(p->dn, &pd, &a));
    st = convert(p, s, pd, FK_WEIGHTS, DATA_WEIGHTS, LOAD_DATA_WEIGHTS, true);
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    return fk_step_prim(p, s, RUN_DATA, pd, "dense, data gradient of",
                        (fk_arg[]){{FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                   {FK_WEIGHTS, {FK_REF_BUFFER, DATA_WEIGHTS}},
                                   {FK_DIFF_SRC, {FK_REF_DIN, 0}}},
                        3);
}

ferkd_status fk_compile_dense(fk_plan *p, const fk_node *n, int id)
{
    const fk_shape *w = &p->g->params[n->param[0]].shape;
    int64_t rows = fk_shape_count(&n->shape) / w->d[0];
    bool bias = n->param[1] >= 0;
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_md *md = NULL;
    int in;
    fk_dense_args a = {.prop = p->o.train ? FK_TRAINING : FK_INFERENCE,
                       .src = fk_shape_of(2, rows, w->d[1]),
                       .weights = *w,
                       .dst = fk_shape_of(2, rows, w->d[0]),
                       .bias = bias};

    if (fk_is_linear(n))
        return fk_compile_linear(p, n, id);
    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = forward;
    s->backward = backward;
    s->refresh = refresh;
    TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    TRY(fk_pd_dense(p->dn, &pd, &a));
    ferkd_status st = convert(p, s, pd, FK_WEIGHTS, WEIGHTS, LOAD_WEIGHTS, true);
    a.forward = pd;
    if (st == FERKD_OK && p->o.train)
        st = compile_backward(p, s, a);
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    return fk_step_prim(p, s, RUN, pd, "dense",
                        (fk_arg[]){{FK_SRC, {FK_REF_DATA, in}},
                                   {FK_WEIGHTS, {FK_REF_BUFFER, WEIGHTS}},
                                   {FK_DST, {FK_REF_DATA, s->out}},
                                   {FK_BIASES, {FK_REF_VALUES, n->param[1]}}},
                        bias ? 4 : 3);
}

/* --- the product of two values --------------------------------------------------------------- */

enum { MATMUL, MATMUL_A, MATMUL_B };

static ferkd_status matmul_forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, MATMUL);
}

static ferkd_status matmul_backward(fk_plan *p, fk_step *s)
{
    if (fk_wants_din(p, s, 0))
        TRY(fk_run(p, s, MATMUL_A));
    return fk_wants_din(p, s, 1) ? fk_run(p, s, MATMUL_B) : FERKD_OK;
}

/* dA = dY B^T, dB = A^T dY */
static ferkd_status matmul_gradients(fk_plan *p, fk_step *s)
{
    const fk_tensor *a = &p->tensors[s->in[0]];
    const fk_tensor *b = &p->tensors[s->in[1]];
    const fk_md *dy = p->tensors[s->out].md;
    fk_md *turned = NULL;
    fk_pd *pd = NULL;

    for (int i = 0; i < a->shape.n - 2; i++) {
        if (a->shape.n != b->shape.n || a->shape.d[i] != b->shape.d[i])
            return fk_fail(FERKD_UNSUPPORTED, "node %s: a MatMul that broadcasts cannot be trained",
                           s->node->name);
    }
    fk_step_keep(p, s->in[0], s);
    fk_step_keep(p, s->in[1], s);
    TRY(fk_md_transposed(&turned, &b->shape));
    ferkd_status st =
        fk_pd_matmul(p->dn, &pd, &(fk_matmul_args){.a = dy, .b = turned, .dst = a->md});
    fk_md_free(turned);
    TRY(st);
    TRY(fk_step_prim(p, s, MATMUL_A, pd, "matmul, left gradient of",
                     (fk_arg[]){{FK_SRC, {FK_REF_GRAD, s->out}},
                                {FK_WEIGHTS, {FK_REF_DATA, s->in[1]}},
                                {FK_DST, {FK_REF_DIN, 0}}},
                     fk_wants_din(p, s, 0) ? 3 : 0));
    TRY(fk_md_transposed(&turned, &a->shape));
    st = fk_pd_matmul(p->dn, &pd, &(fk_matmul_args){.a = turned, .b = dy, .dst = b->md});
    fk_md_free(turned);
    TRY(st);
    return fk_step_prim(p, s, MATMUL_B, pd, "matmul, right gradient of",
                        (fk_arg[]){{FK_SRC, {FK_REF_DATA, s->in[0]}},
                                   {FK_WEIGHTS, {FK_REF_GRAD, s->out}},
                                   {FK_DST, {FK_REF_DIN, 1}}},
                        fk_wants_din(p, s, 1) ? 3 : 0);
}

ferkd_status fk_compile_matmul(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_md *md = NULL;
    int a;
    int b;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &a));
    TRY(fk_want_plain(p, p->tensor_of[n->in[1]], &b));
    TRY(fk_step_new(p, &s, n, 2));
    s->in[0] = a;
    s->in[1] = b;
    s->forward = matmul_forward;
    s->backward = matmul_backward;
    TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    TRY(fk_pd_matmul(p->dn, &pd,
                     &(fk_matmul_args){.a = p->tensors[a].md,
                                       .b = p->tensors[b].md,
                                       .dst = p->tensors[s->out].md}));
    TRY(fk_step_prim(p, s, MATMUL, pd, "matmul",
                     (fk_arg[]){{FK_SRC, {FK_REF_DATA, a}},
                                {FK_WEIGHTS, {FK_REF_DATA, b}},
                                {FK_DST, {FK_REF_DATA, s->out}}},
                     3));
    return p->tensors[s->out].needs_grad ? matmul_gradients(p, s) : FERKD_OK;
}
