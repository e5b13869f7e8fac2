/* Layouts and primitive descriptors of oneDNN 3.x: layouts are handles, descriptors are made in one call. It has no
 * Winograd. */
#include "engine/dnnl_inside.h"

#include "base/mem.h"

fk_raw_md fk_md_raw(const fk_md *md)
{
    return md->d;
}

/* A layout of our own for the handle d, which is ours from here on. */
static ferkd_status own(fk_md **out, dnnl_status_t s, dnnl_memory_desc_t d)
{
    fk_md *md = NULL;

    TRY(fk_dn_check(s, "a memory descriptor was refused"));
    ferkd_status st = fk_calloc(&md, 1, sizeof *md, "a memory descriptor");
    if (st != FERKD_OK) {
        (void)dnnl_memory_desc_destroy(d);
        return st;
    }
    md->d = d;
    *out = md;
    return FERKD_OK;
}

ferkd_status fk_md_from(fk_md **out, fk_raw_md raw)
{
    dnnl_memory_desc_t d = NULL;
    dnnl_status_t s = dnnl_memory_desc_clone(&d, raw);

    return own(out, s, d);
}

ferkd_status fk_md_strided(fk_md **out, int n, const int64_t *dims, const int64_t *strides)
{
    dnnl_memory_desc_t d = NULL;
    dnnl_status_t s = dnnl_memory_desc_create_with_strides(&d, n, dims, dnnl_f32, strides);

    return own(out, s, d);
}

ferkd_status fk_md_tagged(fk_md **out, const fk_shape *shape, dnnl_format_tag_t tag, bool half)
{
    dnnl_memory_desc_t d = NULL;
    dnnl_status_t s =
        dnnl_memory_desc_create_with_tag(&d, shape->n, shape->d, half ? dnnl_bf16 : dnnl_f32, tag);

    return own(out, s, d);
}

ferkd_status fk_md_copy(fk_md **out, const fk_md *md)
{
    return fk_md_from(out, md->d);
}

/* --- what a layout is ------------------------------------------------------------------------ */

typedef struct facts {
    int n, blocks;
    const dnnl_dims_t *dims, *padded, *strides, *block, *index;
    dnnl_format_kind_t kind;
    dnnl_data_type_t type;
    int64_t offset;
} facts;

static int whole(fk_raw_md d, dnnl_query_t what)
{
    int32_t v = 0;

    (void)dnnl_memory_desc_query(d, what, &v);
    return v;
}

static const dnnl_dims_t *list(fk_raw_md d, dnnl_query_t what)
{
    const dnnl_dims_t *v = NULL;

    (void)dnnl_memory_desc_query(d, what, (void *)&v);
    return v;
}

static facts facts_of(fk_raw_md d)
{
    facts f = {.n = whole(d, dnnl_query_ndims_s32), .dims = list(d, dnnl_query_dims)};

    (void)dnnl_memory_desc_query(d, dnnl_query_format_kind, &f.kind);
    (void)dnnl_memory_desc_query(d, dnnl_query_data_type, &f.type);
    (void)dnnl_memory_desc_query(d, dnnl_query_submemory_offset_s64, &f.offset);
    if (f.kind != dnnl_blocked)
        return f;
    f.blocks = whole(d, dnnl_query_inner_nblks_s32);
    f.padded = list(d, dnnl_query_padded_dims);
    f.strides = list(d, dnnl_query_strides);
    f.block = list(d, dnnl_query_inner_blks);
    f.index = list(d, dnnl_query_inner_idxs);
    return f;
}

