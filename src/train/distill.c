/* The whole way: a pretrained network is adapted to the classes at hand, labels, and is distilled. */
#include "base/compat.h"

#include "train/recipe.h"
#include "train/run.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/option.h"
#include "train/model.h"

/* Paths within the folder. */
typedef struct places {
    char *teacher, *labels, *student, *onnx;
} places;

static ferkd_status find_places(places *p, const char *folder)
{
    TRY(fk_path_join(&p->teacher, folder, "teacher"));
    TRY(fk_path_join(&p->labels, folder, "labels.ferkd"));
    TRY(fk_path_join(&p->student, folder, "student"));
    return fk_path_join(&p->onnx, folder, "student.onnx");
}

static void free_places(places *p)
{
    free(p->teacher);
    free(p->labels);
    free(p->student);
    free(p->onnx);
}

static ferkd_status set(ferkd_recipe *r, const char *key, const char *text)
{
    return text ? ferkd_recipe_set(r, key, text) : FERKD_OK;
}

static ferkd_status set_number(ferkd_recipe *r, const char *key, uint64_t v)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%" PRIu64, v);
    return ferkd_recipe_set(r, key, text);
}

/* Train into the recipe's folder, or go on with what is there. */
static ferkd_status train_stage(const ferkd_recipe *r, const ferkd_watch *watch, double *top1)
{
    ferkd_train_result result = {.best_top1 = -1.0};
    char *last = NULL;

    TRY(fk_path_join(&last, r->run, "last.safetensors"));
    ferkd_status st = fk_is_file(last) ? ferkd_train_resume(r->run, watch, &result)
                                       : ferkd_train(r, watch, &result);
    free(last);
    *top1 = r->val ? result.best_top1 : -1.0;
    return st;
}

/* --- the teacher ------------------------------------------------------------------------------- */

/* Does it know every class of the data set? */
static ferkd_status knows_classes(const ferkd_distill_options *o, const ferkd_dataset *data,
                                  bool *yes)
{
    ferkd_model *m = NULL;
    uint32_t *map = NULL;
    ferkd_status st = FERKD_OK;

    TRY(ferkd_model_open(&m, o->teacher, &o->input));
    TRY_DONE(fk_calloc(&map, ferkd_dataset_classes(data), sizeof *map, o->teacher));
    st = ferkd_model_map(m, data, o->class_map, map);
    *yes = st == FERKD_OK;
    if (st == FERKD_USAGE && !o->class_map) /* a map that the user gave has to fit */
        st = FERKD_OK;
done:
    free(map);
    ferkd_model_close(&m);
    return st;
}

/* The head alone first, then all of it in small steps, as small as the network bears (fk_highest_rate()): 3 points more of
 * a Lite0 than at 0.0003 throughout. */
static ferkd_status adapt_recipe(const ferkd_distill_options *o, const places *p,
                                 const ferkd_dataset *data, ferkd_recipe *r)
{
    static const char *const keys[][2] = {
        {"method", "ce"},
        {"label-smoothing", "0.1"},
        {"weight-decay", "0.02"},
        {"warmup-epochs", "0.5"},
        {"clip", "1"},
        {"scale-min", "0.25"},
    };
    ferkd_model *m = NULL;
    uint32_t batch = 32;

    while (batch > 1 && batch > ferkd_dataset_images(data))
        batch /= 2;
    for (size_t i = 0; i < FK_COUNT(keys); i++)
        TRY(ferkd_recipe_set(r, keys[i][0], keys[i][1]));
    TRY(ferkd_model_open(&m, o->teacher, &o->input));
    uint32_t size = ferkd_model_preprocess(m)->size_px;
    ferkd_model_close(&m);
    TRY(set_number(r, "size", size));
    TRY(set_number(r, "batch", batch));
    TRY(set_number(r, "epochs", o->adapt_epochs));
    TRY(set_number(r, "probe-epochs", o->adapt_epochs * 2 / 5));
    TRY(set_number(r, "seed", o->seed));
    TRY(set(r, "data", o->data));
    TRY(set(r, "val", o->val));
    TRY(set(r, "init", o->teacher));
    TRY(set(r, "mean", o->input.mean));
    TRY(set(r, "std", o->input.std));
    TRY(set(r, "class-names", o->recipe->class_names));
    TRY(set(r, "ignore-exif", o->recipe->ignore_exif ? "true" : "false"));
    TRY(set_number(r, "threads", (uint64_t)o->recipe->threads));
    return set(r, "run", p->teacher);
}

