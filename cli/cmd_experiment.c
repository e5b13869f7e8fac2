/* ferkd experiment */
#include "cli.h"

#include "base/file.h"
#include "base/mem.h"

typedef struct options {
    char *output;
    bool list, report, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"output", 'o', FK_OPT_TEXT, AT(output), NULL, 0, 0, NULL, "FOLDER",
     "where runs and results go; default: the file's name without .yaml"},
    {"list", 0, FK_OPT_FLAG, AT(list), "false", 0, 0, NULL, NULL,
     "only show the runs of the grid, and how far each is"},
    {"report", 0, FK_OPT_FLAG, AT(report), "false", 0, 0, NULL, NULL,
     "only write the results of what has been trained so far"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "list the runs as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_status list_runs(const ferkd_experiment *e, bool as_json)
{
    json_t *list = json_array();
    ferkd_trial t;

    for (uint32_t i = 0; i < ferkd_experiment_trials(e); i++) {
        TRY(ferkd_experiment_trial(e, i, &t));
        if (!as_json)
            (void)printf("%4u/%-4u %s\n", t.done, t.epochs, t.folder);
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:s, s:i, s:i}", "setting",
                                                    t.setting, "method", t.method, "seed",
                                                    (json_int_t)t.seed, "folder", t.folder,
                                                    "epochs", (int)t.epochs, "done", (int)t.done));
    }
    if (as_json)
        return cli_print_json(list);
    json_decref(list);
    return FERKD_OK;
}

static ferkd_status print_file(const char *folder, const char *name)
{
    char *path = NULL;
    uint8_t *text = NULL;
    size_t n;

    TRY(fk_path_join(&path, folder, name));
    ferkd_status st = fk_file_read(&text, &n, path, 1 << 26, false);
    if (st == FERKD_OK)
        (void)fputs((const char *)text, stdout);
    free(text);
    free(path);
    return st;
}

static ferkd_status experiment(options *o, const char *file)
{
    ferkd_experiment *e = NULL;
    ferkd_status st = FERKD_OK;

    if (!o->output) {
        const char *dot = strrchr(file, '.');
        TRY(fk_asprintf(&o->output, "%.*s", (int)(dot ? dot - file : (ptrdiff_t)strlen(file)),
                        file));
    }
    TRY(ferkd_experiment_open(&e, file, o->output));
    if (o->list) {
        st = list_runs(e, o->json);
        ferkd_experiment_close(&e);
        return st;
    }
    ferkd_watch watch = cli_watch();
    ferkd_status trained = o->report ? FERKD_OK : ferkd_experiment_run(e, &watch);
    cli_progress_end();
    if (trained == FERKD_OK || trained == FERKD_STOPPED)
        st = ferkd_experiment_report(e);
    if (st == FERKD_OK && trained == FERKD_OK)
        st = o->json ? list_runs(e, true) : print_file(o->output, "results.md");
    ferkd_experiment_close(&e);
    return trained == FERKD_OK ? st : trained;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n == 1 ? experiment(base, argv[1])
                  : fk_fail(FERKD_USAGE, "ferkd experiment: one FILE.yaml is needed");
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_experiment, argc, argv, &o, work);
}

const cli_command cli_experiment = {
    "experiment",
    "train a grid of methods, settings and seeds, and compare them",
    "FILE.yaml [-o FOLDER] [--list | --report]",
    "Trains every run of the grid that is not finished yet, and writes results.md, results.csv "
    "and\n"
    "index.html (tables with paired differences and intervals, curves, sweeps) into FOLDER. "
    "Stopped\n"
    "or killed, the same command goes on; several processes may share one grid. A grid:\n\n"
    "  name: calibration\n"
    "  base: {data: photos/train, val: photos/val, labels: labels.ferkd, model: resnet18,\n"
    "         size: 128, epochs: 10}\n"
    "  seeds: 3\n"
    "  methods:                      # the first is what the others are compared with\n"
    "    fkd: {method: fkd}\n"
    "    ce: {method: ce, label-smoothing: 0.1}\n"
    "    ferkd: {method: ferkd}\n"
    "    lower: {method: ferkd, calibrate: \"max < $x: discard\", vary: {x: [5%, 10%, 20%]}}\n"
    "  settings: {short: {epochs: 5}, long: {epochs: 30}}      # optional second axis\n"
    "  target: 90                    # optional: epochs and time to this top-1\n\n"
    "A method may say seeds of its own, and extra-seconds (of labelling, say), which are added to\n"
    "its times.\n\n"
    "  ferkd experiment calibration.yaml\n"
    "  ferkd experiment calibration.yaml --report",
    table,
    run};
