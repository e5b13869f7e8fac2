/* 3x3 convolutions in bf16 by our own Winograd kernels (kernel/winograd.h), where values have their channels last and the processor
 * has instructions for bf16 but no matrix tiles: oneDNN has Winograd's only in f32. In inference with BatchNorm, residual and
 * activation inside, in training in all directions. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "engine/tune.h"
#include "kernel/tiles.h"
#include "kernel/winograd.h"

enum { WEIGHTS, BACK_WEIGHTS, BIAS, ROOM, ROOM_BACK, INPUTS, GRADIENTS, SUMS };

/* --- which ----------------------------------------------------------------------------------- */

static fk_winograd_maps maps_of(const fk_shape *src, int64_t out)
{
    return (fk_winograd_maps){.images = (size_t)src->d[0],
                              .height = (size_t)src->d[2],
                              .width = (size_t)src->d[3],
                              .in = (size_t)src->d[1],
                              .out = (size_t)out};
}

static bool is_3x3(const fk_window *w)
{
    for (int i = 0; i < 2; i++) {
        if (w->kernel[i] != 3 || w->stride[i] != 1 || w->dilation[i] != 1 || w->begin[i] != 1 ||
            w->end[i] != 1)
            return false;
    }
    return true;
}

/* FERKD_WINOGRAD in the environment: "always" (where it can be), "never"; else where it is faster. */
static bool is_said(const char *what)
{
    const char *word = getenv("FERKD_WINOGRAD");

    return word && strcmp(word, what) == 0;
}

/* Without measuring: transforms cost more than they save where channels are few (measured: 32 to 32 break even), and
 * each thread should have some rows. */
static bool pays_by_rule(const fk_plan *p, const fk_winograd_maps *m)
{
    return m->in * m->out >= 32 * (m->in + m->out) && fk_winograd_rows(m) >= 8 * p->threads;
}

bool fk_has_own_winograd(void)
{
    return fk_winograd_best() && !fk_tiles_here() && !is_said("never");
}

bool fk_conv_suits_winograd(const fk_plan *p, const fk_conv_args *a)
{
    if (!p->half_conv || p->o.direct || p->o.layout != FK_LAYOUT_LAST || !fk_has_own_winograd() ||
        a->groups != 1 || a->src.n != 4 || !is_3x3(&a->window))
        return false;
    return a->src.d[1] % 16 == 0 && a->dst.d[1] % 16 == 0 && !(p->o.train && a->bias) &&
           (!a->post.n || fk_rows_have_act(a->post.kind));
}

/* --- by all threads --------------------------------------------------------------------------- */

static size_t room_of(const fk_winograd_maps *m)
{
    return (fk_winograd_room(m) + 15) / 16 * 16;
}

static void run_rows(const fk_plan *p, const fk_winograd_forward *k, float *room)
{
    const fk_winograd_kernels *kernels = fk_winograd_best();
    size_t rows = fk_winograd_rows(&k->maps);

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t t = 0; t < p->threads; t++) {
        size_t first = rows * t / p->threads;
        kernels->forward(k, first, rows * (t + 1) / p->threads - first,
                         room + t * room_of(&k->maps));
    }
}

static size_t rows_at_once(const fk_winograd_maps *m)
{
    return fk_min_size(fk_winograd_rows_weights(m), fk_winograd_rows(m));
}

/* All threads spread some rows out, then all multiply them: each its own part of the sums, which are the same for any number of
 * threads. */
