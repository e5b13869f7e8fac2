/* The mean of each feature map (global average pooling, as classifiers end and squeeze-and-excite begins), in the layout at hand,
 * with BatchNorm's kernels: oneDNN's pooling has no fast code for bf16 in vectors of 8 channels. */
#include "base/compat.h"

#include "engine/step.h"

enum { MEANS };

static const float ZEROS[FK_MAX_LANES];

/* Vector v of image n. */
typedef struct job {
    fk_planes at;
    size_t first, count; /* its means, among all */
} job;

static size_t jobs(const fk_lay *lay)
{
    return lay->images * lay->vectors;
}

/* Means an image, with those of lanes that only pad. */
static size_t row_of(const fk_plan *p, const fk_step *s)
{
    return fk_floats(p, s->out) / p->tensors[s->in[0]].lay.images;
}

static job job_of(const fk_tensor *x, size_t row, size_t j)
{
    const fk_lay *lay = &x->lay;
    size_t n = j / lay->vectors;
    size_t v = j % lay->vectors;
    size_t lanes = (size_t)lay->lanes;
    size_t channels = (size_t)x->shape.d[1];

    return (job){{n * lay->image + v * lay->vector, 1, lay->image, lay->pixels, lay->pixel, 1},
                 n * row + v * lanes,
                 fk_min_size(lanes, channels - v * lanes)};
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    const fk_tensor *x = &p->tensors[s->in[0]];
    const fk_norm_kernels *k = fk_norm_for(x->lay.lanes);
    float *means = fk_buffer_at(p, s->buffers[MEANS]);
    fk_operand in = fk_data_operand(p, s->in[0]);
    size_t row = row_of(p, s);

    memset(means, 0, fk_floats(p, s->out) * sizeof *means);

#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < jobs(&x->lay); j++) {
        job b = job_of(x, row, j);
        fk_norm_args a = {.at = b.at, .y = in, .mean = ZEROS};
        double sums[FK_MAX_LANES] = {0};
        double squares[FK_MAX_LANES] = {0};
        k->moments(&a, sums, squares);
        for (size_t l = 0; l < b.count; l++)
            means[b.first + l] = (float)(sums[l] / (double)x->lay.pixels);
    }
    fk_add(fk_data_operand(p, s->out), (fk_operand){means, false}, (fk_operand){0},
           fk_floats(p, s->out));
    return FERKD_OK;
}

/* Each pixel of a map has the same part of the mean's gradient. */
static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const fk_tensor *x = &p->tensors[s->in[0]];
    const fk_tensor *out = &p->tensors[s->out];
    const fk_norm_kernels *k = fk_norm_for(x->lay.lanes);
    float *means = fk_buffer_at(p, s->buffers[MEANS]);
    size_t row = row_of(p, s);
    bool half = fk_md_half(x->md);
    fk_operand dx = fk_buffer_operand(p, s->din[0], half);
    size_t bytes = (size_t)x->lay.lanes * (half ? sizeof(uint16_t) : sizeof(float));

    fk_add((fk_operand){means, false}, fk_buffer_operand(p, out->grad, fk_md_half(out->md)),
           (fk_operand){0}, fk_floats(p, s->out));
#pragma omp parallel for schedule(static)
    for (size_t j = 0; j < jobs(&x->lay); j++) {
        job b = job_of(x, row, j);
        float part[FK_MAX_LANES] = {0};
        fk_operand first = fk_operand_at(dx, b.at.first);
        for (size_t l = 0; l < b.count; l++)
            part[l] = means[b.first + l] / (float)b.at.pixels;
        k->add(first, (fk_operand){part, false}, (fk_operand){0}, (size_t)k->lanes);
        for (size_t i = 1; i < b.at.pixels; i++)
            memcpy(fk_operand_at(first, i * b.at.pixel).data, first.data, bytes);
    }
    return FERKD_OK;
}

/* [N, C, 1, 1] in the layout of tensor `in`, or row-major; in f32 always, for oneDNN has fast convolutions of such small maps, whatever
 * their channels, in that alone. */
static ferkd_status means_md(const fk_plan *p, int in, const fk_shape *shape, bool plain,
                             fk_md **md)
{
    const fk_tensor *x = &p->tensors[in];
    bool half = fk_md_half(x->md);
    fk_md *rows = NULL;

    if (!plain && half)
        return fk_lay_is_last(&x->lay) ? fk_md_last(md, shape, half)
                                       : fk_md_lanes(md, shape, x->lay.lanes, half);
    TRY(fk_md_plain(&rows, shape));
    ferkd_status st = fk_md_as(md, rows, half);
    fk_md_free(rows);
    return st;
}

ferkd_status fk_compile_means(fk_plan *p, const fk_node *n, int in, int id, int *out)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    fk_shape shape = p->tensors[in].shape;

    shape.d[2] = shape.d[3] = 1;
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->forward = forward;
    s->backward = backward;
    TRY(means_md(p, in, &shape, id < 0, &md));
    TRY(fk_step_output(p, s, md, &shape, id));
    *out = s->out;
    return fk_step_buffer(p, s, MEANS, fk_floats(p, s->out) * sizeof(float),
                          p->o.train ? FK_LIFE_BOTH : FK_LIFE_FORWARD);
}
