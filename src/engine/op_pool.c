/* Pooling. */
#include "base/compat.h"

#include "engine/step.h"

enum { RUN, RUN_BACK };

enum { WORKSPACE };

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN);
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN_BACK);
}

/* One pooling step from tensor `in` to the shape dst, the output belonging to node id. */
static ferkd_status pool_step(fk_plan *p, const fk_node *n, int in, fk_pool_args a, int id,
                              int *out)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_pd *back = NULL;
    fk_md *md = NULL;

    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = forward;
    s->backward = backward;
    a.prop = p->o.train ? FK_TRAINING : FK_INFERENCE;
    a.src_md = p->tensors[in].md;
    TRY(fk_pd_pool(p->dn, &pd, &a));
    ferkd_status st = fk_pd_md(pd, FK_DST, &md);
    if (st == FERKD_OK)
        st = fk_step_output(p, s, md, &a.dst, id);
    size_t workspace = a.max && p->o.train ? fk_pd_workspace_bytes(pd) : 0;
    if (st == FERKD_OK && workspace)
        st = fk_step_buffer(p, s, WORKSPACE, workspace, FK_LIFE_BOTH);
    if (st == FERKD_OK && fk_wants_din(p, s, 0)) {
        a.prop = FK_BACKWARD_DATA;
        a.dst_md = p->tensors[s->out].md;
        a.forward = pd;
        st = fk_pd_pool(p->dn, &back, &a);
        if (st == FERKD_OK)
            st = fk_step_prim(p, s, RUN_BACK, back, "pooling, gradient of",
                              (fk_arg[]){{FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                         {FK_DIFF_SRC, {FK_REF_DIN, 0}},
                                         {FK_WORKSPACE, {FK_REF_BUFFER, WORKSPACE}}},
                              workspace ? 3 : 2);
    }
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    *out = s->out;
    return fk_step_prim(p, s, RUN, pd, "pooling",
                        (fk_arg[]){{FK_SRC, {FK_REF_DATA, in}},
                                   {FK_DST, {FK_REF_DATA, s->out}},
                                   {FK_WORKSPACE, {FK_REF_BUFFER, WORKSPACE}}},
                        workspace ? 3 : 2);
}

ferkd_status fk_compile_pool(fk_plan *p, const fk_node *n, int id)
{
    int out;
    fk_pool_args a = {.max = n->u.pool.max,
                      .include_pad = n->u.pool.include_pad,
                      .window = n->u.pool.window,
                      .dst = n->shape};

    return pool_step(p, n, p->tensor_of[n->in[0]], a, id, &out);
}

ferkd_status fk_compile_global_pool(fk_plan *p, const fk_node *n, int id)
{
    int in = p->tensor_of[n->in[0]];
    const fk_shape *s = &p->tensors[in].shape;
    fk_pool_args a = {.include_pad = true, .dst = *s};
    int pooled;

    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = s->d[2 + i];
        a.window.stride[i] = a.window.dilation[i] = 1;
        a.dst.d[2 + i] = 1;
    }
    int made = n->u.reduce.keep ? id : -1;
    TRY(p->tensors[in].lay.lanes ? fk_compile_means(p, n, in, made, &pooled)
                                 : pool_step(p, n, in, a, made, &pooled));
    return n->u.reduce.keep ? FERKD_OK : fk_view_step(p, n, pooled, id);
}