fk_lay fk_md_lay(const fk_md *md)
{
    facts f = facts_of(md->d);
    if (f.n != 4 || f.kind != dnnl_blocked || f.offset != 0)
        return (fk_lay){0};
    const int64_t *s = *f.strides;
    const int64_t *dims = *f.dims;
    int64_t lanes = fk_last_lanes(dims[1]);
    bool blocked =
        f.blocks == 1 && (*f.index)[0] == 1 && ((*f.block)[0] == 8 || (*f.block)[0] == 16);
    bool last = f.blocks == 0 && s[1] == 1 && lanes > 0;
    if (blocked)
        lanes = (*f.block)[0];
    int64_t pixel = blocked ? lanes : dims[1];
    if ((!blocked && !last) || s[3] != pixel || s[2] != dims[3] * pixel)
        return (fk_lay){0};
    return (fk_lay){.lanes = (int)lanes,
                    .images = (size_t)dims[0],
                    .vectors = (size_t)((*f.padded)[1] / lanes),
                    .pixels = (size_t)(dims[2] * dims[3]),
                    .image = (size_t)s[0],
                    .vector = (size_t)(blocked ? s[1] : lanes),
                    .pixel = (size_t)pixel};
}

/* The same blocks and order with other elements: from strides alone, or by the tags that we use. */
ferkd_status fk_md_as(fk_md **out, const fk_md *md, bool half)
{
    facts f = facts_of(md->d);
    dnnl_data_type_t type = half ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t d = NULL;
    dnnl_status_t s;

    if (f.type == type)
        return fk_md_copy(out, md);
    if (f.kind == dnnl_blocked && f.blocks == 0)
        s = dnnl_memory_desc_create_with_strides(&d, f.n, *f.dims, type, *f.strides);
    else if (fk_md_lay(md).lanes)
        s = dnnl_memory_desc_create_with_tag(
            &d, f.n, *f.dims, type, fk_md_lay(md).lanes == 16 ? dnnl_nChw16c : dnnl_nChw8c);
    else
        s = dnnl_unimplemented;
    return own(out, s, d);
}

bool fk_md_half(const fk_md *md)
{
    return facts_of(md->d).type == dnnl_bf16;
}

void fk_md_free(fk_md *md)
{
    if (!md)
        return;
    (void)dnnl_memory_desc_destroy(md->d);
    free(md);
}

int64_t fk_dn_channels(fk_raw_md src)
{
    return (*list(src, dnnl_query_dims))[1];
}

/* --- what is fused --------------------------------------------------------------------------- */

dnnl_status_t fk_dn_append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

dnnl_status_t fk_dn_append_act(dnnl_post_ops_t ops, const fk_post *post)
{
    float a;
    float b;
    dnnl_alg_kind_t alg = fk_dn_act(post, &a, &b);

    return dnnl_post_ops_append_eltwise(ops, alg, a, b);
}

void fk_dn_hardswish(float *a, float *b)
{
    *a = 1.0f / 6.0f;
    *b = 0.5f;
}

/* --- primitive descriptors ------------------------------------------------------------------- */

/* A layout that oneDNN is to choose, or a copy of the one given. */
static ferkd_status any_or(fk_md **out, const fk_md *given, int n, const int64_t *dims, bool half)
{
    dnnl_memory_desc_t d = NULL;

    if (given)
        return fk_md_copy(out, given);
    dnnl_status_t s = dnnl_memory_desc_create_with_tag(&d, n, dims, half ? dnnl_bf16 : dnnl_f32,
                                                       dnnl_format_tag_any);
    return own(out, s, d);
}

static dnnl_prop_kind_t prop_of(fk_prop p)
{
    return p == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference;
}

static ferkd_status wrap(fk_pd **out, dnnl_status_t s, dnnl_primitive_desc_t h, const char *what)
{
    fk_pd *pd = NULL;

    TRY(fk_dn_check(s, what));
    ferkd_status st = fk_calloc(&pd, 1, sizeof *pd, what);
    if (st != FERKD_OK) {
        (void)dnnl_primitive_desc_destroy(h);
        return st;
    }
    pd->h = h;
    *out = pd;
    return FERKD_OK;
}

/* The layouts that a convolution or an inner product is made of. */
typedef struct operands {
    fk_md *src, *weights, *bias, *dst;
} operands;

static void free_operands(operands *o)
{
    fk_md_free(o->src);
    fk_md_free(o->weights);
    fk_md_free(o->bias);
    fk_md_free(o->dst);
}

