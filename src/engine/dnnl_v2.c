/* Layouts and primitive descriptors of oneDNN 2.x. */
#include "engine/dnnl_inside.h"

#include "base/mem.h"

fk_raw_md fk_md_raw(const fk_md *md)
{
    return &md->d;
}

ferkd_status fk_md_from(fk_md **out, fk_raw_md raw)
{
    fk_md *md = NULL;

    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    md->d = *raw;
    *out = md;
    return FERKD_OK;
}

ferkd_status fk_md_strided(fk_md **out, int n, const int64_t *dims, const int64_t *strides)
{
    fk_md *md = NULL;

    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    ferkd_status st =
        fk_dn_check(dnnl_memory_desc_init_by_strides(&md->d, n, dims, dnnl_f32, strides),
                    "a memory descriptor was refused");
    if (st != FERKD_OK)
        free(md);
    else
        *out = md;
    return st;
}

ferkd_status fk_md_copy(fk_md **out, const fk_md *md)
{
    return fk_md_from(out, &md->d);
}

ferkd_status fk_md_as(fk_md **out, const fk_md *md, bool half)
{
    TRY(fk_md_copy(out, md));
    (*out)->d.data_type = half ? dnnl_bf16 : dnnl_f32;
    return FERKD_OK;
}

ferkd_status fk_md_tagged(fk_md **out, const fk_shape *shape, dnnl_format_tag_t tag, bool half)
{
    fk_md *md = NULL;

    TRY(fk_calloc(&md, 1, sizeof *md, "a memory descriptor"));
    ferkd_status st = fk_dn_check(
        dnnl_memory_desc_init_by_tag(&md->d, shape->n, shape->d, half ? dnnl_bf16 : dnnl_f32, tag),
        "a memory descriptor was refused");
    if (st != FERKD_OK)
        free(md);
    else
        *out = md;
    return st;
}

