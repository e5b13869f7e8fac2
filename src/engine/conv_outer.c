/* The gradient of a 1x1 convolution's weights by our own sums of outer products (kernel/outer.h), in bf16 with channels last. oneDNN's product of
 * so many pixels and so few channels turns the larger matrix around first; the sums go once through both. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "engine/tune.h"
#include "kernel/outer.h"

/* The narrower side is the rows; turned: that is the input. */
typedef struct sides {
    size_t pixels, in, out, rows, columns;
    bool turned;
} sides;

static sides sides_of(const fk_shape *src, const fk_shape *dst)
{
    sides z = {.pixels = (size_t)(src->d[0] * src->d[2] * src->d[3]),
               .in = (size_t)src->d[1],
               .out = (size_t)dst->d[1]};

    z.turned = z.in < z.out;
    z.rows = fk_min_size(z.in, z.out);
    z.columns = fk_max_size(z.in, z.out);
    return z;
}

static size_t sums_of(const sides *z)
{
    return z->rows * fk_outer_stride(z->columns);
}

/* Words of one thread: sums and room. */
static size_t each_of(const sides *z)
{
    return (sums_of(z) + fk_outer_room(z->rows, z->columns) + 15) / 16 * 16;
}

size_t fk_outer_bytes(const fk_plan *p, const fk_shape *src, const fk_shape *dst)
{
    sides z = sides_of(src, dst);

    return p->threads * each_of(&z) * sizeof(float);
}

/* dw [out][in], from the sums of all threads, in their order. */
static void collect(size_t threads, const sides *z, const float *sums, float *dw)
{
    size_t stride = fk_outer_stride(z->columns);
    size_t each = each_of(z);

#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t r = 0; r < z->rows; r++)
        for (size_t c = 0; c < z->columns; c++) {
            float sum = 0.0f;
            for (size_t t = 0; t < threads; t++)
                sum += sums[t * each + r * stride + c];
            dw[z->turned ? c * z->in + r : r * z->in + c] = sum;
        }
}

/* Of one thread, whose sums and room begin at `mine`. */
static void add_some(const sides *z, const uint16_t *x, const uint16_t *dy, size_t pixels, bool add,
                     float *mine)
{
    fk_outer k = {.pixels = pixels,
                  .rows = z->rows,
                  .columns = z->columns,
                  .a = z->turned ? x : dy,
                  .b = z->turned ? dy : x,
                  .sums = mine,
                  .add = add,
                  .room = (uint32_t *)(mine + sums_of(z))};

    fk_outer_best()(&k);
}

/* Each thread some pixels: whole pairs, but the last. */
static void add_up(size_t threads, const sides *z, const uint16_t *x, const uint16_t *dy, bool add,
                   float *room)
{
    size_t pairs = (z->pixels + 1) / 2;

#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t t = 0; t < threads; t++) {
        size_t first = 2 * (pairs * t / threads);
        size_t end = fk_min_size(2 * (pairs * (t + 1) / threads), z->pixels);
        add_some(z, x + first * z->in, dy + first * z->out, end - first, add,
                 room + t * each_of(z));
    }
}

static void run(size_t threads, const sides *z, const uint16_t *x, const uint16_t *dy, float *room,
                float *dw)
{
    add_up(threads, z, x, dy, false, room);
    collect(threads, z, room, dw);
}

void fk_outer_sums(const fk_plan *p, const fk_outer_values *z, bool add, void *room)
{
    sides all = sides_of(z->src, z->dst);

    add_up(p->threads, &all, z->x, z->dy, add, room);
}

void fk_outer_sums_by(const fk_outer_values *z, size_t pixels, bool add, size_t t, void *room)
{
    sides all = sides_of(z->src, z->dst);

    add_some(&all, z->x, z->dy, pixels, add, (float *)room + t * each_of(&all));
}

void fk_outer_collect(const fk_plan *p, const fk_outer_values *z, const void *room, float *dw)
{
    sides all = sides_of(z->src, z->dst);

    collect(p->threads, &all, room, dw);
}

void fk_run_outer(const fk_plan *p, const fk_step *s, void *room)
{
    sides z = sides_of(&p->tensors[s->in[0]].shape, &p->tensors[s->out].shape);

    run(p->threads, &z, fk_ref_pointer(p, s, (fk_ref){FK_REF_DATA, s->in[0]}),
        fk_ref_pointer(p, s, (fk_ref){FK_REF_GRAD, s->out}), room,
        fk_ref_pointer(p, s, (fk_ref){FK_REF_GRADS, s->node->param[0]}));
}

/* --- when it is faster ----------------------------------------------------------------------- */

static ferkd_status time_own(fk_plan *p, const fk_conv_args *a, double *seconds)
{
    static const char WHAT[] = "measuring convolutions";
    sides z = sides_of(&a->src, &a->dst);
    uint16_t *x = NULL;
    uint16_t *dy = NULL;
    float *room = NULL;
    float *dw = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_calloc_aligned(&x, z.pixels * z.in * sizeof *x, WHAT));
    TRY_DONE(fk_calloc_aligned(&dy, z.pixels * z.out * sizeof *dy, WHAT));
    TRY_DONE(fk_calloc_aligned(&room, fk_outer_bytes(p, &a->src, &a->dst), WHAT));
    TRY_DONE(fk_calloc_aligned(&dw, z.in * z.out * sizeof *dw, WHAT));
    *seconds = INFINITY;
    for (int i = 0; i < 4; i++) {
        double start = fk_now_s();
        run(p->threads, &z, x, dy, room, dw);
        *seconds = i ? fmin(*seconds, fk_now_s() - start) : *seconds; /* the first one only warms */
    }
done:
    free(x), free(dy), free(room), free(dw);
    return st;
}

ferkd_status fk_outer_wins(fk_plan *p, const fk_conv_args *a, bool *wins)
{
    sides z = sides_of(&a->src, &a->dst);

    *wins = false;
    if (!fk_outer_best() || !fk_is_weights_product(a) || fk_patches_bytes(a) != 0)
        return FERKD_OK;
    *wins = z.rows <= 32; /* not measured: what was faster where it was */
    return fk_tuner_mode(p->o.tuner) == FK_TUNE_OFF
               ? FERKD_OK
               : fk_weights_against(p, a, "own sums", time_own, wins);
}
