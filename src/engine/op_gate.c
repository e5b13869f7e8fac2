/* A feature map times one number for each image and channel, as squeeze-and-excite does it: in the layout at hand, with
 * BatchNorm's kernels, for which the number is a scale. */
#include "base/compat.h"

#include "engine/step.h"

#define MOST 1024 /* channels of a job */

/* Some vectors of an image: those that lie side by side, at most MOST channels of them, or one; and their numbers, with zeros behind
 * the last channel. */
typedef struct job {
    fk_planes at;
    float scale[MOST];
    size_t first, count; /* channels */
} job;

static const float ZEROS[MOST];

static size_t vectors_a_job(const fk_lay *lay)
{
    return fk_lay_is_last(lay) ? fk_min_size(MOST / (size_t)lay->lanes, lay->vectors) : 1;
}

static size_t jobs_an_image(const fk_lay *lay)
{
    return (lay->vectors + vectors_a_job(lay) - 1) / vectors_a_job(lay);
}

static job job_of(const fk_plan *p, const fk_step *s, size_t j)
{
    const fk_tensor *x = &p->tensors[s->in[0]];
    const fk_lay *lay = &x->lay;
    size_t n = j / jobs_an_image(lay);
    size_t v = j % jobs_an_image(lay) * vectors_a_job(lay);
    size_t vectors = fk_min_size(vectors_a_job(lay), lay->vectors - v);
    size_t lanes = (size_t)lay->lanes;
    size_t channels = (size_t)x->shape.d[1];
    job b = {
        .at = {n * lay->image + v * lay->vector, 1, lay->image, lay->pixels, lay->pixel, vectors}};

    b.first = n * channels + v * lanes;
    b.count = fk_min_size(vectors * lanes, channels - v * lanes);
    memcpy(b.scale, fk_data(p, s->in[1]) + b.first, b.count * sizeof *b.scale);
    return b;
}

/* to = from scale */
static void times(const fk_norm_kernels *k, const job *b, fk_operand from, fk_operand to)
{
    fk_norm_args a = {
        .at = b->at, .y = from, .a = to, .mean = ZEROS, .scale = b->scale, .shift = ZEROS};

    k->forward(&a);
}

static size_t jobs(const fk_plan *p, const fk_step *s)
{
    const fk_lay *lay = &p->tensors[s->in[0]].lay;

    return lay->images * jobs_an_image(lay);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    const fk_norm_kernels *k = fk_norm_kernels_of(&p->tensors[s->in[0]].lay);
    fk_operand x = fk_data_operand(p, s->in[0]);
    fk_operand y = fk_data_operand(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < jobs(p, s); j++) {
        job b = job_of(p, s, j);
        times(k, &b, x, y);
    }
    return FERKD_OK;
}

/* dx = scale dy; dscale = the sum of x dy over the pixels */
static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const fk_tensor *out = &p->tensors[s->out];
    const fk_norm_kernels *k = fk_norm_kernels_of(&out->lay);
    fk_operand x = fk_data_operand(p, s->in[0]);
    fk_operand dy = fk_buffer_operand(p, out->grad, fk_md_half(out->md));
    fk_operand dx = fk_buffer_operand(p, s->din[0], fk_md_half(p->tensors[s->in[0]].md));
    float *dscale = fk_wants_din(p, s, 1) ? fk_din(p, s, 1) : NULL;

#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < jobs(p, s); j++) {
        job b = job_of(p, s, j);
        double sum[2][MOST] = {{0}};
        fk_norm_args a = {.at = b.at,
                          .y = x,
                          .g = dy,
                          .mean = ZEROS,
                          .scale = b.scale,
                          .shift = ZEROS,
                          .sums_step = (size_t)k->lanes};
        if (dscale) {
            k->sums(&a, sum[0], sum[1]);
            for (size_t l = 0; l < b.count; l++)
                dscale[b.first + l] = (float)sum[1][l];
        }
        if (dx.data)
            times(k, &b, dy, dx);
    }
    return FERKD_OK;
}

bool fk_is_gate(const fk_plan *p, int x, int gate)
{
    const fk_shape *a = &p->tensors[x].shape;
    const fk_shape *b = &p->tensors[gate].shape;

    return p->tensors[x].lay.lanes && b->n == 4 && a->d[0] == b->d[0] && a->d[1] == b->d[1] &&
           b->d[2] == 1 && b->d[3] == 1;
}

ferkd_status fk_compile_gate(fk_plan *p, const fk_node *n, int id, int x, int gate)
{
    fk_step *s = NULL;
    fk_md *md = NULL;

    TRY(fk_want_plain(p, gate, &gate));
    TRY(fk_step_new(p, &s, n, 2));
    s->in[0] = x;
    s->in[1] = gate;
    s->kind = FK_KIND_NORM;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_copy(&md, p->tensors[x].md));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    fk_step_keep(p, x, s);
    fk_step_keep(p, gate, s);
    return FERKD_OK;
}
