/* ferkd info */
#include "cli.h"

typedef struct options {
    char *model;
    int64_t size, classes, batch;
    bool params, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"model", 'm', FK_OPT_TEXT, AT(model), NULL, 0, 0, NULL, "NAME",
     "the model, as an option: what other commands call it"},
    {"size", 0, FK_OPT_INT, AT(size), "0", 0, 4096, NULL, "PX", "side of the input; 0: the usual"},
    {"classes", 0, FK_OPT_INT, AT(classes), "0", 0, 65535, NULL, "N", "0: the usual"},
    {"batch", 'b', FK_OPT_INT, AT(batch), "0", 0, 65536, NULL, "N",
     "also say what memory a batch of so many images takes, in float32"},
    {"params", 0, FK_OPT_FLAG, AT(params), "false", 0, 0, NULL, NULL,
     "list the parameters, named as in torchvision's state_dict"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static json_t *description_json(const ferkd_description *d)
{
    json_t *layers = json_array();
    json_t *params = json_array();

    for (uint32_t i = 0; i < d->n_layers; i++) {
        const ferkd_layer *l = &d->layers[i];
        (void)json_array_append_new(layers, json_pack("{s:s, s:s, s:s, s:I, s:f}", "name", l->name,
                                                      "kind", l->kind, "shape", l->shape, "params",
                                                      (json_int_t)l->params, "macs", l->macs));
    }
    for (uint32_t i = 0; i < d->n_params; i++)
        (void)json_array_append_new(params, json_string(d->params[i]));
    return json_pack("{s:s, s:I, s:f, s:i, s:i, s:o, s:o}", "name", d->name, "params",
                     (json_int_t)d->trained, "macs", d->macs, "size", (int)d->size_px, "classes",
                     (int)d->classes, "layers", layers, "state_dict", params);
}

static void print_description(const ferkd_description *d, bool params)
{
    (void)printf("%s%s%s\n\n", d->name, d->about ? ": " : "", d->about ? d->about : "");
    (void)printf("%-34s %-12s %-18s %12s %10s\n", "layer", "kind", "output", "parameters",
                 "M mult-adds");
    for (uint32_t i = 0; i < d->n_layers; i++) {
        const ferkd_layer *l = &d->layers[i];
        (void)printf("%-34.34s %-12s %-18s", l->name, l->kind, l->shape);
        if (l->params)
            (void)printf(" %12" PRIu64, l->params);
        else
            (void)printf(" %12s", "");
        if (l->macs > 0)
            (void)printf(" %10.2f", l->macs / 1e6);
        (void)printf("\n");
    }
    for (uint32_t i = 0; params && i < d->n_params; i++)
        (void)printf("  %s\n", d->params[i]);
    (void)printf("\n%.3f M parameters, %.1f M multiply-adds an image of %u px, %u classes\n",
                 (double)d->trained / 1e6, d->macs / 1e6, d->size_px, d->classes);
}

static void print_footprint(const ferkd_footprint *f, int64_t batch)
{
    const double mib = 1 << 20;

    (void)printf("memory of a batch of %" PRId64
                 ": %.0f MiB to run, %.0f MiB to train; with weights (%.0f) and "
                 "AdamW (%.0f) %.0f and %.0f MiB\n",
                 batch, f->run / mib, f->train / mib, f->weights / mib, f->learning / mib,
                 (f->run + f->weights) / mib, (f->train + f->weights + f->learning) / mib);
}

static ferkd_status info(const options *o, const char *what)
{
    ferkd_description d;
    ferkd_footprint f = {0};
    ferkd_status st = FERKD_OK;

    TRY(ferkd_describe(&d, what, (uint32_t)o->size, (uint32_t)o->classes));
    if (o->batch)
        st = ferkd_measure_footprint(&f, what, (uint32_t)o->size, (uint32_t)o->classes,
                                     (uint32_t)o->batch);
    if (st == FERKD_OK && o->json) {
        json_t *root = description_json(&d);
        if (o->batch)
            (void)json_object_set_new(root, "memory",
                                      json_pack("{s:i, s:f, s:f, s:f, s:f}", "batch", (int)o->batch,
                                                "run", f.run, "train", f.train, "weights",
                                                f.weights, "learning", f.learning));
        st = cli_print_json(root);
    } else if (st == FERKD_OK) {
        print_description(&d, o->params);
    }
    if (st == FERKD_OK && o->batch && !o->json)
        print_footprint(&f, o->batch);
    ferkd_description_fini(&d);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    options *o = base;

    if (n + (o->model != NULL) == 1)
        return info(o, o->model ? o->model : argv[1]);
    if (n > 0)
        return fk_fail(FERKD_USAGE, "ferkd info: one MODEL is needed");
    for (uint32_t i = 0; ferkd_zoo_name(i); i++)
        (void)printf("%-32s %s\n", ferkd_zoo_name(i), ferkd_zoo_about(i));
    return FERKD_OK;
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_info, argc, argv, &o, work);
}

const cli_command cli_info = {
    "info",
    "layers, shapes and parameters of a model",
    "[NAME|MODEL.onnx|RUN] [options]",
    "Without a word, lists the models that ferkd builds itself. With +silu, +hardswish, +mish\n"
    "or +gelu behind its name a model has that in place of its ReLUs.\n\n"
    "  ferkd info resnet18\n"
    "  ferkd info resnet18d+silu\n"
    "  ferkd info resnet50 --size 224 --batch 32\n"
    "  ferkd info teacher.onnx",
    table,
    run};
