/* Convolution in training, a few images at a time. A slice of the batch is small enough to stay in the caches, so
 * what stands around the convolution is done on it there, and never goes through memory:
 *   - the BatchNorm and activation before it (left to us by op_norm.c) are worked out from their input;
 *   - the moments for the BatchNorm behind it are taken from its output;
 *   - backward, the gradient of that output is worked out from the BatchNorm behind, and the activation and sums
 *     of the one before are done on the gradient of the input;
 *   - values are stored in bf16 and multiplied in f32, or the other way round, by conversion on the way.
 * All layouts are vectors of channels; an image of few channels is row-major. Products in bf16 want channels last: there only 1x1
 * convolutions are done so, and the gradient of their weights is a product, too (conv_last.c). */
#include "base/compat.h"

#include "engine/conv_slice.h"

#include <omp.h>

#include "base/mem.h"
#include "engine/tune.h"

enum { RUN, LOAD_WEIGHTS, RUN_DATA, RUN_WEIGHTS, STORE_WEIGHTS, LOAD_DATA_WEIGHTS };

/* Of input and output, for each thread: what its second-level cache holds. With channels last twice as much was faster. */
#define SLICE_BYTES ((size_t)2400 << 10)

/* --- slices ---------------------------------------------------------------------------------- */

/* Products in bf16 work on channels last; see plan.c. */
static bool is_last(const fk_plan *p)
{
    return p->o.layout == FK_LAYOUT_LAST;
}

static size_t floats_of(const fk_shape *s)
{
    return (size_t)fk_shape_count(s);
}

/* How many images at a time: as many as fit in the caches, a divisor of the batch. But the gradients of the weights
 * have to be added up for each slice, which must not cost more than it wins; and Winograd's transforms of the
 * weights are done for each slice, so convolutions larger than 1x1 are left whole. */
static uint32_t images_of(const fk_plan *p, const fk_node *n)
{
    const fk_shape *in = &p->g->nodes[n->in[0]].shape;
    uint32_t batch = (uint32_t)in->d[0];
    uint32_t threads = (uint32_t)omp_get_max_threads();
    size_t size = p->half_conv ? sizeof(uint16_t) : sizeof(float);
    size_t all = (floats_of(in) + floats_of(&n->shape)) * size;
    size_t weights = p->g->params[n->param[0]].count * sizeof(float);
    uint32_t images = batch;

    size_t room = threads * (p->o.slice_bytes ? p->o.slice_bytes : SLICE_BYTES * (is_last(p) + 1));
    size_t least = p->o.slice_bytes ? 0 : weights; /* of a slice, or the sums would cost too much */
    size_t parts[2] = {1, 1};                      /* images that have to stay together */

    if (n->param[1] >= 0 || n->u.conv.window.kernel[0] * n->u.conv.window.kernel[1] > 1)
        return batch;
    if (is_last(p)) {
        parts[0] = fk_images_a_part(batch, floats_of(in) / batch);
        parts[1] = fk_images_a_part(batch, floats_of(&n->shape) / batch);
    }
    while (images % 2 == 0 && images / 2 >= threads && images / 2 % parts[0] == 0 &&
           images / 2 % parts[1] == 0 && all / batch * images > room &&
           (size_t)(batch / (images / 2)) * least <= all / 4)
        images /= 2;
    return images;
}

fk_conv_args fk_training_conv(const fk_plan *p, const fk_node *n)
{
    return (fk_conv_args){.prop = FK_TRAINING,
                          .src = p->g->nodes[n->in[0]].shape,
                          .weights = p->g->params[n->param[0]].shape,
                          .dst = n->shape,
                          .bias = n->param[1] >= 0,
                          .groups = n->u.conv.groups,
                          .window = n->u.conv.window,
                          .half = p->half_conv};
}

static void slice_args(const fk_plan *p, const fk_node *n, fk_conv_args *a)
{
    *a = fk_training_conv(p, n);
    a->src.d[0] = a->dst.d[0] = images_of(p, n);
}