static dnnl_status_t create_conv(fk_dn *dn, dnnl_primitive_desc_t *h, const fk_conv_args *a,
                                 const operands *o, dnnl_primitive_attr_t attr)
{
    const fk_window *w = &a->window;
    int64_t dilate[2] = {w->dilation[0] - 1, w->dilation[1] - 1};
    fk_raw_md bias = o->bias ? o->bias->d : NULL;
    const_dnnl_primitive_desc_t hint = a->forward ? a->forward->h : NULL;

    if (a->winograd)
        return dnnl_unimplemented;
    if (a->prop == FK_BACKWARD_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(
            h, dn->engine, dnnl_convolution_direct, o->src->d, o->weights->d, o->dst->d, w->stride,
            dilate, w->begin, w->end, hint, attr);
    if (a->prop == FK_BACKWARD_WEIGHTS)
        return dnnl_convolution_backward_weights_primitive_desc_create(
            h, dn->engine, dnnl_convolution_direct, o->src->d, o->weights->d, bias, o->dst->d,
            w->stride, dilate, w->begin, w->end, hint, attr);
    return dnnl_convolution_forward_primitive_desc_create(
        h, dn->engine, prop_of(a->prop), dnnl_convolution_direct, o->src->d, o->weights->d, bias,
        o->dst->d, w->stride, dilate, w->begin, w->end, attr);
}

ferkd_status fk_pd_conv(fk_dn *dn, fk_pd **out, const fk_conv_args *a)
{
    int64_t wdims[FK_MAX_DIMS];
    int n = fk_dn_grouped(&a->weights, a->groups, wdims);
    operands o = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t h = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(any_or(&o.src, a->src_md, 4, a->src.d, a->half));
    TRY_DONE(any_or(&o.dst, a->dst_md, 4, a->dst.d, a->half));
    TRY_DONE(any_or(&o.weights, NULL, n, wdims, a->half && a->prop != FK_BACKWARD_WEIGHTS));
    if (a->bias)
        TRY_DONE(any_or(&o.bias, NULL, 1, a->weights.d, false));
    TRY_DONE(fk_dn_attr(&attr, a->sum, &a->post));
    dnnl_status_t s = create_conv(dn, &h, a, &o, attr);
    st = wrap(out, s, h, "a convolution has no implementation");
done:
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    free_operands(&o);
    return st;
}

static dnnl_status_t create_dense(fk_dn *dn, dnnl_primitive_desc_t *h, const fk_dense_args *a,
                                  const operands *o)
{
    fk_raw_md bias = o->bias ? o->bias->d : NULL;
    const_dnnl_primitive_desc_t hint = a->forward ? a->forward->h : NULL;

    if (a->prop == FK_BACKWARD_DATA)
        return dnnl_inner_product_backward_data_primitive_desc_create(
            h, dn->engine, o->src->d, o->weights->d, o->dst->d, hint, NULL);
    if (a->prop == FK_BACKWARD_WEIGHTS)
        return dnnl_inner_product_backward_weights_primitive_desc_create(
            h, dn->engine, o->src->d, o->weights->d, bias, o->dst->d, hint, NULL);
    return dnnl_inner_product_forward_primitive_desc_create(
        h, dn->engine, prop_of(a->prop), o->src->d, o->weights->d, bias, o->dst->d, NULL);
}

ferkd_status fk_pd_dense(fk_dn *dn, fk_pd **out, const fk_dense_args *a)
{
    operands o = {0};
    dnnl_primitive_desc_t h = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_md_plain(&o.src, &a->src));
    TRY_DONE(fk_md_plain(&o.dst, &a->dst));
    TRY_DONE(any_or(&o.weights, NULL, 2, a->weights.d, false));
    if (a->bias)
        TRY_DONE(any_or(&o.bias, NULL, 1, a->weights.d, false));
    dnnl_status_t s = create_dense(dn, &h, a, &o);
    st = wrap(out, s, h, "an inner product has no implementation");
done:
    free_operands(&o);
    return st;
}

