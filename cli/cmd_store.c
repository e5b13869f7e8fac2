/* ferkd store */
#include "cli.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

typedef struct options {
    char *output, *data, *type, *class_names;
    int64_t regions, topk, prob_bits, images_per_file;
    bool with_images, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"output", 'o', FK_OPT_TEXT, AT(output), NULL, 0, 0, NULL, "STORE",
     "the store (export: folder or .tar) to write"},
    {"data", 0, FK_OPT_TEXT, AT(data), NULL, 0, 0, NULL, "DATA",
     "import, export: the images; export: default: where the store says they were"},
    {"type", 0, FK_OPT_TEXT, AT(type), "marginal_smoothing_k5", 0, 0, NULL, "TYPE",
     "import: what the archives hold: ori, hard, smoothing, marginal_smoothing_k5 (any k), "
     "marginal_renorm"},
    {"class-names", 0, FK_OPT_TEXT, AT(class_names), NULL, 0, 0, NULL, "FILE",
     "import, export: names for IDX data, one a line"},
    {"regions", 'r', FK_OPT_INT, AT(regions), "0", 0, FK_MAX_REGIONS, NULL, "N",
     "convert: keep the first N regions of each image; 0: all"},
    {"topk", 'k', FK_OPT_INT, AT(topk), "0", 0, 1024, NULL, "K",
     "convert: keep so many probabilities a region; 0: all"},
    {"prob-bits", 0, FK_OPT_INT, AT(prob_bits), "0", 0, 16, NULL, "N",
     "convert: of a probability, 8 to 16; 0: as \"ferkd label\" has it"},
    {"images-per-file", 0, FK_OPT_INT, AT(images_per_file), "0", 0, 1 << 30, NULL, "N",
     "export to .tar: several files of so many images; 0: one file"},
    {"with-images", 0, FK_OPT_FLAG, AT(with_images), "false", 0, 0, NULL, NULL,
     "export to .tar: the images, too"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_status info(const options *o, int n, char **argv)
{
    ferkd_store *s = NULL;

    for (int i = 0; i < n; i++) {
        TRY(ferkd_store_open(&s, argv[i]));
        const ferkd_store_info *a = ferkd_store_about(s);
        double each = (double)a->file_bytes / ((double)a->images * a->regions);
        ferkd_status st = FERKD_OK;
        if (o->json)
            st = cli_print_json(json_pack(
                "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:f, s:I, s:s, s:s}",
                "store", argv[i], "version", (int)a->version, "images", (int)a->images, "labelled",
                (int)a->labelled, "skipped", (int)a->skipped, "regions", (int)a->regions, "topk",
                (int)a->topk, "prob_bits", (int)a->prob_bits, "classes", (int)a->classes,
                "teacher_classes", (int)a->teacher_classes, "label_classes", (int)a->label_classes,
                "bytes", (json_int_t)a->file_bytes, "bytes_per_region", each, "seed",
                (json_int_t)a->sampler.seed, "teacher", a->teacher, "dataset", a->dataset));
        else
            (void)printf("%s: %u images x %u regions, top %u of %u classes (%u bits), teacher %s, "
                         "seed %" PRIu64 ", %.2f bytes a region\n",
                         argv[i], a->images, a->regions, a->topk, a->label_classes, a->prob_bits,
                         a->teacher, a->sampler.seed, each);
        ferkd_store_close(&s);
        TRY(st);
    }
    return FERKD_OK;
}

static ferkd_status verify_one(const char *path)
{
    ferkd_store *s = NULL;
    uint32_t *bad = NULL;
    uint32_t n = 0;

    TRY(ferkd_store_open(&s, path));
    ferkd_status st = ferkd_store_verify(s, &bad, &n);
    if (st == FERKD_OK)
        st = cli_print_damage(s, bad, n);
    free(bad);
    ferkd_store_close(&s);
    return st;
}

static ferkd_status verify(const options *o, int n, char **argv)
{
    (void)o;
    for (int i = 0; i < n; i++)
        TRY(verify_one(argv[i]));
    return FERKD_OK;
}

static ferkd_status done(const char *path)
{
    ferkd_store *s = NULL;

    TRY(ferkd_store_open(&s, path));
    const ferkd_store_info *a = ferkd_store_about(s);
    cli_progress_end();
    (void)printf("%s: %u images x %u regions, %.2f bytes a region\n", path, a->images, a->regions,
                 (double)a->file_bytes / ((double)a->images * a->regions));
    ferkd_store_close(&s);
    return FERKD_OK;
}

static ferkd_status need_output(const options *o)
{
    return o->output ? FERKD_OK : fk_fail(FERKD_USAGE, "ferkd store: -o STORE is needed");
}

static ferkd_status merge(const options *o, int n, char **argv)
{
    ferkd_watch watch = cli_watch();

    TRY(need_output(o));
    TRY(ferkd_store_merge((const char *const *)argv, (uint32_t)n, o->output, &watch));
    return done(o->output);
}

static ferkd_status convert(const options *o, int n, char **argv)
{
    ferkd_store *s = NULL;
    ferkd_watch watch = cli_watch();

    TRY(need_output(o));
    if (n != 1)
        return fk_fail(FERKD_USAGE, "ferkd store convert: one STORE is needed");
    TRY(ferkd_store_open(&s, argv[0]));
    ferkd_store_pack as = {.regions = (uint32_t)o->regions,
                           .topk = (uint32_t)o->topk,
                           .prob_bits = (uint32_t)o->prob_bits};
    ferkd_status st = ferkd_store_convert(s, o->output, &as, &watch);
    ferkd_store_close(&s);
    return st == FERKD_OK ? done(o->output) : st;
}

static ferkd_status print_difference(const options *o, const ferkd_store_difference *d)
{
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:b, s:i, s:I, s:I, s:f, s:f}", "settings",
                                        d->settings, "comparable", (int)d->comparable, "images",
                                        (int)d->images, "regions", (json_int_t)d->regions,
                                        "other_first", (json_int_t)d->other_first, "most", d->most,
                                        "mean_variation", d->mean_variation));
    (void)printf("settings that differ: %s\n", *d->settings ? d->settings : "none");
    if (!d->comparable)
        (void)printf("labels of different shape: not compared\n");
    else
        (void)printf("labels differ in %" PRIu64 " regions of %u images; another first class in "
                     "%" PRIu64 "; largest difference %.4f, total variation %.5f on average\n",
                     d->regions, d->images, d->other_first, d->most, d->mean_variation);
    return FERKD_OK;
}

