/* A slice of the batch around a convolution in training: where its values are, and what is done on them while they are in
 * the caches. */
#include "base/compat.h"

#include "engine/conv_slice.h"

#include "base/mem.h"

/* --- where a slice is ------------------------------------------------------------------------ */

static size_t image_elements(const fk_plan *p, int tensor)
{
    const fk_tensor *t = &p->tensors[tensor];

    return t->lay.lanes ? t->lay.image : (size_t)(fk_shape_count(&t->shape) / t->shape.d[0]);
}

static uint32_t images(const fk_step *s)
{
    return s->slice_images;
}

uint32_t fk_slices(const fk_plan *p, const fk_step *s)
{
    return (uint32_t)(p->tensors[s->out].shape.d[0] / s->slice_images);
}

/* Elements before slice k of a tensor. */
static size_t offset_of(const fk_plan *p, const fk_step *s, int tensor, uint32_t k)
{
    return (size_t)k * images(s) * image_elements(p, tensor);
}

const fk_step *fk_slice_norm_before(const fk_plan *p, const fk_step *s)
{
    int lazy = p->tensors[s->in[0]].lazy;

    return lazy < 0 ? NULL : p->steps[lazy];
}

const fk_step *fk_slice_norm_behind(const fk_plan *p, const fk_step *s)
{
    return s->norm_behind < 0 ? NULL : p->steps[s->norm_behind];
}

/* The input as it is stored: what the BatchNorm before reads, if it is ours to work out. */
static fk_operand stored_input(const fk_plan *p, const fk_step *s, uint32_t k)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    int tensor = before ? before->in[0] : s->in[0];

    return fk_operand_at(fk_data_operand(p, tensor), offset_of(p, s, tensor, k));
}

static fk_operand stored_output(const fk_plan *p, const fk_step *s, uint32_t k)
{
    return fk_operand_at(fk_data_operand(p, s->out), offset_of(p, s, s->out, k));
}

/* What a primitive reads or writes for slice k: scratch if there is some, else the tensor itself. */
fk_operand fk_slice_input(const fk_plan *p, const fk_step *s, int scratch, uint32_t k)
{
    return s->buffers[scratch] >= 0 ? fk_buffer_operand(p, s->buffers[scratch], p->half_conv)
                                    : stored_input(p, s, k);
}

fk_operand fk_slice_output(const fk_plan *p, const fk_step *s, uint32_t k)
{
    return s->buffers[FK_CONV_Y] >= 0 ? fk_buffer_operand(p, s->buffers[FK_CONV_Y], p->half_conv)
                                      : stored_output(p, s, k);
}

static fk_operand stored_din(const fk_plan *p, const fk_step *s, uint32_t k)
{
    bool half = fk_md_half(p->tensors[s->in[0]].md);

    return fk_operand_at(fk_buffer_operand(p, s->din[0], half), offset_of(p, s, s->in[0], k));
}

static fk_operand stored_gradient(const fk_plan *p, const fk_step *s, uint32_t k)
{
    const fk_tensor *out = &p->tensors[s->out];

    return fk_operand_at(fk_buffer_operand(p, out->grad, fk_md_half(out->md)),
                         offset_of(p, s, s->out, k));
}

fk_operand fk_slice_gradient(const fk_plan *p, const fk_step *s, uint32_t k)
{
    return s->buffers[FK_CONV_DY] >= 0 ? fk_buffer_operand(p, s->buffers[FK_CONV_DY], p->half_conv)
                                       : stored_gradient(p, s, k);
}

fk_operand fk_slice_din(const fk_plan *p, const fk_step *s, uint32_t k)
{
    return s->buffers[FK_CONV_DX] >= 0 ? fk_buffer_operand(p, s->buffers[FK_CONV_DX], p->half_conv)
                                       : stored_din(p, s, k);
}

double fk_slice_begin(const fk_plan *p, size_t t)
{
    return p->o.profile && t == 0 ? fk_now_s() : 0.0;
}

void fk_slice_end(const fk_plan *p, fk_step *s, size_t t, double start)
{
    if (p->o.profile && t == 0)
        s->inner_s += fk_now_s() - start;
}

/* --- work on the planes of a slice ----------------------------------------------------------- */

/* The work of a BatchNorm on slice k of a tensor in this layout. */
static fk_norm_jobs jobs_of(const fk_lay *lay, const fk_step *s, uint32_t k)
{
    return fk_norm_jobs_of(lay, (size_t)k * images(s), images(s));
}

fk_norm_args fk_norm_moved_args(const fk_plan *p, const fk_step *norm, size_t v, size_t by)
{
    fk_norm_args a = fk_norm_backward_args(p, norm, v);

    a.y = fk_operand_at(a.y, by);
    a.a = fk_operand_at(a.a, by);
    a.residual = fk_operand_at(a.residual, by);
    a.g = fk_operand_at(a.g, by);
    a.g2 = fk_operand_at(a.g2, by);
    a.dz = fk_operand_at(a.dz, by);
    return a;
}