/* The network's input, or what else of few channels wants no gradient: a squeezed vector may have as few, but oneDNN
 * has no kernel for its gradient in row-major bf16. */
static bool is_picture(const fk_plan *p, const fk_node *n)
{
    int tensor = p->tensor_of[n->in[0]];

    return tensor >= 0 && p->g->nodes[n->in[0]].shape.d[1] <= 4 && !p->tensors[tensor].needs_grad;
}

/* The layouts of a slice. */
static ferkd_status slice_layouts(const fk_plan *p, const fk_conv_args *a, bool picture,
                                  fk_md **src, fk_md **dst)
{
    fk_md *plain = NULL;

    *src = *dst = NULL;
    if (is_last(p)) {
        TRY(fk_md_last(src, &a->src, a->half));
    } else if (picture) {
        TRY(fk_md_plain(&plain, &a->src));
        ferkd_status st = fk_md_as(src, plain, a->half);
        fk_md_free(plain);
        TRY(st);
    } else {
        TRY(fk_md_lanes(src, &a->src, fk_dn_lanes(), a->half));
    }
    ferkd_status st = is_last(p) ? fk_md_last(dst, &a->dst, a->half)
                                 : fk_md_lanes(dst, &a->dst, fk_dn_lanes(), a->half);
    if (st != FERKD_OK) {
        fk_md_free(*src);
        *src = NULL;
    }
    return st;
}

/* The primitives of all directions; false if one is missing or is reference code. */
static bool choose_all(fk_plan *p, fk_conv_args *a, bool needs_data, fk_pd *pds[3])
{
    static const fk_prop PROPS[] = {FK_TRAINING, FK_BACKWARD_WEIGHTS, FK_BACKWARD_DATA};
    bool bias = a->bias;

    for (int i = 0; i < (needs_data ? 3 : 2); i++) {
        if (is_last(p) && PROPS[i] == FK_BACKWARD_WEIGHTS)
            continue; /* a product */
        a->prop = PROPS[i];
        a->bias = bias && PROPS[i] != FK_BACKWARD_DATA;
        a->forward = i ? pds[0] : NULL;
        if (fk_choose_conv(p, &pds[i], a) != FERKD_OK || strstr(fk_pd_impl(pds[i]), "ref"))
            return false;
    }
    a->bias = bias;
    return true;
}

/* Is it one of the convolutions that are done in slices in this layout? */
static bool suits(const fk_plan *p, const fk_node *n)
{
    const fk_shape *in = &p->g->nodes[n->in[0]].shape;
    fk_conv_args a = fk_training_conv(p, n);
    int lanes = fk_dn_lanes();

    if (!p->o.train || in->n != 4)
        return false;
    if (is_last(p))
        return p->half_conv && !a.bias && fk_conv_is_pointwise(&a) && in->d[2] * in->d[3] > 1 &&
               fk_last_lanes(in->d[1]) && fk_last_lanes(n->shape.d[1]);
    return fk_conv_scratch(p, n) <= p->g->params[n->param[0]].count && n->shape.d[1] >= lanes &&
           (in->d[1] >= lanes || is_picture(p, n));
}

bool fk_is_sliced_conv(fk_plan *p, const fk_node *n)
{
    fk_conv_args a;
    fk_pd *pds[3] = {NULL, NULL, NULL};
    fk_md *src = NULL;
    fk_md *dst = NULL;
    ptrdiff_t id = n - p->g->nodes;

    if (!suits(p, n))
        return false;
    bool picture = is_picture(p, n);
    if (p->sliced[id])
        return p->sliced[id] > 0;
    slice_args(p, n, &a);
    bool own = fk_conv_suits_winograd(p, &a);
    if (own && fk_conv_winograd_wins(p, &a, &own) != FERKD_OK)
        own = false;
    bool can = !own && slice_layouts(p, &a, picture, &src, &dst) == FERKD_OK;
    a.src_md = src;
    a.dst_md = dst;
    can = can && (fk_conv_suits_tiles(p, &a) || choose_all(p, &a, !picture, pds));
    p->sliced[id] = can ? 1 : -1;
    for (int i = 0; i < 3; i++)
        fk_pd_free(pds[i]);
    fk_md_free(src);
    fk_md_free(dst);
    return can;
}

