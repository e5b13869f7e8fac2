/* How fast a model runs or trains here: whole steps on random input, without any data set. */
#include "base/compat.h"

#include "ferkd/train.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/optim.h"
#include "engine/tune.h"
#include "exchange/onnx.h"
#include "net/netfile.h"
#include "train/loss.h"
#include "train/model.h"

struct ferkd_speed {
    ferkd_speed_options o;
    fk_onnx_file *onnx; /* or a model of the zoo */
    fk_tuner *tuner;
    fk_graph *graph;
    fk_plan *plan;
    fk_optim optim;
    float *targets; /* [batch][classes] */
    uint32_t batch, classes;
    uint64_t steps;
    double loss;
    double loss_s, optim_s, refresh_s;
};

ferkd_speed_options ferkd_speed_defaults(void)
{
    return (ferkd_speed_options){
        .model = "resnet18", .batch = 64, .precision = "auto", .tune = "quick"};
}

static ferkd_status build_zoo(const ferkd_speed *s, uint32_t batch, fk_graph **out)
{
    fk_zoo_options z = {.batch = batch,
                        .channels = 3,
                        .size = s->o.size_px ? s->o.size_px : fk_zoo_size(s->o.model),
                        .classes = s->o.classes ? s->o.classes : 1000};

    TRY(fk_zoo_build(out, s->o.model, &z));
    fk_graph_init(*out, 1);
    return FERKD_OK;
}

static ferkd_status make_graph(void *ctx, uint32_t batch, fk_graph **out)
{
    const ferkd_speed *s = ctx;

    return s->onnx ? fk_onnx_graph(s->onnx, batch, s->o.size_px, out) : build_zoo(s, batch, out);
}

/* Random input, random targets that sum to 1. */
static ferkd_status fill(ferkd_speed *s, uint32_t slices)
{
    const fk_shape *in = &s->graph->nodes[s->graph->input].shape;
    const fk_shape *out = &s->graph->nodes[s->graph->output].shape;
    fk_rng r = fk_rng_at(1, FK_RNG_INIT, 0, 0);
    float *x = fk_plan_input(s->plan);

    s->batch = (uint32_t)out->d[0] * slices;
    s->classes = (uint32_t)(fk_shape_count(out) / out->d[0]);
    for (int64_t i = 0; i < fk_shape_count(in) * slices; i++)
        x[i] = (float)(fk_rng_unit(&r) * 4.0 - 2.0);
    TRY(fk_calloc(&s->targets, (size_t)s->batch * s->classes, sizeof *s->targets, "the bench"));
    for (uint32_t i = 0; i < s->batch; i++) {
        fk_label_smoothing(s->targets + (size_t)i * s->classes, s->classes,
                           fk_rng_below(&r, s->classes), 0.1);
    }
    return FERKD_OK;
}

ferkd_status ferkd_speed_open(ferkd_speed **out, const ferkd_speed_options *options)
{
    ferkd_speed *s = NULL;
    fk_plan_options p = {.train = options->train,
                         .profile = options->profile,
                         .max_bytes = options->max_bytes,
                         .lean = options->train && options->lean};
    fk_optim_options o = {.kind = options->lean ? FK_ADAMW : FK_SGD,
                          .half_states = options->lean,
                          .momentum = 0.9,
                          .nesterov = true,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .decay = 5e-4};
    ferkd_status st = FERKD_OK;

    if (options->batch < 1 || options->batch > FK_MAX_BATCH)
        return fk_fail(FERKD_USAGE, "--batch lies between 1 and %u", FK_MAX_BATCH);
    TRY(fk_calloc(&s, 1, sizeof *s, "the bench"));
    s->o = *options;
    if (!fk_is_netfile(options->model) &&
        (fk_ends_with(options->model, ".onnx") || fk_is_file(options->model)))
        TRY_DONE(fk_onnx_open(&s->onnx, options->model));
    TRY_DONE(fk_tuner_new(&s->tuner, options->tune));
    p.tuner = s->tuner;
    TRY_DONE(
        fk_tune_plan(&p, fk_precision_parse(options->precision), make_graph, s, options->batch));
    TRY_DONE(make_graph(s, options->batch / p.slices, &s->graph));
    TRY_DONE(fk_plan_new(&s->plan, s->graph, &p));
    if (options->train)
        TRY_DONE(fk_optim_init(&s->optim, s->graph, &o));
    TRY_DONE(fill(s, p.slices));
    *out = s;
    s = NULL;
done:
    ferkd_speed_close(&s);
    return st;
}

