/* Convolution. In inference the BatchNorm behind it is folded into its weights and the activation
 * fused; in training weights are copied to the layout that the kernel wants, once a step. */
#include "base/compat.h"

#include "engine/step.h"

enum { RUN, LOAD_WEIGHTS, RUN_DATA, RUN_WEIGHTS, STORE_WEIGHTS, LOAD_DATA_WEIGHTS };

enum { WEIGHTS, BIAS, DIFF_WEIGHTS, DATA_WEIGHTS, PATCHES, WIDE, PARTS, SUMS };

/* --- groups of few channels ------------------------------------------------------------------ */

/* oneDNN has no fast code for groups of four channels (ResNeXt) or fewer. So many groups that they fill a vector of 16 channels
 * are taken as one, whose weights between them are 0: how many. */
static int64_t groups_in_one(const fk_plan *p, const fk_node *n)
{
    const fk_shape *w = &p->g->params[n->param[0]].shape;
    int64_t groups = n->u.conv.groups;
    int64_t each = groups ? w->d[0] / groups : 0;
    int64_t together = each == 2 || each == 4 ? 16 / each : 1;

    return groups > 1 && w->d[1] == each && groups % together == 0 ? together : 1;
}

size_t fk_conv_scratch(const fk_plan *p, const fk_node *n)
{
    return p->g->params[n->param[0]].count * (size_t)groups_in_one(p, n);
}

static fk_shape wide_shape(const fk_plan *p, const fk_node *n)
{
    fk_shape w = p->g->params[n->param[0]].shape;

    w.d[1] *= groups_in_one(p, n);
    return w;
}

/* Between [O, I, h, w] and [O, together I, h, w]: the inputs of output channel o's own group. */
static void copy_own(const fk_plan *p, const fk_node *n, float *narrow, float *wide, bool widen)
{
    const fk_shape *w = &p->g->params[n->param[0]].shape;
    int64_t together = groups_in_one(p, n);
    size_t each = (size_t)(w->d[1] * w->d[2] * w->d[3]);

    for (int64_t o = w->d[0] - 1; o >= 0; o--) { /* from the end: it may be the same memory */
        size_t group = (size_t)(o / (w->d[0] / n->u.conv.groups) % together);
        float *row = wide + (size_t)(o * together) * each;
        float *own = row + group * each;
        float *from = narrow + (size_t)o * each;
        if (!widen) {
            memcpy(from, own, each * sizeof *own);
            continue;
        }
        memmove(own, from, each * sizeof *own);
        memset(row, 0, group * each * sizeof *row);
        memset(own + each, 0, ((size_t)together - group - 1) * each * sizeof *row);
    }
}

/* --- running --------------------------------------------------------------------------------- */

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    return fk_run(p, s, RUN);
}

static ferkd_status backward_weights(fk_plan *p, fk_step *s)
{
    if (s->buffers[SUMS] >= 0) {
        fk_run_outer(p, s, fk_buffer_at(p, s->buffers[SUMS]));
        return FERKD_OK;
    }
    if (s->buffers[PATCHES] >= 0)
        fk_take_patches(p, s, fk_buffer_at(p, s->buffers[PATCHES]));
    TRY(fk_run(p, s, RUN_WEIGHTS));
    if (s->buffers[PARTS] >= 0)
        fk_add_parts(p, s->node->param[0], fk_buffer_at(p, s->buffers[PARTS]),
                     p->g->params[s->node->param[0]].count, p->threads);
    if (s->prims[STORE_WEIGHTS].prim)
        TRY(fk_run(p, s, STORE_WEIGHTS));
    if (s->buffers[WIDE] >= 0)
        copy_own(p, s->node, p->grads + p->g->params[s->node->param[0]].offset,
                 fk_buffer_at(p, s->buffers[WIDE]), false);
    return FERKD_OK;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    TRY(backward_weights(p, s));
    return fk_wants_din(p, s, 0) ? fk_run(p, s, RUN_DATA) : FERKD_OK;
}

