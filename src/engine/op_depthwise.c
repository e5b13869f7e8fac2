/* Depthwise convolution by our own kernels, forward and both gradients. A BatchNorm and its activation before it
 * are worked out while the input is read (op_norm.c leaves them to us); in inference those behind it are
 * folded into the weights. */
#include "base/compat.h"

#include "engine/step.h"

#include <omp.h>

enum { WEIGHTS, BIAS, DIFF_WEIGHTS, ROOM };

bool fk_is_depthwise(const fk_plan *p, const fk_node *n)
{
    const fk_window *w = &n->u.conv.window;
    const fk_shape *in = &p->g->nodes[n->in[0]].shape;
    bool small = w->kernel[0] <= FK_MAX_DEPTHWISE && w->kernel[1] <= FK_MAX_DEPTHWISE;

    return in->n == 4 && n->u.conv.groups == in->d[1] && n->shape.d[1] == in->d[1] &&
           in->d[1] >= fk_dn_lanes() && small && w->dilation[0] == 1 && w->dilation[1] == 1 &&
           w->begin[0] < w->kernel[0] && w->begin[1] < w->kernel[1];
}

static size_t taps_of(const fk_step *s)
{
    const fk_window *w = &s->node->u.conv.window;

    return (size_t)(w->kernel[0] * w->kernel[1]);
}

/* --- weights --------------------------------------------------------------------------------- */

/* [C][1][kh][kw] to [vector][tap][lane]; with the BatchNorm behind it in inference (see op_conv.c). */
static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    const fk_graph *g = p->g;
    const fk_node *bn = s->folded;
    const float *w = fk_graph_values(g, s->node->param[0]);
    const float *b = s->node->param[1] >= 0 ? fk_graph_values(g, s->node->param[1]) : NULL;
    float *to = fk_buffer_at(p, s->buffers[WEIGHTS]);
    float *bias = s->buffers[BIAS] >= 0 ? fk_buffer_at(p, s->buffers[BIAS]) : NULL;
    size_t lanes = (size_t)p->tensors[s->out].lay.lanes;
    size_t taps = taps_of(s);

    for (size_t c = 0; c < (size_t)s->node->shape.d[1]; c++) {
        double k = 1.0;
        double add = b ? (double)b[c] : 0.0;
        if (bn) {
            k = (double)fk_graph_values(g, bn->param[0])[c] /
                sqrt((double)fk_graph_values(g, bn->param[3])[c] + bn->u.norm.eps);
            add = (add - (double)fk_graph_values(g, bn->param[2])[c]) * k +
                  (double)fk_graph_values(g, bn->param[1])[c];
        }
        for (size_t t = 0; t < taps; t++)
            to[(c / lanes * taps + t) * lanes + c % lanes] = (float)((double)w[c * taps + t] * k);
        if (bias)
            bias[c] = (float)add;
    }
    return FERKD_OK;
}

/* The gradient of the weights from its parts, in their order. */
static void gather_gradient(const fk_plan *p, const fk_step *s, size_t n_parts)
{
    const double *parts = fk_buffer_at(p, s->buffers[DIFF_WEIGHTS]);
    float *dw = p->grads + p->g->params[s->node->param[0]].offset;
    size_t lanes = (size_t)p->tensors[s->out].lay.lanes;
    size_t channels = (size_t)s->node->shape.d[1];
    size_t taps = taps_of(s);

#pragma omp parallel for schedule(static)
    for (size_t v = 0; v < p->tensors[s->out].lay.vectors; v++) {
        double sums[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE * FK_MAX_LANES] = {0};
        const double *from = parts + v * n_parts * taps * lanes;
        for (size_t part = 0; part < n_parts; part++, from += taps * lanes)
            for (size_t i = 0; i < taps * lanes; i++)
                sums[i] += from[i];
        for (size_t l = 0; l < lanes && v * lanes + l < channels; l++)
            for (size_t t = 0; t < taps; t++)
                dw[(v * lanes + l) * taps + t] = (float)sums[t * lanes + l];
    }
}

/* --- running --------------------------------------------------------------------------------- */

/* The work: vectors of channels, in parts, and what is the same for all of them. */
typedef struct work {
    fk_depthwise_args args;      /* of the first vector and the first part */
    fk_norm_args before, behind; /* likewise */
    const fk_step *norm_before, *norm_behind;
    size_t parts, vectors, lanes, taps;
} work;

/* The parts of both sides have to agree, and sums have room for as many as their own side has. */
static size_t parts_of(const fk_plan *p, const fk_step *s)
{
    return fk_min_size(fk_parts_of(&p->tensors[s->in[0]].lay),
                       fk_parts_of(&p->tensors[s->out].lay));
}

