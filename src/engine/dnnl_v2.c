/* oneDNN 2.x behind dnnl_glue.h. */
#include "base/compat.h"

#include "engine/dnnl_glue.h"

#include <dnnl.h>

#include "base/mem.h"
#include "base/trace.h"

struct fk_dn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

struct fk_md {
    dnnl_memory_desc_t d;
};

struct fk_pd {
    dnnl_primitive_desc_t h;
};

/* The memory of one execution. */
typedef struct arg_set {
    int n;
    dnnl_exec_arg_t args[FK_SLOT_COUNT];
} arg_set;

struct fk_prim {
    dnnl_primitive_t h;
    char *what;
    arg_set *sets;
    size_t n_sets, cap_sets;
    dnnl_primitive_desc_t pd;
};

static const struct {
    int arg;
    dnnl_query_t query;
    int index;
} SLOTS[FK_SLOT_COUNT] = {
    [FK_SRC] = {DNNL_ARG_SRC, dnnl_query_src_md, 0},
    [FK_SRC_1] = {DNNL_ARG_SRC_1, dnnl_query_src_md, 1},
    [FK_WEIGHTS] = {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
    [FK_BIASES] = {DNNL_ARG_BIAS, dnnl_query_weights_md, 1},
    [FK_DST] = {DNNL_ARG_DST, dnnl_query_dst_md, 0},
    [FK_MEAN_STAT] = {DNNL_ARG_MEAN, dnnl_query_undef, 0},
    [FK_VARIANCE_STAT] = {DNNL_ARG_VARIANCE, dnnl_query_undef, 0},
    [FK_SCALE] = {DNNL_ARG_SCALE, dnnl_query_undef, 0},
    [FK_SHIFT] = {DNNL_ARG_SHIFT, dnnl_query_undef, 0},
    [FK_WORKSPACE] = {DNNL_ARG_WORKSPACE, dnnl_query_workspace_md, 0},
    [FK_DIFF_SRC] = {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0},
    [FK_DIFF_WEIGHTS] = {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0},
    [FK_DIFF_BIASES] = {DNNL_ARG_DIFF_BIAS, dnnl_query_diff_weights_md, 1},
    [FK_DIFF_DST] = {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
    [FK_DIFF_SCALE] = {DNNL_ARG_DIFF_SCALE, dnnl_query_undef, 0},
    [FK_DIFF_SHIFT] = {DNNL_ARG_DIFF_SHIFT, dnnl_query_undef, 0},
};

static ferkd_status check(dnnl_status_t s, const char *what)
{
    if (s == dnnl_success)
        return FERKD_OK;
    return fk_fail(s == dnnl_out_of_memory   ? FERKD_MEMORY
                   : s == dnnl_unimplemented ? FERKD_UNSUPPORTED
                                             : FERKD_BUG,
                   "oneDNN %s: %s (status %d)", fk_dn_version(), what, (int)s);
}

const char *fk_dn_version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();

    (void)snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

ferkd_status fk_dn_new(fk_dn **out)
{
    fk_dn *dn = NULL;

    TRY(fk_calloc(&dn, 1, sizeof *dn, "oneDNN"));
    ferkd_status st = check(dnnl_engine_create(&dn->engine, dnnl_cpu, 0), "no CPU engine");
    if (st == FERKD_OK)
        st = check(dnnl_stream_create(&dn->stream, dn->engine, dnnl_stream_default_flags),
                   "no stream");
    if (st != FERKD_OK)
        fk_dn_free(&dn);
    else
        *out = dn;
    return st;
}

void fk_dn_free(fk_dn **dn)
{
    if (!*dn)
        return;
    if ((*dn)->stream)
        (void)dnnl_stream_destroy((*dn)->stream);
    if ((*dn)->engine)
        (void)dnnl_engine_destroy((*dn)->engine);
    free(*dn);
    *dn = NULL;
}

static ferkd_status md_strided(fk_md **out, int n, const int64_t *dims, const int64_t *strides)
{
    fk_md *md = NULL;

    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    ferkd_status st = check(dnnl_memory_desc_init_by_strides(&md->d, n, dims, dnnl_f32, strides),
                            "a memory descriptor was refused");
    if (st != FERKD_OK)
        free(md);
    else
        *out = md;
    return st;
}

static void plain_strides(int n, const int64_t *dims, int64_t *strides)
{
    int64_t step = 1;

    for (int i = n - 1; i >= 0; i--) {
        strides[i] = step;
        step *= dims[i];
    }
}

ferkd_status fk_md_plain(fk_md **out, const fk_shape *shape)
{
    int64_t strides[FK_MAX_DIMS];
    const int64_t one = 1;

    if (shape->n == 0) /* a scalar */
        return md_strided(out, 1, &one, &one);
    plain_strides(shape->n, shape->d, strides);
    return md_strided(out, shape->n, shape->d, strides);
}

ferkd_status fk_md_transposed(fk_md **out, const fk_shape *shape)
{
    int64_t strides[FK_MAX_DIMS];
    int64_t dims[FK_MAX_DIMS];
    int n = shape->n;

    plain_strides(n, shape->d, strides);
    memcpy(dims, shape->d, sizeof dims);
    dims[n - 2] = shape->d[n - 1];
    dims[n - 1] = shape->d[n - 2];
    int64_t t = strides[n - 2];
    strides[n - 2] = strides[n - 1];
    strides[n - 1] = t;
    return md_strided(out, n, dims, strides);
}

static int grouped_dims(const fk_shape *s, int64_t groups, int64_t *dims)
{
    if (groups == 1) {
        memcpy(dims, s->d, 4 * sizeof *dims);
        return 4;
    }
    dims[0] = groups;
    dims[1] = s->d[0] / groups;
    memcpy(dims + 2, s->d + 1, 3 * sizeof *dims);
    return 5;
}

ferkd_status fk_md_weights(fk_md **out, const fk_shape *shape, int64_t groups)
{
    int64_t dims[FK_MAX_DIMS];
    int64_t strides[FK_MAX_DIMS];
    int n = grouped_dims(shape, groups, dims);

    plain_strides(n, dims, strides);
    return md_strided(out, n, dims, strides);
}

ferkd_status fk_md_copy(fk_md **out, const fk_md *md)
{
    fk_md *copy = NULL;

    TRY(fk_calloc(&copy, 1, sizeof *copy, "a memory descriptor"));
    *copy = *md;
    *out = copy;
    return FERKD_OK;
}

ferkd_status fk_md_as(fk_md **out, const fk_md *md, bool half)
{
    TRY(fk_md_copy(out, md));
    (*out)->d.data_type = half ? dnnl_bf16 : dnnl_f32;
    return FERKD_OK;
}

static ferkd_status md_tagged(fk_md **out, const fk_shape *shape, dnnl_format_tag_t tag, bool half)
{
    fk_md *md = NULL;

    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    ferkd_status st = check(dnnl_memory_desc_init_by_tag(&md->d, shape->n, shape->d,
                                                         half ? dnnl_bf16 : dnnl_f32, tag),
                            "a memory descriptor was refused");
    if (st != FERKD_OK)
        free(md);
    else
        *out = md;
    return st;
}

ferkd_status fk_md_lanes(fk_md **out, const fk_shape *shape, int lanes, bool half)
{
    return md_tagged(out, shape, lanes == 16 ? dnnl_nChw16c : dnnl_nChw8c, half);
}

ferkd_status fk_md_last(fk_md **out, const fk_shape *shape, bool half)
{
    return md_tagged(out, shape, dnnl_nhwc, half);
}

int fk_dn_lanes(void)
{
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    unsigned wide = (unsigned)dnnl_cpu_isa_avx512_core;

    return (isa & wide) == wide ? 16 : 8;
}

fk_lay fk_md_lay(const fk_md *md)
{
    const dnnl_memory_desc_t *d = &md->d;
    const dnnl_blocking_desc_t *b = &d->format_desc.blocking;
    const int64_t *s = b->strides;
    int64_t lanes = fk_dn_lanes();
    fk_lay lay = {0};

    if (d->ndims != 4 || d->format_kind != dnnl_blocked || d->offset0 != 0)
        return lay;
    bool blocked = b->inner_nblks == 1 && b->inner_idxs[0] == 1 &&
                   (b->inner_blks[0] == 8 || b->inner_blks[0] == 16);
    bool last = b->inner_nblks == 0 && s[1] == 1 && d->dims[1] % lanes == 0;
    if (blocked)
        lanes = b->inner_blks[0];
    int64_t pixel = blocked ? lanes : d->dims[1];
    if ((!blocked && !last) || s[3] != pixel || s[2] != d->dims[3] * pixel)
        return lay;
    return (fk_lay){.lanes = (int)lanes,
                    .images = (size_t)d->dims[0],
                    .vectors = (size_t)(d->padded_dims[1] / lanes),
                    .pixels = (size_t)(d->dims[2] * d->dims[3]),
                    .image = (size_t)s[0],
                    .vector = (size_t)(blocked ? s[1] : lanes),
                    .pixel = (size_t)pixel};
}

bool fk_md_half(const fk_md *md)
{
    return md->d.data_type == dnnl_bf16;
}

void fk_md_free(fk_md *md)
{
    free(md);
}

bool fk_md_equal(const fk_md *a, const fk_md *b)
{
    return dnnl_memory_desc_equal(&a->d, &b->d);
}

size_t fk_md_bytes(const fk_md *md)
{
    return dnnl_memory_desc_get_size(&md->d);
}

/* A layout that oneDNN is to choose, or the one given. */
static ferkd_status md_any(dnnl_memory_desc_t *d, const fk_md *given, int n, const int64_t *dims,
                           bool half)
{
    if (given) {
        *d = given->d;
        return FERKD_OK;
    }
    return check(dnnl_memory_desc_init_by_tag(d, n, dims, half ? dnnl_bf16 : dnnl_f32,
                                              dnnl_format_tag_any),
                 "a memory descriptor was refused");
}

/* oneDNN's words for our activations. */
static dnnl_alg_kind_t act_alg(const fk_post *act, float *a, float *b)
{
    *a = act->a;
    *b = act->b;
    switch (act->kind) {
    case FK_RELU:
        *a = 0.0f;
        return dnnl_eltwise_relu;
    case FK_LEAKY:
        return dnnl_eltwise_relu;
    case FK_CLIP:
        return dnnl_eltwise_clip_v2;
    case FK_SIGMOID:
        return dnnl_eltwise_logistic;
    case FK_SILU:
        *a = 1.0f;
        return dnnl_eltwise_swish;
    case FK_HARDSWISH:
        return dnnl_eltwise_hardswish;
    case FK_ELU:
        return dnnl_eltwise_elu;
    case FK_GELU:
        return dnnl_eltwise_gelu_erf;
    case FK_GELU_TANH:
        return dnnl_eltwise_gelu_tanh;
    case FK_TANH:
        return dnnl_eltwise_tanh;
    case FK_HARDSIGMOID:
    case FK_ERF:
    case FK_ACT_COUNT:
        break;
    }
    return dnnl_alg_kind_undef;
}

/* sum: what dst holds is added first. */
static ferkd_status make_pd(fk_dn *dn, fk_pd **out, const void *desc, bool sum, const fk_post *post,
                            const fk_pd *hint, const char *what)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    fk_pd *pd = NULL;
    float a;
    float b;

    TRY(fk_calloc(&pd, 1, sizeof *pd, what));
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_post_ops_create(&ops);
    if (s == dnnl_success && sum)
        s = dnnl_post_ops_append_sum(ops, 1.0f);
    if (s == dnnl_success && post && post->n) {
        dnnl_alg_kind_t alg = act_alg(post, &a, &b);
        s = dnnl_post_ops_append_eltwise(ops, 1.0f, alg, a, b);
    }
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&pd->h, desc, attr, dn->engine, hint ? hint->h : NULL);
    if (ops)
        (void)dnnl_post_ops_destroy(ops);
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    ferkd_status st = check(s, what);
    if (st != FERKD_OK)
        free(pd);
    else
        *out = pd;
    return st;
}