/* Those of slice k. */
static fk_norm_args norm_slice(const fk_plan *p, const fk_step *s, const fk_step *norm, size_t v,
                               uint32_t k)
{
    return fk_norm_moved_args(p, norm, v, offset_of(p, s, norm->in[0], k));
}

/* The input of slice k, worked out or converted into scratch. */
void fk_slice_load_input(const fk_plan *p, const fk_step *s, int scratch, uint32_t k)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    fk_operand to = fk_slice_input(p, s, scratch, k);

    if (s->buffers[scratch] < 0)
        return;
    if (!before) {
        fk_add(to, stored_input(p, s, k), (fk_operand){0}, images(s) * image_elements(p, s->in[0]));
        return;
    }
    fk_norm_jobs all = jobs_of(&p->tensors[before->in[0]].lay, s, k);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < all.n; i++) {
        fk_norm_job j = fk_norm_job_at(&all, i);
        fk_norm_args a = norm_slice(p, s, before, j.v, k);
        a.at = j.at;
        a.residual = (fk_operand){0};
        a.a = to;
        all.k->forward(&a);
    }
}

/* The planes, converted: of one channel vector, or of all that lie side by side. */
static void convert_planes(const fk_norm_kernels *kernels, fk_operand to, fk_operand from,
                           const fk_planes *at)
{
    for (size_t i = 0; i < at->images; i++) {
        size_t by = at->first + i * at->image;
        kernels->add(fk_operand_at(to, by), fk_operand_at(from, by), (fk_operand){0},
                     at->pixels * at->pixel);
    }
}

/* The output of slice k to where it is stored, and its moments for the BatchNorm behind. */
void fk_slice_store_output(const fk_plan *p, const fk_step *s, uint32_t k)
{
    const fk_step *behind = p->redoing ? NULL : fk_slice_norm_behind(p, s);
    fk_norm_jobs all = jobs_of(&p->tensors[s->out].lay, s, k);
    fk_operand from = fk_slice_output(p, s, k);
    fk_operand to = stored_output(p, s, k);

    if (!behind && from.data == to.data)
        return;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < all.n; i++) {
        fk_norm_job j = fk_norm_job_at(&all, i);
        if (from.data != to.data)
            convert_planes(fk_norm_for(all.lay->lanes), to, from, &j.at);
        if (behind) {
            double *sums = fk_norm_part_of(p, behind, j.v, j.part);
            fk_norm_args a = {.at = j.at,
                              .y = to,
                              .mean = fk_norm_vector_of(p, behind, FK_NORM_MEAN, j.v),
                              .sums_step = fk_norm_sums_step(all.lay)};
            all.k->moments(&a, sums, sums + all.lay->lanes);
        }
    }
}

/* The gradient of the output of slice k, worked out by the BatchNorm behind, or converted. */
void fk_slice_load_gradient(const fk_plan *p, const fk_step *s, uint32_t k)
{
    const fk_step *behind = fk_slice_norm_behind(p, s);
    fk_norm_jobs all = jobs_of(&p->tensors[s->out].lay, s, k);
    fk_operand to = fk_slice_gradient(p, s, k);

    if (s->buffers[FK_CONV_DY] < 0)
        return;
    if (p->tensors[s->out].grad >= 0) {
        fk_add(to, stored_gradient(p, s, k), (fk_operand){0}, images(s) * all.lay->image);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < all.n; i++) {
        fk_norm_job j = fk_norm_job_at(&all, i);
        fk_norm_args a = norm_slice(p, s, behind, j.v, k);
        a.at = j.at;
        a.dy = to;
        all.k->backward(&a);
    }
}

/* The gradient of the input of slice k to where it is stored; before the activation if that is ours. */
void fk_slice_store_din(const fk_plan *p, const fk_step *s, uint32_t k)
{
    const fk_step *before = fk_slice_norm_before(p, s);
    const fk_lay *lay = &p->tensors[s->in[0]].lay;
    fk_operand from = fk_slice_din(p, s, k);
    fk_operand to = stored_din(p, s, k);

    if (!before) {
        if (from.data != to.data)
            fk_add(to, from, (fk_operand){0}, images(s) * lay->image);
        return;
    }
    fk_norm_jobs all = jobs_of(lay, s, k);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < all.n; i++) {
        fk_norm_job j = fk_norm_job_at(&all, i);
        double *sums = fk_norm_part_of(p, before, j.v, j.part);
        fk_norm_args a = fk_norm_args_of(p, before, j.v);
        a.at = j.at;
        a.y = stored_input(p, s, k);
        a.g = from;
        a.g2 = a.residual = (fk_operand){0};
        a.dz = to;
        a.sums_step = fk_norm_sums_step(lay);
        all.k->sums(&a, sums, sums + lay->lanes);
    }
}
