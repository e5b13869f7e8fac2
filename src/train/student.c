/* The student of a run: its input, its network, its plans for training and evaluation. */
#include "base/compat.h"

#include "train/run.h"

#include "base/file.h"
#include "base/mem.h"
#include "net/head.h"
#include "net/netfile.h"
#include "train/fit.h"
#include "train/init.h"
#include "train/schedule.h"

/* A run that is resumed has its own copy of a file. */
static ferkd_status own_copy(char **path, const char *run, const char *name, const char *original)
{
    TRY(fk_path_join(path, run, name));
    if (fk_is_file(*path))
        return FERKD_OK;
    free(*path);
    *path = NULL;
    return fk_strdup(path, original);
}

const char *fk_student_name(const fk_run *run)
{
    return run->onnx ? FK_NETWORK_FILE : run->text_path ? FK_NETWORK_TEXT : run->r->model;
}

/* An ONNX file that training starts from, or a network file. */
static ferkd_status open_network(fk_run *run)
{
    const ferkd_recipe *r = run->r;

    run->network = (fk_network){.zoo_name = r->model, .seed = (uint64_t)r->seed};
    if (fk_is_netfile(r->model)) {
        TRY(own_copy(&run->text_path, r->run, FK_NETWORK_TEXT, r->model));
        run->network.zoo_name = run->text_path;
    }
    if (!r->init || !fk_ends_with(r->init, ".onnx"))
        return FERKD_OK;
    TRY(own_copy(&run->onnx_path, r->run, FK_NETWORK_FILE, r->init));
    TRY(fk_onnx_open(&run->onnx, run->onnx_path));
    run->network.onnx = run->onnx;
    return FERKD_OK;
}

/* What the recipe says of the input; for an ONNX file, else, what is said beside it. */
static ferkd_status said_of_input(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    ferkd_model_options o = {.size_px = (uint32_t)r->size, .mean = r->mean, .std = r->std};
    ferkd_model *m = NULL;

    if (run->onnx) {
        TRY(ferkd_model_open(&m, run->onnx_path, &o));
        run->how = *ferkd_model_preprocess(m);
        run->channels_last = m->channels_last;
        ferkd_model_close(&m);
        return FERKD_OK;
    }
    return fk_recipe_input(r, ferkd_dataset_channels(run->data), &run->how);
}

static ferkd_status student_input(fk_run *run)
{
    const ferkd_recipe *r = run->r;

    TRY(said_of_input(run));
    run->how.size_px = fk_size_at(r, 0);
    run->view_how = run->how;
    run->view_how.size_px = (uint32_t)(r->val_size ? r->val_size : r->size);
    return FERKD_OK;
}

static fk_optim_options optim_options(const ferkd_recipe *r)
{
    return (fk_optim_options){.kind = fk_uses_adamw(r) ? FK_ADAMW : FK_SGD,
                              .momentum = r->momentum,
                              .nesterov = r->nesterov,
                              .beta1 = r->beta1,
                              .beta2 = r->beta2,
                              .eps = 1e-8,
                              .decay = r->weight_decay,
                              .decay_all = r->decay_all,
                              .half_states = r->lean,
                              .clip = r->clip,
                              .ema = r->ema,
                              .layer_decay = r->layer_decay};
}

static ferkd_status make_graph(const fk_run *run, const fk_network *net, uint32_t batch,
                               uint32_t size, uint32_t classes, fk_graph **out, bool *anew)
{
    TRY(fk_network_build(net, batch, run->how.channels, size, classes, out, anew));
    int64_t has = (*out)->nodes[(*out)->input].shape.d[0];
    if (has == batch)
        return FERKD_OK;
    fk_graph_free(out);
    return fk_fail(FERKD_UNSUPPORTED,
                   "%s: its batch is fixed at %" PRId64
                   "; export it with a free batch, or train with "
                   "--batch %" PRId64,
                   run->onnx_path, has, has);
}

/* Of two heads one learns from the teacher (Touvron et al. 2021, section 4). */
static fk_network to_train(const fk_run *run)
{
    fk_network net = run->network;

    net.heads_apart = strcmp(run->r->method, "deit") == 0 || strcmp(run->r->method, "kd") == 0;
    return net;
}

static ferkd_status make_train_graph(void *ctx, uint32_t batch, fk_graph **out)
{
    const fk_run *run = ctx;
    fk_network net = to_train(run);

    return make_graph(run, &net, batch, run->how.size_px, run->outputs, out, NULL);
}

static ferkd_status make_view_graph(void *ctx, uint32_t batch, fk_graph **out)
{
    const fk_run *run = ctx;

    return make_graph(run, &run->network, batch, run->view_how.size_px, run->classes, out, NULL);
}

/* A run that is resumed goes on with the implementations that it began with. */
static ferkd_status open_tuner(fk_run *run)
{
    char *path = NULL;

    TRY(fk_path_join(&path, run->r->run, "tune.txt"));
    bool fixed = fk_is_file(path) && strcmp(run->r->tune, "off") != 0;
    ferkd_status st = fk_tuner_new(&run->tuner, fixed ? path : run->r->tune);
    free(path);
    return st;
}

