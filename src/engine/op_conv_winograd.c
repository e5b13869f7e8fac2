/* 3x3 convolutions by our own Winograd kernels (kernel/winograd.h): in bf16 with channels last, where the processor has instructions
 * for it but no matrix tiles; in f32, with stride 2 as well, with AVX-512. In inference with BatchNorm, residual and activation inside,
 * in training in all directions; then weights are packed where they are used, so that they come from a cache and take no memory for long. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "base/switches.h"
#include "engine/conv_winograd.h"
#include "engine/tune.h"
#include "kernel/tiles.h"

enum { WEIGHTS, BIAS, ROOM, ROOM_DATA, ROOM_WEIGHTS };

/* --- which ----------------------------------------------------------------------------------- */

/* The map of a shape in that layout. */
static fk_winograd_map map_of(const fk_plan *p, const fk_shape *shape, void *data)
{
    size_t lanes = (size_t)fk_dn_lanes();
    size_t channels = (size_t)shape->d[1];
    size_t height = (size_t)shape->d[2];
    size_t width = (size_t)shape->d[3];
    bool last = p->o.layout == FK_LAYOUT_LAST;

    return (fk_winograd_map){.data = data,
                             .height = height,
                             .width = width,
                             .image = channels * height * width,
                             .vector = last ? lanes : lanes * height * width,
                             .pixel = last ? channels : lanes};
}

/* Of one pixel stride 2 makes the same one as stride 1. */
static fk_winograd_kind kind_of(const fk_plan *p, const fk_shape *src, const fk_shape *dst)
{
    if (src->d[2] != dst->d[2] || src->d[3] != dst->d[3])
        return FK_WINOGRAD_STRIDED;
    return p->half_conv ? FK_WINOGRAD_2 : FK_WINOGRAD_4;
}

static fk_winograd_maps maps_of(const fk_plan *p, const fk_shape *src, void *x, const fk_shape *dst,
                                void *y)
{
    return (fk_winograd_maps){.kind = kind_of(p, src, dst),
                              .images = (size_t)src->d[0],
                              .in = (size_t)src->d[1],
                              .out = (size_t)dst->d[1],
                              .x = map_of(p, src, x),
                              .y = map_of(p, dst, y)};
}

/* 3x3, a pixel of padding around; with stride 2 there may be none behind the last pixels where no window reads it. */
static bool is_ours(const fk_plan *p, const fk_conv_args *a)
{
    const fk_window *w = &a->window;
    int64_t stride = w->stride[0];
    bool strided = stride == 2 && !p->half_conv;

    if (!fk_is_3x3(a) || w->stride[1] != stride || (stride != 1 && !strided))
        return false;
    for (int i = 0; i < 2; i++)
        if (w->begin[i] != 1 || a->dst.d[2 + i] != (a->src.d[2 + i] + stride - 1) / stride)
            return false;
    return true;
}

/* Else it is used where it is faster. */
static bool is_said(const char *word)
{
    return fk_switch_is("FERKD_WINOGRAD", word);
}

/* Without measuring: transforms cost more than they save where channels are few (measured: 32 to 32 break even), and
 * each thread should have some rows. */
static bool pays_by_rule(const fk_plan *p, const fk_winograd_maps *m)
{
    return m->in * m->out >= 32 * (m->in + m->out) && fk_winograd_rows(m) >= 8 * p->threads;
}

bool fk_has_own_winograd(bool half)
{
    const fk_winograd_kernels *kernels = fk_winograd_best(half ? FK_WINOGRAD_2 : FK_WINOGRAD_4);

    return kernels && fk_dn_lanes() == kernels->lanes && !(half && fk_tiles_here()) &&
           !is_said("never");
}

bool fk_conv_suits_winograd(const fk_plan *p, const fk_conv_args *a)
{
    if (p->o.direct || p->o.half != p->half_conv ||
        (p->half_conv && p->o.layout != FK_LAYOUT_LAST) || !fk_has_own_winograd(p->half_conv) ||
        a->src.n != 4 || !is_ours(p, a))
        return false;
    return !(p->o.train && a->bias) && (!a->post.n || fk_rows_have_act(a->post.kind));
}

/* Bytes of all weights, packed. */
static size_t all_packed(const fk_winograd_maps *m)
{
    return fk_winograd_packed(m, fk_winograd_blocks(m)) * sizeof(uint32_t);
}

/* --- measuring ------------------------------------------------------------------------------- */

static fk_winograd_maps turned(const fk_winograd_maps *m)
{
    fk_winograd_maps back = *m;

    back.kind = m->kind == FK_WINOGRAD_STRIDED ? FK_WINOGRAD_RETURN : m->kind;
    back.in = m->out;
    back.out = m->in;
    back.x = m->y;
    back.y = m->x;
    back.norm = NULL;
    return back;
}

/* Memory for all directions of a convolution that is only measured. */
typedef struct trial {
    void *x, *y, *room;
    uint32_t *packed;
    float *weights, *dw;
} trial;

static void free_trial(trial *t)
{
    free(t->x), free(t->y), free(t->room), free(t->packed), free(t->weights), free(t->dw);
}

