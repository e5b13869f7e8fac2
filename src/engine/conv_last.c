/* The gradient of a 1x1 convolution's weights in slices of the batch, in bf16 with channels last: by oneDNN's product or our own sums of
 * outer products, whichever is faster for a slice. */
#include "base/compat.h"

#include "engine/conv_slice.h"

static size_t weights_of(const fk_plan *p, const fk_step *s)
{
    return p->g->params[s->node->param[0]].count;
}

static float *gradient_of(const fk_plan *p, const fk_step *s)
{
    return p->grads + p->g->params[s->node->param[0]].offset;
}

static size_t parts_of(const fk_plan *p, const fk_step *s)
{
    return s->buffers[FK_CONV_DIFF_WEIGHTS] >= 0 ? p->threads : 1;
}

/* Where the products of slices are added up: in parts, or in the gradient itself. */
static float *sum_of(const fk_plan *p, const fk_step *s)
{
    int parts = s->buffers[FK_CONV_DIFF_WEIGHTS];

    return parts >= 0 ? fk_buffer_at(p, parts) : gradient_of(p, s);
}

/* --- compiling ------------------------------------------------------------------------------- */

static ferkd_status compile_product(fk_plan *p, fk_step *s, const fk_conv_args *a, int role)
{
    size_t parts = fk_weights_parts(a, p->threads);
    size_t bytes = parts * weights_of(p, s) * sizeof(float);
    fk_md *md = NULL;
    fk_pd *pd = NULL;

    TRY(fk_pd_weights_product(p->dn, a, parts, &pd, &md));
    fk_md_free(md);
    TRY(fk_step_prim(p, s, role, pd, "convolution, weight gradient of", NULL, 0));
    if (parts > 1)
        TRY(fk_step_buffer(p, s, FK_CONV_DIFF_WEIGHTS, bytes, FK_LIFE_BACKWARD));
    return fk_slices(p, s) > 1 ? fk_step_buffer(p, s, FK_CONV_DIFF_SLICE, bytes, FK_LIFE_BACKWARD)
                               : FERKD_OK;
}

ferkd_status fk_compile_last_weights(fk_plan *p, fk_step *s, fk_conv_args *a, int product)
{
    bool own = false;

    a->prop = FK_BACKWARD_WEIGHTS;
    TRY(fk_outer_wins(p, a, &own));
    return own ? fk_step_buffer(p, s, FK_CONV_SUMS, fk_outer_bytes(p, &a->src, &a->dst),
                                FK_LIFE_BACKWARD)
               : compile_product(p, s, a, product);
}

ferkd_status fk_bind_last_weights(fk_plan *p, fk_step *s, int product)
{
    fk_prim *prim = s->prims[product].prim;

    for (uint32_t k = 0; prim && k < fk_slices(p, s); k++) {
        int set = (int)k;
        void *to = k ? fk_buffer_at(p, s->buffers[FK_CONV_DIFF_SLICE]) : sum_of(p, s);
        TRY(fk_prim_bind_set(p->dn, prim, set, FK_SRC, fk_slice_gradient(p, s, k).data));
        TRY(fk_prim_bind_set(p->dn, prim, set, FK_WEIGHTS,
                             fk_slice_input(p, s, FK_CONV_X_BACK, k).data));
        TRY(fk_prim_bind_set(p->dn, prim, set, FK_DST, to));
    }
    return FERKD_OK;
}

/* --- running --------------------------------------------------------------------------------- */

static fk_shape of_slice(const fk_step *s, fk_shape all)
{
    all.d[0] = s->slice_images;
    return all;
}

ferkd_status fk_last_weights(fk_plan *p, fk_step *s, int product, uint32_t k)
{
    if (s->buffers[FK_CONV_SUMS] < 0) {
        TRY(fk_prim_run_set(p->dn, s->prims[product].prim, (int)k));
        if (k == 0)
            return FERKD_OK;
        fk_operand sum = {sum_of(p, s), false};
        fk_operand more = fk_buffer_operand(p, s->buffers[FK_CONV_DIFF_SLICE], false);
        fk_add(sum, sum, more, parts_of(p, s) * weights_of(p, s));
        return FERKD_OK;
    }
    fk_shape src = of_slice(s, p->tensors[s->in[0]].shape);
    fk_shape dst = of_slice(s, s->node->shape);
    fk_outer_values z = {&src, &dst, fk_slice_input(p, s, FK_CONV_X_BACK, k).data,
                         fk_slice_gradient(p, s, k).data};
    fk_outer_sums(p, &z, k > 0, fk_buffer_at(p, s->buffers[FK_CONV_SUMS]));
    return FERKD_OK;
}

void fk_finish_last_weights(fk_plan *p, const fk_step *s)
{
    fk_outer_values z = {&p->tensors[s->in[0]].shape, &s->node->shape, NULL, NULL};

    if (s->buffers[FK_CONV_SUMS] >= 0)
        fk_outer_collect(p, &z, fk_buffer_at(p, s->buffers[FK_CONV_SUMS]), gradient_of(p, s));
    if (s->buffers[FK_CONV_DIFF_WEIGHTS] >= 0)
        fk_add_parts(p, s->node->param[0], sum_of(p, s), weights_of(p, s), parts_of(p, s));
}