/* w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta, into scratch and the bias. */
static void fold(fk_plan *p, const fk_step *s, float *bias)
{
    const fk_graph *g = p->g;
    const fk_node *bn = s->folded;
    const fk_param *wp = &g->params[s->node->param[0]];
    const float *w = fk_graph_values(g, s->node->param[0]);
    const float *b = s->node->param[1] >= 0 ? fk_graph_values(g, s->node->param[1]) : NULL;
    size_t out = (size_t)wp->shape.d[0];
    size_t each = wp->count / out;

    for (size_t c = 0; c < out; c++) {
        double var = (double)fk_graph_values(g, bn->param[3])[c];
        double k = (double)fk_graph_values(g, bn->param[0])[c] / sqrt(var + bn->u.norm.eps);
        double b0 = b ? (double)b[c] : 0.0;
        bias[c] = (float)((b0 - (double)fk_graph_values(g, bn->param[2])[c]) * k +
                          (double)fk_graph_values(g, bn->param[1])[c]);
        for (size_t i = 0; i < each; i++)
            p->scratch[c * each + i] = (float)((double)w[c * each + i] * k);
    }
}

const float *fk_conv_bias(const fk_plan *p, const fk_step *s, int buffer)
{
    if (s->folded)
        return fk_buffer_at(p, s->buffers[buffer]);
    return s->node->param[1] >= 0 ? fk_graph_values(p->g, s->node->param[1]) : NULL;
}

void fk_load_conv_weights(fk_plan *p, const fk_step *s, float *bias)
{
    const fk_param *w = &p->g->params[s->node->param[0]];

    if (s->folded)
        fold(p, s, bias);
    else
        memcpy(p->scratch, fk_graph_values(p->g, s->node->param[0]), w->count * sizeof(float));
}

/* Do the weights change on their way to the kernel by more than their layout? Then they go through the plan's scratch. */
static bool is_worked_over(const fk_plan *p, const fk_step *s)
{
    return s->folded || groups_in_one(p, s->node) > 1;
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    if (is_worked_over(p, s))
        fk_load_conv_weights(p, s, s->folded ? fk_buffer_at(p, s->buffers[BIAS]) : NULL);
    if (groups_in_one(p, s->node) > 1)
        copy_own(p, s->node, p->scratch, p->scratch, true);
    TRY(fk_run(p, s, LOAD_WEIGHTS));
    return s->prims[LOAD_DATA_WEIGHTS].prim ? fk_run(p, s, LOAD_DATA_WEIGHTS) : FERKD_OK;
}

static bool is_reference(const fk_pd *pd)
{
    return strstr(fk_pd_impl(pd), "ref") != NULL;
}

/* A step-owned copy of the weights in layout md, and the primitive that fills it. */
static ferkd_status weights_copy(fk_plan *p, fk_step *s, const fk_md *md, int buffer, int role)
{
    const fk_node *n = s->node;
    fk_md *plain = NULL;
    fk_pd *pd = NULL;
    fk_shape shape = wide_shape(p, n);
    fk_ref from =
        is_worked_over(p, s) ? (fk_ref){FK_REF_SCRATCH, 0} : (fk_ref){FK_REF_VALUES, n->param[0]};

    TRY(fk_step_buffer(p, s, buffer, fk_md_bytes(md), FK_LIFE_ALWAYS));
    TRY(fk_md_weights(&plain, &shape, n->u.conv.groups / groups_in_one(p, n)));
    ferkd_status st = fk_pd_reorder(p->dn, &pd, plain, md);
    fk_md_free(plain);
    TRY(st);
    return fk_step_prim(p, s, role, pd, "load weights",
                        (fk_arg[]){{FK_SRC, from}, {FK_DST, {FK_REF_BUFFER, buffer}}}, 2);
}

static ferkd_status compile_data(fk_plan *p, fk_step *s, fk_conv_args a, const fk_md *weights)
{
    fk_pd *pd = NULL;
    fk_md *md = NULL;
    int buffer = WEIGHTS;

    a.prop = FK_BACKWARD_DATA;
    a.bias = false;
    TRY(fk_choose_conv(p, &pd, &a));
    ferkd_status st = fk_pd_md(pd, FK_WEIGHTS, &md);
    if (st == FERKD_OK && !fk_md_equal(md, weights)) {
        buffer = DATA_WEIGHTS;
        st = weights_copy(p, s, md, buffer, LOAD_DATA_WEIGHTS);
    }
    fk_md_free(md);
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    return fk_step_prim(p, s, RUN_DATA, pd, "convolution, data gradient of",
                        (fk_arg[]){{FK_DIFF_DST, {FK_REF_GRAD, s->out}},
                                   {FK_WEIGHTS, {FK_REF_BUFFER, buffer}},
                                   {FK_DIFF_SRC, {FK_REF_DIN, 0}}},
                        3);
}