/* --- running --------------------------------------------------------------------------------- */

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    if (fk_conv_on_tiles(s)) {
        fk_conv_tiles_refresh(p, s);
        return FERKD_OK;
    }
    if (s->rows_at_once && !is_last(p)) {
        fk_conv_pointwise_refresh(p, s);
        return FERKD_OK;
    }
    TRY(fk_run(p, s, LOAD_WEIGHTS));
    return s->prims[LOAD_DATA_WEIGHTS].prim ? fk_run(p, s, LOAD_DATA_WEIGHTS) : FERKD_OK;
}

static void run_on_tiles(const fk_plan *p, const fk_step *s, int role, uint32_t k)
{
    if (role == RUN)
        fk_conv_tiles_forward(p, s, k);
    else if (role == RUN_DATA)
        fk_conv_tiles_data(p, s, k);
    else
        fk_conv_tiles_weights(p, s, k);
}

static ferkd_status run_slice(fk_plan *p, fk_step *s, int role, uint32_t k)
{
    double start = p->o.profile ? fk_now_s() : 0.0;

    if (fk_conv_on_tiles(s))
        run_on_tiles(p, s, role, k);
    else if (is_last(p) && role == RUN_WEIGHTS)
        TRY(fk_last_weights(p, s, RUN_WEIGHTS, k));
    else
        TRY(fk_prim_run_set(p->dn, s->prims[role].prim, (int)k));
    if (p->o.profile)
        s->inner_s += fk_now_s() - start;
    return FERKD_OK;
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    if (s->rows_at_once)
        return is_last(p) ? fk_conv_rows_forward(p, s) : fk_conv_pointwise_forward(p, s);
    const fk_step *behind = p->redoing ? NULL : fk_slice_norm_behind(p, s);

    if (behind)
        fk_norm_begin_moments(p, behind);
    for (uint32_t k = 0; k < fk_slices(p, s); k++) {
        fk_slice_load_input(p, s, FK_CONV_X, k);
        TRY(run_slice(p, s, RUN, k));
        fk_slice_store_output(p, s, k);
    }
    return FERKD_OK;
}

/* Each slice has its gradient of the weights; the first one writes where the sum is. */
static ferkd_status weight_gradient(fk_plan *p, fk_step *s, uint32_t k)
{
    TRY(run_slice(p, s, RUN_WEIGHTS, k));
    if (k > 0 && !fk_conv_on_tiles(s) && !is_last(p)) {
        fk_operand sum = fk_buffer_operand(p, s->buffers[FK_CONV_DIFF_WEIGHTS], false);
        fk_operand more = fk_buffer_operand(p, s->buffers[FK_CONV_DIFF_SLICE], false);
        fk_add(sum, sum, more, p->buffers[s->buffers[FK_CONV_DIFF_SLICE]].bytes / sizeof(float));
    }
    return FERKD_OK;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    if (s->rows_at_once)
        return is_last(p) ? fk_conv_rows_backward(p, s) : fk_conv_pointwise_backward(p, s);
    const fk_step *before = fk_slice_norm_before(p, s);
    bool data = fk_wants_din(p, s, 0);

    if (before)
        fk_norm_begin_sums(p, before);
    for (uint32_t k = 0; k < fk_slices(p, s); k++) {
        fk_slice_load_input(p, s, FK_CONV_X_BACK, k);
        fk_slice_load_gradient(p, s, k);
        TRY(weight_gradient(p, s, k));
        if (data) {
            TRY(run_slice(p, s, RUN_DATA, k));
            fk_slice_store_din(p, s, k);
        }
    }
    if (is_last(p))
        fk_finish_last_weights(p, s);
    return fk_conv_on_tiles(s) || is_last(p) ? FERKD_OK : fk_run(p, s, STORE_WEIGHTS);
}

