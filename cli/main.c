/* ferkd: a table of commands. */
#include "cli.h"

#include <limits.h>
#include <unistd.h>

#include "base/switches.h"

#define SPIN_COUNT "10000" /* some 30 us */

static const cli_command *const COMMANDS[] = {
    &cli_distill, &cli_label,      &cli_inspect, &cli_calibrate,  &cli_store,
    &cli_train,   &cli_experiment, &cli_eval,    &cli_run_tensor, &cli_predict,
    &cli_export,  &cli_info,       &cli_bench};

static void print_usage(FILE *f)
{
    (void)fprintf(
        f,
        "ferkd %s - knowledge distillation for image classifiers\n\n"
        "A teacher looks at many random regions of each image once (label); small students\n"
        "are trained from what it said, region by region (train).\n\n"
        "usage: ferkd COMMAND ...\n\n",
        ferkd_version());
    for (size_t i = 0; i < FK_COUNT(COMMANDS); i++)
        (void)fprintf(f, "  %-10s %s\n", COMMANDS[i]->name, COMMANDS[i]->line);
    (void)fprintf(f, "\n\"ferkd COMMAND --help\" explains one; \"ferkd help --json\" lists all "
                     "options.\n");
}

static const cli_command *find(const char *name)
{
    for (size_t i = 0; i < FK_COUNT(COMMANDS); i++) {
        if (strcmp(COMMANDS[i]->name, name) == 0)
            return COMMANDS[i];
    }
    return NULL;
}

static json_t *option_json(const fk_option *o)
{
    static const char *const KINDS[] = {"flag", "int", "real", "text", "choice"};
    json_t *j =
        json_pack("{s:s, s:s, s:s}", "name", o->name, "kind", KINDS[o->kind], "help", o->help);

    if (o->initial)
        (void)json_object_set_new(j, "default", json_string(o->initial));
    if (o->choices)
        (void)json_object_set_new(j, "choices", json_string(o->choices));
    return j;
}

/* The program itself: what its environment may say. */
static json_t *itself_json(void)
{
    size_t n;
    const fk_switch *switches = fk_switches(&n);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:s}", "name", switches[i].name, "words",
                                              switches[i].words, "help", switches[i].help));
    (void)json_array_append_new(
        list, json_pack("{s:s, s:s, s:s}", "name", "GOMP_SPINCOUNT", "words", "N", "help",
                        "how long threads spin before they sleep where they wait for each other; "
                        "unless it or OMP_WAIT_POLICY is set: " SPIN_COUNT));
    return json_pack("{s:s, s:o}", "line", "knowledge distillation for image classifiers",
                     "environment", list);
}

static ferkd_status help_json(void)
{
    json_t *all = json_object();

    for (size_t i = 0; i < FK_COUNT(COMMANDS); i++) {
        size_t n;
        const fk_option *table = COMMANDS[i]->options(&n);
        json_t *list = json_array();
        for (size_t k = 0; k < n; k++)
            (void)json_array_append_new(list, option_json(&table[k]));
        (void)json_object_set_new(all, COMMANDS[i]->name,
                                  json_pack("{s:s, s:s, s:s, s:o}", "line", COMMANDS[i]->line,
                                            "usage", COMMANDS[i]->usage, "prose",
                                            COMMANDS[i]->prose, "options", list));
    }
    (void)json_object_set_new(all, "ferkd", itself_json());
    return cli_print_json(all);
}

static ferkd_status unknown(const char *word)
{
    const char *near = COMMANDS[0]->name;

    for (size_t i = 1; i < FK_COUNT(COMMANDS); i++) {
        if (fk_word_distance(COMMANDS[i]->name, word) < fk_word_distance(near, word))
            near = COMMANDS[i]->name;
    }
    return fk_fail(FERKD_USAGE, "ferkd: unknown command \"%.40s\"; did you mean %s?", word, near);
}

/* libgomp's threads spin for milliseconds where they wait for each other, unless its environment says otherwise, which it
 * reads before main(). Alone on a machine that wins nothing, beside other work it takes the time of whom they wait for:
 * so begin again with less. */
static void wait_calmly(char **argv)
{
    char path[PATH_MAX];

    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1))
        return;
    path[n] = '\0';
    (void)execv(path, argv); /* where that is forbidden: as it is */
}

static ferkd_status dispatch(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "--version") == 0) {
        (void)printf("ferkd %s\n", ferkd_version());
        return FERKD_OK;
    }
    if (argc < 2 || strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 ||
        strcmp(word, "-h") == 0) {
        const cli_command *c = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && strcmp(argv[2], "--json") == 0)
            return help_json();
        if (c)
            cli_print_help(c, stdout);
        else
            print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? fk_fail(FERKD_USAGE, "ferkd: a command is needed") : FERKD_OK;
    }
    const cli_command *c = find(word);
    if (!c)
        return unknown(word);
    TRY(fk_switches_check());
    wait_calmly(argv);
    return c->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    ferkd_status st = dispatch(argc, argv);

    cli_progress_end();
    if (st != FERKD_OK)
        (void)fprintf(stderr, "%s%s\n",
                      st == FERKD_STOPPED ? "" : "ferkd: error: ", ferkd_last_error());
    return (int)st;
}
