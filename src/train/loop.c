/* The training loop: batch, (teacher), (mix), forward, loss, backward, step; at the end of an epoch
 * validation, metrics, checkpoint. */
#include "base/compat.h"

#include "train/run.h"

#include "base/mem.h"
#include "train/loss.h"
#include "train/mix.h"
#include "train/schedule.h"

/* --- one batch ------------------------------------------------------------------------------- */

/* The teacher's logits on this batch, among the student's classes. */
static ferkd_status ask_teacher(fk_run *run, const fk_feed_batch *b)
{
    ferkd_model *t = run->teacher;
    size_t each = (size_t)t->how.channels * t->how.size_px * t->how.size_px;

    for (uint32_t at = 0; at < run->batch; at += t->batch) {
        uint32_t n = (uint32_t)fk_min_size(t->batch, run->batch - at);
        memcpy(fk_plan_input(t->plan), b->teacher + at * each, n * each * sizeof(float));
        TRY(fk_plan_forward(t->plan, 0));
        for (uint32_t i = 0; i < n; i++) {
            const float *all = fk_plan_output(t->plan) + (size_t)i * t->classes;
            for (uint32_t c = 0; c < run->outputs; c++)
                run->teacher_logits[(size_t)(at + i) * run->outputs + c] = all[run->teacher_map[c]];
        }
    }
    return FERKD_OK;
}

/* Row i with row n-1-i, as timm and FKD do; both rows of a pair are mixed at once. */
static void mix_rows(const fk_mix *m, float *rows, uint32_t n, size_t each, float *scratch,
                     uint32_t channels, uint32_t side, bool last)
{
    for (uint32_t i = 0; i < n / 2; i++) {
        float *a = rows + i * each;
        float *b = rows + (n - 1 - i) * each;
        memcpy(scratch, a, each * sizeof *a);
        fk_mix_inputs(m, a, b, channels, side, last);
        fk_mix_inputs(m, b, scratch, channels, side, last);
    }
}

static void mix_batch(fk_run *run, fk_feed_batch *b, uint64_t number)
{
    const ferkd_recipe *r = run->r;
    fk_rng rng = fk_rng_at((uint64_t)r->seed, FK_RNG_MIX, (uint32_t)number, 0);
    uint32_t n = run->batch;

    if (strcmp(r->mix_scope, "batch") != 0 || !fk_mix_is_on(r, number / run->batches_per_epoch))
        return;
    fk_mix m = fk_mix_draw(r, &rng, run->how.size_px);
    if (!m.on)
        return;
    uint32_t side = run->how.size_px;
    mix_rows(&m, b->inputs, n, (size_t)run->how.channels * side * side, run->scratch,
             run->how.channels, side, run->channels_last);
    if (run->teacher) {
        const ferkd_preprocess *t = &run->teacher->how;
        mix_rows(&m, b->teacher, n, (size_t)t->channels * t->size_px * t->size_px, run->scratch,
                 t->channels, t->size_px, run->teacher->channels_last);
    }
    for (uint32_t i = 0; i < n / 2; i++) {
        float *a = b->targets + (size_t)i * run->outputs;
        float *z = b->targets + (size_t)(n - 1 - i) * run->outputs;
        memcpy(run->scratch, a, run->outputs * sizeof *a);
        fk_mix_targets(&m, a, z, run->outputs);
        fk_mix_targets(&m, z, run->scratch, run->outputs);
    }
}

static double loss_of(fk_run *run, fk_feed_batch *b)
{
    const ferkd_recipe *r = run->r;
    const float *z = fk_plan_output(run->plan);
    float *dz = fk_plan_output_grad(run->plan);
    bool deit = strcmp(r->method, "deit") == 0;
    double alpha = r->kd_alpha >= 0.0 ? r->kd_alpha : deit ? 0.5 : 0.1;

    if (deit)
        return fk_hard_distillation(z, b->targets, run->teacher_logits, run->batch, run->outputs,
                                    run->heads, alpha, dz);
    if (run->teacher)
        return fk_distillation(z, b->targets, run->teacher_logits, run->batch, run->outputs,
                               run->heads, strcmp(r->method, "funmatch") == 0 ? 0.0 : alpha,
                               r->kd_temperature, dz);
    return fk_soft_cross_entropy(z, b->targets, run->batch, run->outputs, r->temperature, dz);
}