ferkd_status fk_pd_conv(fk_dn *dn, fk_pd **out, const fk_conv_args *a)
{
    int64_t wdims[FK_MAX_DIMS];
    int64_t dilate[2];
    dnnl_memory_desc_t src;
    dnnl_memory_desc_t weights;
    dnnl_memory_desc_t bias;
    dnnl_memory_desc_t dst;
    dnnl_convolution_desc_t d;
    dnnl_alg_kind_t alg = a->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    const fk_window *w = &a->window;
    dnnl_status_t s;

    for (int i = 0; i < 2; i++)
        dilate[i] = w->dilation[i] - 1;
    int n = grouped_dims(&a->weights, a->groups, wdims);
    TRY(md_any(&src, a->src_md, 4, a->src.d, a->half));
    TRY(md_any(&dst, a->dst_md, 4, a->dst.d, a->half));
    TRY(md_any(&weights, NULL, n, wdims, a->half && a->prop != FK_BACKWARD_WEIGHTS));
    TRY(md_any(&bias, NULL, 1, a->weights.d, false));
    const dnnl_memory_desc_t *b = a->bias ? &bias : NULL;
    if (a->prop == FK_BACKWARD_DATA)
        s = dnnl_dilated_convolution_backward_data_desc_init(&d, alg, &src, &weights, &dst,
                                                             w->stride, dilate, w->begin, w->end);
    else if (a->prop == FK_BACKWARD_WEIGHTS)
        s = dnnl_dilated_convolution_backward_weights_desc_init(
            &d, alg, &src, &weights, b, &dst, w->stride, dilate, w->begin, w->end);
    else
        s = dnnl_dilated_convolution_forward_desc_init(
            &d, a->prop == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference, alg, &src,
            &weights, b, &dst, w->stride, dilate, w->begin, w->end);
    TRY(check(s, "a convolution was refused"));
    return make_pd(dn, out, &d, a->sum, &a->post, a->forward, "a convolution has no implementation");
}

