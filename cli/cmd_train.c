/* ferkd train: the recipe's keys are its options. */
#include "cli.h"

#include "base/file.h"
#include "base/mem.h"

#define MAX_KEYS 96

/* The recipe's own options, and those of the command, behind the recipe in one struct. */
typedef struct options {
    ferkd_recipe recipe;
    char *resume, *file;
    bool json;
} options;

static fk_option all[MAX_KEYS];
static size_t n_all;

static const fk_option OWN[] = {
    {"resume", 0, FK_OPT_TEXT, offsetof(options, resume), NULL, 0, 0, NULL, "RUN",
     "go on with the run in this folder, to the same bytes"},
    {"recipe", 0, FK_OPT_TEXT, offsetof(options, file), NULL, 0, 0, NULL, "FILE",
     "read these options from a YAML file first; those given here count more"},
    {"json", 0, FK_OPT_FLAG, offsetof(options, json), "false", 0, 0, NULL, NULL,
     "print the result as JSON"},
};

static const fk_option *table(size_t *n)
{
    size_t keys;
    const fk_option *recipe = ferkd_recipe_keys(&keys);

    if (n_all == 0) {
        memcpy(all, recipe, keys * sizeof *all);
        memcpy(all + keys, OWN, sizeof OWN);
        n_all = keys + FK_COUNT(OWN);
        for (size_t i = 0; i < keys; i++) {
            if (strcmp(all[i].name, "run") == 0)
                all[i].letter = 'o';
            if (strcmp(all[i].name, "model") == 0)
                all[i].letter = 'm';
        }
    }
    *n = n_all;
    return all;
}

static ferkd_status print_result(const options *o, const ferkd_train_result *r)
{
    if (o->json)
        return cli_print_json(json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:i}", "epochs",
                                        (int)r->epochs, "train_loss", r->train_loss, "val_top1",
                                        r->val_top1, "val_top5", r->val_top5, "best_top1",
                                        r->best_top1, "seconds", r->seconds, "images_per_s",
                                        r->images_per_s, "skipped", (int)r->skipped));
    cli_progress_end();
    if (r->skipped)
        (void)printf("%u images could not be read, the first: %s\n", r->skipped, r->first_bad);
    if (r->best_top1 >= 0.0)
        (void)printf("best top-1 %.2f\n", r->best_top1);
    else if (r->seconds > 0.0) /* not finished already */
        (void)printf("training loss %.4f; --val DATA says how good that is\n", r->train_loss);
    return FERKD_OK;
}

/* A file among the words: what it says comes before what the command line says. */
static ferkd_status read_file(int argc, char **argv, options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *file = NULL;
        if (strcmp(argv[i], "--recipe") == 0 && i + 1 < argc)
            file = argv[i + 1];
        else if (strncmp(argv[i], "--recipe=", 9) == 0)
            file = argv[i] + 9;
        else if (argv[i][0] != '-' &&
                 (fk_ends_with(argv[i], ".yaml") || fk_ends_with(argv[i], ".yml")) &&
                 fk_is_file(argv[i]) && strcmp(argv[i - 1], "--recipe") != 0)
            file = argv[i];
        if (file)
            TRY(ferkd_recipe_load(&o->recipe, file));
    }
    return FERKD_OK;
}

static ferkd_status take_words(char **argv, int n, options *o)
{
    for (int i = 1; i <= n; i++) {
        if (fk_ends_with(argv[i], ".yaml") || fk_ends_with(argv[i], ".yml"))
            continue;
        if (i > 1 && o->recipe.data && strcmp(o->recipe.data, argv[i - 1]) == 0)
            return fk_fail(FERKD_USAGE, "ferkd train: one DATA is needed, not also \"%s\"",
                           argv[i]);
        TRY(ferkd_recipe_set(&o->recipe, "data", argv[i]));
    }
    return FERKD_OK;
}

static ferkd_status train(int argc, char **argv, options *o)
{
    ferkd_train_result result = {0};
    int n;
    bool help;

    TRY(read_file(argc, argv, o));
    TRY(cli_parse(&cli_train, argc, argv, o, &n, &help));
    if (help)
        return FERKD_OK;
    TRY(take_words(argv, n, o));
    ferkd_watch watch = cli_watch();
    if (o->resume)
        TRY(ferkd_train_resume(o->resume, &watch, &result));
    else
        TRY(ferkd_train(&o->recipe, &watch, &result));
    return print_result(o, &result);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};
    size_t n;
    const fk_option *t = table(&n);
    ferkd_status st = fk_options_init(t, n, &o);

    if (st == FERKD_OK)
        st = train(argc, argv, &o);
    fk_options_fini(t, n, &o);
    return st;
}

const cli_command cli_train = {
    "train",
    "train a student, from stored labels or otherwise",
    "DATA --val DATA --labels STORE -o RUN [options], or RECIPE.yaml, or --resume RUN",
    "Methods: ce trains on hard labels; kd, funmatch and deit run the teacher in the loop; fkd\n"
    "trains on every stored region label; ferkd (default) calibrates them: some regions are "
    "dropped,\n"
    "some labels changed, the rest kept, by rules that follow from the store and the length of "
    "the\n"
    "run (it says which and why; --calibrate takes others, \"ferkd calibrate\" shows what they "
    "do).\n\n"
    "RUN receives recipe.yaml, metrics.csv, metrics.jsonl, last.safetensors and best.safetensors.\n"
    "Ctrl-C stops at a safe point; --resume goes on as if nothing had happened.\n\n"
    "  ferkd train photos/train --val photos/val --labels labels.ferkd --model resnet18 \\\n"
    "        --size 128 --epochs 30 -o runs/a\n"
    "  ferkd train --resume runs/a",
    table,
    run};