static void run_weights(const fk_plan *p, const fk_winograd_weights *all)
{
    const fk_winograd_kernels *kernels = fk_winograd_best();
    size_t rows = fk_winograd_rows(&all->maps);
    size_t once = rows_at_once(&all->maps);

#pragma omp parallel num_threads((int)p->threads)
    {
        fk_winograd_weights k = *all;
        for (size_t at = 0; at < rows; at += once) {
            k.rows = fk_min_size(once, rows - at);
#pragma omp for schedule(static)
            for (size_t i = 0; i < k.rows; i++)
                kernels->spread(&k, at + i, i);
#pragma omp for schedule(static)
            for (size_t part = 0; part < fk_winograd_parts(&k.maps, kernels->lanes); part++)
                kernels->multiply(&k, part, at > 0);
        }
#pragma omp for schedule(static)
        for (size_t o = 0; o < k.maps.out; o++)
            kernels->collect(&k, o);
    }
}

/* --- measuring ------------------------------------------------------------------------------- */

static fk_winograd_maps turned(const fk_winograd_maps *m)
{
    fk_winograd_maps back = *m;

    back.in = m->out;
    back.out = m->in;
    back.x = m->y;
    back.y = m->x;
    return back;
}

/* Memory for all directions of a convolution that is only measured. */
typedef struct trial {
    uint16_t *x, *y, *weights, *inputs, *gradients;
    float *room, *sums, *dw;
} trial;

static void free_trial(trial *t)
{
    free(t->x), free(t->y), free(t->weights), free(t->inputs), free(t->gradients);
    free(t->room), free(t->sums), free(t->dw);
}

static ferkd_status new_trial(const fk_plan *p, const fk_winograd_maps *m, trial *t)
{
    static const char WHAT[] = "measuring convolutions";
    fk_winograd_maps back = turned(m);
    size_t pixels = m->images * m->height * m->width;
    size_t rows = rows_at_once(m);
    size_t room = p->threads * fk_max_size(room_of(m), room_of(&back));
    size_t sums = FK_WINOGRAD_SPOTS * m->in * m->out;

    TRY(fk_calloc_aligned(&t->x, pixels * m->in * sizeof *t->x, WHAT));
    TRY(fk_calloc_aligned(&t->y, pixels * m->out * sizeof *t->y, WHAT));
    TRY(fk_calloc_aligned(&t->weights, fk_winograd_packed(m) * sizeof *t->weights, WHAT));
    TRY(fk_calloc_aligned(&t->inputs, fk_winograd_spread(m, m->in, rows) * sizeof *t->inputs,
                          WHAT));
    TRY(fk_calloc_aligned(&t->gradients, fk_winograd_spread(m, m->out, rows) * sizeof *t->gradients,
                          WHAT));
    TRY(fk_calloc_aligned(&t->room, room * sizeof *t->room, WHAT));
    TRY(fk_calloc_aligned(&t->sums, sums * sizeof *t->sums, WHAT));
    return fk_calloc_aligned(&t->dw, 9 * m->in * m->out * sizeof *t->dw, WHAT);
}

/* Seconds of one run, with the gradients in training. */
static double time_once(const fk_plan *p, const fk_winograd_maps *m, const trial *t, bool train)
{
    fk_winograd_forward forward = {.maps = *m, .weights = t->weights};
    fk_winograd_forward back = {.maps = turned(m), .weights = t->weights};
    fk_winograd_weights weights = {
        .maps = *m, .inputs = t->inputs, .gradients = t->gradients, .sums = t->sums, .dw = t->dw};
    double start = fk_now_s();

    run_rows(p, &forward, t->room);
    if (train) {
        run_rows(p, &back, t->room);
        run_weights(p, &weights);
    }
    return fk_now_s() - start;
}

static ferkd_status time_own(fk_plan *p, const fk_conv_args *a, double *seconds)
{
    fk_winograd_maps m = maps_of(&a->src, a->dst.d[1]);
    trial t = {0};
    ferkd_status st = new_trial(p, &m, &t);

    *seconds = INFINITY;
    m.x = t.x;
    m.y = t.y;
    for (int i = 0; st == FERKD_OK && i < 4; i++) {
        double once = time_once(p, &m, &t, p->o.train);
        *seconds = i ? fmin(*seconds, once) : *seconds; /* the first one only warms */
    }
    free_trial(&t);
    return st;
}