ferkd_status fk_pd_dense(fk_dn *dn, fk_pd **out, const fk_dense_args *a)
{
    dnnl_memory_desc_t src;
    dnnl_memory_desc_t weights;
    dnnl_memory_desc_t bias;
    dnnl_memory_desc_t dst;
    dnnl_inner_product_desc_t d;
    dnnl_status_t s;
    fk_md *plain = NULL;

    TRY(fk_md_plain(&plain, &a->src));
    src = plain->d;
    fk_md_free(plain);
    TRY(fk_md_plain(&plain, &a->dst));
    dst = plain->d;
    fk_md_free(plain);
    TRY(md_any(&weights, NULL, 2, a->weights.d, false));
    TRY(md_any(&bias, NULL, 1, a->weights.d, false));
    const dnnl_memory_desc_t *b = a->bias ? &bias : NULL;
    if (a->prop == FK_BACKWARD_DATA)
        s = dnnl_inner_product_backward_data_desc_init(&d, &src, &weights, &dst);
    else if (a->prop == FK_BACKWARD_WEIGHTS)
        s = dnnl_inner_product_backward_weights_desc_init(&d, &src, &weights, b, &dst);
    else
        s = dnnl_inner_product_forward_desc_init(
            &d, a->prop == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference, &src,
            &weights, b, &dst);
    TRY(check(s, "an inner product was refused"));
    return make_pd(dn, out, &d, false, NULL, a->forward, "an inner product has no implementation");
}

