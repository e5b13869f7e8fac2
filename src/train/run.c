/* Setting a run up: data, labels and their calibration, teacher, student, optimiser. */
#include "base/compat.h"

#include "train/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/judge.h"
#include "train/schedule.h"

void fk_say(const ferkd_watch *watch, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!watch || !watch->message)
        return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    watch->message(watch->ctx, line);
}

static bool uses_store(const ferkd_recipe *r)
{
    return strcmp(r->method, "fkd") == 0 || strcmp(r->method, "ferkd") == 0;
}

static bool uses_teacher(const ferkd_recipe *r)
{
    return strcmp(r->method, "kd") == 0 || strcmp(r->method, "funmatch") == 0 ||
           strcmp(r->method, "deit") == 0;
}

/* --- what the user may have got wrong -------------------------------------------------------- */

static ferkd_status check_recipe(const ferkd_recipe *r)
{
    if (!r->data || !r->run)
        return fk_fail(FERKD_USAGE, "training needs DATA and a run folder (-o FOLDER)");
    if (uses_store(r) && !r->labels)
        return fk_fail(FERKD_USAGE,
                       "method %s needs --labels STORE; make one with \"ferkd label %s --teacher "
                       "MODEL.onnx -o STORE\"",
                       r->method, r->data);
    if (uses_teacher(r) && !r->teacher)
        return fk_fail(FERKD_USAGE, "method %s needs --teacher MODEL", r->method);
    if (r->size_start > r->size)
        return fk_fail(FERKD_USAGE,
                       "--size-start %" PRId64 " is larger than --size %" PRId64
                       ": sizes grow in training",
                       r->size_start, r->size);
    if (fk_batch(r, UINT64_MAX) % r->regions_per_image)
        return fk_fail(FERKD_USAGE,
                       "--batch %" PRIu32 " is no multiple of --regions-per-image %" PRId64
                       ": choose one that is",
                       fk_batch(r, UINT64_MAX), r->regions_per_image);
    if (r->scale_min > r->scale_max || r->ratio_min > r->ratio_max)
        return fk_fail(FERKD_USAGE, "scale or ratio: the smallest is larger than the largest");
    if (r->lr < 0.0 && r->lr != -1.0)
        return fk_fail(FERKD_USAGE, "lr %g: 0 or more, or -1 for what suits the optimiser", r->lr);
    if (r->freeze && !r->init)
        return fk_fail(
            FERKD_USAGE,
            "--freeze trains the head of a pretrained network: name that with --init MODEL");
    if (r->lean && (r->clip > 0 || r->ema > 0 || r->accumulate > 1))
        return fk_fail(
            FERKD_USAGE,
            "--lean keeps no gradient of the whole network and no second copy of its weights: "
            "--clip, --ema and --accumulate need them");
    return FERKD_OK;
}

/* --- data and labels ------------------------------------------------------------------------- */

static ferkd_status open_data(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    ferkd_dataset_options o = {.class_names = r->class_names, .ignore_exif = r->ignore_exif};

    TRY(ferkd_dataset_open(&run->data, r->data, &o));
    run->classes = run->outputs = ferkd_dataset_classes(run->data);
    run->batch = fk_batch(r, ferkd_dataset_images(run->data));
    run->batches_per_epoch = ferkd_dataset_images(run->data) / run->batch;
    if (run->batches_per_epoch < (uint64_t)r->accumulate)
        return fk_fail(FERKD_USAGE,
                       "%s: %u images are fewer than one step of %" PRId64
                       " regions: choose a smaller --batch or --accumulate",
                       r->data, ferkd_dataset_images(run->data), run->batch * r->accumulate);
    if (!r->val)
        return FERKD_OK;
    TRY(ferkd_dataset_open(&run->val, r->val, &o));
    if (ferkd_dataset_classes(run->val) != run->classes)
        return fk_fail(FERKD_USAGE, "%s has %u classes, %s has %u", r->val,
                       ferkd_dataset_classes(run->val), r->data, run->classes);
    for (uint32_t c = 0; c < run->classes; c++) {
        if (strcmp(ferkd_dataset_class_name(run->val, c), ferkd_dataset_class_name(run->data, c)))
            return fk_fail(FERKD_USAGE, "class %u is \"%s\" in %s and \"%s\" in %s", c,
                           ferkd_dataset_class_name(run->val, c), r->val,
                           ferkd_dataset_class_name(run->data, c), r->data);
    }
    return FERKD_OK;
}

