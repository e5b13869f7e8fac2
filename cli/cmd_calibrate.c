/* ferkd calibrate */
#include "cli.h"

typedef struct options {
    double moment;
    int64_t epochs;
    bool json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"epochs", 'e', FK_OPT_INT, AT(epochs), "30", 1, 1000000, NULL, "N",
     "length of the run, which auto asks for"},
    {"moment", 0, FK_OPT_REAL, AT(moment), "0", 0, 1, NULL, "X",
     "rules that move: 0 is the first epoch, 1 the last"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static const char *const GROUPS[] = {"discarded", "treated", "kept"};

static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static json_t *as_json(const char *name, const ferkd_calibration *c,
                       const ferkd_calibration_counts *n)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "name", name, "rules",
                          ferkd_calibration_rules(c), "words", ferkd_calibration_words(c),
                          "regions", (json_int_t)n->regions, "images", (json_int_t)n->images,
                          "images_without", (json_int_t)n->images_without);

    for (int g = 0; g < 3; g++)
        (void)json_object_set_new(j, GROUPS[g],
                                  json_pack("{s:I, s:I}", "regions", (json_int_t)n->group[g],
                                            "teacher_right", (json_int_t)n->group_right[g]));
    return j;
}

static void print_one(const char *name, const ferkd_calibration *c,
                      const ferkd_calibration_counts *n)
{
    const char *words = ferkd_calibration_words(c);

    (void)printf("%s\n", name);
    if (strcmp(name, ferkd_calibration_rules(c)) != 0)
        (void)printf("  %s\n", ferkd_calibration_rules(c));
    while (*words) {
        int line = (int)strcspn(words, "\n");
        (void)printf("  %.*s\n", line, words);
        words += line + (words[line] == '\n');
    }
    for (int g = 0; g < 3; g++)
        (void)printf("  %-10s %10" PRIu64 " regions %6.2f%%   teacher right in %6.2f%%\n",
                     GROUPS[g], n->group[g], share(n->group[g], n->regions),
                     share(n->group_right[g], n->group[g]));
    (void)printf("  %" PRIu64 " of %" PRIu64 " images have no region left\n\n", n->images_without,
                 n->images);
}

static ferkd_status show(const options *o, const ferkd_store *s, const char *rules, json_t *list)
{
    ferkd_calibration *c = NULL;
    ferkd_calibration_counts n;

    TRY(ferkd_calibration_new(&c, rules, s, (double)o->epochs));
    ferkd_status st = ferkd_calibration_count(c, s, o->moment, &n);
    if (st == FERKD_OK && o->json)
        (void)json_array_append_new(list, as_json(rules, c, &n));
    else if (st == FERKD_OK)
        print_one(rules, c, &n);
    ferkd_calibration_free(&c);
    return st;
}

static ferkd_status calibrate(const options *o, int n, char **argv)
{
    ferkd_store *s = NULL;
    json_t *list = json_array();
    ferkd_status st = ferkd_store_open(&s, argv[1]);

    for (int i = 2; st == FERKD_OK && i <= n; i++)
        st = show(o, s, argv[i], list);
    for (uint32_t i = 0; st == FERKD_OK && n == 1 && ferkd_preset_name(i); i++)
        st = show(o, s, ferkd_preset_name(i), list);
    ferkd_store_close(&s);
    if (st == FERKD_OK && o->json)
        return cli_print_json(list);
    json_decref(list);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n < 1 ? fk_fail(FERKD_USAGE, "ferkd calibrate: a STORE is needed")
                 : calibrate(base, n, argv);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_calibrate, argc, argv, &o, work);
}

const cli_command cli_calibrate = {
    "calibrate",
    "what calibration rules do with a store: how many regions are dropped, treated, kept",
    "STORE [RULES ...] [--epochs N] [--moment X] [--json]",
    "Shows, for each of RULES or for all presets, how many regions it discards, gives another "
    "label\n"
    "(treats) and keeps, and how often the teacher is right in each group. RULES is a preset or a\n"
    "text; the first rule whose conditions hold decides about a region, and \"ferkd train "
    "--calibrate\n"
    "RULES\" applies it:\n\n"
    "  rules      rule; rule; ...\n"
    "  rule       condition and condition ...: action    or    else: action\n"
    "  condition  MEASURE < THRESHOLD, MEASURE > THRESHOLD, wrong, right (is the teacher's first\n"
    "             class the ground truth?)\n"
    "  MEASURE    max      the teacher's largest probability over all its own classes\n"
    "             top      its largest probability among the data set's classes\n"
    "             inside   its probability for all the data set's classes together\n"
    "             truth    its probability for the ground truth, among the data set's classes\n"
    "             entropy  of the label, nats;  margin  largest less second largest\n"
    "             area     of the region, as a share of the image\n"
    "  THRESHOLD  0.15, or 5% (that quantile of the measure), 5% of class, 5% of image;\n"
    "             30%..5% moves from the first epoch to the last, by as many stops as are written\n"
    "  action     discard (another region of the image is drawn), keep, hard, smooth 0.1,\n"
    "             teacher 0.1 (the teacher's choice as a smoothed hard label), mix W (W soft "
    "label,\n"
    "             the rest ground truth), blur W (W soft label, the rest on all classes evenly);\n"
    "             W is a number or a measure\n"
    "  temperature T, or temperature fit: of the soft labels\n"
    "  focus W    where labels are over more classes than the data set's, a share W of each soft\n"
    "             label is told among these alone\n\n"
    "Presets: auto (the default), ferkd-paper, fkd, relabel.\n\n"
    "  ferkd calibrate labels.ferkd\n"
    "  ferkd calibrate labels.ferkd \"wrong: hard; inside < 20%: discard; else: keep\"",
    table,
    run};