ferkd_status fk_pd_matmul(fk_dn *dn, fk_pd **out, const fk_md *a, const fk_md *b, const fk_md *dst)
{
    dnnl_matmul_desc_t d;

    TRY(check(dnnl_matmul_desc_init(&d, &a->d, &b->d, NULL, &dst->d), "a matmul was refused"));
    return make_pd(dn, out, &d, false, NULL, NULL, "a matmul has no implementation");
}

ferkd_status fk_pd_norm(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md, float eps, bool relu,
                        fk_pd *forward)
{
    dnnl_batch_normalization_desc_t d;
    unsigned flags = dnnl_use_scale | dnnl_use_shift;
    dnnl_status_t s;

    if (relu)
        flags |= dnnl_fuse_norm_relu;
    if (prop == FK_BACKWARD_DATA)
        s = dnnl_batch_normalization_backward_desc_init(&d, dnnl_backward, &md->d, &md->d, eps,
                                                        flags);
    else if (prop == FK_TRAINING)
        s = dnnl_batch_normalization_forward_desc_init(&d, dnnl_forward_training, &md->d, eps,
                                                       flags);
    else
        s = dnnl_batch_normalization_forward_desc_init(&d, dnnl_forward_inference, &md->d, eps,
                                                       flags | dnnl_use_global_stats);
    TRY(check(s, "a batch normalisation was refused"));
    return make_pd(dn, out, &d, false, NULL, forward, "a batch normalisation has no implementation");
}