/* Does the head alone learn in this batch? */
static bool is_probing(const fk_run *run, uint64_t number)
{
    return run->r->freeze || number / run->batches_per_epoch < (uint64_t)run->r->probe_epochs;
}

/* Gradients of several batches are summed; the last of them steps. */
static ferkd_status optimise(fk_run *run, uint64_t number)
{
    uint64_t many = (uint64_t)run->r->accumulate;
    float *grads = fk_plan_grads(run->plan);
    size_t n = run->graph->n_trained;

    if (run->accumulated) {
        for (size_t i = 0; i < n; i++)
            run->accumulated[i] += grads[i];
        if ((number + 1) % many)
            return FERKD_OK;
        grads = run->accumulated;
    }
    double lr =
        fk_learning_rate(run->r, run->highest_rate, run->optim.step, run->batches_per_epoch / many);
    (void)fk_optim_step(&run->optim, run->graph, grads, lr, 1.0 / (double)many);
    if (run->accumulated)
        memset(run->accumulated, 0, n * sizeof *run->accumulated);
    return fk_plan_refresh(run->plan);
}

static void step_param(void *ctx, size_t param, const float *grad)
{
    fk_run *run = ctx;

    fk_optim_param(&run->optim, run->graph, param, grad);
}

/* Lean: each parameter moves as soon as backward has its gradient. */
static ferkd_status step_within(fk_run *run)
{
    fk_optim_begin(
        &run->optim,
        fk_learning_rate(run->r, run->highest_rate, run->optim.step, run->batches_per_epoch), 1.0);
    TRY(fk_plan_backward_each(run->plan, step_param, run));
    return fk_plan_refresh(run->plan);
}

static ferkd_status train_batch(fk_run *run, fk_feed_batch *b)
{
    uint64_t number = run->at.batch;
    size_t floats = (size_t)run->batch * run->how.channels * run->how.size_px * run->how.size_px;

    mix_batch(run, b, number);
    if (run->teacher)
        TRY(ask_teacher(run, b));
    memcpy(fk_plan_input(run->plan), b->inputs, floats * sizeof(float));
    TRY(fk_plan_forward(run->plan, number));
    double loss = loss_of(run, b);
    if (!isfinite(loss))
        return fk_fail(FERKD_USAGE,
                       "the loss is %f at batch %" PRIu64 ": training diverged; try a lower --lr, "
                       "or --clip 1",
                       loss, number);
    run->optim.head_only = is_probing(run, number);
    fk_plan_backward_of_head(run->plan, run->optim.head_only);
    if (run->r->lean) {
        TRY(step_within(run));
    } else {
        TRY(fk_plan_backward(run->plan));
        TRY(optimise(run, number));
    }
    run->at.loss_sum += loss;
    run->at.loss_count++;
    run->at.hard += b->counts.hard;
    run->at.important += b->counts.important;
    run->at.dropped += b->counts.dropped;
    run->at.batch++;
    return FERKD_OK;
}

/* --- the end of an epoch --------------------------------------------------------------------- */

static ferkd_status save_last(fk_run *run)
{
    fk_checkpoint_meta meta = {fk_student_name(run), run->card, run->at};

    return fk_checkpoint_save(run->last_path, run->graph, &run->optim, run->accumulated, &meta);
}