/* The BatchNorms around, if they are ours to work out. */
static work work_of(const fk_plan *p, const fk_step *s)
{
    const fk_tensor *in = &p->tensors[s->in[0]];
    const fk_tensor *out = &p->tensors[s->out];
    const fk_window *w = &s->node->u.conv.window;
    work all = {.args = {.in = {0, 0, in->lay.image, in->lay.pixels, in->lay.pixel, 1},
                         .out = {0, 0, out->lay.image, out->lay.pixels, out->lay.pixel, 1},
                         .height = in->shape.d[2],
                         .width = in->shape.d[3],
                         .out_height = out->shape.d[2],
                         .out_width = out->shape.d[3],
                         .kernel = {(int)w->kernel[0], (int)w->kernel[1]},
                         .stride = {(int)w->stride[0], (int)w->stride[1]},
                         .pad = {(int)w->begin[0], (int)w->begin[1]},
                         .x = fk_data_operand(p, s->in[0]),
                         .y = fk_data_operand(p, s->out),
                         .post = s->post,
                         .weights = fk_buffer_at(p, s->buffers[WEIGHTS])},
                .norm_before = in->lazy < 0 ? NULL : p->steps[in->lazy],
                .norm_behind = s->norm_behind < 0 ? NULL : p->steps[s->norm_behind],
                .parts = parts_of(p, s),
                .vectors = out->lay.vectors,
                .lanes = (size_t)out->lay.lanes,
                .taps = taps_of(s)};

    if (s->buffers[BIAS] >= 0)
        all.args.bias = fk_buffer_at(p, s->buffers[BIAS]);
    if (all.norm_before)
        all.before = fk_norm_args_of(p, all.norm_before, 0);
    if (all.norm_behind)
        all.behind = fk_norm_args_of(p, all.norm_behind, 0);
    return all;
}

/* Part `part` of channel vector v: some images of it. */
static fk_depthwise_args args_of(const fk_plan *p, const fk_step *s, const work *all, size_t v,
                                 size_t part)
{
    const fk_lay *in = &p->tensors[s->in[0]].lay;
    const fk_lay *out = &p->tensors[s->out].lay;
    size_t begin = out->images * part / all->parts;
    size_t end = out->images * (part + 1) / all->parts;
    float *room = fk_buffer_at(p, s->buffers[ROOM]);
    fk_depthwise_args k = all->args;

    k.images = k.in.images = k.out.images = end - begin;
    k.in.first = begin * in->image + v * in->vector;
    k.out.first = begin * out->image + v * out->vector;
    k.weights += v * all->taps * all->lanes;
    if (k.bias)
        k.bias += v * all->lanes;
    k.room = room + (size_t)omp_get_thread_num() * fk_depthwise_room(&k);
    return k;
}

/* Those of a BatchNorm for channel vector v, from those for the first. */
static fk_norm_args norm_at(fk_norm_args a, size_t v, size_t lanes)
{
    const float **const vectors[] = {&a.mean, &a.scale, &a.shift, &a.to_dz, &a.to_y, &a.to_1};

    for (size_t i = 0; i < FK_COUNT(vectors); i++)
        *vectors[i] += v * lanes;
    return a;
}

static void forward_part(const fk_plan *p, const fk_step *s, const work *all, size_t v, size_t part)
{
    fk_depthwise_args k = args_of(p, s, all, v, part);
    fk_norm_args before;

    if (all->norm_before) {
        before = norm_at(all->before, v, all->lanes);
        k.before = &before;
    }
    if (all->norm_behind && !p->redoing) {
        k.origin = all->behind.mean + v * all->lanes;
        k.sum = fk_norm_part_of(p, all->norm_behind, v, part);
        k.squares = k.sum + all->lanes;
    }
    fk_depthwise_for((int)all->lanes)->forward(&k);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    work all = work_of(p, s);

    if (all.norm_behind && !p->redoing)
        fk_norm_begin_moments(p, all.norm_behind);
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < all.vectors * all.parts; j++)
        forward_part(p, s, &all, j % all.vectors, j / all.vectors);
    return FERKD_OK;
}

/* The bias's gradient is the sum of the output's. */
static void bias_gradient(const fk_plan *p, const fk_step *s)
{
    const fk_tensor *out = &p->tensors[s->out];
    const fk_norm_kernels *kernels = fk_norm_for(out->lay.lanes);
    float *db = p->grads + p->g->params[s->node->param[1]].offset;
    size_t lanes = (size_t)out->lay.lanes;

#pragma omp parallel for schedule(static)
    for (size_t v = 0; v < out->lay.vectors; v++) {
        const float zero[FK_MAX_LANES] = {0};
        double sum[2][FK_MAX_LANES] = {{0}};
        fk_norm_args k = {.at = {v * out->lay.vector, out->lay.images, out->lay.image,
                                 out->lay.pixels, out->lay.pixel},
                          .y = fk_buffer_operand(p, out->grad, fk_md_half(out->md)),
                          .mean = zero};
        kernels->moments(&k, sum[0], sum[1]);
        for (size_t l = 0; l < lanes && v * lanes + l < (size_t)out->shape.d[1]; l++)
            db[v * lanes + l] = (float)sum[0][l];
    }
}