ferkd_status fk_pd_pool(fk_dn *dn, fk_pd **out, const fk_pool_args *a)
{
    dnnl_memory_desc_t dst;
    dnnl_pooling_v2_desc_t d;
    int64_t dilate[2];
    const fk_window *w = &a->window;
    dnnl_alg_kind_t alg = a->max           ? dnnl_pooling_max
                          : a->include_pad ? dnnl_pooling_avg_include_padding
                                           : dnnl_pooling_avg_exclude_padding;
    dnnl_status_t s;

    for (int i = 0; i < 2; i++)
        dilate[i] = w->dilation[i] - 1;
    TRY(md_any(&dst, a->dst_md, 4, a->dst.d, fk_md_half(a->src_md)));
    if (a->prop == FK_BACKWARD_DATA)
        s = dnnl_pooling_v2_backward_desc_init(&d, alg, &a->src_md->d, &dst, w->stride, w->kernel,
                                               dilate, w->begin, w->end);
    else
        s = dnnl_pooling_v2_forward_desc_init(
            &d, a->prop == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference, alg,
            &a->src_md->d, &dst, w->stride, w->kernel, dilate, w->begin, w->end);
    TRY(check(s, "a pooling was refused"));
    return make_pd(dn, out, &d, false, NULL, a->forward, "a pooling has no implementation");
}

ferkd_status fk_pd_act(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md, const fk_post *act,
                       fk_pd *forward)
{
    dnnl_eltwise_desc_t d;
    dnnl_status_t s;
    float a;
    float b;
    dnnl_alg_kind_t alg = act_alg(act, &a, &b);

    if (prop == FK_BACKWARD_DATA)
        s = dnnl_eltwise_backward_desc_init(&d, alg, &md->d, &md->d, a, b);
    else
        s = dnnl_eltwise_forward_desc_init(
            &d, prop == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference, alg, &md->d,
            a, b);
    TRY(check(s, "an activation was refused"));
    return make_pd(dn, out, &d, false, NULL, forward, "an activation has no implementation");
}

ferkd_status fk_pd_reorder(fk_dn *dn, fk_pd **out, const fk_md *src, const fk_md *dst)
{
    fk_pd *pd = NULL;

    TRY(fk_calloc(&pd, 1, sizeof *pd, "a reorder"));
    ferkd_status st = check(
        dnnl_reorder_primitive_desc_create(&pd->h, &src->d, dn->engine, &dst->d, dn->engine, NULL),
        "a reorder has no implementation");
    if (st != FERKD_OK)
        free(pd);
    else
        *out = pd;
    return st;
}

static const dnnl_memory_desc_t *query(dnnl_primitive_desc_t pd, fk_slot slot)
{
    return dnnl_primitive_desc_query_md(pd, SLOTS[slot].query, SLOTS[slot].index);
}

ferkd_status fk_pd_md(const fk_pd *pd, fk_slot slot, fk_md **out)
{
    const dnnl_memory_desc_t *d = query(pd->h, slot);
    fk_md *md = NULL;

    if (!d)
        return fk_fail(FERKD_BUG, "oneDNN has no layout for argument %d", (int)slot);
    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    md->d = *d;
    *out = md;
    return FERKD_OK;
}

size_t fk_pd_workspace_bytes(const fk_pd *pd)
{
    const dnnl_memory_desc_t *d = query(pd->h, FK_WORKSPACE);

    return d ? dnnl_memory_desc_get_size(d) : 0;
}