static ferkd_status diff(const options *o, int n, char **argv)
{
    ferkd_store *a = NULL;
    ferkd_store *b = NULL;
    ferkd_store_difference d;

    if (n != 2)
        return fk_fail(FERKD_USAGE, "ferkd store diff: two STOREs are needed");
    TRY(ferkd_store_open(&a, argv[0]));
    ferkd_status st = ferkd_store_open(&b, argv[1]);
    if (st == FERKD_OK)
        st = ferkd_store_compare(a, b, &d);
    ferkd_store_close(&a);
    ferkd_store_close(&b);
    return st == FERKD_OK ? print_difference(o, &d) : st;
}

static ferkd_status head(const options *o, int n, char **argv)
{
    ferkd_store *s = NULL;
    ferkd_status st = FERKD_OK;

    if (n < 1 || n > 2)
        return fk_fail(FERKD_USAGE, "ferkd store head: STORE [N] is needed");
    uint32_t most = n > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 3;
    TRY(ferkd_store_open(&s, argv[0]));
    for (uint32_t i = 0; st == FERKD_OK && i < most && i < ferkd_store_about(s)->images; i++) {
        if (!o->json)
            (void)printf("image %u, class %u\n", i, ferkd_store_truth(s, i));
        st = cli_print_labels(s, i, o->json);
        st = st == FERKD_ABSENT ? FERKD_OK : st; /* an image that could not be read */
    }
    ferkd_store_close(&s);
    return st;
}

static ferkd_status import(const options *o, int n, char **argv)
{
    bool tar = n > 0 && !fk_is_folder(argv[0]);
    ferkd_dataset *data = NULL;
    ferkd_dataset_options how = {.class_names = o->class_names, .ignore_exif = !tar};
    ferkd_watch watch = cli_watch();
    ferkd_status st = FERKD_OK;

    TRY(need_output(o));
    if (n < 1 || (!tar && (n != 1 || !o->data)))
        return fk_fail(FERKD_USAGE, "ferkd store import: one FOLDER of archives and --data, or "
                                    "WebDataset's .tar files, are needed");
    if (o->data)
        TRY(ferkd_dataset_open(&data, o->data, &how));
    if (tar)
        st = ferkd_webdataset_import((const char *const *)argv, (uint32_t)n, data, o->output,
                                     &watch);
    else
        st = ferkd_fkd_import(data, argv[0], o->type, o->output, &watch);
    ferkd_dataset_close(&data);
    return st == FERKD_OK ? done(o->output) : st;
}