static ferkd_status validate(fk_run *run, fk_metrics_row *row)
{
    ferkd_eval_result r = {.classes = run->classes, .model_classes = run->classes};
    fk_score score = {0};
    fk_view_options o = {.how = run->view_how,
                         .channels_last = run->channels_last,
                         .batch = run->batch,
                         .threads = run->threads,
                         .stop_on_bad_image = strcmp(run->r->on_bad_image, "stop") == 0};
    const float *values = run->optim.ema ? run->optim.ema : run->graph->values;
    ferkd_watch quiet = {0}; /* a stop is honoured after the epoch's checkpoint */
    ferkd_status st = FERKD_OK;

    if (!run->val)
        return FERKD_OK;
    if (run->watch) {
        quiet = *run->watch;
        quiet.stop = NULL;
    }
    TRY(fk_student_show(run, values));
    TRY(fk_plan_refresh(run->eval_plan));
    TRY_DONE(fk_score_init(&score, &r, run->identity));
    TRY_DONE(fk_evaluate(run->eval_plan, run->val, &o, &score, &quiet));
    row->val_loss = r.loss;
    row->val_top1 = r.top1;
    row->val_top5 = r.top5;
done:
    fk_score_fini(&score);
    ferkd_eval_fini(&r);
    return st;
}

static ferkd_status end_epoch(fk_run *run, double start, double rate, ferkd_train_result *result)
{
    fk_progress *at = &run->at;
    uint64_t steps = run->batches_per_epoch / (uint64_t)run->r->accumulate;
    const float *values = run->optim.ema ? run->optim.ema : run->graph->values;
    fk_metrics_row row = {.epoch = at->batch / run->batches_per_epoch,
                          .train_loss = at->loss_sum / (double)at->loss_count,
                          .lr = fk_learning_rate(run->r, run->highest_rate,
                                                 run->optim.step ? run->optim.step - 1 : 0, steps),
                          .images_per_s = rate,
                          .hard = at->hard,
                          .important = at->important,
                          .dropped = at->dropped,
                          .images = at->batch * run->batch};

    TRY(validate(run, &row));
    row.seconds = run->metrics.seconds_before + fk_now_s() - start;
    bool best = !run->val || row.val_top1 > at->best_top1;
    if (run->val && best)
        at->best_top1 = row.val_top1;
    at->loss_sum = 0.0;
    at->loss_count = at->hard = at->important = at->dropped = 0;
    fk_checkpoint_meta meta = {fk_student_name(run), run->card, *at};
    TRY(fk_metrics_add(&run->metrics, &row));
    if (best && run->eval_graph) {
        TRY(fk_student_show(run, values));
        TRY(fk_weights_save(run->best_path, run->eval_graph, run->eval_graph->values, &meta));
    } else if (best) {
        TRY(fk_weights_save(run->best_path, run->graph, values, &meta));
    }
    TRY(save_last(run));
    result->epochs = (uint32_t)row.epoch;
    result->train_loss = row.train_loss;
    result->val_top1 = row.val_top1;
    result->val_top5 = row.val_top5;
    result->best_top1 = at->best_top1;
    result->images_per_s = rate;
    result->seconds = row.seconds;
    if (run->val)
        fk_say(run->watch,
               "epoch %" PRIu64 "/%" PRId64
               "  loss %.4f  top-1 %.2f  top-5 %.2f  %.1f img/s  %.0f s",
               row.epoch, run->r->epochs, row.train_loss, row.val_top1, row.val_top5, rate,
               row.seconds);
    else
        fk_say(run->watch, "epoch %" PRIu64 "/%" PRId64 "  loss %.4f  %.1f img/s  %.0f s",
               row.epoch, run->r->epochs, row.train_loss, rate, row.seconds);
    return FERKD_OK;
}

/* --- the loop -------------------------------------------------------------------------------- */

static void note_bad(fk_run *run, const fk_feed_batch *b, ferkd_train_result *result)
{
    if (b->counts.bad == 0)
        return;
    if (result->skipped == 0) {
        (void)snprintf(result->first_bad, sizeof result->first_bad, "%s", b->bad);
        fk_say(run->watch, "%s: skipped", b->bad);
    }
    result->skipped += b->counts.bad;
}