ferkd_status fk_conv_winograd_wins(fk_plan *p, const fk_conv_args *a, bool *wins)
{
    fk_winograd_maps m = maps_of(&a->src, a->dst.d[1]);
    fk_conv_args direct = *a;
    fk_md *src = NULL;
    fk_md *dst = NULL;
    ferkd_status st = FERKD_OK;

    *wins = is_said("always") || pays_by_rule(p, &m);
    if (is_said("always") || fk_tuner_mode(p->o.tuner) == FK_TUNE_OFF)
        return FERKD_OK;
    TRY_DONE(fk_md_last(&src, &a->src, true));
    TRY_DONE(fk_md_last(&dst, &a->dst, true));
    direct.src_md = src;
    direct.dst_md = dst;
    st = fk_conv_against(p, &direct, "own winograd", time_own, wins);
done:
    fk_md_free(src);
    fk_md_free(dst);
    return st;
}

/* --- running --------------------------------------------------------------------------------- */

static uint16_t *values_of(const fk_plan *p, const fk_step *s, fk_ref r)
{
    return fk_ref_pointer(p, s, r);
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    fk_winograd_forward k = {.maps = maps_of(&p->tensors[s->in[0]].shape, s->node->shape.d[1]),
                             .weights = fk_buffer_at(p, s->buffers[WEIGHTS]),
                             .bias = fk_conv_bias(p, s, BIAS),
                             .add = s->residual >= 0, /* it is where the output goes */
                             .act = s->post};

    k.maps.x = values_of(p, s, (fk_ref){FK_REF_DATA, s->in[0]});
    k.maps.y = values_of(p, s, (fk_ref){FK_REF_DATA, s->out});
    run_rows(p, &k, fk_buffer_at(p, s->buffers[ROOM]));
    return FERKD_OK;
}

/* The gradient of the input is the convolution of the output's with the weights turned around. */
static void data_gradient(const fk_plan *p, const fk_step *s)
{
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    fk_winograd_forward k = {.maps = maps_of(&s->node->shape, in->d[1]),
                             .weights = fk_buffer_at(p, s->buffers[BACK_WEIGHTS])};

    k.maps.x = values_of(p, s, (fk_ref){FK_REF_GRAD, s->out});
    k.maps.y = values_of(p, s, (fk_ref){FK_REF_DIN, 0});
    run_rows(p, &k, fk_buffer_at(p, s->buffers[ROOM_BACK]));
}

static void weight_gradient(const fk_plan *p, const fk_step *s)
{
    fk_winograd_weights k = {.maps = maps_of(&p->tensors[s->in[0]].shape, s->node->shape.d[1]),
                             .inputs = fk_buffer_at(p, s->buffers[INPUTS]),
                             .gradients = fk_buffer_at(p, s->buffers[GRADIENTS]),
                             .sums = fk_buffer_at(p, s->buffers[SUMS]),
                             .dw = fk_ref_pointer(p, s, (fk_ref){FK_REF_GRADS, s->node->param[0]})};

    k.maps.x = values_of(p, s, (fk_ref){FK_REF_DATA, s->in[0]});
    k.maps.y = values_of(p, s, (fk_ref){FK_REF_GRAD, s->out});
    run_weights(p, &k);
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    weight_gradient(p, s);
    if (fk_wants_din(p, s, 0))
        data_gradient(p, s);
    return FERKD_OK;
}

