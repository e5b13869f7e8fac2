/* BatchNorm and all that stands around it as one step: statistics of the batch, normalisation, the addition of
 * the residual connection, the activation; and backward. Where a depthwise convolution follows, only the
 * statistics are worked out here, and the convolution normalises while it reads. Nothing but the input is
 * kept for backward, and the output where an activation comes after an addition. */
#include "base/compat.h"

#include "engine/step.h"

#include <omp.h>

#include "base/mem.h"

enum { VECTORS, PARTS };

/* --- vectors of channels and the threads ----------------------------------------------------- */

/* With channels last: elements of a part of more than one image, at most, so that a cache holds the three or four values that are
 * read together. */
#define PART_ELEMENTS ((size_t)128 << 10)

size_t fk_images_a_part(size_t batch, size_t elements)
{
    size_t enough = 2 * (size_t)omp_get_max_threads();
    size_t n = 1;

    while (batch % (2 * n) == 0 && 2 * n * elements <= PART_ELEMENTS && batch / (2 * n) >= enough)
        n *= 2;
    return n;
}

size_t fk_parts_of(const fk_lay *lay)
{
    return fk_lay_is_last(lay) ? lay->images / fk_images_a_part(lay->images, lay->image)
                               : fk_min_size((size_t)omp_get_max_threads(), lay->images);
}

const fk_norm_kernels *fk_norm_kernels_of(const fk_lay *lay)
{
    const fk_norm_kernels *k = fk_norm_for(lay->lanes);

    return fk_lay_is_last(lay) ? k->rows : k;
}

fk_norm_jobs fk_norm_jobs_of(const fk_lay *lay, size_t first, size_t images)
{
    bool rows = fk_lay_is_last(lay);
    size_t parts = fk_parts_of(lay);

    parts = rows ? parts * images / lay->images : parts;
    return (fk_norm_jobs){.k = fk_norm_kernels_of(lay),
                          .lay = lay,
                          .first = first,
                          .images = images,
                          .parts = parts,
                          .n = rows ? parts : parts * lay->vectors,
                          .vectors = rows ? lay->vectors : 1};
}

fk_norm_job fk_norm_job_at(const fk_norm_jobs *all, size_t j)
{
    const fk_lay *lay = all->lay;
    size_t columns = lay->vectors / all->vectors;
    size_t part = j / columns;
    size_t v = j % columns;
    size_t begin = all->images * part / all->parts;
    size_t end = all->images * (part + 1) / all->parts;
    size_t before = fk_lay_is_last(lay) ? all->first * all->parts / all->images : 0;

    return (fk_norm_job){.v = v,
                         .part = before + part,
                         .at = {begin * lay->image + v * lay->vector, end - begin, lay->image,
                                lay->pixels, lay->pixel, all->vectors}};
}

static fk_norm_jobs all_jobs(const fk_plan *p, const fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;

    return fk_norm_jobs_of(lay, 0, lay->images);
}

float *fk_norm_vector_of(const fk_plan *p, const fk_step *s, fk_norm_vector which, size_t v)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t lanes = (size_t)lay->lanes;
    float *all = fk_buffer_at(p, s->buffers[VECTORS]);

    return all + (which * lay->vectors + v) * lanes;
}

size_t fk_norm_sums_step(const fk_lay *lay)
{
    return fk_parts_of(lay) * 2 * (size_t)lay->lanes;
}

double *fk_norm_part_of(const fk_plan *p, const fk_step *s, size_t v, size_t part)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    double *all = fk_buffer_at(p, s->buffers[PARTS]);

    return all + v * fk_norm_sums_step(lay) + part * 2 * (size_t)lay->lanes;
}

/* Both sums [2][lanes] of all parts of vector v, in their order. */
static void totals_of(const fk_plan *p, const fk_step *s, size_t v, double *totals)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t count = 2 * (size_t)lay->lanes;
    size_t parts = fk_parts_of(lay);
    const double *sums = fk_norm_part_of(p, s, v, 0);

    memset(totals, 0, count * sizeof *totals);
    for (size_t part = 0; part < parts; part++, sums += count)
        for (size_t i = 0; i < count; i++)
            totals[i] += sums[i];
}