static ferkd_status export_to(const options *o, const ferkd_store *s, const ferkd_dataset *data)
{
    ferkd_watch watch = cli_watch();
    const ferkd_store_info *a = ferkd_store_about(s);

    if (fk_ends_with(o->output, ".tar")) {
        ferkd_webdataset_options how = {(uint32_t)o->images_per_file, o->with_images};
        TRY(ferkd_webdataset_export(s, data, o->output, &how, &watch));
        cli_progress_end();
        (void)printf("%s: WebDataset of %u images\n", o->output, a->images);
        return FERKD_OK;
    }
    TRY(ferkd_fkd_export(s, data, o->output, &watch));
    cli_progress_end();
    (void)printf("%s: archives of %u images, type marginal_smoothing_k%u\n", o->output, a->labelled,
                 a->topk);
    return FERKD_OK;
}

static ferkd_status export(const options *o, int n, char **argv)
{
    ferkd_store *s = NULL;
    ferkd_dataset *data = NULL;

    TRY(need_output(o));
    if (n != 1)
        return fk_fail(FERKD_USAGE, "ferkd store export: one STORE is needed");
    TRY(ferkd_store_open(&s, argv[0]));
    const ferkd_store_info *a = ferkd_store_about(s);
    ferkd_dataset_options how = {.class_names = o->class_names, .ignore_exif = a->ignore_exif};
    ferkd_status st = ferkd_dataset_open(&data, o->data ? o->data : a->dataset, &how);
    if (st == FERKD_OK)
        st = export_to(o, s, data);
    ferkd_dataset_close(&data);
    ferkd_store_close(&s);
    return st;
}

static const struct {
    const char *name;
    ferkd_status (*run)(const options *o, int n, char **argv);
} VERBS[] = {{"info", info}, {"verify", verify}, {"merge", merge},   {"convert", convert},
             {"diff", diff}, {"head", head},     {"import", import}, {"export", export}};

static ferkd_status store(void *o, int n, char **argv)
{
    for (size_t i = 0; n >= 2 && i < FK_COUNT(VERBS); i++) {
        if (strcmp(argv[1], VERBS[i].name) == 0)
            return VERBS[i].run(o, n - 1, argv + 2);
    }
    return fk_fail(FERKD_USAGE, "ferkd store: info, verify, merge, convert, diff, head, import or "
                                "export, and a STORE, are needed");
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_store, argc, argv, &o, store);
}

const cli_command cli_store = {
    "store",
    "look at label stores, check them, put parts together, pack anew, compare, import, export",
    "info|verify|merge|convert|diff|head|import|export STORE ... [-o STORE]",
    "  info STORE ...             how stores were made, in a line each\n"
    "  verify STORE ...           check every block; damaged images are named, exit code 5\n"
    "  merge -o STORE PART ...    put together what \"ferkd label --part\" made, in any order; "
    "the\n"
    "                             bytes are those of a store labelled at once\n"
    "  convert -o STORE STORE     pack anew with fewer regions (--regions), probabilities\n"
    "                             (--topk) or other bits\n"
    "  diff STORE STORE           settings and labels that differ\n"
    "  head STORE [N]             the labels of the first images\n"
    "  import -o STORE FOLDER     FKD's label archives of --data, with their own boxes; train "
    "with\n"
    "                             --ignore-exif, as FKD does\n"
    "  import -o STORE X.tar ...  WebDataset, as export writes it, or others' about --data\n"
    "  export -o FOLDER STORE     FKD's archives, which its own loader reads\n"
    "  export -o X.tar STORE      WebDataset: boxes, classes, probabilities as NumPy's arrays\n\n"
    "  ferkd store merge -o labels.ferkd labels.ferkd.*of4\n"
    "  ferkd store verify labels.ferkd || ferkd label photos/train --teacher big.onnx --repair -o "
    "labels.ferkd",
    table,
    run};