static void pack(const fk_plan *p, const fk_step *s, const float *weights, bool back)
{
    const fk_winograd_kernels *kernels = fk_winograd_best();
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;
    fk_winograd_pack k = {.weights = weights,
                          .outputs = (size_t)w->d[0],
                          .inputs = (size_t)w->d[1],
                          .back = back,
                          .to = fk_buffer_at(p, s->buffers[back ? BACK_WEIGHTS : WEIGHTS])};

#pragma omp parallel for schedule(static) num_threads((int)p->threads)
    for (size_t b = 0; b < fk_winograd_blocks(back ? k.inputs : k.outputs, kernels->lanes); b++)
        kernels->pack(&k, b);
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    const float *weights = fk_graph_values(p->g, s->node->param[0]);

    if (s->folded) {
        fk_load_conv_weights(p, s, fk_buffer_at(p, s->buffers[BIAS]));
        weights = p->scratch;
    }
    pack(p, s, weights, false);
    if (s->buffers[BACK_WEIGHTS] >= 0)
        pack(p, s, weights, true);
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

static ferkd_status compile_gradients(fk_plan *p, fk_step *s, const fk_winograd_maps *m)
{
    size_t rows = rows_at_once(m);
    fk_winograd_maps back = turned(m);

    fk_step_keep(p, s->in[0], s);
    TRY(fk_step_buffer(p, s, INPUTS, fk_winograd_spread(m, m->in, rows) * sizeof(uint16_t),
                       FK_LIFE_BACKWARD));
    TRY(fk_step_buffer(p, s, GRADIENTS, fk_winograd_spread(m, m->out, rows) * sizeof(uint16_t),
                       FK_LIFE_BACKWARD));
    TRY(fk_step_buffer(p, s, SUMS, FK_WINOGRAD_SPOTS * m->in * m->out * sizeof(float),
                       FK_LIFE_BACKWARD));
    if (!fk_wants_din(p, s, 0))
        return FERKD_OK;
    TRY(fk_step_buffer(p, s, BACK_WEIGHTS, fk_winograd_packed(m) * sizeof(uint16_t),
                       FK_LIFE_ALWAYS));
    return fk_step_buffer(p, s, ROOM_BACK, p->threads * room_of(&back) * sizeof(float),
                          FK_LIFE_BACKWARD);
}

static ferkd_status compile_buffers(fk_plan *p, fk_step *s)
{
    fk_winograd_maps m = maps_of(&p->tensors[s->in[0]].shape, s->node->shape.d[1]);

    if (s->folded)
        TRY(fk_step_buffer(p, s, BIAS, m.out * sizeof(float), FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, WEIGHTS, fk_winograd_packed(&m) * sizeof(uint16_t), FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, ROOM, p->threads * room_of(&m) * sizeof(float), FK_LIFE_FORWARD));
    return p->o.train ? compile_gradients(p, s, &m) : FERKD_OK;
}

ferkd_status fk_compile_winograd(fk_plan *p, const fk_node *n, int in, const fk_tail *tail,
                                 const fk_node *norm)
{
    fk_step *s = NULL;
    fk_md *src = NULL;
    fk_md *dst = NULL;
    int residual = tail->residual;
    ferkd_status st = FERKD_OK;

    TRY(fk_md_last(&src, &p->tensors[in].shape, true));
    TRY_DONE(fk_md_last(&dst, &n->shape, true));
    TRY_DONE(fk_want(p, in, src, &in));
    if (residual >= 0)
        TRY_DONE(fk_want(p, residual, dst, &residual));
    TRY_DONE(fk_step_new(p, &s, n, residual >= 0 ? 2 : 1));
    s->in[0] = in;
    if (residual >= 0)
        s->in[1] = s->residual = residual;
    s->kind = FK_KIND_CONV;
    s->forward = forward;
    s->backward = backward;
    s->refresh = refresh;
    s->folded = norm;
    s->post = tail->post;
    fk_md *mine = dst;
    dst = NULL;
    if (residual >= 0)
        TRY_DONE(fk_step_output_in(p, s, mine, &n->shape, tail->id, residual));
    else
        TRY_DONE(fk_step_output(p, s, mine, &n->shape, tail->id));
    st = compile_buffers(p, s);
done:
    fk_md_free(src);
    fk_md_free(dst);
    return st;
}