fk_norm_args fk_norm_args_of(const fk_plan *p, const fk_step *s, size_t v)
{
    const fk_tensor *out = &p->tensors[s->out];
    bool half = fk_md_half(out->md);
    bool trains = p->o.train && out->needs_grad;

    return (fk_norm_args){.y = fk_data_operand(p, s->in[0]),
                          .residual = fk_data_operand(p, s->residual),
                          .a = fk_data_operand(p, s->out),
                          .g = fk_buffer_operand(p, trains ? out->grad : -1, half),
                          .g2 = fk_buffer_operand(p, trains ? out->grad2 : -1, half),
                          .mean = fk_norm_vector_of(p, s, FK_NORM_MEAN, v),
                          .scale = fk_norm_vector_of(p, s, FK_NORM_SCALE, v),
                          .shift = fk_norm_vector_of(p, s, FK_NORM_SHIFT, v),
                          .to_dz = fk_norm_vector_of(p, s, FK_NORM_SCALE, v),
                          .to_y = fk_norm_vector_of(p, s, FK_NORM_TO_Y, v),
                          .to_1 = fk_norm_vector_of(p, s, FK_NORM_TO_1, v),
                          .act = s->post};
}

void fk_norm_begin_sums(const fk_plan *p, const fk_step *s)
{
    memset(fk_buffer_at(p, s->buffers[PARTS]), 0, p->buffers[s->buffers[PARTS]].bytes);
}

/* They are taken around the running mean. */
void fk_norm_begin_moments(const fk_plan *p, const fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    const float *mean = fk_graph_values(p->g, s->node->param[2]);
    size_t lanes = (size_t)lay->lanes;

    fk_norm_begin_sums(p, s);
    for (size_t c = 0; c < lay->vectors * lanes; c++)
        fk_norm_vector_of(p, s, FK_NORM_MEAN, c / lanes)[c % lanes] =
            c < (size_t)s->node->shape.d[1] ? mean[c] : 0.0f;
}

/* --- forward --------------------------------------------------------------------------------- */

/* running = (1 - m) running + m batch, the variance unbiased as torch.nn.BatchNorm2d keeps it. */
static void update_running(const fk_plan *p, const fk_step *s, size_t c, double n, double mean,
                           double var)
{
    float *running_mean = fk_graph_values(p->g, s->node->param[2]) + c;
    float *running_var = fk_graph_values(p->g, s->node->param[3]) + c;
    double m = s->node->u.norm.momentum;
    double unbiased = var * (n > 1 ? n / (n - 1) : 1.0);

    *running_mean = (float)((1.0 - m) * (double)*running_mean + m * mean);
    *running_var = (float)((1.0 - m) * (double)*running_var + m * unbiased);
}

/* What normalises channel c: lanes that only pad get 0 for everything. */
static void set_channel(const fk_plan *p, const fk_step *s, size_t c, double mean, double var)
{
    size_t lanes = (size_t)p->tensors[s->in[0]].lay.lanes;
    size_t v = c / lanes;
    size_t l = c % lanes;
    bool real = c < (size_t)s->node->shape.d[1];
    double rstd = 1.0 / sqrt(var + s->node->u.norm.eps);
    double gamma = real ? (double)fk_graph_values(p->g, s->node->param[0])[c] : 0.0;
    double beta = real ? (double)fk_graph_values(p->g, s->node->param[1])[c] : 0.0;

    fk_norm_vector_of(p, s, FK_NORM_MEAN, v)[l] = (float)mean;
    fk_norm_vector_of(p, s, FK_NORM_RSTD, v)[l] = (float)rstd;
    fk_norm_vector_of(p, s, FK_NORM_SCALE, v)[l] = (float)(gamma * rstd);
    fk_norm_vector_of(p, s, FK_NORM_SHIFT, v)[l] = (float)beta;
}

