/* ferkd predict */
#include "cli.h"

typedef struct options {
    cli_teacher input;
    char *weights, *on_bad_image;
    int64_t top;
    bool ignore_exif, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"top", 'n', FK_OPT_INT, AT(top), "5", 1, 1000, NULL, "N", "classes an image"},
    {"weights", 0, FK_OPT_CHOICE, AT(weights), NULL, 0, 0, "best|last", NULL,
     "which checkpoint of a run folder"},
    CLI_TEACHER(options, input, "f32", "off"),
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

static void class_text(const ferkd_model *m, uint32_t c, char *text, size_t size)
{
    const char *name = ferkd_model_class_name(m, c);

    if (name)
        (void)snprintf(text, size, "%s", name);
    else
        (void)snprintf(text, size, "%u", c);
}

/* The most probable classes of one image, as text or into list; probs are used up. */
static void report(const options *o, const ferkd_model *m, const char *path, float *probs,
                   json_t *list)
{
    uint32_t classes = ferkd_model_classes(m);
    json_t *top = json_array();
    char name[128];

    if (!o->json)
        (void)printf("%s", path);
    for (int64_t k = 0; k < o->top && k < classes; k++) {
        uint32_t best = 0;
        for (uint32_t c = 1; c < classes; c++)
            best = probs[c] > probs[best] ? c : best;
        class_text(m, best, name, sizeof name);
        if (!o->json)
            (void)printf("\t%s %.4f", name, (double)probs[best]);
        (void)json_array_append_new(top, json_pack("{s:s, s:i, s:f}", "class", name, "index",
                                                   (int)best, "p", (double)probs[best]));
        probs[best] = -1.0f;
    }
    if (!o->json)
        (void)printf("\n");
    (void)json_array_append_new(list, json_pack("{s:s, s:o}", "file", path, "top", top));
}

static ferkd_status predict(const options *o, const char *model, char **paths, int n)
{
    ferkd_model *m = NULL;
    ferkd_model_options how = cli_model_options(&o->input);
    float *probs = NULL;
    json_t *list = json_array();
    int bad = 0;
    ferkd_status st = FERKD_OK;

    how.weights = o->weights;
    TRY_DONE(ferkd_model_open(&m, model, &how));
    probs = calloc(ferkd_model_classes(m), sizeof *probs);
    if (!probs) {
        st = fk_fail(FERKD_MEMORY, "no memory for the probabilities");
        goto done;
    }
    for (int i = 0; i < n; i++) {
        st = ferkd_predict(m, paths[i], o->ignore_exif, probs);
        if (st == FERKD_OK) {
            report(o, m, paths[i], probs, list);
            continue;
        }
        if (strcmp(o->on_bad_image, "stop") == 0)
            goto done;
        bad++;
        (void)fprintf(stderr, "%s\n", ferkd_last_error());
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "file", paths[i], "error", ferkd_last_error()));
    }
    st = FERKD_OK;
    if (o->json)
        TRY_DONE(cli_print_json(json_incref(list)));
    if (bad == n)
        st = fk_fail(FERKD_CORRUPT, "none of the %d files could be read", n);
done:
    json_decref(list);
    free(probs);
    ferkd_model_close(&m);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    if (n < 2)
        return fk_fail(FERKD_USAGE, "ferkd predict: RUN or MODEL.onnx, and image files are needed");
    return predict(base, argv[1], argv + 2, n - 1);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_predict, argc, argv, &o, work);
}

const cli_command cli_predict = {
    "predict",
    "what a model sees in image files",
    "RUN|MODEL.onnx IMAGE... [options]",
    "Prints the most probable classes of each file, tab-separated, or as a JSON list.\n\n"
    "  ferkd predict runs/a cat.jpg dog.png --top 3",
    table,
    run};
