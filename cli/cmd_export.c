/* ferkd export */
#include "cli.h"

#include <sys/stat.h>

typedef struct options {
    cli_teacher input;
    char *output, *weights, *int8, *val, *map;
    int64_t opset, int8_images;
    bool fp16, fold, opencv, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"output", 'o', FK_OPT_TEXT, AT(output), "student.onnx", 0, 0, NULL, "FILE",
     "the ONNX file to write; FILE.json goes beside it"},
    {"weights", 0, FK_OPT_CHOICE, AT(weights), NULL, 0, 0, "best|last", NULL,
     "which checkpoint of the run folder"},
    {"opset", 0, FK_OPT_INT, AT(opset), "0", 0, 18, NULL, "N",
     "13 to 18; 0: 13, or 17 for transformers (LayerNorm has an operator since)"},
    {"fold", 0, FK_OPT_FLAG, AT(fold), "false", 0, 0, NULL, NULL,
     "BatchNorms folded into the convolutions before them"},
    {"fp16", 0, FK_OPT_FLAG, AT(fp16), "false", 0, 0, NULL, NULL,
     "weights and arithmetic in float16, half the bytes; input and logits stay float32"},
    {"int8", 0, FK_OPT_TEXT, AT(int8), NULL, 0, 0, NULL, "DATA",
     "weights and values in 8 bits, a quarter of the bytes; ranges from images of DATA (training "
     "images will do)"},
    {"int8-images", 0, FK_OPT_INT, AT(int8_images), "256", 1, 1 << 24, NULL, "N",
     "how many images of it, spread evenly"},
    {"val", 0, FK_OPT_TEXT, AT(val), NULL, 0, 0, NULL, "DATA",
     "also evaluate what was written, and what it was made of, on these images"},
    {"class-map", 0, FK_OPT_TEXT, AT(map), NULL, 0, 0, NULL, "FILE",
     "--val: lines \"class index\": its classes among the model's; default: by name"},
    {"opencv", 0, FK_OPT_FLAG, AT(opencv), "false", 0, 0, NULL, NULL,
     "ReLU6 in a form that OpenCV 4.6 reads (MobileNetV2, EfficientNet-Lite)"},
    CLI_TEACHER(options, input, "f32", "off"),
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

/* Top-1 of a model on the data. */
static ferkd_status top1_of(const options *o, ferkd_model *m, const ferkd_dataset *val,
                            double *top1)
{
    ferkd_eval_options how = ferkd_eval_defaults();
    ferkd_eval_result r = {0};
    ferkd_watch watch = cli_watch();

    how.map = o->map;
    TRY(ferkd_eval(m, val, &how, &watch, &r));
    *top1 = r.top1;
    ferkd_eval_fini(&r);
    return FERKD_OK;
}

/* Top-1 of the model and of what was written. */
static ferkd_status compare(const options *o, ferkd_model *m, const ferkd_dataset *val,
                            double *before, double *after)
{
    ferkd_model *written = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(ferkd_model_open(&written, o->output, NULL));
    TRY_DONE(top1_of(o, m, val, before));
    TRY_DONE(top1_of(o, written, val, after));
done:
    ferkd_model_close(&written);
    cli_progress_end();
    return st;
}

/* val: NULL where nothing is to be compared. */
static ferkd_status report(const options *o, ferkd_model *m, const ferkd_dataset *val)
{
    struct stat s = {0};
    double top1[2] = {0, 0};
    uint32_t images = val ? ferkd_dataset_images(val) : 0;

    if (val)
        TRY(compare(o, m, val, &top1[0], &top1[1]));
    cli_progress_end();
    (void)stat(o->output, &s);
    if (o->json) {
        json_t *j = json_pack(
            "{s:s, s:i, s:i, s:I}", "file", o->output, "classes", (int)ferkd_model_classes(m),
            "size", (int)ferkd_model_preprocess(m)->size_px, "bytes", (json_int_t)s.st_size);
        if (val)
            (void)json_object_update_new(j, json_pack("{s:f, s:f, s:i}", "top1_run", top1[0],
                                                      "top1", top1[1], "images", (int)images));
        return cli_print_json(j);
    }
    (void)printf("%s: %u classes, input %u px, %.2f MB\n", o->output, ferkd_model_classes(m),
                 ferkd_model_preprocess(m)->size_px, 1e-6 * (double)s.st_size);
    if (val)
        (void)printf("top-1 %.2f, before %.2f (%+.2f), on %u images\n", top1[1], top1[0],
                     top1[1] - top1[0], images);
    return FERKD_OK;
}

static ferkd_status export_model(const options *o, const char *path)
{
    ferkd_model *m = NULL;
    ferkd_dataset *data = NULL;
    ferkd_dataset *val = NULL;
    ferkd_model_options how = cli_model_options(&o->input);
    ferkd_watch watch = cli_watch();
    ferkd_status st = FERKD_OK;

    how.weights = o->weights;
    TRY_DONE(ferkd_model_open(&m, path, &how));
    if (o->int8)
        TRY_DONE(ferkd_dataset_open(&data, o->int8, NULL));
    if (o->val)
        TRY_DONE(ferkd_dataset_open(&val, o->val, NULL));
    ferkd_export_options form = {.opset = (uint32_t)o->opset,
                                 .half = o->fp16,
                                 .for_opencv4 = o->opencv,
                                 .fold_norms = o->fold,
                                 .int8_data = data,
                                 .int8_images = (uint32_t)o->int8_images};
    TRY_DONE(ferkd_model_export(m, o->output, &form, &watch));
    st = report(o, m, val);
done:
    ferkd_dataset_close(&val);
    ferkd_dataset_close(&data);
    ferkd_model_close(&m);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n == 1 ? export_model(base, argv[1])
                  : fk_fail(FERKD_USAGE, "ferkd export: one RUN folder or MODEL.onnx is needed");
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_export, argc, argv, &o, work);
}

const cli_command cli_export = {
    "export",
    "write a trained student, or another ONNX model, as ONNX",
    "RUN|MODEL.onnx [-o FILE.onnx] [options]",
    "Free batch dimension, weights under their torchvision names, class names and preprocessing "
    "in\n"
    "the metadata and in FILE.json. Runs in ONNX Runtime, OpenCV's DNN module (docs/onnx.md says "
    "which\n"
    "networks) and in ferkd itself (eval, predict, or as a teacher). A MODEL.onnx of another "
    "program is\n"
    "written anew: in 16 or 8 bits, with what is known of its input inside.\n\n"
    "  ferkd export runs/a -o student.onnx\n"
    "  ferkd export runs/a --fp16 -o small.onnx\n"
    "  ferkd export runs/a --int8 photos/train --val photos/val -o student-int8.onnx\n"
    "  ferkd export big.onnx --int8 photos/train --val photos/val -o big-int8.onnx",
    table,
    run};