/* Moments are taken around the first value of each channel, so that nothing cancels. */
static void take_origins(const fk_plan *p, const fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_operand y = fk_data_operand(p, s->in[0]);

    for (size_t v = 0; v < lay->vectors; v++)
        fk_norm_for(lay->lanes)
            ->add((fk_operand){fk_norm_vector_of(p, s, FK_NORM_MEAN, v), false},
                  fk_operand_at(y, v * lay->vector), (fk_operand){0}, (size_t)lay->lanes);
}

/* The sums of a job's vectors, set to nothing. */
static double *clear_sums(const fk_plan *p, const fk_step *s, const fk_norm_jobs *all,
                          fk_norm_job j, fk_norm_args *a)
{
    double *sums = fk_norm_part_of(p, s, j.v, j.part);

    a->sums_step = fk_norm_sums_step(all->lay);
    for (size_t v = 0; v < all->vectors; v++)
        memset(sums + v * a->sums_step, 0, 2 * (size_t)all->lay->lanes * sizeof *sums);
    return sums;
}

static void take_moments(const fk_plan *p, const fk_step *s, const fk_norm_jobs *all, fk_norm_job j)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_norm_args a = fk_norm_args_of(p, s, j.v);
    double *sums = clear_sums(p, s, all, j, &a);

    a.at = j.at;
    all->k->moments(&a, sums, sums + lay->lanes);
}

static void finish_moments(const fk_plan *p, const fk_step *s, size_t v)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t lanes = (size_t)lay->lanes;
    double n = (double)(lay->images * lay->pixels);
    double totals[2 * FK_MAX_LANES];

    totals_of(p, s, v, totals);
    for (size_t l = 0; l < lanes; l++) {
        double sum = totals[l];
        double squares = totals[lanes + l];
        double origin = (double)fk_norm_vector_of(p, s, FK_NORM_MEAN, v)[l];
        double mean = origin + sum / n;
        double var = fmax(squares / n - sum / n * (sum / n), 0.0);
        set_channel(p, s, v * lanes + l, mean, var);
        if (v * lanes + l < (size_t)s->node->shape.d[1])
            update_running(p, s, v * lanes + l, n, mean, var);
    }
}

static void normalise(const fk_plan *p, const fk_step *s, const fk_norm_jobs *all, fk_norm_job j)
{
    fk_norm_args a = fk_norm_args_of(p, s, j.v);

    a.at = j.at;
    if (p->tensors[s->out].lazy < 0)
        all->k->forward(&a);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_norm_jobs all = all_jobs(p, s);

    if (p->o.train && !p->redoing) {
        if (s->moments_by < 0)
            take_origins(p, s);
#pragma omp parallel for schedule(static)
        for (size_t j = 0; j < (s->moments_by < 0 ? all.n : 0); j++)
            take_moments(p, s, &all, fk_norm_job_at(&all, j));
#pragma omp parallel for schedule(static)
        for (size_t v = 0; v < lay->vectors; v++)
            finish_moments(p, s, v);
    }
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < all.n; j++)
        normalise(p, s, &all, fk_norm_job_at(&all, j));
    return FERKD_OK;
}

/* Inference: from the running statistics. */
static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t channels = (size_t)s->node->shape.d[1];

    for (size_t c = 0; c < lay->vectors * (size_t)lay->lanes; c++) {
        bool real = c < channels;
        set_channel(p, s, c, real ? (double)fk_graph_values(p->g, s->node->param[2])[c] : 0.0,
                    real ? (double)fk_graph_values(p->g, s->node->param[3])[c] : 0.0);
    }
    return FERKD_OK;
}

/* --- backward -------------------------------------------------------------------------------- */