static void report(fk_run *run, uint64_t end)
{
    char detail[96];

    if (!run->watch || !run->watch->progress)
        return;
    (void)snprintf(detail, sizeof detail, "epoch %" PRIu64 "/%" PRId64 " loss %.4f",
                   (run->at.batch - 1) / run->batches_per_epoch + 1, run->r->epochs,
                   run->at.loss_sum / (double)run->at.loss_count);
    run->watch->progress(run->watch->ctx, "train", run->at.batch * run->batch, end * run->batch,
                         detail);
}

static ferkd_status stop_here(fk_run *run)
{
    TRY(save_last(run));
    return fk_fail(FERKD_STOPPED,
                   "stopped in epoch %" PRIu64 "; \"ferkd train --resume %s\" goes on",
                   run->at.batch / run->batches_per_epoch + 1, run->r->run);
}

static bool asked_to_stop(const fk_run *run)
{
    return run->watch && run->watch->stop && run->watch->stop(run->watch->ctx);
}

/* Where the time of an epoch, and of this session, began. */
typedef struct times {
    double start, epoch_start;
    uint64_t epoch_first; /* batch */
} times;

static ferkd_status one_batch(fk_run *run, fk_feed_batch *b, uint64_t end, times *t,
                              ferkd_train_result *result)
{
    const ferkd_recipe *r = run->r;

    TRY(train_batch(run, b));
    note_bad(run, b, result);
    report(run, end);
    if (run->at.batch % run->batches_per_epoch == 0) {
        double images = (double)((run->at.batch - t->epoch_first) * run->batch);
        TRY(end_epoch(run, t->start, images / (fk_now_s() - t->epoch_start), result));
        t->epoch_start = fk_now_s();
        t->epoch_first = run->at.batch;
    } else if (r->save_every && run->at.batch % (uint64_t)r->save_every == 0) {
        TRY(save_last(run));
    }
    return asked_to_stop(run) && run->at.batch < end ? stop_here(run) : FERKD_OK;
}

/* The batch that the size in use ends before. */
static uint64_t stretch_end(const fk_run *run)
{
    uint64_t epoch = run->at.batch / run->batches_per_epoch;

    do
        epoch++;
    while (epoch < (uint64_t)run->r->epochs && fk_size_at(run->r, epoch) == run->how.size_px);
    return epoch * run->batches_per_epoch;
}

static ferkd_status train_stretch(fk_run *run, uint64_t stop, uint64_t end, times *t,
                                  ferkd_train_result *result)
{
    fk_feed_options o = {.recipe = run->r,
                         .data = run->data,
                         .store = run->store,
                         .calibration = run->calibration,
                         .how = run->how,
                         .channels_last = run->channels_last,
                         .teacher_how = run->teacher ? &run->teacher->how : NULL,
                         .teacher_channels_last = run->teacher && run->teacher->channels_last,
                         .outputs = run->outputs,
                         .batch = run->batch,
                         .threads = run->threads,
                         .first = run->at.batch,
                         .end = stop,
                         .batches_per_epoch = run->batches_per_epoch};
    fk_feed *feed = NULL;
    fk_feed_batch *b = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_feed_new(&feed, &o));
    while (st == FERKD_OK && run->at.batch < stop) {
        st = fk_feed_next(feed, &b);
        if (st == FERKD_OK)
            st = one_batch(run, b, end, t, result);
    }
    fk_feed_free(&feed);
    return st;
}

ferkd_status fk_run_train(fk_run *run, ferkd_train_result *result)
{
    uint64_t end = run->batches_per_epoch * (uint64_t)run->r->epochs;
    times t = {fk_now_s(), fk_now_s(), run->at.batch};

    if (run->at.batch >= end) {
        result->best_top1 = run->at.best_top1;
        result->epochs = (uint32_t)run->r->epochs;
        fk_say(run->watch, "%s: finished already", run->r->run);
    }
    while (run->at.batch < end) {
        TRY(fk_student_fit(run, run->at.batch));
        TRY(train_stretch(run, stretch_end(run), end, &t, result));
    }
    return FERKD_OK;
}