/* The primitive for the gradient of the weights, the layout of what it writes, and its arguments: of them, the last
 * is what it writes (a bias's gradient aside). */
static ferkd_status choose_weights(fk_plan *p, fk_step *s, fk_conv_args *a, fk_pd **pd, fk_md **md,
                                   fk_arg *args)
{
    fk_ref x = {FK_REF_DATA, s->in[0]};

    if (!fk_is_weights_product(a)) {
        args[0] = (fk_arg){FK_SRC, x};
        args[1] = (fk_arg){FK_DIFF_DST, {FK_REF_GRAD, s->out}};
        args[2].slot = FK_DIFF_WEIGHTS;
        TRY(fk_choose_conv(p, pd, a));
        return fk_pd_md(*pd, FK_DIFF_WEIGHTS, md);
    }
    if (fk_patches_bytes(a)) {
        TRY(fk_step_buffer(p, s, PATCHES, fk_patches_bytes(a), FK_LIFE_BACKWARD));
        x = (fk_ref){FK_REF_BUFFER, PATCHES};
    }
    args[0] = (fk_arg){FK_SRC, {FK_REF_GRAD, s->out}};
    args[1] = (fk_arg){FK_WEIGHTS, x};
    args[2].slot = FK_DST;
    size_t parts = fk_weights_parts(a, p->threads);
    if (parts > 1) {
        TRY(fk_step_buffer(p, s, PARTS,
                           parts * p->g->params[s->node->param[0]].count * sizeof(float),
                           FK_LIFE_BACKWARD));
        args[2].ref = (fk_ref){FK_REF_BUFFER, PARTS};
    }
    return fk_pd_weights_product(p->dn, a, parts, pd, md);
}

static ferkd_status compile_weights(fk_plan *p, fk_step *s, fk_conv_args a)
{
    const fk_node *n = s->node;
    fk_pd *pd = NULL;
    fk_pd *store = NULL;
    fk_md *md = NULL;
    fk_md *plain = NULL;
    ferkd_status st = FERKD_OK;
    fk_shape shape = wide_shape(p, n);
    int64_t together = groups_in_one(p, n);
    bool own = false;
    fk_arg args[4] = {[2] = {.ref = {FK_REF_GRADS, n->param[0]}},
                      [3] = {FK_DIFF_BIASES, {FK_REF_GRADS, n->param[1]}}};

    a.prop = FK_BACKWARD_WEIGHTS;
    TRY(fk_outer_wins(p, &a, &own));
    if (own)
        return fk_step_buffer(p, s, SUMS, fk_outer_bytes(p, &a.src, &a.dst), FK_LIFE_BACKWARD);
    TRY_DONE(choose_weights(p, s, &a, &pd, &md, args));
    TRY_DONE(fk_md_weights(&plain, &shape, n->u.conv.groups / together));
    if (together > 1) {
        TRY_DONE(fk_step_buffer(p, s, WIDE, fk_md_bytes(plain), FK_LIFE_BACKWARD));
        args[2].ref = (fk_ref){FK_REF_BUFFER, WIDE};
    }
    if (!fk_md_equal(md, plain)) {
        TRY_DONE(fk_step_buffer(p, s, DIFF_WEIGHTS, fk_md_bytes(md), FK_LIFE_BACKWARD));
        TRY_DONE(fk_pd_reorder(p->dn, &store, md, plain));
        TRY_DONE(fk_step_prim(
            p, s, STORE_WEIGHTS, store, "store weight gradient",
            (fk_arg[]){{FK_SRC, {FK_REF_BUFFER, DIFF_WEIGHTS}}, {FK_DST, args[2].ref}}, 2));
        args[2].ref = (fk_ref){FK_REF_BUFFER, DIFF_WEIGHTS};
    }
    fk_pd *mine = pd;
    pd = NULL;
    TRY_DONE(fk_step_prim(p, s, RUN_WEIGHTS, mine, "convolution, weight gradient of", args,
                          a.bias ? 4 : 3));
done:
    fk_pd_free(pd);
    fk_md_free(md);
    fk_md_free(plain);
    return st;
}