static ferkd_status new_trial(const fk_plan *p, const fk_winograd_maps *m, trial *t)
{
    static const char WHAT[] = "measuring convolutions";
    fk_winograd_maps back = turned(m);
    size_t size = p->half_conv ? sizeof(uint16_t) : sizeof(float);
    size_t weights = 9 * m->in * m->out;
    size_t room = fk_winograd_forward_bytes(m, p->threads, p->o.train);

    if (p->o.train) {
        room = fk_max_size(room, fk_winograd_forward_bytes(&back, p->threads, true));
        room = fk_max_size(room, fk_winograd_weights_bytes(m, p->threads));
    }
    TRY(fk_calloc_aligned(&t->x, m->images * m->x.image * size, WHAT));
    TRY(fk_calloc_aligned(&t->y, m->images * m->y.image * size, WHAT));
    TRY(fk_calloc_aligned(&t->room, room, WHAT));
    TRY(fk_calloc_aligned(&t->packed, all_packed(m), WHAT));
    TRY(fk_calloc_aligned(&t->weights, weights * sizeof *t->weights, WHAT));
    return fk_calloc_aligned(&t->dw, weights * sizeof *t->dw, WHAT);
}

/* Seconds of one run; in training with the gradients. */
static double time_once(const fk_plan *p, const fk_winograd_maps *m, const trial *t)
{
    fk_winograd_forward forward = {.maps = *m, .weights = t->packed};
    fk_winograd_forward back = {.maps = turned(m)};
    fk_winograd_weights weights = {.maps = *m, .dw = t->dw};
    fk_winograd_pack pack = {.weights = t->weights, .outputs = m->out, .inputs = m->in};
    double start = fk_now_s();

    fk_winograd_run_forward(p->threads, &forward, p->o.train ? &pack : NULL, t->room);
    if (p->o.train) {
        pack.back = true;
        fk_winograd_run_forward(p->threads, &back, &pack, t->room);
        fk_winograd_run_weights(p->threads, &weights, t->room);
    }
    return fk_now_s() - start;
}

static ferkd_status time_own(fk_plan *p, const fk_conv_args *a, double *seconds)
{
    fk_winograd_maps m = maps_of(p, &a->src, NULL, &a->dst, NULL);
    trial t = {0};
    ferkd_status st = new_trial(p, &m, &t);

    *seconds = INFINITY;
    m.x.data = t.x;
    m.y.data = t.y;
    for (int i = 0; st == FERKD_OK && i < 4; i++) {
        double once = time_once(p, &m, &t);
        *seconds = i ? fmin(*seconds, once) : *seconds; /* the first one only warms */
    }
    free_trial(&t);
    return st;
}

ferkd_status fk_conv_winograd_wins(fk_plan *p, const fk_conv_args *a, bool *wins)
{
    fk_winograd_maps m = maps_of(p, &a->src, NULL, &a->dst, NULL);

    *wins = is_said("always") || pays_by_rule(p, &m);
    if (is_said("always") || fk_tuner_mode(p->o.tuner) == FK_TUNE_OFF)
        return FERKD_OK;
    return fk_conv_against(p, a, "own winograd", time_own, wins);
}

/* --- running --------------------------------------------------------------------------------- */

/* The BatchNorm that left its work to us, as the kernels take it: true if there is one. */
static bool norm_before(const fk_plan *p, const fk_step *s, fk_winograd_norm *norm)
{
    int lazy = p->tensors[s->in[0]].lazy;
    const fk_step *before = lazy < 0 ? NULL : p->steps[lazy];

    if (!before)
        return false;
    fk_post act = before->post;
    *norm = (fk_winograd_norm){.mean = fk_norm_vector_of(p, before, FK_NORM_MEAN, 0),
                               .scale = fk_norm_vector_of(p, before, FK_NORM_SCALE, 0),
                               .shift = fk_norm_vector_of(p, before, FK_NORM_SHIFT, 0),
                               .low = !act.n                ? -INFINITY
                                      : act.kind == FK_CLIP ? act.a
                                                            : 0.0f,
                               .high = act.n && act.kind == FK_CLIP ? act.b : INFINITY};
    return true;
}

/* Its maps, with the values at x and y. */
static fk_winograd_maps maps_at(const fk_plan *p, const fk_step *s, fk_ref x, fk_ref y)
{
    return maps_of(p, &p->tensors[s->in[0]].shape, fk_ref_pointer(p, s, x), &s->node->shape,
                   fk_ref_pointer(p, s, y));
}