/* The graph and the plan to train it at the present size. Weights of a graph that was there go over. */
static ferkd_status make_plan(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    fk_graph *before = run->graph;
    fk_network net = to_train(run);
    bool anew = false;
    fk_plan_options o = {.train = true,
                         .seed = (uint64_t)r->seed,
                         .max_bytes = (size_t)r->max_memory << 20,
                         .lean = r->lean,
                         .tuner = run->tuner};
    ferkd_status st = FERKD_OK;

    fk_plan_free(&run->plan);
    run->graph = NULL;
    TRY_DONE(fk_tune_plan(&o, fk_precision_parse(r->precision), make_train_graph, run, run->batch));
    TRY_DONE(make_graph(run, &net, run->batch, run->how.size_px, run->outputs, &run->graph, &anew));
    run->heads = (uint32_t)run->graph->nodes[run->graph->output].shape.d[1] / run->outputs;
    if (before) {
        TRY_DONE(fk_fit_values(run->graph, before, before->values));
        TRY_DONE(fk_fit_optim(run->graph, before, &run->optim, &run->accumulated));
    } else {
        TRY_DONE(fk_student_start(run, anew));
    }
    TRY_DONE(fk_plan_new(&run->plan, run->graph, &o));
done:
    fk_graph_free(&before);
    return st;
}

static ferkd_status make_view_plan(fk_run *run)
{
    fk_plan_options o = {.tuner = run->tuner};

    TRY(fk_tune_plan(&o, FK_PRECISION_F32, make_view_graph, run, run->batch));
    TRY(make_graph(run, &run->network, run->batch / o.slices, run->view_how.size_px, run->classes,
                   &run->eval_graph, NULL));
    TRY(fk_student_show(run, run->graph->values)); /* can it be shown at that size? */
    return fk_plan_new(&run->eval_plan, run->eval_graph, &o);
}

/* Can the network grow to all the sizes that the recipe has for it? Better said now than in the epoch that comes to it. */
static ferkd_status check_sizes(fk_run *run)
{
    fk_network net = to_train(run);
    uint32_t size = run->how.size_px;
    ferkd_status st = FERKD_OK;

    for (uint64_t epoch = 1; epoch < (uint64_t)run->r->epochs && st == FERKD_OK; epoch++) {
        fk_graph *g = NULL;
        if (fk_size_at(run->r, epoch) == size)
            continue;
        size = fk_size_at(run->r, epoch);
        st = make_graph(run, &net, run->batch, size, run->outputs, &g, NULL);
        if (st == FERKD_OK)
            st = fk_fit_values(g, run->graph, run->graph->values);
        fk_graph_free(&g);
    }
    return st;
}

ferkd_status fk_student_show(fk_run *run, const float *values)
{
    return fk_fit_values(run->eval_graph, run->graph, values);
}

static ferkd_status make_card(fk_run *run)
{
    char **names = NULL;

    TRY(fk_calloc(&names, run->classes, sizeof *names, "training"));
    for (uint32_t c = 0; c < run->classes; c++)
        names[c] = (char *)(uintptr_t)ferkd_dataset_class_name(run->data, c);
    ferkd_status st =
        fk_model_card(&run->card, &run->view_how, run->channels_last, names, run->classes);
    free(names);
    return st;
}

/* A head that starts anew has all to learn where the rest has little: unless somebody has thought about rates. */
static double head_rate(const fk_run *run)
{
    const ferkd_recipe *r = run->r;

    if (r->head_rate > 0)
        return r->head_rate;
    return run->head_anew && !r->freeze && r->lr < 0.0 ? FK_HEAD_RATE : 1.0;
}

ferkd_status fk_student_open(fk_run *run)
{
    fk_optim_options o = optim_options(run->r);

    TRY(open_network(run));
    TRY(student_input(run));
    TRY(open_tuner(run));
    TRY(make_plan(run));
    run->at.head_rate = head_rate(run);
    o.head_rate = run->at.head_rate;
    TRY(fk_optim_init(&run->optim, run->graph, &o));
    if (run->r->accumulate > 1)
        TRY(fk_calloc_aligned(&run->accumulated, run->graph->n_trained * sizeof(float),
                              "gradients"));
    TRY(check_sizes(run));
    if (run->val || run->outputs > run->classes)
        TRY(make_view_plan(run));
    TRY(fk_calloc(&run->identity, run->classes, sizeof *run->identity, "training"));
    for (uint32_t c = 0; c < run->classes; c++)
        run->identity[c] = c;
    return make_card(run);
}

/* The choices so far, where a run that is resumed finds them. */
ferkd_status fk_student_save_choices(const fk_run *run)
{
    char *path = NULL;

    TRY(fk_path_join(&path, run->r->run, "tune.txt"));
    ferkd_status st = fk_tuner_save(run->tuner, path);
    free(path);
    return st;
}

ferkd_status fk_student_fit(fk_run *run, uint64_t batch)
{
    uint32_t size = fk_size_at(run->r, batch / run->batches_per_epoch);

    if (size == run->how.size_px)
        return FERKD_OK;
    run->how.size_px = size;
    fk_say(run->watch, "size %u px from here on", size);
    TRY(make_plan(run));
    return fk_student_save_choices(run);
}