/* The value at `tensor` may be overwritten with the sum at node `adder`: nobody reads it later. */
static bool may_add(const fk_plan *p, int tensor, int adder)
{
    int output = p->tensor_of[p->g->output];

    if (p->tensors[tensor].step < 0 ||
        (output >= 0 && p->tensors[output].data == p->tensors[tensor].data))
        return false;
    for (size_t i = (size_t)adder + 1; i < p->g->n_nodes; i++) {
        for (int k = 0; p->uses[i] && k < p->g->nodes[i].n_in; k++) {
            int other = p->tensor_of[p->g->nodes[i].in[k]];
            if (other >= 0 && p->tensors[other].data == p->tensors[tensor].data)
                return false;
        }
    }
    return true;
}

/* Choose the forward primitive; its weights and output get their places. */
static ferkd_status compile_forward(fk_plan *p, fk_step *s, fk_conv_args *a, int id, fk_pd **out)
{
    fk_pd *pd = NULL;
    fk_md *weights = NULL;
    fk_md *dst = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_choose_conv(p, &pd, a));
    TRY_DONE(fk_pd_md(pd, FK_WEIGHTS, &weights));
    TRY_DONE(fk_pd_md(pd, FK_DST, &dst));
    TRY_DONE(weights_copy(p, s, weights, WEIGHTS, LOAD_WEIGHTS));
    fk_md *mine = dst;
    dst = NULL;
    if (s->residual >= 0)
        TRY_DONE(fk_step_output_in(p, s, mine, &a->dst, id, s->residual));
    else
        TRY_DONE(fk_step_output(p, s, mine, &a->dst, id));
    *out = pd;
    pd = NULL;
done:
    fk_pd_free(pd);
    fk_md_free(weights);
    fk_md_free(dst);
    return st;
}

/* Both gradients, in the layouts that forward has chosen. */
static ferkd_status compile_training(fk_plan *p, fk_step *s, fk_conv_args a, fk_pd *forward_pd)
{
    fk_md *weights = NULL;

    fk_step_keep(p, s->in[0], s);
    TRY(fk_pd_md(forward_pd, FK_WEIGHTS, &weights));
    a.src_md = p->tensors[s->in[0]].md;
    a.dst_md = p->tensors[s->out].md;
    a.forward = forward_pd;
    a.post.n = 0;
    ferkd_status st = compile_weights(p, s, a);
    if (st == FERKD_OK && fk_wants_din(p, s, 0))
        st = compile_data(p, s, a, weights);
    fk_md_free(weights);
    return st;
}

/* Would one of the gradients, in the layouts that forward has chosen, run oneDNN's reference code? It
 * is a hundred times slower; with fewer than 16 channels that happens. */
static ferkd_status gradients_are_slow(fk_plan *p, fk_conv_args a, fk_pd *forward_pd, bool data,
                                       bool *slow)
{
    static const fk_prop PROPS[] = {FK_BACKWARD_WEIGHTS, FK_BACKWARD_DATA};
    fk_md *src = NULL;
    fk_md *dst = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_pd_md(forward_pd, FK_SRC, &src));
    TRY_DONE(fk_pd_md(forward_pd, FK_DST, &dst));
    a.src_md = src;
    a.dst_md = dst;
    a.forward = forward_pd;
    for (size_t i = 0; i < (data ? FK_COUNT(PROPS) : 1); i++) {
        fk_pd *pd = NULL;
        a.prop = PROPS[i];
        a.bias = a.bias && a.prop == FK_BACKWARD_WEIGHTS;
        a.post.n = 0;
        a.sum = false;
        TRY_DONE(fk_choose_conv(p, &pd, &a));
        *slow = *slow || is_reference(pd);
        fk_pd_free(pd);
    }
done:
    fk_md_free(src);
    fk_md_free(dst);
    return st;
}

