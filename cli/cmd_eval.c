/* ferkd eval */
#include "cli.h"

#include "base/limits.h"

typedef struct options {
    cli_teacher input;
    char *map, *class_names, *weights, *on_bad_image;
    int64_t batch, threads;
    bool ignore_exif, per_class, confusion, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"weights", 0, FK_OPT_CHOICE, AT(weights), NULL, 0, 0, "best|last", NULL,
     "which checkpoint of a run folder"},
    {"per-class", 0, FK_OPT_FLAG, AT(per_class), "false", 0, 0, NULL, NULL,
     "accuracy of each class"},
    {"confusion", 0, FK_OPT_FLAG, AT(confusion), "false", 0, 0, NULL, NULL,
     "the confusion matrix: a row a true class"},
    CLI_TEACHER(options, input, "f32", "quick"),
    {"class-map", 0, FK_OPT_TEXT, AT(map), NULL, 0, 0, NULL, "FILE",
     "lines \"class index\": the data set's classes among the model's; default: by name"},
    {"class-names", 0, FK_OPT_TEXT, AT(class_names), NULL, 0, 0, NULL, "FILE",
     "names for IDX data, one a line"},
    {"batch", 'b', FK_OPT_INT, AT(batch), "64", 1, FK_MAX_BATCH, NULL, "N", "images at once"},
    {"threads", 0, FK_OPT_INT, AT(threads), "0", 0, 1024, NULL, "N",
     "that decode; 0: as many as cores"},
    {"on-bad-image", 0, FK_OPT_CHOICE, AT(on_bad_image), "skip", 0, 0, "skip|stop", NULL,
     "what to do with unreadable images"},
    {"ignore-exif", 0, FK_OPT_FLAG, AT(ignore_exif), "false", 0, 0, NULL, NULL,
     "leave images as stored"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static double class_accuracy(const ferkd_eval_result *r, uint32_t c)
{
    const uint32_t *row = r->confusion + (size_t)c * r->classes;
    uint64_t all = 0;

    for (uint32_t k = 0; k < r->classes; k++)
        all += row[k];
    return all ? 100.0 * row[c] / (double)all : 0.0;
}

static json_t *result_json(const options *o, const ferkd_dataset *d, const ferkd_eval_result *r)
{
    json_t *j = json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i, s:f, s:f}", "images",
                          (int)r->images, "top1", r->top1, "top5", r->top5, "top1_mapped",
                          r->top1_mapped, "top5_mapped", r->top5_mapped, "loss", r->loss, "ece",
                          r->ece, "skipped", (int)r->skipped, "classes", (int)r->classes,
                          "model_classes", (int)r->model_classes, "seconds", r->seconds,
                          "images_per_s", r->images / r->seconds);
    json_t *classes = json_object();

    for (uint32_t c = 0; c < r->classes; c++)
        (void)json_object_set_new(classes, ferkd_dataset_class_name(d, c),
                                  json_real(class_accuracy(r, c)));
    (void)json_object_set_new(j, "per_class", classes);
    if (o->confusion) {
        json_t *rows = json_array();
        for (uint32_t c = 0; c < r->classes; c++) {
            json_t *row = json_array();
            for (uint32_t k = 0; k < r->classes; k++)
                (void)json_array_append_new(row,
                                            json_integer(r->confusion[(size_t)c * r->classes + k]));
            (void)json_array_append_new(rows, row);
        }
        (void)json_object_set_new(j, "confusion", rows);
    }
    return j;
}

static void print_result(const options *o, const ferkd_dataset *d, const ferkd_eval_result *r)
{
    cli_progress_end();
    (void)printf("%u images in %.1f s (%.1f img/s)", r->images, r->seconds, r->images / r->seconds);
    (void)printf(r->skipped ? ", %u skipped (%s)\n" : "\n", r->skipped, r->first_bad);
    (void)printf("top-1 %.2f  top-5 %.2f", r->top1, r->top5);
    if (r->classes != r->model_classes)
        (void)printf(" over the model's %u classes\ntop-1 %.2f  top-5 %.2f among the data's %u",
                     r->model_classes, r->top1_mapped, r->top5_mapped, r->classes);
    (void)printf("\nloss %.4f  ECE %.2f\n", r->loss, r->ece);
    for (uint32_t c = 0; o->per_class && c < r->classes; c++)
        (void)printf("  %6.2f  %s\n", class_accuracy(r, c), ferkd_dataset_class_name(d, c));
    for (uint32_t c = 0; o->confusion && c < r->classes; c++) {
        for (uint32_t k = 0; k < r->classes; k++)
            (void)printf("%6u", r->confusion[(size_t)c * r->classes + k]);
        (void)printf("  %s\n", ferkd_dataset_class_name(d, c));
    }
}

static ferkd_status eval(const options *o, const char *model, const char *path)
{
    ferkd_dataset *data = NULL;
    ferkd_model *m = NULL;
    ferkd_eval_result r = {0};
    ferkd_dataset_options d = {.class_names = o->class_names, .ignore_exif = o->ignore_exif};
    ferkd_model_options how = cli_model_options(&o->input);
    ferkd_eval_options e = ferkd_eval_defaults();
    ferkd_watch watch = cli_watch();
    ferkd_status st = FERKD_OK;

    how.weights = o->weights;
    e.batch = (uint32_t)o->batch;
    e.threads = (uint32_t)o->threads;
    e.stop_on_bad_image = strcmp(o->on_bad_image, "stop") == 0;
    e.map = o->map;
    TRY_DONE(ferkd_dataset_open(&data, path, &d));
    TRY_DONE(ferkd_model_open(&m, model, &how));
    TRY_DONE(ferkd_eval(m, data, &e, &watch, &r));
    if (o->json)
        TRY_DONE(cli_print_json(result_json(o, data, &r)));
    else
        print_result(o, data, &r);
done:
    ferkd_eval_fini(&r);
    ferkd_model_close(&m);
    ferkd_dataset_close(&data);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n != 2 ? fk_fail(FERKD_USAGE, "ferkd eval: MODEL.onnx or RUN, and DATA are needed")
                  : eval(base, argv[1], argv[2]);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_eval, argc, argv, &o, work);
}

const cli_command cli_eval = {"eval",
                              "accuracy of a run or an ONNX model on labelled images",
                              "RUN|MODEL.onnx DATA [options]",
                              "Top-1 and top-5 count over all classes of the model; where it has "
                              "more than the data set, the\n"
                              "accuracy among the data set's classes is given, too. ECE is the "
                              "expected calibration error in\n"
                              "percent (15 bins).\n\n"
                              "  ferkd eval runs/a photos/val --per-class\n"
                              "  ferkd eval big.onnx photos/val --json",
                              table,
                              run};
