/* ferkd export */
#include "cli.h"

typedef struct options {
    char *output, *weights;
} options;

static const fk_option TABLE[] = {
    {"output", 'o', FK_OPT_TEXT, offsetof(options, output), "student.onnx", 0, 0, NULL, "FILE",
     "the ONNX file to write; FILE.json goes beside it"},
    {"weights", 0, FK_OPT_CHOICE, offsetof(options, weights), NULL, 0, 0, "best|last", NULL,
     "which checkpoint of the run folder"},
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

    TRY(ferkd_model_open(&m, path, &how));
    ferkd_status st = ferkd_model_export(m, o->output);
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
    "Opset 13, free batch dimension, weights under their torchvision names, class names and\n"
    "preprocessing in the metadata and in FILE.json. Runs in ONNX Runtime, OpenCV's DNN module "
    "and\n"
    "in ferkd itself (eval, predict, or as a teacher).\n\n"
    "  ferkd export runs/a -o student.onnx",
    table,
    run};