/* The layout that the plan prefers for a feature map of this shape; NULL: none. */
static ferkd_status preferred(const fk_plan *p, const fk_shape *shape, bool half, fk_md **out)
{
    *out = NULL;
    if (p->o.layout == FK_LAYOUT_ANY || shape->d[1] < fk_dn_lanes())
        return FERKD_OK;
    return p->o.layout == FK_LAYOUT_LANES ? fk_md_lanes(out, shape, fk_dn_lanes(), half)
                                          : fk_md_last(out, shape, half);
}

/* Has oneDNN a kernel of its own for these layouts? */
static bool has_kernel(fk_plan *p, fk_conv_args *a)
{
    fk_pd *pd = NULL;
    bool has = fk_choose_conv(p, &pd, a) == FERKD_OK && !is_reference(pd);

    fk_pd_free(pd);
    return has;
}

/* Can the convolution be done in the layouts that the plan prefers? A picture may have any; but to an output
 * with channels last oneDNN 2.6 offers reference code then (without matrix tiles), while it has a kernel if the picture is so, too. */
static ferkd_status prefer_layouts(fk_plan *p, fk_conv_args *a, fk_md **src, fk_md **dst)
{
    TRY(preferred(p, &a->src, a->half, src));
    TRY(preferred(p, &a->dst, a->half, dst));
    a->src_md = *src;
    a->dst_md = *dst;
    if ((!*src && !*dst) || has_kernel(p, a))
        return FERKD_OK;
    if (!*src && p->o.layout == FK_LAYOUT_LAST) {
        TRY(fk_md_last(src, &a->src, a->half));
        a->src_md = *src;
        if (has_kernel(p, a))
            return FERKD_OK;
    }
    a->src_md = a->dst_md = NULL;
    return FERKD_OK;
}

/* The layout that the plan prefers for the output, if there is a kernel from the input's to it; else oneDNN's choice. */
static ferkd_status preferred_output(fk_plan *p, fk_conv_args *a, fk_md **out)
{
    TRY(preferred(p, &a->dst, a->half, out));
    a->dst_md = *out;
    if (*out && !has_kernel(p, a)) {
        fk_md_free(*out);
        *out = NULL;
    }
    a->dst_md = NULL;
    return FERKD_OK;
}

/* The forward primitive in layouts of oneDNN's choice. slow: it, or a gradient, is reference code. */
static ferkd_status choose_first(fk_plan *p, fk_conv_args *a, int tensor, fk_pd **pd, bool *slow)
{
    TRY(fk_choose_conv(p, pd, a));
    *slow = is_reference(*pd);
    if (!p->o.train || *slow)
        return FERKD_OK;
    ferkd_status st = gradients_are_slow(p, *a, *pd, p->tensors[tensor].needs_grad, slow);
    if (st != FERKD_OK) {
        fk_pd_free(*pd);
        *pd = NULL;
    }
    return st;
}

/* Which layout does the convolution want its input in? Row-major (oneDNN's GEMM) where its own choice
 * would end in reference code. The residual has to come in the output's layout. */
static ferkd_status wanted_inputs(fk_plan *p, fk_conv_args *a, int tensor, int *out, int *residual)
{
    fk_md *dst = NULL;
    fk_pd *pd = NULL;
    fk_md *src = NULL;
    fk_md *likes[2] = {NULL, NULL};
    ferkd_status st = FERKD_OK;
    bool slow = false;

    TRY_DONE(prefer_layouts(p, a, &likes[0], &likes[1]));
    TRY_DONE(choose_first(p, a, tensor, &pd, &slow));
    if (slow && (a->half || a->src_md || a->dst_md)) { /* f32 in its own layouts has more kernels */
        a->half = false;
        a->src_md = a->dst_md = NULL;
        fk_pd_free(pd);
        pd = NULL;
        TRY_DONE(choose_first(p, a, tensor, &pd, &slow));
    }
    if (slow)
        TRY_DONE(fk_md_plain(&src, &a->src));
    else
        TRY_DONE(fk_pd_md(pd, FK_SRC, &src));
    TRY_DONE(fk_want(p, tensor, src, out));
    if (*residual < 0)
        goto done;
    if (slow)
        TRY_DONE(fk_md_plain(&dst, &a->dst));
    else
        TRY_DONE(fk_pd_md(pd, FK_DST, &dst));
    TRY_DONE(fk_want(p, *residual, dst, residual));
done:
    a->src_md = a->dst_md = NULL;
    fk_md_free(likes[0]);
    fk_md_free(likes[1]);
    fk_pd_free(pd);
    fk_md_free(src);
    fk_md_free(dst);
    return st;
}