fk_norm_args fk_norm_backward_args(const fk_plan *p, const fk_step *s, size_t v)
{
    const fk_tensor *out = &p->tensors[s->out];
    fk_norm_args a = fk_norm_args_of(p, s, v);

    a.dy = fk_buffer_operand(p, s->din[0], fk_md_half(p->tensors[s->in[0]].md));
    if (s->sums_by >= 0) /* the activation is undone already */
        a.dz = fk_buffer_operand(p, out->grad, fk_md_half(out->md));
    else if (s->residual >= 0 && s->din[1] >= 0 && s->din[1] != out->grad)
        a.dz = fk_buffer_operand(p, s->din[1], fk_md_half(p->tensors[s->residual].md));
    return a;
}

static void take_sums(const fk_plan *p, const fk_step *s, const fk_norm_jobs *all, fk_norm_job j)
{
    fk_norm_args a = fk_norm_backward_args(p, s, j.v);
    double *sums = clear_sums(p, s, all, j, &a);

    a.at = j.at;
    all->k->sums(&a, sums, sums + all->k->lanes);
}

/* dy = scale (dz - mean(dz) - xhat mean(dz xhat)), xhat = rstd (y - mean) */
static void finish_sums(const fk_plan *p, const fk_step *s, size_t v)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    size_t lanes = (size_t)lay->lanes;
    double n = (double)(lay->images * lay->pixels);
    float *dgamma = p->grads + p->g->params[s->node->param[0]].offset;
    float *dbeta = p->grads + p->g->params[s->node->param[1]].offset;
    double totals[2 * FK_MAX_LANES];

    totals_of(p, s, v, totals);
    for (size_t l = 0; l < lanes; l++) {
        double sum = totals[l];
        double product = totals[lanes + l];
        size_t c = v * lanes + l;
        double rstd = (double)fk_norm_vector_of(p, s, FK_NORM_RSTD, v)[l];
        double scale = (double)fk_norm_vector_of(p, s, FK_NORM_SCALE, v)[l];
        fk_norm_vector_of(p, s, FK_NORM_TO_Y, v)[l] = (float)(-scale * rstd * rstd * product / n);
        fk_norm_vector_of(p, s, FK_NORM_TO_1, v)[l] = (float)(-scale * sum / n);
        if (c < (size_t)s->node->shape.d[1]) {
            dgamma[c] = (float)(rstd * product);
            dbeta[c] = (float)sum;
        }
    }
}

static void spread(const fk_plan *p, const fk_step *s, const fk_norm_jobs *all, fk_norm_job j)
{
    fk_norm_args a = fk_norm_backward_args(p, s, j.v);

    a.at = j.at;
    if (a.dy.data)
        all->k->backward(&a);
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_norm_jobs all = all_jobs(p, s);

#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < (s->sums_by < 0 ? all.n : 0); j++)
        take_sums(p, s, &all, fk_norm_job_at(&all, j));
#pragma omp parallel for schedule(static)
    for (size_t v = 0; v < lay->vectors; v++)
        finish_sums(p, s, v);
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < all.n; j++)
        spread(p, s, &all, fk_norm_job_at(&all, j));
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

/* A residual is added in the layout at hand, so it has to be in it, or come there by a reorder. */
static bool may_add(const fk_plan *p, int tensor, int adder)
{
    (void)adder;
    return p->tensors[tensor].step >= 0;
}

/* Does a convolution follow that works the normalised values out for itself, from values in this layout? */
static bool feeds_conv(fk_plan *p, int id, int lanes, const fk_md *md, fk_post act)
{
    int user = -1;
    const fk_node *next = p->o.train ? fk_only_user(p, id, &user) : NULL;

    if (!next || next->op != FK_CONV)
        return false;
    if (p->o.layout == FK_LAYOUT_LAST && fk_is_sliced_conv(p, next))
        return fk_md_is_last(md, &p->g->nodes[next->in[0]].shape);
    if (fk_is_depthwise(p, next))
        return lanes == fk_dn_lanes() || fk_md_is_last(md, &p->g->nodes[next->in[0]].shape);
    return lanes == fk_dn_lanes() &&
           (fk_is_sliced_conv(p, next) || fk_winograd_normalises(p, next, md, act));
}