static ferkd_status bind_weights(fk_plan *p, fk_step *s, uint32_t k)
{
    int bias = s->node->param[1];
    fk_prim *back = s->prims[RUN_WEIGHTS].prim;
    int dw = s->buffers[k ? FK_CONV_DIFF_SLICE : FK_CONV_DIFF_WEIGHTS];
    int set = (int)k;

    TRY(fk_prim_bind_set(p->dn, back, set, FK_SRC, fk_slice_input(p, s, FK_CONV_X_BACK, k).data));
    TRY(fk_prim_bind_set(p->dn, back, set, FK_DIFF_DST, fk_slice_gradient(p, s, k).data));
    TRY(fk_prim_bind_set(p->dn, back, set, FK_DIFF_WEIGHTS, fk_buffer_at(p, dw)));
    return bias < 0 ? FERKD_OK
                    : fk_prim_bind_set(p->dn, back, set, FK_DIFF_BIASES,
                                       p->grads + p->g->params[bias].offset);
}

/* Every slice binds its own memory, once. */
static ferkd_status bind(fk_plan *p, fk_step *s)
{
    if (fk_conv_on_tiles(s) || s->rows_at_once)
        return FERKD_OK;
    int bias = s->node->param[1];
    void *weights = fk_buffer_at(p, s->buffers[FK_CONV_WEIGHTS]);

    for (uint32_t k = 0; k < fk_slices(p, s); k++) {
        int set = (int)k;
        fk_prim *run = s->prims[RUN].prim;
        TRY(fk_prim_bind_set(p->dn, run, set, FK_SRC, fk_slice_input(p, s, FK_CONV_X, k).data));
        TRY(fk_prim_bind_set(p->dn, run, set, FK_WEIGHTS, weights));
        TRY(fk_prim_bind_set(p->dn, run, set, FK_DST, fk_slice_output(p, s, k).data));
        if (bias >= 0)
            TRY(fk_prim_bind_set(p->dn, run, set, FK_BIASES, fk_graph_values(p->g, bias)));
        if (!is_last(p))
            TRY(bind_weights(p, s, k));
        fk_prim *data = s->prims[RUN_DATA].prim;
        if (!data)
            continue;
        int dw_in = s->buffers[FK_CONV_DATA_WEIGHTS] >= 0 ? FK_CONV_DATA_WEIGHTS : FK_CONV_WEIGHTS;
        TRY(fk_prim_bind_set(p->dn, data, set, FK_DIFF_DST, fk_slice_gradient(p, s, k).data));
        TRY(fk_prim_bind_set(p->dn, data, set, FK_WEIGHTS, fk_buffer_at(p, s->buffers[dw_in])));
        TRY(fk_prim_bind_set(p->dn, data, set, FK_DIFF_SRC, fk_slice_din(p, s, k).data));
    }
    return is_last(p) ? fk_bind_last_weights(p, s, RUN_WEIGHTS) : FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

/* A reorder between the parameter (or its gradient) and the layout that pd has for `slot`. */
static ferkd_status convert_weights(fk_plan *p, fk_step *s, const fk_pd *pd, fk_slot slot,
                                    int buffer, int role)
{
    bool store = role == STORE_WEIGHTS;
    int param = s->node->param[0];
    fk_md *md = NULL;
    fk_md *plain = NULL;
    fk_pd *reorder = NULL;
    fk_ref values = {store ? FK_REF_GRADS : FK_REF_VALUES, param};
    fk_ref mine = {FK_REF_BUFFER, buffer};
    ferkd_status st = FERKD_OK;

    TRY(fk_pd_md(pd, slot, &md));
    TRY_DONE(fk_md_weights(&plain, &p->g->params[param].shape, s->node->u.conv.groups));
    TRY_DONE(
        fk_step_buffer(p, s, buffer, fk_md_bytes(md), store ? FK_LIFE_BACKWARD : FK_LIFE_ALWAYS));
    TRY_DONE(store ? fk_pd_reorder(p->dn, &reorder, md, plain)
                   : fk_pd_reorder(p->dn, &reorder, plain, md));
    TRY_DONE(fk_step_prim(
        p, s, role, reorder, "convert weights",
        (fk_arg[]){{FK_SRC, store ? mine : values}, {FK_DST, store ? values : mine}}, 2));
done:
    fk_md_free(md);
    fk_md_free(plain);
    return st;
}

static ferkd_status compile_weights(fk_plan *p, fk_step *s, fk_pd *const pds[3])
{
    fk_md *here = NULL;
    fk_md *there = NULL;
    ferkd_status st = FERKD_OK;

    TRY(convert_weights(p, s, pds[0], FK_WEIGHTS, FK_CONV_WEIGHTS, LOAD_WEIGHTS));
    if (!is_last(p))
        TRY(convert_weights(p, s, pds[1], FK_DIFF_WEIGHTS, FK_CONV_DIFF_WEIGHTS, STORE_WEIGHTS));
    if (!is_last(p) && fk_slices(p, s) > 1)
        TRY(fk_step_buffer(p, s, FK_CONV_DIFF_SLICE,
                           p->buffers[s->buffers[FK_CONV_DIFF_WEIGHTS]].bytes, FK_LIFE_BACKWARD));
    if (!pds[2])
        return FERKD_OK;
    TRY(fk_pd_md(pds[0], FK_WEIGHTS, &here));
    TRY_DONE(fk_pd_md(pds[2], FK_WEIGHTS, &there));
    if (!fk_md_equal(here, there))
        TRY_DONE(
            convert_weights(p, s, pds[2], FK_WEIGHTS, FK_CONV_DATA_WEIGHTS, LOAD_DATA_WEIGHTS));
done:
    fk_md_free(here);
    fk_md_free(there);
    return st;
}

/* Scratch, where a slice is not read or written as it is stored. */
static ferkd_status compile_scratch(fk_plan *p, fk_step *s, const fk_conv_args *a)
{
    const fk_tensor *in = &p->tensors[s->in[0]];
    size_t x = fk_md_bytes(a->src_md);
    size_t y = fk_md_bytes(a->dst_md);
    bool stored_half = fk_data_type_half(p, in->lazy >= 0 ? p->steps[in->lazy]->in[0] : s->in[0]);

    s->gradient_bytes = y;
    if (in->lazy >= 0 || stored_half != p->half_conv) {
        TRY(fk_step_buffer(p, s, FK_CONV_X, x, FK_LIFE_FORWARD));
        TRY(fk_step_buffer(p, s, FK_CONV_X_BACK, x, FK_LIFE_BACKWARD));
    }
    if (fk_md_half(p->tensors[s->out].md) != p->half_conv) {
        TRY(fk_step_buffer(p, s, FK_CONV_Y, y, FK_LIFE_FORWARD));
        TRY(fk_step_buffer(p, s, FK_CONV_DY, y, FK_LIFE_BACKWARD));
    }
    if (fk_wants_din(p, s, 0) && (in->lazy >= 0 || fk_md_half(in->md) != p->half_conv))
        TRY(fk_step_buffer(p, s, FK_CONV_DX, x, FK_LIFE_BACKWARD));
    return FERKD_OK;
}

ferkd_status fk_conv_gradient_scratch(fk_plan *p, fk_step *s)
{
    return s->buffers[FK_CONV_DY] >= 0
               ? FERKD_OK
               : fk_step_buffer(p, s, FK_CONV_DY, s->gradient_bytes, FK_LIFE_BACKWARD);
}

static ferkd_status want_last(fk_plan *p, int tensor, int *out)
{
    fk_md *md = NULL;

    TRY(fk_md_last(&md, &p->tensors[tensor].shape, fk_md_half(p->tensors[tensor].md)));
    ferkd_status st = fk_want(p, tensor, md, out);
    fk_md_free(md);
    return st;
}

/* The input in the layout of slices (a picture: row-major), in the type that it has. */
static ferkd_status want_input(fk_plan *p, const fk_node *n, int *in)
{
    if (p->tensors[*in].lazy >= 0)
        return FERKD_OK;
    if (is_last(p))
        return want_last(p, *in, in);
    return is_picture(p, n) ? fk_want_plain(p, *in, in) : fk_want_lanes(p, *in, in);
}

static ferkd_status compile_slices(fk_plan *p, fk_step *s, fk_conv_args *a)
{
    fk_pd *pds[3] = {NULL, NULL, NULL};
    static const char *const WHAT[] = {"convolution", "convolution, weight gradient of",
                                       "convolution, data gradient of"};
    static const int ROLES[] = {RUN, RUN_WEIGHTS, RUN_DATA};
    ferkd_status st = FERKD_OK;

    bool tiles = fk_conv_suits_tiles(p, a);
    if (!tiles && !choose_all(p, a, p->tensors[s->in[0]].needs_grad, pds)) {
        st = fk_fail(FERKD_BUG, "node %s: a convolution that was there is gone", s->node->name);
        goto done;
    }
    TRY_DONE(tiles ? fk_compile_conv_tiles(p, s, a) : compile_weights(p, s, pds));
    if (is_last(p))
        TRY_DONE(fk_compile_last_weights(p, s, a, RUN_WEIGHTS));
    TRY_DONE(compile_scratch(p, s, a));
    for (int i = 0; i < 3; i++) {
        fk_pd *pd = pds[i];
        pds[i] = NULL;
        if (pd)
            TRY_DONE(fk_step_prim(p, s, ROLES[i], pd, WHAT[i], NULL, 0));
    }
done:
    for (int i = 0; i < 3; i++)
        fk_pd_free(pds[i]);
    return st;
}

static ferkd_status compile_step(fk_plan *p, fk_step *s, const fk_node *n, int id, fk_conv_args *a)
{
    static const int LOAD[] = {LOAD_WEIGHTS, LOAD_DATA_WEIGHTS};
    fk_md *md = NULL;

    TRY(is_last(p) ? fk_md_last(&md, &n->shape, p->o.half)
                   : fk_md_lanes(&md, &n->shape, fk_dn_lanes(), p->o.half));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    TRY(fk_conv_pointwise_at_once(p, s, a, &s->rows_at_once));
    if (s->rows_at_once)
        return fk_compile_conv_pointwise(p, s);
    s->rows_at_once = fk_conv_rows_at_once(p, s, a);
    if (!s->rows_at_once)
        return compile_slices(p, s, a);
    ferkd_status st = fk_compile_conv_rows(p, s, a, LOAD);
    if (st != FERKD_UNSUPPORTED)
        return st;
    s->rows_at_once = 0;
    return compile_slices(p, s, a);
}

ferkd_status fk_compile_sliced_conv(fk_plan *p, const fk_node *n, int id)
{
    int in = p->tensor_of[n->in[0]];
    fk_step *s = NULL;
    fk_conv_args a;
    fk_md *src = NULL;
    fk_md *dst = NULL;

    TRY(want_input(p, n, &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->kind = FK_KIND_CONV;
    s->forward = forward;
    s->backward = backward;
    s->refresh = refresh;
    s->bind = bind;
    slice_args(p, n, &a);
    s->slice_images = (uint32_t)a.src.d[0];
    TRY(slice_layouts(p, &a, is_picture(p, n), &src, &dst));
    a.src_md = src;
    a.dst_md = dst;
    ferkd_status st = compile_step(p, s, n, id, &a);
    fk_md_free(src);
    fk_md_free(dst);
    TRY(st);
    fk_step_keep(p, in, s);
    if (p->tensors[in].lazy >= 0)
        p->steps[p->tensors[in].lazy]->sums_by = s->number;
    return FERKD_OK;
}