ferkd_status fk_compile_conv(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_pd *pd = NULL;
    fk_md *dst_md = NULL;
    fk_tail tail = {.id = id, .residual = -1};
    int in = p->tensor_of[n->in[0]];
    const fk_tail_rules rules = {fk_act_is_dnnl, fk_act_is_dnnl, may_add, in};

    if (fk_is_patches(p, n) && p->o.train)
        return fk_compile_patches(p, n, id);
    if (fk_is_depthwise(p, n) && p->o.train)
        return fk_compile_depthwise(p, n, id);
    if (fk_is_sliced_conv(p, n))
        return fk_compile_sliced_conv(p, n, id);
    const fk_node *norm = p->o.train ? NULL : fk_absorb_norm(p, &tail.id);
    if (!p->o.train)
        tail = fk_absorb_tail(p, tail.id, &rules);
    bool bias = n->param[1] >= 0 || norm;
    fk_conv_args a = {.prop = p->o.train ? FK_TRAINING : FK_INFERENCE,
                      .src = p->tensors[in].shape,
                      .weights = wide_shape(p, n),
                      .dst = n->shape,
                      .bias = bias,
                      .groups = n->u.conv.groups / groups_in_one(p, n),
                      .window = n->u.conv.window,
                      .sum = tail.residual >= 0,
                      .half = p->half_conv,
                      .post = tail.post};

    if (fk_conv_suits_tiles_forward(p, &a, in))
        return fk_compile_tiles_conv(p, n, in, &tail, norm);
    bool own = fk_conv_suits_winograd(p, &a);
    if (own)
        TRY(fk_conv_winograd_wins(p, &a, &own));
    if (own)
        return fk_compile_winograd(p, n, in, &tail, norm);
    TRY(wanted_inputs(p, &a, in, &in, &tail.residual));
    TRY(fk_step_new(p, &s, n, tail.residual >= 0 ? 2 : 1));
    s->in[0] = in;
    if (tail.residual >= 0)
        s->in[1] = s->residual = tail.residual;
    s->kind = FK_KIND_CONV;
    s->forward = forward;
    s->backward = backward;
    s->refresh = refresh;
    s->folded = norm;
    s->post = tail.post;
    if (norm)
        TRY(fk_step_buffer(p, s, BIAS, (size_t)n->shape.d[1] * sizeof(float), FK_LIFE_ALWAYS));
    a.src_md = p->tensors[in].md;
    if (p->tensors[in].plain && a.src.d[1] > 4 &&
        !a.half) /* the image itself has kernels of its own */
        TRY(fk_md_plain(&dst_md, &a.dst));
    else if (s->residual < 0)
        TRY(preferred_output(p, &a, &dst_md));
    a.dst_md = s->residual >= 0 ? p->tensors[s->residual].md : dst_md;
    ferkd_status st = compile_forward(p, s, &a, tail.id, &pd);
    fk_md_free(dst_md);
    a.dst_md = NULL;
    TRY(st);
    fk_arg args[4] = {
        {FK_SRC, {FK_REF_DATA, in}},
        {FK_WEIGHTS, {FK_REF_BUFFER, WEIGHTS}},
        {FK_DST, {FK_REF_DATA, s->out}},
        {FK_BIASES, norm ? (fk_ref){FK_REF_BUFFER, BIAS} : (fk_ref){FK_REF_VALUES, n->param[1]}}};
    if (!p->o.train)
        return fk_step_prim(p, s, RUN, pd, "convolution", args, bias ? 4 : 3);

    st = compile_training(p, s, a, pd);
    if (st != FERKD_OK) {
        fk_pd_free(pd);
        return st;
    }
    return fk_step_prim(p, s, RUN, pd, "convolution", args, bias ? 4 : 3);
}