/* A convolution before, which nobody else reads, takes the moments of its output while it has it, and works out the
 * gradient of its output for itself. */
static ferkd_status join_conv(fk_plan *p, fk_step *s, const fk_node *n)
{
    int user;
    int by = p->tensors[s->in[0]].step;
    fk_step *c = by >= 0 ? p->steps[by] : NULL;
    bool depthwise = c && c->kind == FK_KIND_DEPTHWISE && c->node->param[1] < 0;
    bool sliced = c && c->kind == FK_KIND_CONV && c->slice_images > 0;

    if (!p->o.train || (!depthwise && !sliced) || !fk_only_user(p, n->in[0], &user))
        return FERKD_OK;
    c->norm_behind = s->number;
    s->moments_by = by;
    p->buffers[s->buffers[VECTORS]].first = by;
    p->buffers[s->buffers[PARTS]].first = by;
    if (s->residual >= 0 && depthwise)
        return FERKD_OK;
    s->spread_by = by;
    fk_keep_until_backward(p, s->buffers[VECTORS], by);
    fk_keep_until_backward(p, p->tensors[s->in[0]].data, by);
    if (s->residual >= 0 && s->post.n)
        fk_keep_until_backward(p, p->tensors[s->out].data, by);
    return sliced ? fk_conv_gradient_scratch(p, c) : FERKD_OK;
}

/* The residual in the layout of `in`, its values as they are. */
static ferkd_status want_residual(fk_plan *p, int in, int *residual)
{
    fk_md *md = NULL;

    TRY(fk_md_as(&md, p->tensors[in].md, fk_md_half(p->tensors[*residual].md)));
    ferkd_status st = fk_want(p, *residual, md, residual);
    fk_md_free(md);
    return st;
}

ferkd_status fk_compile_norm(fk_plan *p, const fk_node *n, int id)
{
    fk_tail_rules rules = {fk_kernel_has_act, p->o.train ? fk_act_from_output : fk_kernel_has_act,
                           may_add, -1};
    int in = p->tensor_of[n->in[0]];
    const fk_lay lay = p->tensors[in].lay;
    fk_step *s = NULL;
    fk_md *md = NULL;

    if (!lay.lanes)
        return fk_compile_norm_dnnl(p, n, id);
    fk_tail tail = fk_absorb_tail(p, id, &rules);
    if (tail.residual >= 0)
        TRY(want_residual(p, in, &tail.residual));
    TRY(fk_step_new(p, &s, n, tail.residual >= 0 ? 2 : 1));
    s->in[0] = in;
    if (tail.residual >= 0)
        s->in[1] = s->residual = tail.residual;
    s->kind = FK_KIND_NORM;
    s->post = tail.post;
    s->takes_two = true;
    s->passes = tail.residual >= 0 && !tail.post.n ? 1 : -1;
    s->forward = forward;
    s->backward = backward;
    s->refresh = p->o.train ? NULL : refresh;
    size_t channels = lay.vectors * (size_t)lay.lanes;
    TRY(fk_step_buffer(p, s, VECTORS, FK_NORM_VECTORS * channels * sizeof(float),
                       p->o.train ? FK_LIFE_BOTH : FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, PARTS, fk_parts_of(&lay) * 2 * channels * sizeof(double),
                       p->o.train ? FK_LIFE_BOTH : FK_LIFE_FORWARD));
    bool lazy =
        tail.residual < 0 && feeds_conv(p, tail.id, lay.lanes, p->tensors[in].md, tail.post);
    TRY(fk_md_as(&md, p->tensors[in].md, p->o.half)); /* lazy: of the gradient */
    if (lazy)
        TRY(fk_step_output_in(p, s, md, &n->shape, tail.id, in));
    else
        TRY(fk_step_output(p, s, md, &n->shape, tail.id));
    if (lazy)
        p->tensors[s->out].lazy = s->number;
    fk_step_keep(p, in, s);
    if (tail.residual >= 0 && tail.post.n)
        fk_step_keep(p, s->out, s);
    return join_conv(p, s, n);
}
