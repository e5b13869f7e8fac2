/* ferkd distill */
#include "cli.h"

#include "base/file.h"
#include "base/limits.h"

typedef struct options {
    char *val, *teacher, *output, *map, *class_names, *adapt, *model, *file;
    cli_teacher input;
    int64_t adapt_epochs, regions, seed, size, epochs, threads;
    bool ignore_exif, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"teacher", 't', FK_OPT_TEXT, AT(teacher), NULL, 0, 0, NULL, "MODEL",
     "a pretrained network: MODEL.onnx (with MODEL.json beside it) or a run folder"},
    {"val", 0, FK_OPT_TEXT, AT(val), NULL, 0, 0, NULL, "DATA", "validation data"},
    {"output", 'o', FK_OPT_TEXT, AT(output), "distilled", 0, 0, NULL, "FOLDER",
     "where teacher, labels and student go"},
    {"model", 'm', FK_OPT_TEXT, AT(model), NULL, 0, 0, NULL, "NAME",
     "student: a name that \"ferkd info\" lists; default: resnet18, or the recipe's"},
    {"size", 0, FK_OPT_INT, AT(size), "0", 0, 4096, NULL, "PX",
     "side of the student's input; 0: the recipe's"},
    {"epochs", 'e', FK_OPT_INT, AT(epochs), "0", 0, 1000000, NULL, "N",
     "of the student; 0: the recipe's"},
    {"recipe", 0, FK_OPT_TEXT, AT(file), NULL, 0, 0, NULL, "FILE",
     "a recipe for the student; \"ferkd train --help\" lists its keys"},
    {"adapt", 0, FK_OPT_CHOICE, AT(adapt), "auto", 0, 0, "auto|always|never", NULL,
     "fine-tune the teacher on the data first; auto: where it lacks one of the classes"},
    {"adapt-epochs", 0, FK_OPT_INT, AT(adapt_epochs), "5", 1, 10000, NULL, "N",
     "of fine-tuning; in the first two fifths only the head moves"},
    {"regions", 'r', FK_OPT_INT, AT(regions), "8", 1, FK_MAX_REGIONS, NULL, "N",
     "random regions an image"},
    {"seed", 's', FK_OPT_INT, AT(seed), "0", 0, 9007199254740991.0, NULL, "N",
     "of everything random"},
    CLI_TEACHER(options, input, "auto", "quick"),
    {"class-map", 0, FK_OPT_TEXT, AT(map), NULL, 0, 0, NULL, "FILE",
     "lines \"class index\": the data set's classes among the teacher's; default: by name"},
    {"class-names", 0, FK_OPT_TEXT, AT(class_names), NULL, 0, 0, NULL, "FILE",
     "names for IDX data, one a line"},
    {"ignore-exif", 0, FK_OPT_FLAG, AT(ignore_exif), "false", 0, 0, NULL, NULL,
     "leave images as stored, not upright"},
    {"threads", 0, FK_OPT_INT, AT(threads), "0", 0, 1024, NULL, "N",
     "that decode; 0: as many as cores"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print the result as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_status set_number(ferkd_recipe *r, const char *key, int64_t v)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%" PRId64, v);
    return v ? ferkd_recipe_set(r, key, text) : FERKD_OK;
}

static ferkd_status student(const options *o, ferkd_recipe *r)
{
    if (o->file)
        TRY(ferkd_recipe_load(r, o->file));
    if (o->model)
        TRY(ferkd_recipe_set(r, "model", o->model));
    if (o->class_names)
        TRY(ferkd_recipe_set(r, "class-names", o->class_names));
    if (o->ignore_exif)
        TRY(ferkd_recipe_set(r, "ignore-exif", "true"));
    TRY(set_number(r, "size", o->size));
    TRY(set_number(r, "threads", o->threads));
    return set_number(r, "epochs", o->epochs);
}

static ferkd_status print_result(const options *o, const ferkd_distill_result *r)
{
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:b, s:f, s:f}", "folder", o->output, "adapted",
                                        (int)r->adapted, "teacher_top1", r->teacher_top1,
                                        "student_top1", r->student_top1));
    cli_progress_end();
    if (r->teacher_top1 >= 0.0)
        (void)printf("adapted teacher: top-1 %.2f\n", r->teacher_top1);
    if (r->student_top1 >= 0.0)
        (void)printf("student: top-1 %.2f\n", r->student_top1);
    (void)printf("%s/student.onnx\n", o->output);
    return FERKD_OK;
}

static ferkd_status distill(const options *o, const char *data)
{
    ferkd_recipe recipe;
    ferkd_distill_result result;
    ferkd_watch watch = cli_watch();
    ferkd_status st = ferkd_recipe_init(&recipe);

    if (st == FERKD_OK)
        st = student(o, &recipe);
    ferkd_distill_options d = {.data = data,
                               .val = o->val,
                               .teacher = o->teacher,
                               .input = cli_model_options(&o->input),
                               .folder = o->output,
                               .class_map = o->map,
                               .adapt = o->adapt,
                               .adapt_epochs = (uint32_t)o->adapt_epochs,
                               .regions = (uint32_t)o->regions,
                               .seed = (uint64_t)o->seed,
                               .recipe = &recipe};
    if (st == FERKD_OK)
        st = ferkd_distill(&d, &watch, &result);
    ferkd_recipe_fini(&recipe);
    return st == FERKD_OK ? print_result(o, &result) : st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    const options *o = base;

    if (n != 1 || !o->teacher)
        return fk_fail(FERKD_USAGE, "ferkd distill: one DATA and --teacher MODEL are needed; see "
                                    "ferkd distill --help");
    return distill(o, argv[1]);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_distill, argc, argv, &o, work);
}

const cli_command cli_distill = {
    "distill",
    "the whole way: adapt a pretrained network, label, train a student, export it",
    "DATA --teacher MODEL.onnx --val DATA [-o FOLDER] [options]",
    "Where the pretrained network lacks the classes of DATA, it is fine-tuned on them first (its "
    "head\n"
    "alone, then all of it); then it labels regions of every image, and a student is trained from "
    "the\n"
    "labels and written as ONNX. FOLDER receives teacher/, labels.ferkd, student/ and "
    "student.onnx.\n"
    "Stopped or killed, the same command goes on where it was.\n\n"
    "  ferkd distill photos/train --val photos/val --teacher big.onnx --model resnet18 --size 128 "
    "\\\n"
    "        --epochs 30 -o out\n"
    "  ferkd distill photos/train --val photos/val --teacher big.onnx --recipe recipes/fast.yaml "
    "-o out",
    table,
    run};