fk_lay fk_md_lay(const fk_md *md)
{
    const dnnl_memory_desc_t *d = &md->d;
    const dnnl_blocking_desc_t *b = &d->format_desc.blocking;
    const int64_t *s = b->strides;
    int64_t lanes = fk_last_lanes(d->dims[1]);
    fk_lay lay = {0};

    if (d->ndims != 4 || d->format_kind != dnnl_blocked || d->offset0 != 0)
        return lay;
    bool blocked = b->inner_nblks == 1 && b->inner_idxs[0] == 1 &&
                   (b->inner_blks[0] == 8 || b->inner_blks[0] == 16);
    bool last = b->inner_nblks == 0 && s[1] == 1 && lanes > 0;
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

int64_t fk_dn_channels(fk_raw_md src)
{
    return src->dims[1];
}

dnnl_status_t fk_dn_append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

dnnl_status_t fk_dn_append_act(dnnl_post_ops_t ops, const fk_post *post)
{
    float a;
    float b;
    dnnl_alg_kind_t alg = fk_dn_act(post, &a, &b);

    return dnnl_post_ops_append_eltwise(ops, 1.0f, alg, a, b);
}

void fk_dn_hardswish(float *a, float *b)
{
    *a = *b = 0.0f;
}

/* A layout that oneDNN is to choose, or the one given. */
static ferkd_status md_any(dnnl_memory_desc_t *d, const fk_md *given, int n, const int64_t *dims,
                           bool half)
{
    if (given) {
        *d = given->d;
        return FERKD_OK;
    }
    return fk_dn_check(
        dnnl_memory_desc_init_by_tag(d, n, dims, half ? dnnl_bf16 : dnnl_f32, dnnl_format_tag_any),
        "a memory descriptor was refused");
}

/* Is the output's image three tiles of matrix rows large? */
static bool has_three_tiles(const_dnnl_primitive_desc_t h)
{
    const dnnl_memory_desc_t *dst = dnnl_primitive_desc_query_md(h, dnnl_query_dst_md, 0);
    int64_t pixels = dst && dst->ndims == 4 ? dst->dims[2] * dst->dims[3] : 0;

    return pixels > 24 && pixels <= 48 && pixels % 3 == 0;
}

/* Two faults of oneDNN 2.6 with matrix tiles. It reads behind its own memory while it makes some `brgconv` kernels (seen under
 * AddressSanitizer: 3x3, 16 to 32 channels), which may end the program. And its `jit_1x1` writes a tile behind the output where
 * an image is three tiles large (of all images up to 33 x 40 pixels these and no others). Its other kernels are as fast or nearly. */
static bool is_unsound(const_dnnl_primitive_desc_t h)
{
    const char *name = NULL;

    if (dnnl_primitive_desc_query(h, dnnl_query_impl_info_str, 0, (void *)&name) != dnnl_success ||
        !name || !strstr(name, "amx"))
        return false;
    return strncmp(name, "brgconv", 7) == 0 ||
           (strncmp(name, "jit_1x1", 7) == 0 && has_three_tiles(h));
}

/* The first implementation that is sound, or else the first. */
static dnnl_status_t create_sound(dnnl_primitive_desc_t *out, const void *desc,
                                  const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                  const_dnnl_primitive_desc_t hint)
{
    dnnl_primitive_desc_iterator_t it = NULL;
    dnnl_status_t s = dnnl_primitive_desc_create(out, desc, attr, engine, hint);

    if (s != dnnl_success || !is_unsound(*out) ||
        dnnl_primitive_desc_iterator_create(&it, desc, attr, engine, hint) != dnnl_success)
        return s;
    do {
        dnnl_primitive_desc_t other = dnnl_primitive_desc_iterator_fetch(it);
        if (other && !is_unsound(other)) {
            (void)dnnl_primitive_desc_destroy(*out);
            *out = other;
            break;
        }
        (void)dnnl_primitive_desc_destroy(other);
    } while (dnnl_primitive_desc_iterator_next(it) == dnnl_success);
    (void)dnnl_primitive_desc_iterator_destroy(it);
    return dnnl_success;
}

static ferkd_status make_pd_with(fk_dn *dn, fk_pd **out, const void *desc,
                                 const_dnnl_primitive_attr_t attr, const fk_pd *hint,
                                 const char *what)
{
    fk_pd *pd = NULL;

    TRY(fk_calloc(&pd, 1, sizeof *pd, what));
    ferkd_status st =
        fk_dn_check(create_sound(&pd->h, desc, attr, dn->engine, hint ? hint->h : NULL), what);
    if (st != FERKD_OK)
        free(pd);
    else
        *out = pd;
    return st;
}

static ferkd_status make_pd(fk_dn *dn, fk_pd **out, const void *desc, bool sum, const fk_post *post,
                            const fk_pd *hint, const char *what)
{
    dnnl_primitive_attr_t attr = NULL;

    TRY(fk_dn_attr(&attr, sum, post));
    ferkd_status st = make_pd_with(dn, out, desc, attr, hint, what);
    (void)dnnl_primitive_attr_destroy(attr);
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
    int n = fk_dn_grouped(&a->weights, a->groups, wdims);
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
    TRY(fk_dn_check(s, "a convolution was refused"));
    return make_pd(dn, out, &d, a->sum, &a->post, a->forward,
                   "a convolution has no implementation");
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
    TRY(fk_dn_check(s, "an inner product was refused"));
    return make_pd(dn, out, &d, false, NULL, a->forward, "an inner product has no implementation");
}

ferkd_status fk_pd_matmul(fk_dn *dn, fk_pd **out, const fk_matmul_args *a)
{
    dnnl_matmul_desc_t d;
    dnnl_primitive_attr_t attr = NULL;

    TRY(fk_dn_check(
        dnnl_matmul_desc_init(&d, &a->a->d, &a->b->d, a->bias ? &a->bias->d : NULL, &a->dst->d),
        "a matmul was refused"));
    TRY(fk_dn_matmul_attr(&attr, a));
    ferkd_status st = make_pd_with(dn, out, &d, attr, NULL, "a matmul has no implementation");
    (void)dnnl_primitive_attr_destroy(attr);
    return st;
}

bool fk_norm_gradient_wants_shift(void)
{
    return true;
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
    TRY(fk_dn_check(s, "a batch normalisation was refused"));
    return make_pd(dn, out, &d, false, NULL, forward,
                   "a batch normalisation has no implementation");
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
    TRY(fk_dn_check(s, "a pooling was refused"));
    return make_pd(dn, out, &d, false, NULL, a->forward, "a pooling has no implementation");
}

ferkd_status fk_pd_act(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md, const fk_post *act,
                       fk_pd *forward)
{
    dnnl_eltwise_desc_t d;
    dnnl_status_t s;
    float a;
    float b;
    dnnl_alg_kind_t alg = fk_dn_act(act, &a, &b);

    if (prop == FK_BACKWARD_DATA)
        s = dnnl_eltwise_backward_desc_init(&d, alg, &md->d, &md->d, a, b);
    else
        s = dnnl_eltwise_forward_desc_init(
            &d, prop == FK_TRAINING ? dnnl_forward_training : dnnl_forward_inference, alg, &md->d,
            a, b);
    TRY(fk_dn_check(s, "an activation was refused"));
    return make_pd(dn, out, &d, false, NULL, forward, "an activation has no implementation");
}

ferkd_status fk_pd_reorder(fk_dn *dn, fk_pd **out, const fk_md *src, const fk_md *dst)
{
    fk_pd *pd = NULL;

    TRY(fk_calloc(&pd, 1, sizeof *pd, "a reorder"));
    ferkd_status st = fk_dn_check(
        dnnl_reorder_primitive_desc_create(&pd->h, &src->d, dn->engine, &dst->d, dn->engine, NULL),
        "a reorder has no implementation");
    if (st != FERKD_OK)
        free(pd);
    else
        *out = pd;
    return st;
}
