/* Command lines by table: the same table gives parsing and help. */
#include "cli.h"

#include <getopt.h>
#include <unistd.h>

#include "base/mem.h"

#define MAX_OPTIONS 96

static void argument_of(const fk_option *o, char *text, size_t size)
{
    if (o->kind == FK_OPT_FLAG)
        (void)snprintf(text, size, "--%s", o->name);
    else if (o->kind == FK_OPT_CHOICE)
        (void)snprintf(text, size, "--%s %s", o->name, o->choices);
    else
        (void)snprintf(text, size, "--%s %s", o->name, o->arg ? o->arg : "X");
}

void cli_print_help(const cli_command *c, FILE *f)
{
    size_t n;
    const fk_option *table = c->options(&n);

    (void)fprintf(f, "ferkd %s - %s\n\nusage: ferkd %s %s\n\n%s\n\noptions:\n", c->name, c->line,
                  c->name, c->usage, c->prose);
    for (size_t i = 0; i < n; i++) {
        char left[80];
        char letter[8] = "    ";
        argument_of(&table[i], left, sizeof left);
        if (table[i].letter)
            (void)snprintf(letter, sizeof letter, "-%c, ", table[i].letter);
        (void)fprintf(f, "  %s%-30s %s%s", letter, left, strlen(left) > 30 ? "\n" : "",
                      strlen(left) > 30 ? "                                     " : "");
        (void)fprintf(f, "%s", table[i].help);
        if (table[i].initial && table[i].kind != FK_OPT_FLAG)
            (void)fprintf(f, " [%s]", table[i].initial);
        if (table[i].kind == FK_OPT_FLAG && table[i].initial &&
            strcmp(table[i].initial, "true") == 0)
            (void)fprintf(f, " [on; --no-%s]", table[i].name);
        (void)fputc('\n', f);
    }
    (void)fprintf(f, "      %-30s %s\n", "--help", "this text");
}

/* "did you mean" for a word that getopt did not know. */
static ferkd_status unknown_option(const cli_command *c, const char *word)
{
    size_t n;
    const fk_option *table = c->options(&n);
    char name[64];

    while (*word == '-')
        word++;
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *near = fk_option_nearest(table, n, name);
    return fk_fail(FERKD_USAGE, "ferkd %s: unknown option --%s%s%s%s", c->name, name,
                   near ? "; did you mean --" : "; see ferkd ", near ? near : c->name,
                   near ? "?" : " --help");
}

/* getopt's tables from ours: --name, --name=VALUE, --no-name for flags. */
typedef struct tables {
    struct option longs[2 * MAX_OPTIONS + 2];
    char names[MAX_OPTIONS][40];
    char shorts[2 * MAX_OPTIONS + 2];
} tables;

static void make_tables(tables *t, const fk_option *table, size_t n)
{
    size_t k = 0;
    size_t s = 0;

    t->shorts[s++] = ':';
    for (size_t i = 0; i < n && i < MAX_OPTIONS; i++) {
        bool flag = table[i].kind == FK_OPT_FLAG;
        t->longs[k++] = (struct option){table[i].name, flag ? no_argument : required_argument, NULL,
                                        (int)(1000 + i)};
        if (flag) {
            (void)snprintf(t->names[i], sizeof t->names[i], "no-%s", table[i].name);
            t->longs[k++] = (struct option){t->names[i], no_argument, NULL, (int)(2000 + i)};
        }
        if (table[i].letter) {
            t->shorts[s++] = table[i].letter;
            if (!flag)
                t->shorts[s++] = ':';
        }
    }
    t->longs[k] = (struct option){"help", no_argument, NULL, 'h'};
}

static const fk_option *by_letter(const fk_option *table, size_t n, int letter)
{
    for (size_t i = 0; i < n; i++) {
        if (table[i].letter == letter)
            return &table[i];
    }
    return NULL;
}

ferkd_status cli_parse(const cli_command *c, int argc, char **argv, void *base, int *n_positional,
                       bool *help)
{
    size_t n;
    const fk_option *table = c->options(&n);
    tables t = {0};
    int code;

    *help = false;
    make_tables(&t, table, n);
    optind = 1;
    opterr = 0;
    while ((code = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
        if (code == 'h') {
            cli_print_help(c, stdout);
            *help = true;
            return FERKD_OK;
        }
        if (code == '?')
            return unknown_option(c, argv[optind - 1]);
        if (code == ':')
            return fk_fail(FERKD_USAGE, "ferkd %s: %s needs a value", c->name, argv[optind - 1]);
        bool off = code >= 2000;
        const fk_option *o =
            code >= 1000 ? &table[off ? code - 2000 : code - 1000] : by_letter(table, n, code);
        const char *value = o && o->kind == FK_OPT_FLAG ? (off ? "false" : "true") : optarg;
        if (o)
            TRY(fk_option_set(o, base, value));
    }
    *n_positional = argc - optind;
    memmove(argv + 1, argv + optind, (size_t)*n_positional * sizeof *argv);
    return FERKD_OK;
}

ferkd_status cli_print_json(json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(10)) : NULL;

    json_decref(j);
    if (!text)
        return fk_fail(FERKD_MEMORY, "no memory to print JSON");
    (void)puts(text);
    free(text);
    return fflush(stdout) == 0 ? FERKD_OK : fk_fail_errno(FERKD_IO, "standard output");
}

ferkd_model_options cli_model_options(const cli_teacher *t)
{
    return (ferkd_model_options){.size_px = (uint32_t)t->size,
                                 .mean = t->mean,
                                 .std = t->std,
                                 .resize = t->resize,
                                 .crop_pct = t->crop_pct,
                                 .classes = t->classes,
                                 .precision = t->precision,
                                 .tune = t->tune};
}

ferkd_status cli_run(const cli_command *c, int argc, char **argv, void *options, cli_work *work)
{
    size_t rows;
    const fk_option *table = c->options(&rows);
    int n = 0;
    bool help = false;
    ferkd_status st = fk_options_init(table, rows, options);

    if (st == FERKD_OK)
        st = cli_parse(c, argc, argv, options, &n, &help);
    if (st == FERKD_OK && !help)
        st = work(options, n, argv);
    fk_options_fini(table, rows, options);
    return st;
}
