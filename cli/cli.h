/* What the subcommands share: options from a table, progress, stopping, JSON. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>

#include "base/compat.h"
#include "base/option.h"
#include "ferkd/ferkd.h"

/* A subcommand: its words, its options, its examples. */
typedef struct cli_command {
    const char *name;
    const char *line;  /* what it does, in a line */
    const char *usage; /* behind "ferkd NAME" */
    const char *prose; /* for --help: a paragraph and examples */
    const fk_option *(*options)(size_t *n);
    ferkd_status (*run)(int argc, char **argv);
} cli_command;

extern const cli_command cli_distill, cli_label, cli_inspect, cli_calibrate, cli_experiment,
    cli_train, cli_eval, cli_run_tensor, cli_predict, cli_export, cli_info, cli_bench, cli_store;

/* Parse argv (its [0] is the command) into base by the command's table; positional arguments are
 * moved to the front of argv + 1 and counted. *help: --help was given and printed. */
FERKD_CHECK ferkd_status cli_parse(const cli_command *c, int argc, char **argv, void *base,
                                   int *n_positional, bool *help);

/* What a command does with its options and its n words, argv[1] to argv[n]. */
typedef ferkd_status cli_work(void *options, int n, char **argv);
/* Parse argv into options (zeroed, of the command's table) and do the work, unless help was asked for. */
FERKD_CHECK ferkd_status cli_run(const cli_command *c, int argc, char **argv, void *options,
                                 cli_work *work);

void cli_print_help(const cli_command *c, FILE *f);

/* The watch that shows progress on a terminal, prints messages to stderr, and stops on SIGINT. */
ferkd_watch cli_watch(void);
/* End the progress line, if there is one. */
void cli_progress_end(void);

/* Print j on one line to stdout and free it. */
ferkd_status cli_print_json(json_t *j);

/* A region a line, or JSON: the labels of an image. FERKD_ABSENT: it has none. */
ferkd_status cli_print_labels(const ferkd_store *s, uint32_t image, bool as_json);
/* Name damaged images; FERKD_CORRUPT if there are any. */
ferkd_status cli_print_damage(const ferkd_store *s, const uint32_t *bad, uint32_t n);

/* Options that name a model's preprocessing, shared by label and eval. */
typedef struct cli_teacher {
    char *mean, *std, *resize, *classes;
    char *precision, *tune;
    int64_t size;
    double crop_pct;
} cli_teacher;

#define CLI_TEACHER(type, field, with_precision, with_tune)                                     \
    {"teacher-size",                                                                            \
     0,                                                                                         \
     FK_OPT_INT,                                                                                \
     offsetof(type, field.size),                                                                \
     "0",                                                                                       \
     0,                                                                                         \
     8192,                                                                                      \
     NULL,                                                                                      \
     "PX",                                                                                      \
     "side of the model's input; 0: as its JSON, or its run, says"},                            \
        {"teacher-mean",                                                                        \
         0,                                                                                     \
         FK_OPT_TEXT,                                                                           \
         offsetof(type, field.mean),                                                            \
         NULL,                                                                                  \
         0,                                                                                     \
         0,                                                                                     \
         NULL,                                                                                  \
         "R,G,B",                                                                               \
         "mean of its input, on 0..1 or 0..255"},                                               \
        {"teacher-std",                                                                         \
         0,                                                                                     \
         FK_OPT_TEXT,                                                                           \
         offsetof(type, field.std),                                                             \
         NULL,                                                                                  \
         0,                                                                                     \
         0,                                                                                     \
         NULL,                                                                                  \
         "R,G,B",                                                                               \
         "deviation of its input, likewise"},                                                   \
        {"teacher-resize",                                                                      \
         0,                                                                                     \
         FK_OPT_TEXT,                                                                           \
         offsetof(type, field.resize),                                                          \
         NULL,                                                                                  \
         0,                                                                                     \
         0,                                                                                     \
         NULL,                                                                                  \
         "FILTER",                                                                              \
         "bilinear, bicubic or lanczos"},                                                       \
        {"teacher-classes",                                                                     \
         0,                                                                                     \
         FK_OPT_TEXT,                                                                           \
         offsetof(type, field.classes),                                                         \
         NULL,                                                                                  \
         0,                                                                                     \
         0,                                                                                     \
         NULL,                                                                                  \
         "FILE",                                                                                \
         "its class names, one a line"},                                                        \
        {"precision",                                                                           \
         0,                                                                                     \
         FK_OPT_CHOICE,                                                                         \
         offsetof(type, field.precision),                                                       \
         with_precision,                                                                        \
         0,                                                                                     \
         0,                                                                                     \
         "auto|f32|bf16",                                                                       \
         NULL,                                                                                  \
         "auto: the faster of both on this processor"},                                         \
        {"tune",      0,                                                                        \
         FK_OPT_TEXT, offsetof(type, field.tune),                                               \
         with_tune,   0,                                                                        \
         0,           NULL,                                                                     \
         "HOW",       "off: implementations by rule; quick, full: the fastest, measured once"}, \
    {                                                                                           \
        "crop-pct", 0, FK_OPT_REAL, offsetof(type, field.crop_pct), "0", 0, 1, NULL, "X",       \
            "evaluation: short side = size / crop-pct; 0: as its JSON says"                     \
    }

ferkd_model_options cli_model_options(const cli_teacher *t);

#endif