static void say_calibration(const fk_run *run)
{
    char words[1024];
    char *rest = NULL;

    if (strcmp(run->r->method, "ferkd") != 0)
        return;
    fk_say(run->watch, "calibration: %s", ferkd_calibration_rules(run->calibration));
    (void)snprintf(words, sizeof words, "%s", ferkd_calibration_words(run->calibration));
    for (char *line = strtok_r(words, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        fk_say(run->watch, "calibration: %s", line);
}

static void say_mirroring(const fk_run *run)
{
    if (fk_mirrors(run->r, run->store))
        fk_say(run->watch,
               "stored regions are shown %.3g times or more: every second time mirrored",
               fk_showings(run->r, run->store));
}

static void say_outputs(const fk_run *run)
{
    if (run->outputs > run->classes)
        fk_say(run->watch,
               "the labels are over %u classes, so the student has as many outputs while it "
               "learns; in the end the data set's %u",
               run->outputs, run->classes);
}

static ferkd_status open_labels(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    TRY(ferkd_store_open(&run->store, r->labels));
    TRY(ferkd_store_match(run->store, run->data));
    if (ferkd_store_about(run->store)->ignore_exif != r->ignore_exif)
        return fk_fail(FERKD_USAGE, "%s was labelled with --ignore-exif %s; train likewise",
                       r->labels, r->ignore_exif ? "off" : "on");
    const char *rules = strcmp(r->method, "ferkd") == 0 ? r->calibrate : "fkd";
    TRY(ferkd_calibration_new(&run->calibration, rules, run->store, fk_looks(r)));
    say_calibration(run);
    say_mirroring(run);
    run->outputs = ferkd_store_about(run->store)->label_classes;
    say_outputs(run);
    return FERKD_OK;
}

/* The student's classes among the teacher's: the data set's, then, where it learns all, the others. */
static ferkd_status map_teacher(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    ferkd_label_width width = ferkd_label_width_of(r->label_classes);
    uint32_t most = run->teacher->classes;
    uint32_t others = 0;

    TRY(fk_calloc(&run->teacher_map, run->classes + most, sizeof *run->teacher_map, "the teacher"));
    TRY(ferkd_model_map(run->teacher, run->data, r->class_map, run->teacher_map));
    if (width == FERKD_WIDTH_AUTO && strcmp(r->method, "deit") == 0)
        width = FERKD_WIDTH_DATA; /* the teacher's choice is to be one of them */
    TRY(fk_judge_width(width, most, run->classes, run->teacher_map, &run->outputs));
    if (run->outputs > run->classes)
        TRY(fk_map_others(run->teacher_map, run->classes, most, run->teacher_map + run->classes,
                          &others));
    say_outputs(run);
    return FERKD_OK;
}

static ferkd_status open_teacher(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    ferkd_model_options o = {.size_px = (uint32_t)r->teacher_size,
                             .mean = r->teacher_mean,
                             .std = r->teacher_std,
                             .resize = r->teacher_resize,
                             .classes = r->teacher_classes,
                             .precision = r->precision,
                             .tune = r->tune};

    TRY(ferkd_model_open(&run->teacher, r->teacher, &o));
    TRY(map_teacher(run));
    TRY(fk_calloc(&run->teacher_logits, (size_t)run->batch * run->outputs, sizeof(float),
                  "the teacher"));
    return fk_model_prepare(run->teacher, run->batch);
}

static bool has_norms(const fk_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == FK_BATCHNORM)
            return true;
    return false;
}

/* Few steps teach little, and bear no high learning rate. */
static void plan_steps(fk_run *run)
{
    const ferkd_recipe *r = run->r;
    uint64_t many = (uint64_t)r->accumulate;
    uint64_t steps = run->batches_per_epoch / many * (uint64_t)r->epochs;
    bool norms = has_norms(run->graph);
    double whole = fk_highest_rate(r, norms, FK_WHOLE_BATCH, UINT64_MAX);

    run->highest_rate = fk_highest_rate(r, norms, run->batch * many, steps);
    if (r->init && r->lr < 0.0)
        fk_say(run->watch, "pretrained weights: %s, the learning rate goes up to %.2g%s",
               fk_uses_adamw(r) ? "AdamW" : "SGD", run->highest_rate,
               run->at.head_rate > 1.0 ? ", for the new head to ten times that" : "");
    if (run->highest_rate < whole)
        fk_say(run->watch,
               "%" PRIu64 " steps of %" PRIu64
               " regions in all: the learning rate goes up to %.2g, not %.2g",
               steps, run->batch * many, run->highest_rate, whole);
}

/* What the memory is for. */
static void say_memory(const fk_run *run)
{
    const double mib = 1048576.0;
    const fk_optim *o = &run->optim;
    double each = (double)run->graph->n_values * sizeof(float) / mib;
    char text[256];

    fk_memory_text(run->plan, text, sizeof text);
    fk_say(run->watch, "memory: %s", text);
    fk_say(
        run->watch,
        "memory: weights %.1f MiB, their gradients %.1f, optimiser %.1f, average %.1f, validation "
        "%.1f",
        each, each, each * ((o->m ? 1 : 0) + (o->v ? 1 : 0)), o->ema ? each : 0.0,
        run->eval_plan ? (double)fk_plan_bytes(run->eval_plan) / mib + each : 0.0);
}

ferkd_status fk_run_open(fk_run *run, const ferkd_recipe *r, const ferkd_watch *watch)
{
    *run = (fk_run){.r = r,
                    .watch = watch,
                    .threads = fk_threads((uint32_t)r->threads),
                    .at = {.best_top1 = -1.0},
                    .lock = -1};
    TRY(check_recipe(r));
    TRY(open_data(run));
    if (uses_store(r))
        TRY(open_labels(run));
    if (uses_teacher(r))
        TRY(open_teacher(run));
    TRY(fk_path_join(&run->last_path, r->run, "last.safetensors"));
    TRY(fk_path_join(&run->best_path, r->run, "best.safetensors"));
    TRY(fk_student_open(run));
    size_t floats = (size_t)run->how.channels * (size_t)r->size * (size_t)r->size;
    if (run->teacher) {
        const ferkd_preprocess *t = &run->teacher->how;
        size_t more = (size_t)t->channels * t->size_px * t->size_px;
        floats = more > floats ? more : floats;
    }
    fk_say(run->watch, "precision %s: %s", r->precision, fk_plan_precision(run->plan));
    plan_steps(run);
    if (r->memory)
        say_memory(run);
    return fk_calloc(&run->scratch, floats, sizeof(float), "training");
}

void fk_run_close(fk_run *run)
{
    fk_plan_free(&run->plan);
    fk_plan_free(&run->eval_plan);
    fk_graph_free(&run->graph);
    fk_graph_free(&run->eval_graph);
    fk_optim_fini(&run->optim);
    fk_metrics_close(&run->metrics);
    fk_tuner_free(&run->tuner);
    fk_onnx_close(&run->onnx);
    free(run->onnx_path);
    ferkd_model_close(&run->teacher);
    ferkd_calibration_free(&run->calibration);
    ferkd_store_close(&run->store);
    ferkd_dataset_close(&run->data);
    ferkd_dataset_close(&run->val);
    free(run->teacher_map);
    free(run->teacher_logits);
    free(run->accumulated);
    free(run->text_path);
    free(run->identity);
    free(run->scratch);
    free(run->card);
    free(run->last_path);
    free(run->best_path);
    if (run->lock >= 0)
        (void)close(run->lock);
}

/* --- the run folder -------------------------------------------------------------------------- */

/* One process a folder. */
static ferkd_status lock_folder(fk_run *run)
{
    run->lock = open(run->r->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0)
        return fk_fail_errno(FERKD_IO, "%s: the run folder cannot be opened", run->r->run);
    if (flock(run->lock, LOCK_EX | LOCK_NB) != 0)
        return fk_fail(FERKD_USAGE, "%s: another ferkd is training there; wait for it to end",
                       run->r->run);
    return FERKD_OK;
}

static ferkd_status keep_copy(const char *file, const char *folder, const char *name)
{
    fk_map map = {0};
    char *path = NULL;

    TRY(fk_map_open(&map, file));
    ferkd_status st = fk_path_join(&path, folder, name);
    if (st == FERKD_OK)
        st = fk_file_replace(path, map.bytes, map.size_bytes);
    fk_map_close(&map);
    free(path);
    return st;
}

/* A copy of the ONNX file that the student starts from, with what was said of its input, or of the network file: its
 * graph is needed whenever the run is opened. */
static ferkd_status keep_network(const fk_run *run)
{
    char *path = NULL;
    char *card = NULL;
    ferkd_status st = FERKD_OK;

    if (run->text_path)
        TRY(keep_copy(run->text_path, run->r->run, FK_NETWORK_TEXT));
    if (!run->onnx)
        return FERKD_OK;
    TRY(keep_copy(run->onnx_path, run->r->run, FK_NETWORK_FILE));
    TRY_DONE(fk_path_join(&path, run->r->run, FK_NETWORK_CARD));
    TRY_DONE(fk_model_card(&card, &run->view_how, run->channels_last, NULL, 0));
    TRY_DONE(fk_file_replace(path, card, strlen(card)));
done:
    free(path);
    free(card);
    return st;
}

static ferkd_status begin_folder(fk_run *run, bool resume)
{
    char *recipe = NULL;

    if (!resume && fk_is_file(run->last_path))
        return fk_fail(FERKD_USAGE,
                       "%s holds a run already; \"ferkd train --resume %s\" goes on with it, or "
                       "give another folder",
                       run->r->run, run->r->run);
    TRY(fk_make_folder(run->r->run));
    TRY(lock_folder(run));
    if (!resume) {
        TRY(keep_network(run));
        TRY(fk_path_join(&recipe, run->r->run, "recipe.yaml"));
        ferkd_status st = ferkd_recipe_save(run->r, recipe);
        free(recipe);
        TRY(st);
        TRY(fk_student_save_choices(run));
    }
    if (resume && fk_is_file(run->last_path)) {
        TRY(fk_checkpoint_progress(run->last_path, &run->at));
        TRY(fk_student_fit(run, run->at.batch ? run->at.batch - 1 : 0)); /* as it was saved */
        TRY(fk_optim_rates(&run->optim, run->graph, run->at.head_rate));
        TRY(fk_checkpoint_load(run->last_path, run->graph, &run->optim, run->accumulated,
                               &run->at));
        TRY(fk_plan_refresh(run->plan));
    }
    return fk_metrics_open(&run->metrics, run->r->run, run->at.batch / run->batches_per_epoch);
}

static ferkd_status train(const ferkd_recipe *r, bool resume, const ferkd_watch *watch,
                          ferkd_train_result *result)
{
    fk_run run;
    ferkd_status st = fk_run_open(&run, r, watch);

    *result = (ferkd_train_result){0};
    if (st == FERKD_OK)
        st = begin_folder(&run, resume);
    if (st == FERKD_OK)
        st = fk_run_train(&run, result);
    fk_run_close(&run);
    return st;
}

ferkd_status ferkd_train(const ferkd_recipe *recipe, const ferkd_watch *watch,
                         ferkd_train_result *result)
{
    return train(recipe, false, watch, result);
}

ferkd_status ferkd_train_resume(const char *folder, const ferkd_watch *watch,
                                ferkd_train_result *result)
{
    ferkd_recipe r;
    char *path = NULL;
    ferkd_status st = ferkd_recipe_init(&r);

    if (st == FERKD_OK)
        st = fk_path_join(&path, folder, "recipe.yaml");
    if (st == FERKD_OK && !fk_is_file(path))
        st = fk_fail(FERKD_ABSENT, "%s: no run to resume (it has no recipe.yaml)", folder);
    if (st == FERKD_OK)
        st = ferkd_recipe_load(&r, path);
    if (st == FERKD_OK)
        st = ferkd_recipe_set(&r, "run", folder); /* it may have been moved */
    if (st == FERKD_OK)
        st = train(&r, true, watch, result);
    free(path);
    ferkd_recipe_fini(&r);
    return st;
}
