/* ferkd run */
#include "cli.h"

#include "base/limits.h"

typedef struct options {
    char *input, *output, *weights, *precision;
    int64_t classes;
    bool json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"input", 'i', FK_OPT_TEXT, AT(input), NULL, 0, 0, NULL, "X.npy",
     "the tensor, its first dimension the batch; also -i"},
    {"output", 'o', FK_OPT_TEXT, AT(output), NULL, 0, 0, NULL, "Y.npy",
     "where the network's first output goes; also -o"},
    {"weights", 0, FK_OPT_TEXT, AT(weights), NULL, 0, 0, NULL, "FILE",
     "of a network given by name: .safetensors, .pth; of a run folder: best or last"},
    {"classes", 0, FK_OPT_INT, AT(classes), "1000", 1, FK_MAX_CLASSES, NULL, "N",
     "of a network given by name"},
    {"precision", 0, FK_OPT_CHOICE, AT(precision), "f32", 0, 0, "f32|bf16", NULL,
     "of the products"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL,
     "print the output's shape as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_status work(void *base, int n, char **argv)
{
    const options *o = base;
    char shape[160] = "";
    ferkd_watch watch = cli_watch();

    if (n != 1 || !o->input || !o->output)
        return fk_fail(FERKD_USAGE,
                       "ferkd run: MODEL, --input X.npy and --output Y.npy are needed");
    ferkd_run_options r = {.model = argv[1],
                           .weights = o->weights,
                           .classes = (uint32_t)o->classes,
                           .input = o->input,
                           .output = o->output,
                           .precision = o->precision};
    TRY(ferkd_run(&r, &watch, shape, sizeof shape));
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:s}", "output", o->output, "shape", shape));
    (void)printf("%s: %s\n", o->output, shape);
    return FERKD_OK;
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_run_tensor, argc, argv, &o, work);
}

const cli_command cli_run_tensor = {
    "run",
    "a tensor through a network, as it is",
    "MODEL.onnx|RUN|NAME --input X.npy --output Y.npy [options]",
    "For checking against other programs: no preprocessing, no classes, no sidecar file. The "
    "open\ndimensions of an ONNX model are the tensor's; a network that was written for a fixed "
    "batch runs\nas often as needed.\n\n"
    "  ferkd run model.onnx -i x.npy -o y.npy\n"
    "  ferkd run resnet18 --weights resnet18.pth -i x.npy -o y.npy",
    table,
    run};