static ferkd_status adapt(const ferkd_distill_options *o, const places *p,
                          const ferkd_dataset *data, const ferkd_watch *watch,
                          ferkd_distill_result *result)
{
    ferkd_recipe r;

    if (!fk_ends_with(o->teacher, ".onnx"))
        return fk_fail(FERKD_UNSUPPORTED,
                       "%s lacks classes of %s, and only an ONNX file is adapted; export it first",
                       o->teacher, o->data);
    fk_say(watch, "the teacher is adapted to the classes of %s: %s", o->data, p->teacher);
    ferkd_status st = ferkd_recipe_init(&r);
    if (st == FERKD_OK)
        st = adapt_recipe(o, p, data, &r);
    if (st == FERKD_OK)
        st = train_stage(&r, watch, &result->teacher_top1);
    ferkd_recipe_fini(&r);
    result->adapted = st == FERKD_OK;
    return st;
}

/* --- labels, student, file --------------------------------------------------------------------- */

static ferkd_status label(const ferkd_distill_options *o, const places *p,
                          const ferkd_dataset *data, bool adapted, const ferkd_watch *watch)
{
    ferkd_label_options l = ferkd_label_defaults();
    ferkd_label_result result;
    ferkd_model_options how =
        adapted ? (ferkd_model_options){.precision = o->input.precision, .tune = o->input.tune}
                : o->input;
    ferkd_model *m = NULL;

    l.regions = o->regions;
    l.sampler.seed = o->seed;
    l.threads = (uint32_t)o->recipe->threads;
    l.map = adapted ? NULL : o->class_map;
    fk_say(watch, "the teacher labels %u regions of each image: %s", o->regions, p->labels);
    TRY(ferkd_model_open(&m, adapted ? p->teacher : o->teacher, &how));
    ferkd_status st = ferkd_label(m, data, p->labels, &l, watch, &result);
    ferkd_model_close(&m);
    return st;
}

static ferkd_status student_recipe(const ferkd_distill_options *o, const places *p, ferkd_recipe *r)
{
    size_t n;
    const fk_option *keys = ferkd_recipe_keys(&n);

    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        TRY(fk_option_text(&keys[i], o->recipe, &text));
        ferkd_status st = *text ? fk_option_set(&keys[i], r, text) : FERKD_OK;
        free(text);
        TRY(st);
    }
    TRY(set(r, "data", o->data));
    TRY(set(r, "val", o->val));
    TRY(set(r, "labels", p->labels));
    TRY(set(r, "run", p->student));
    return set_number(r, "seed", o->seed);
}

static ferkd_status train_student(const ferkd_distill_options *o, const places *p,
                                  const ferkd_watch *watch, ferkd_distill_result *result)
{
    ferkd_recipe r;
    ferkd_status st = ferkd_recipe_init(&r);

    fk_say(watch, "the student learns from the labels: %s", p->student);
    if (st == FERKD_OK)
        st = student_recipe(o, p, &r);
    if (st == FERKD_OK)
        st = train_stage(&r, watch, &result->student_top1);
    ferkd_recipe_fini(&r);
    return st;
}

static ferkd_status export(const places *p)
{
    ferkd_model *m = NULL;

    TRY(ferkd_model_open(&m, p->student, NULL));
    ferkd_status st = ferkd_model_export(m, p->onnx, NULL, NULL);
    ferkd_model_close(&m);
    return st;
}

ferkd_status ferkd_distill(const ferkd_distill_options *o, const ferkd_watch *watch,
                           ferkd_distill_result *result)
{
    ferkd_dataset_options d = {.class_names = o->recipe->class_names,
                               .ignore_exif = o->recipe->ignore_exif};
    ferkd_dataset *data = NULL;
    places p = {0};
    bool knows = false;
    ferkd_status st = FERKD_OK;

    *result = (ferkd_distill_result){.teacher_top1 = -1.0, .student_top1 = -1.0};
    TRY_DONE(find_places(&p, o->folder));
    TRY_DONE(ferkd_dataset_open(&data, o->data, &d));
    TRY_DONE(fk_make_folder(o->folder));
    if (strcmp(o->adapt, "always") != 0)
        TRY_DONE(knows_classes(o, data, &knows));
    if (!knows && strcmp(o->adapt, "never") != 0)
        TRY_DONE(adapt(o, &p, data, watch, result));
    TRY_DONE(label(o, &p, data, result->adapted, watch));
    TRY_DONE(train_student(o, &p, watch, result));
    TRY_DONE(export(&p));
done:
    ferkd_dataset_close(&data);
    free_places(&p);
    return st;
}