static fk_winograd_pack pack_of(const fk_plan *p, const fk_step *s, bool back)
{
    const fk_shape *w = &p->g->params[s->node->param[0]].shape;

    return (fk_winograd_pack){.weights = fk_graph_values(p->g, s->node->param[0]),
                              .outputs = (size_t)w->d[0],
                              .inputs = (size_t)w->d[1],
                              .back = back};
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    fk_winograd_forward k = {
        .maps = maps_at(p, s, (fk_ref){FK_REF_DATA, s->in[0]}, (fk_ref){FK_REF_DATA, s->out}),
        .weights = s->buffers[WEIGHTS] >= 0 ? fk_buffer_at(p, s->buffers[WEIGHTS]) : NULL,
        .bias = fk_conv_bias(p, s, BIAS),
        .add = s->residual >= 0, /* it is where the output goes */
        .act = s->post};
    fk_winograd_pack pack = pack_of(p, s, false);
    fk_winograd_norm norm;

    if (norm_before(p, s, &norm))
        k.maps.norm = &norm;

    fk_winograd_run_forward(p->threads, &k, p->o.train ? &pack : NULL,
                            fk_buffer_at(p, s->buffers[ROOM]));
    return FERKD_OK;
}

static ferkd_status backward(fk_plan *p, fk_step *s)
{
    fk_winograd_weights k = {
        .maps = maps_at(p, s, (fk_ref){FK_REF_DATA, s->in[0]}, (fk_ref){FK_REF_GRAD, s->out}),
        .dw = fk_ref_pointer(p, s, (fk_ref){FK_REF_GRADS, s->node->param[0]})};
    fk_winograd_norm norm;

    if (norm_before(p, s, &norm))
        k.maps.norm = &norm;
    fk_winograd_run_weights(p->threads, &k, fk_buffer_at(p, s->buffers[ROOM_WEIGHTS]));
    if (!fk_wants_din(p, s, 0))
        return FERKD_OK;
    /* The gradient of the input is the convolution of the output's with the weights turned around. */
    fk_winograd_maps m = maps_at(p, s, (fk_ref){FK_REF_DIN, 0}, (fk_ref){FK_REF_GRAD, s->out});
    fk_winograd_forward back = {.maps = turned(&m)};
    fk_winograd_pack pack = pack_of(p, s, true);
    fk_winograd_run_forward(p->threads, &back, &pack, fk_buffer_at(p, s->buffers[ROOM_DATA]));
    return FERKD_OK;
}

/* In inference weights stay as they are. */
static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    fk_winograd_pack pack = pack_of(p, s, false);
    fk_winograd_maps m = maps_of(p, &p->tensors[s->in[0]].shape, NULL, &s->node->shape, NULL);

    if (p->o.train)
        return FERKD_OK;
    pack.to = fk_buffer_at(p, s->buffers[WEIGHTS]);
    if (s->folded) {
        fk_load_conv_weights(p, s, fk_buffer_at(p, s->buffers[BIAS]));
        pack.weights = p->scratch;
    }
    fk_winograd_pack_all(p->threads, &pack, &m);
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

bool fk_winograd_normalises(fk_plan *p, const fk_node *n, const fk_md *md, fk_post act)
{
    fk_conv_args a = fk_training_conv(p, n);
    fk_md *mine = NULL;
    bool can = (!act.n || act.kind == FK_RELU || act.kind == FK_CLIP) && !fk_is_patches(p, n);

    if (!can || !fk_conv_suits_winograd(p, &a) || fk_conv_winograd_wins(p, &a, &can) != FERKD_OK ||
        !can || fk_md_own(p, &a.src, &mine) != FERKD_OK)
        return false;
    can = fk_md_equal(mine, md);
    fk_md_free(mine);
    return can;
}

static ferkd_status compile_gradients(fk_plan *p, fk_step *s, const fk_winograd_maps *m)
{
    fk_winograd_maps back = turned(m);

    fk_step_keep(p, s->in[0], s);
    TRY(fk_step_buffer(p, s, ROOM_WEIGHTS, fk_winograd_weights_bytes(m, p->threads),
                       FK_LIFE_BACKWARD));
    if (!fk_wants_din(p, s, 0))
        return FERKD_OK;
    return fk_step_buffer(p, s, ROOM_DATA, fk_winograd_forward_bytes(&back, p->threads, true),
                          FK_LIFE_BACKWARD);
}

static ferkd_status compile_buffers(fk_plan *p, fk_step *s)
{
    fk_winograd_maps m = maps_of(p, &p->tensors[s->in[0]].shape, NULL, &s->node->shape, NULL);

    if (s->folded)
        TRY(fk_step_buffer(p, s, BIAS, m.out * sizeof(float), FK_LIFE_ALWAYS));
    TRY(fk_step_buffer(p, s, ROOM, fk_winograd_forward_bytes(&m, p->threads, p->o.train),
                       FK_LIFE_FORWARD));
    return p->o.train ? compile_gradients(p, s, &m)
                      : fk_step_buffer(p, s, WEIGHTS, all_packed(&m), FK_LIFE_ALWAYS);
}

ferkd_status fk_compile_winograd(fk_plan *p, const fk_node *n, int in, const fk_tail *tail,
                                 const fk_node *norm)
{
    fk_step *s = NULL;
    fk_md *src = NULL;
    fk_md *dst = NULL;
    int residual = tail->residual;
    ferkd_status st = FERKD_OK;

    TRY(fk_md_own(p, &p->tensors[in].shape, &src));
    TRY_DONE(fk_md_own(p, &n->shape, &dst));
    if (p->tensors[in].lazy < 0)
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