void ferkd_speed_close(ferkd_speed **speed)
{
    ferkd_speed *s = *speed;

    if (!s)
        return;
    fk_plan_free(&s->plan);
    fk_optim_fini(&s->optim);
    fk_graph_free(&s->graph);
    fk_onnx_close(&s->onnx);
    fk_tuner_free(&s->tuner);
    free(s->targets);
    free(s);
    *speed = NULL;
}

static void step_param(void *ctx, size_t param, const float *grad)
{
    ferkd_speed *s = ctx;
    double start = fk_now_s();

    fk_optim_param(&s->optim, s->graph, param, grad);
    s->optim_s += fk_now_s() - start;
}

static ferkd_status train_step(ferkd_speed *s)
{
    TRY(fk_plan_forward(s->plan, s->steps));
    double t0 = fk_now_s();
    double loss = fk_soft_cross_entropy(fk_plan_output(s->plan), s->targets, s->batch, s->classes,
                                        1.0, fk_plan_output_grad(s->plan));
    double t1 = fk_now_s();
    if (!isfinite(loss))
        return fk_fail(FERKD_BUG, "%s: the loss is %f", s->o.model, loss);
    s->loss = loss;
    if (s->o.lean) {
        fk_optim_begin(&s->optim, 2e-6, 1.0);
        TRY(fk_plan_backward_each(s->plan, step_param, s));
    } else {
        TRY(fk_plan_backward(s->plan));
    }
    double t2 = fk_now_s();
    if (!s->o.lean)
        (void)fk_optim_step(&s->optim, s->graph, fk_plan_grads(s->plan), 1e-3, 1.0);
    double t3 = fk_now_s();
    TRY(fk_plan_refresh(s->plan));
    s->loss_s += t1 - t0;
    s->optim_s += t3 - t2;
    s->refresh_s += fk_now_s() - t3;
    return FERKD_OK;
}

ferkd_status ferkd_speed_step(ferkd_speed *s, double *seconds)
{
    double start = fk_now_s();

    if (s->o.train)
        TRY(train_step(s));
    else
        TRY(fk_plan_forward(s->plan, 0));
    s->steps++;
    *seconds = fk_now_s() - start;
    return FERKD_OK;
}

double ferkd_speed_loss(const ferkd_speed *s)
{
    return s->loss;
}

void ferkd_speed_memory(const ferkd_speed *s, uint64_t *arena, uint64_t *weights)
{
    size_t states = 4 * s->graph->n_trained; /* momentum, or two moments in bf16 */
    size_t grads = s->o.lean ? 0 : sizeof(float) * s->graph->n_trained;

    *arena = fk_plan_bytes(s->plan);
    *weights = s->graph->n_values * sizeof(float) + (s->o.train ? states + grads : 0);
}

const char *ferkd_speed_precision(const ferkd_speed *s)
{
    return fk_plan_precision(s->plan);
}

void ferkd_speed_memory_text(const ferkd_speed *s, char *text, size_t size)
{
    fk_memory_text(s->plan, text, size);
}

size_t ferkd_speed_profile(const ferkd_speed *s, ferkd_speed_part *parts, size_t room)
{
    fk_plan_time t[FK_KIND_COUNT];
    ferkd_speed_part all[FK_KIND_COUNT + 3];
    size_t n = 0;

    fk_plan_profile(s->plan, t);
    for (size_t i = 0; i < FK_KIND_COUNT; i++)
        all[n++] = (ferkd_speed_part){t[i].what, t[i].forward_s + t[i].backward_s};
    all[n++] = (ferkd_speed_part){"loss", s->loss_s};
    all[n++] = (ferkd_speed_part){"optimiser", s->optim_s};
    all[n++] = (ferkd_speed_part){"refresh", s->refresh_s};
    n = fk_min_size(n, room);
    memcpy(parts, all, n * sizeof *parts);
    return n;
}