const char *fk_pd_impl(const fk_pd *pd)
{
    const char *text = NULL;

    (void)dnnl_primitive_desc_query(pd->h, dnnl_query_impl_info_str, 0, (void *)&text);
    return text ? text : "?";
}

void fk_pd_free(fk_pd *pd)
{
    if (!pd)
        return;
    if (pd->h)
        (void)dnnl_primitive_desc_destroy(pd->h);
    free(pd);
}

ferkd_status fk_prim_new(fk_dn *dn, fk_prim **out, const fk_pd *pd, const char *what)
{
    ferkd_status st = FERKD_OK;
    fk_prim *p = NULL;

    (void)dn;
    fk_trace("dnnl", "%s: %s", what, fk_pd_impl(pd));
    TRY(fk_calloc(&p, 1, sizeof *p, what));
    TRY_DONE(fk_strdup(&p->what, what));
    TRY_DONE(check(dnnl_primitive_desc_clone(&p->pd, pd->h), what));
    TRY_DONE(check(dnnl_primitive_create(&p->h, pd->h), what));
    *out = p;
    p = NULL;
done:
    fk_prim_free(p);
    return st;
}

void fk_prim_free(fk_prim *p)
{
    if (!p)
        return;
    for (size_t k = 0; k < p->n_sets; k++) {
        for (int i = 0; i < p->sets[k].n; i++)
            (void)dnnl_memory_destroy(p->sets[k].args[i].memory);
    }
    free(p->sets);
    if (p->pd)
        (void)dnnl_primitive_desc_destroy(p->pd);
    if (p->h)
        (void)dnnl_primitive_destroy(p->h);
    free(p->what);
    free(p);
}

/* Statistics, scales and shifts are vectors of one value a channel. */
static ferkd_status vector_md(const fk_prim *p, dnnl_memory_desc_t *d)
{
    const dnnl_memory_desc_t *src = query(p->pd, FK_SRC);

    return check(dnnl_memory_desc_init_by_tag(d, 1, &src->dims[1], dnnl_f32, dnnl_a), p->what);
}

ferkd_status fk_prim_bind(fk_dn *dn, fk_prim *p, fk_slot slot, void *bytes)
{
    return fk_prim_bind_set(dn, p, 0, slot, bytes);
}

ferkd_status fk_prim_bind_set(fk_dn *dn, fk_prim *p, int set, fk_slot slot, void *bytes)
{
    dnnl_memory_desc_t vector;
    const dnnl_memory_desc_t *d = &vector;
    dnnl_memory_t memory = NULL;

    if (SLOTS[slot].query == dnnl_query_undef)
        TRY(vector_md(p, &vector));
    else
        d = query(p->pd, slot);
    if (!d)
        return fk_fail(FERKD_BUG, "%s: no layout for argument %d", p->what, (int)slot);
    TRY(fk_grow(&p->sets, &p->cap_sets, (size_t)set + 1, sizeof *p->sets));
    for (; p->n_sets <= (size_t)set; p->n_sets++)
        p->sets[p->n_sets] = (arg_set){0};
    TRY(check(dnnl_memory_create(&memory, d, dn->engine, bytes), p->what));
    arg_set *to = &p->sets[set];
    to->args[to->n++] = (dnnl_exec_arg_t){SLOTS[slot].arg, memory};
    return FERKD_OK;
}

ferkd_status fk_prim_rebind(fk_prim *p, fk_slot slot, void *bytes)
{
    for (int i = 0; p->n_sets && i < p->sets[0].n; i++) {
        if (p->sets[0].args[i].arg == SLOTS[slot].arg)
            return check(dnnl_memory_set_data_handle(p->sets[0].args[i].memory, bytes), p->what);
    }
    return fk_fail(FERKD_BUG, "%s: argument %d is not bound", p->what, (int)slot);
}

ferkd_status fk_prim_run(fk_dn *dn, const fk_prim *p)
{
    return fk_prim_run_set(dn, p, 0);
}

ferkd_status fk_prim_run_set(fk_dn *dn, const fk_prim *p, int set)
{
    const arg_set *a = &p->sets[set];

    return check(dnnl_primitive_execute(p->h, dn->stream, a->n, a->args), p->what);
}