ferkd_status fk_pd_matmul(fk_dn *dn, fk_pd **out, const fk_matmul_args *a)
{
    dnnl_primitive_desc_t h = NULL;
    dnnl_primitive_attr_t attr = NULL;

    TRY(fk_dn_matmul_attr(&attr, a));
    dnnl_status_t s = dnnl_matmul_primitive_desc_create(
        &h, dn->engine, a->a->d, a->b->d, a->bias ? a->bias->d : NULL, a->dst->d, attr);
    (void)dnnl_primitive_attr_destroy(attr);
    return wrap(out, s, h, "a matmul has no implementation");
}

bool fk_norm_gradient_wants_shift(void)
{
    return false;
}

ferkd_status fk_pd_norm(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md, float eps, bool relu,
                        fk_pd *forward)
{
    unsigned flags = dnnl_use_scale | dnnl_use_shift;
    dnnl_primitive_desc_t h = NULL;
    dnnl_status_t s;

    if (relu)
        flags |= dnnl_fuse_norm_relu;
    if (prop == FK_INFERENCE)
        flags |= dnnl_use_global_stats;
    if (prop == FK_BACKWARD_DATA)
        s = dnnl_batch_normalization_backward_primitive_desc_create(
            &h, dn->engine, dnnl_backward, md->d, md->d, md->d, eps, flags, forward->h, NULL);
    else
        s = dnnl_batch_normalization_forward_primitive_desc_create(&h, dn->engine, prop_of(prop),
                                                                   md->d, md->d, eps, flags, NULL);
    return wrap(out, s, h, "a batch normalisation has no implementation");
}

ferkd_status fk_pd_pool(fk_dn *dn, fk_pd **out, const fk_pool_args *a)
{
    const fk_window *w = &a->window;
    int64_t dilate[2] = {w->dilation[0] - 1, w->dilation[1] - 1};
    dnnl_alg_kind_t alg = a->max           ? dnnl_pooling_max
                          : a->include_pad ? dnnl_pooling_avg_include_padding
                                           : dnnl_pooling_avg_exclude_padding;
    dnnl_primitive_desc_t h = NULL;
    fk_md *dst = NULL;
    dnnl_status_t s;

    TRY(any_or(&dst, a->dst_md, 4, a->dst.d, fk_md_half(a->src_md)));
    if (a->prop == FK_BACKWARD_DATA)
        s = dnnl_pooling_backward_primitive_desc_create(&h, dn->engine, alg, a->src_md->d, dst->d,
                                                        w->stride, w->kernel, dilate, w->begin,
                                                        w->end, a->forward->h, NULL);
    else
        s = dnnl_pooling_forward_primitive_desc_create(&h, dn->engine, prop_of(a->prop), alg,
                                                       a->src_md->d, dst->d, w->stride, w->kernel,
                                                       dilate, w->begin, w->end, NULL);
    fk_md_free(dst);
    return wrap(out, s, h, "a pooling has no implementation");
}

ferkd_status fk_pd_act(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md, const fk_post *act,
                       fk_pd *forward)
{
    dnnl_primitive_desc_t h = NULL;
    dnnl_status_t s;
    float a;
    float b;
    dnnl_alg_kind_t alg = fk_dn_act(act, &a, &b);

    if (prop == FK_BACKWARD_DATA)
        s = dnnl_eltwise_backward_primitive_desc_create(&h, dn->engine, alg, md->d, md->d, md->d, a,
                                                        b, forward->h, NULL);
    else
        s = dnnl_eltwise_forward_primitive_desc_create(&h, dn->engine, prop_of(prop), alg, md->d,
                                                       md->d, a, b, NULL);
    return wrap(out, s, h, "an activation has no implementation");
}

ferkd_status fk_pd_reorder(fk_dn *dn, fk_pd **out, const fk_md *src, const fk_md *dst)
{
    dnnl_primitive_desc_t h = NULL;
    dnnl_status_t s =
        dnnl_reorder_primitive_desc_create(&h, src->d, dn->engine, dst->d, dn->engine, NULL);

    return wrap(out, s, h, "a reorder has no implementation");
}
