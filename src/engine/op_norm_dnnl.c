/* BatchNorm by oneDNN, for layouts that our own kernels do not take: batch statistics and a fused ReLU in
 * training, running statistics in inference. */
#include "base/compat.h"

#include "engine/step.h"

enum { RUN, RUN_BACK };

enum { MEAN, VARIANCE, WORKSPACE };

/* running = (1 - m) running + m batch, the variance unbiased as torch.nn.BatchNorm2d keeps it. */
static void update_running(fk_plan *p, const fk_step *s)
{
    const fk_shape *shape = &p->tensors[s->in[0]].shape;
    const float *mean = fk_buffer_at(p, s->buffers[MEAN]);
    const float *var = fk_buffer_at(p, s->buffers[VARIANCE]);
    float *running_mean = fk_graph_values(p->g, s->node->param[2]);
    float *running_var = fk_graph_values(p->g, s->node->param[3]);
    int64_t channels = shape->d[1];
    double n = (double)(fk_shape_count(shape) / channels);
    double m = s->node->u.norm.momentum;

    for (int64_t c = 0; c < channels; c++) {
        double unbiased = (double)var[c] * (n > 1 ? n / (n - 1) : 1.0);
        running_mean[c] = (float)((1.0 - m) * (double)running_mean[c] + m * (double)mean[c]);
        running_var[c] = (float)((1.0 - m) * (double)running_var[c] + m * unbiased);
    }
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    TRY(fk_run(p, s, RUN));
    if (p->o.train && !p->redoing)
        update_running(p, s);
    return FERKD_OK;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN_BACK);
}

static ferkd_status compile_backward(fk_plan *p, fk_step *s, fk_pd *forward_pd, bool relu)
{
    const fk_node *n = s->node;
    fk_pd *pd = NULL;
    fk_arg args[FK_MAX_ARGS] = {{FK_SRC, {FK_REF_DATA, s->in[0]}},
                                {FK_MEAN_STAT, {FK_REF_BUFFER, MEAN}},
                                {FK_VARIANCE_STAT, {FK_REF_BUFFER, VARIANCE}},
                                {FK_SCALE, {FK_REF_VALUES, n->param[0]}},
                                {FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                {FK_DIFF_SRC, {FK_REF_DIN, 0}},
                                {FK_DIFF_SCALE, {FK_REF_GRADS, n->param[0]}},
                                {FK_DIFF_SHIFT, {FK_REF_GRADS, n->param[1]}}};
    int n_args = 8;

    if (fk_norm_gradient_wants_shift())
        args[n_args++] = (fk_arg){FK_SHIFT, {FK_REF_VALUES, n->param[1]}};
    if (relu)
        args[n_args++] = (fk_arg){FK_WORKSPACE, {FK_REF_BUFFER, WORKSPACE}};
    TRY(fk_pd_norm(p->dn, &pd, FK_BACKWARD_DATA, p->tensors[s->in[0]].md, (float)n->u.norm.eps,
                   relu, forward_pd));
    return fk_step_prim(p, s, RUN_BACK, pd, "batchnorm, gradient of", args, n_args);
}

static ferkd_status compile_training(fk_plan *p, fk_step *s, fk_pd *pd, bool relu)
{
    size_t channels = (size_t)p->tensors[s->in[0]].shape.d[1] * sizeof(float);

    TRY(fk_step_buffer(p, s, MEAN, channels, FK_LIFE_BOTH));
    TRY(fk_step_buffer(p, s, VARIANCE, channels, FK_LIFE_BOTH));
    if (relu)
        TRY(fk_step_buffer(p, s, WORKSPACE, fk_pd_workspace_bytes(pd), FK_LIFE_BOTH));
    fk_step_keep(p, s->in[0], s);
    if (!fk_wants_din(p, s, 0)) /* the primitive writes it all the same */
        return fk_fail(FERKD_UNSUPPORTED, "node %s: BatchNorm on the input cannot be trained",
                       s->node->name);
    return compile_backward(p, s, pd, relu);
}

ferkd_status fk_compile_norm_dnnl(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_md *md = NULL;
    int user = -1;
    const fk_node *next = fk_only_user(p, id, &user);
    bool relu = p->o.train && next && next->op == FK_ACT && next->u.act.kind == FK_RELU;
    int in;
    bool train = p->o.train;

    TRY(fk_want_plain(p, p->tensor_of[n->in[0]], &in));
    if (relu) {
        p->absorbed[user] = true;
        id = user;
    }
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->kind = FK_KIND_NORM;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_copy(&md, p->tensors[in].md));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    TRY(fk_pd_norm(p->dn, &pd, train ? FK_TRAINING : FK_INFERENCE, p->tensors[in].md,
                   (float)n->u.norm.eps, relu, NULL));
    ferkd_status st = train ? compile_training(p, s, pd, relu) : FERKD_OK;
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    fk_ref mean = {train ? FK_REF_BUFFER : FK_REF_VALUES, train ? MEAN : n->param[2]};
    fk_ref variance = {train ? FK_REF_BUFFER : FK_REF_VALUES, train ? VARIANCE : n->param[3]};
    fk_arg args[] = {{FK_SRC, {FK_REF_DATA, in}},
                     {FK_DST, {FK_REF_DATA, s->out}},
                     {FK_SCALE, {FK_REF_VALUES, n->param[0]}},
                     {FK_SHIFT, {FK_REF_VALUES, n->param[1]}},
                     {FK_MEAN_STAT, mean},
                     {FK_VARIANCE_STAT, variance},
                     {FK_WORKSPACE, {FK_REF_BUFFER, WORKSPACE}}};
    return fk_step_prim(p, s, RUN, pd, "batchnorm", args, relu ? 7 : 6);
}