/* Part `part` of channel vector v, with the BatchNorms around it. */
static void backward_part(const fk_plan *p, const fk_step *s, const work *all, size_t v,
                          size_t part)
{
    size_t each = all->taps * all->lanes;
    double *dw = fk_buffer_at(p, s->buffers[DIFF_WEIGHTS]);
    fk_depthwise_args k = args_of(p, s, all, v, part);
    fk_norm_args before, behind;

    k.dweights = dw + (v * all->parts + part) * each;
    memset(k.dweights, 0, each * sizeof *dw);
    if (!k.dy.data) {
        behind = norm_at(all->behind, v, all->lanes);
        k.behind = &behind;
    }
    if (all->norm_before) {
        before = norm_at(all->before, v, all->lanes);
        k.before = &before;
        k.sum_dz = fk_norm_part_of(p, all->norm_before, v, part);
        k.product_dz = k.sum_dz + all->lanes;
    }
    fk_depthwise_for((int)all->lanes)->backward(&k);
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const fk_tensor *out = &p->tensors[s->out];
    work all = work_of(p, s);

    all.args.dx = fk_buffer_operand(p, s->din[0], fk_md_half(p->tensors[s->in[0]].md));
    all.args.dy = fk_buffer_operand(p, out->grad, fk_md_half(out->md));
    if (all.norm_behind && all.norm_behind->sums_by >= 0) /* its activation is undone already */
        all.behind.act.n = 0;
    if (all.norm_before)
        fk_norm_begin_sums(p, all.norm_before);
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < all.vectors * all.parts; j++)
        backward_part(p, s, &all, j % all.vectors, j / all.vectors);
    gather_gradient(p, s, all.parts);
    if (s->node->param[1] >= 0)
        bias_gradient(p, s);
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

static bool never_add(const fk_plan *p, int tensor, int adder)
{
    (void)p;
    (void)tensor;
    (void)adder;
    return false;
}

static ferkd_status compile_buffers(fk_plan *p, fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->out].lay;
    size_t channels = lay->vectors * (size_t)lay->lanes;
    const fk_window *w = &s->node->u.conv.window;
    fk_depthwise_args k = {.width = p->tensors[s->in[0]].shape.d[3],
                           .out_height = p->tensors[s->out].shape.d[2],
                           .out_width = p->tensors[s->out].shape.d[3],
                           .kernel = {(int)w->kernel[0], (int)w->kernel[1]},
                           .stride = {(int)w->stride[0], (int)w->stride[1]},
                           .pad = {(int)w->begin[0], (int)w->begin[1]}};

    TRY(fk_step_buffer(p, s, WEIGHTS, taps_of(s) * channels * sizeof(float), FK_LIFE_ALWAYS));
    if (s->folded || s->node->param[1] >= 0)
        TRY(fk_step_buffer(p, s, BIAS, channels * sizeof(float), FK_LIFE_ALWAYS));
    if (p->o.train)
        TRY(fk_step_buffer(p, s, DIFF_WEIGHTS,
                           parts_of(p, s) * taps_of(s) * channels * sizeof(double),
                           FK_LIFE_BACKWARD));
    return fk_step_buffer(p, s, ROOM,
                          (size_t)omp_get_max_threads() * fk_depthwise_room(&k) * sizeof(float),
                          FK_LIFE_ALWAYS);
}

ferkd_status fk_compile_depthwise(fk_plan *p, const fk_node *n, int id)
{
    const fk_tail_rules rules = {fk_kernel_has_act, fk_kernel_has_act, never_add, -1};
    int in = p->tensor_of[n->in[0]];
    bool half = fk_md_half(p->tensors[in].md);
    int lanes = fk_dn_lanes();
    fk_tail tail = {.id = id, .residual = -1};
    const fk_node *norm = p->o.train ? NULL : fk_absorb_norm(p, &tail.id);
    fk_step *s = NULL;
    fk_md *md = NULL;

    if (!p->o.train)
        tail = fk_absorb_tail(p, tail.id, &rules);
    if (p->tensors[in].lay.lanes != lanes && !fk_lay_is_last(&p->tensors[in].lay)) {
        TRY(fk_md_lanes(&md, &p->tensors[in].shape, lanes, half));
        ferkd_status st = fk_want(p, in, md, &in);
        fk_md_free(md);
        TRY(st);
    }
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->kind = FK_KIND_DEPTHWISE;
    s->folded = norm;
    s->post = tail.post;
    s->forward = forward;
    s->backward = backward;
    s->refresh = refresh;
    bool last = fk_lay_is_last(&p->tensors[in].lay); /* then both: the parts have to agree */
    TRY(last ? fk_md_last(&md, &n->shape, p->o.half)
             : fk_md_lanes(&md, &n->shape, lanes, p->o.half));
    TRY(fk_step_output(p, s, md, &n->shape, tail.id));
    fk_step_keep(p, in, s);
    if (p->tensors[in].lazy >= 0)
        p->steps[p->tensors[in].lazy]->sums_by = s->number;
    return compile_buffers(p, s);
}
