/* LayerNorm (Ba et al. 2016) over the last dimension, where no matrix product takes it in (op_linear.c). */
#include "base/compat.h"

#include "engine/step.h"

enum { SUMS };

#define ROWS 64 /* a thread's piece */

static fk_row_norm args_of(const fk_plan *p, const fk_step *s, size_t first, size_t rows)
{
    const fk_node *n = s->node;
    size_t width = (size_t)n->shape.d[n->shape.n - 1];

    return (fk_row_norm){
        .rows = rows,
        .n = width,
        .eps = (float)n->u.norm.eps,
        .x = fk_operand_at(fk_data_operand(p, s->in[0]), first * width),
        .weight = n->param[0] >= 0 ? fk_graph_values(p->g, n->param[0]) : NULL,
        .bias = n->param[1] >= 0 ? fk_graph_values(p->g, n->param[1]) : NULL,
    };
}

static size_t rows_of(const fk_step *s)
{
    const fk_shape *shape = &s->node->shape;

    return (size_t)(fk_shape_count(shape) / shape->d[shape->n - 1]);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    size_t rows = rows_of(s);
    size_t width = (size_t)s->node->shape.d[s->node->shape.n - 1];
    fk_operand y = fk_data_operand(p, s->out);

#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r += ROWS) {
        fk_row_norm k = args_of(p, s, r, fk_min_size(ROWS, rows - r));
        k.y = fk_operand_at(y, r * width);
        fk_rows_best()->norm(&k);
    }
    return FERKD_OK;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    size_t rows = rows_of(s);
    size_t width = (size_t)s->node->shape.d[s->node->shape.n - 1];
    size_t threads = p->threads;
    float *sums = fk_buffer_at(p, s->buffers[SUMS]); /* [threads][2][width] */
    fk_operand dy = {fk_grad(p, s->out), fk_data_type_half(p, s->out)};
    fk_operand dx = {fk_wants_din(p, s, 0) ? fk_din(p, s, 0) : NULL,
                     fk_data_type_half(p, s->in[0])};

    memset(sums, 0, threads * 2 * width * sizeof *sums);
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t t = 0; t < threads; t++) {
        size_t first = rows * t / threads;
        fk_row_norm k = args_of(p, s, first, rows * (t + 1) / threads - first);
        k.dy = fk_operand_at(dy, first * width);
        k.dx = fk_operand_at(dx, first * width);
        k.dweight = s->node->param[0] >= 0 ? sums + 2 * t * width : NULL;
        k.dbias = s->node->param[1] >= 0 ? sums + (2 * t + 1) * width : NULL;
        fk_rows_best()->norm_back(&k);
    }
    for (size_t i = 0; i < 2; i++)
        fk_add_parts(p, s->node->param[i], sums + i * width, 2 * width, threads);
    return FERKD_OK;
}

ferkd_status fk_compile_layernorm(fk_plan *p, const fk_node *n, int id)
{
    size_t width = (size_t)n->shape.d[n->shape.n - 1];
    fk_step *s = NULL;
    fk_md *md = NULL;
    int in;

    if (fk_linear_takes(p, id))
        return FERKD_OK;
    TRY(fk_want_rows(p, p->tensor_of[n->in[0]], &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    s->kind = FK_KIND_NORM;
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_plain(&md, &n->shape));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    fk_step_keep(p, in, s);
    return p->o.train ? fk_step_buffer(p, s, SUMS, p->threads * 2 * width * sizeof(float),
                                       FK_LIFE_BACKWARD)
                      : FERKD_OK;
}
