/* ferkd export */
#include "cli.h"

typedef struct options {
    char *output, *weights;
    int64_t opset;
    bool fp16, opencv;
} options;

static const fk_option TABLE[] = {
    {"output", 'o', FK_OPT_TEXT, offsetof(options, output), "student.onnx", 0, 0, NULL, "FILE",
     "the ONNX file to write; FILE.json goes beside it"},
    {"weights", 0, FK_OPT_CHOICE, offsetof(options, weights), NULL, 0, 0, "best|last", NULL,
     "which checkpoint of the run folder"},
    {"opset", 0, FK_OPT_INT, offsetof(options, opset), "0", 0, 18, NULL, "N",
     "13 to 18; 0: 13, or 17 for transformers (LayerNorm has an operator since)"},
    {"fp16", 0, FK_OPT_FLAG, offsetof(options, fp16), "false", 0, 0, NULL, NULL,
     "weights and arithmetic in float16, half the bytes; input and logits stay float32"},
    {"opencv", 0, FK_OPT_FLAG, offsetof(options, opencv), "false", 0, 0, NULL, NULL,
     "ReLU6 in a form that OpenCV 4.6 reads (MobileNetV2, EfficientNet-Lite)"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_status export_run(const options *o, const char *path)
{
    ferkd_model *m = NULL;
    ferkd_model_options how = {.weights = o->weights};

    ferkd_export_options form = {(uint32_t)o->opset, o->fp16, o->opencv};

    TRY(ferkd_model_open(&m, path, &how));
    ferkd_status st = ferkd_model_export(m, o->output, &form);
    if (st == FERKD_OK)
        (void)printf("%s: %u classes, input %u px\n", o->output, ferkd_model_classes(m),
                     ferkd_model_preprocess(m)->size_px);
    ferkd_model_close(&m);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n == 1 ? export_run(base, argv[1])
                  : fk_fail(FERKD_USAGE, "ferkd export: one RUN folder is needed");
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_export, argc, argv, &o, work);
}

const cli_command cli_export = {
    "export",
    "write a trained student as ONNX",
    "RUN [-o FILE.onnx]",
    "Free batch dimension, weights under their torchvision names, class names and preprocessing "
    "in\n"
    "the metadata and in FILE.json. Runs in ONNX Runtime, OpenCV's DNN module (docs/onnx.md says "
    "which\n"
    "networks) and in ferkd itself (eval, predict, or as a teacher).\n\n"
    "  ferkd export runs/a -o student.onnx\n"
    "  ferkd export runs/a --fp16 -o small.onnx",
    table,
    run};
