/* ferkd inspect */
#include "cli.h"

typedef struct options {
    bool json, verify;
    int64_t image, suspects, epochs;
    char *page, *sheet, *group, *data, *class_names, *calibrate;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
    {"verify", 0, FK_OPT_FLAG, AT(verify), "false", 0, 0, NULL, NULL,
     "check every block; damaged images are named, exit code 5"},
    {"image", 'i', FK_OPT_INT, AT(image), "-1", -1, 2147483647, NULL, "N",
     "print the labels of this image's regions"},
    {"suspects", 's', FK_OPT_INT, AT(suspects), "0", 0, 1000000, NULL, "N",
     "list the N images whose label the teacher disputes most, in all their regions"},
    {"page", 'p', FK_OPT_TEXT, AT(page), NULL, 0, 0, NULL, "FILE.html",
     "write a page: how sure the teacher is and how often right, where regions of each group lie"},
    {"sheet", 0, FK_OPT_TEXT, AT(sheet), NULL, 0, 0, NULL, "FILE",
     "write a contact sheet (.png or .html): the regions of --image, or of --group"},
    {"group", 0, FK_OPT_CHOICE, AT(group), "ur", 0, 0, "ur|hr|ir", NULL,
     "sheet: discarded, treated or kept regions"},
    {"data", 0, FK_OPT_TEXT, AT(data), NULL, 0, 0, NULL, "DATA",
     "page, sheet, suspects: the images; default: where the store says they were"},
    {"class-names", 0, FK_OPT_TEXT, AT(class_names), NULL, 0, 0, NULL, "FILE",
     "page, sheet, suspects: names for IDX data, one a line, as they were labelled"},
    {"calibrate", 0, FK_OPT_TEXT, AT(calibrate), "auto", 0, 0, NULL, "RULES",
     "page, sheet: the rules that make the groups; \"ferkd calibrate --help\" explains"},
    {"epochs", 'e', FK_OPT_INT, AT(epochs), "30", 1, 1000000, NULL, "N",
     "page, sheet: length of the run, which the rules auto ask for"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static const int QUANTILES[] = {0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100};

static void hex(const uint8_t print[16], char text[33])
{
    for (int i = 0; i < 16; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", print[i]);
}

static json_t *quantile_json(const double q[101])
{
    json_t *j = json_object();
    char key[8];

    for (size_t i = 0; i < FK_COUNT(QUANTILES); i++) {
        (void)snprintf(key, sizeof key, "%d", QUANTILES[i]);
        (void)json_object_set_new(j, key, json_real(q[QUANTILES[i]]));
    }
    return j;
}

static json_t *store_json(const ferkd_store *s, const ferkd_store_stats *t)
{
    const ferkd_store_info *i = ferkd_store_about(s);
    char data[33];
    char teacher[33];
    json_t *histogram = json_array();

    hex(i->dataset_fingerprint, data);
    hex(i->teacher_fingerprint, teacher);
    for (size_t b = 0; b < FK_COUNT(t->histogram); b++)
        (void)json_array_append_new(histogram, json_integer((json_int_t)t->histogram[b]));
    return json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:f, s:I, s:s, s:f, s:[f,f], "
        "s:[f,f], "
        "s:f, s:b, s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:o, s:o, s:o}",
        "store", ferkd_store_path(s), "version", (int)i->version, "images", (int)i->images,
        "labelled", (int)i->labelled, "skipped", (int)i->skipped, "regions", (int)i->regions,
        "topk", (int)i->topk, "classes", (int)i->classes, "teacher_classes",
        (int)i->teacher_classes, "label_classes", (int)i->label_classes, "bytes",
        (json_int_t)i->file_bytes, "bytes_per_region",
        (double)i->file_bytes / ((double)i->images * i->regions), "seed",
        (json_int_t)i->sampler.seed, "filter", ferkd_filter_name(i->filter), "temperature",
        i->temperature, "scale", i->sampler.scale_min, i->sampler.scale_max, "ratio",
        i->sampler.ratio_min, i->sampler.ratio_max, "flip", i->sampler.flip, "ignore_exif",
        (int)i->ignore_exif, "teacher", i->teacher, "dataset", i->dataset, "dataset_fingerprint",
        data, "teacher_fingerprint", teacher, "top1_agrees_with_truth", t->top1_agrees, "mean_top1",
        t->mean_top1, "mean_entropy", t->mean_entropy, "p_quantiles", quantile_json(t->quantile),
        "inside_quantiles", quantile_json(t->inside_quantile), "p_histogram", histogram);
}

static void print_store(const ferkd_store *s, const ferkd_store_stats *t)
{
    const ferkd_store_info *i = ferkd_store_about(s);
    uint64_t most = 1;

    (void)printf("%s: format %u\n", ferkd_store_path(s), i->version);
    (void)printf("  teacher      %s (%u classes, %u px, %s)\n", i->teacher, i->teacher_classes,
                 i->teacher_px, ferkd_filter_name(i->filter));
    (void)printf("  data         %s (%u images, %u classes)\n", i->dataset, i->images, i->classes);
    (void)printf("  labels       %u images x %u regions, top %u of %u classes; %u images skipped\n",
                 i->labelled, i->regions, i->topk, i->label_classes, i->skipped);
    (void)printf("  regions      seed %" PRIu64 ", scale %g..%g, ratio %.3g..%.3g, flip %g\n",
                 i->sampler.seed, i->sampler.scale_min, i->sampler.scale_max, i->sampler.ratio_min,
                 i->sampler.ratio_max, i->sampler.flip);
    (void)printf("  size         %.2f MB, %.2f bytes a region\n", (double)i->file_bytes / 1e6,
                 (double)i->file_bytes / ((double)i->images * i->regions));
    (void)printf("  teacher's first class is the ground truth in %.2f%% of the regions\n",
                 100.0 * t->top1_agrees);
    (void)printf("  entropy %.3f nats, first class %.3f on average\n\n", t->mean_entropy,
                 t->mean_top1);
    (void)printf("  p, the teacher's largest probability over its own classes\n   ");
    for (size_t k = 0; k < FK_COUNT(QUANTILES); k++)
        (void)printf(" %6d%%", QUANTILES[k]);
    (void)printf("\n   ");
    for (size_t k = 0; k < FK_COUNT(QUANTILES); k++)
        (void)printf(" %7.4f", t->quantile[QUANTILES[k]]);
    (void)printf("\n\n");
    for (size_t b = 0; b < FK_COUNT(t->histogram); b += 2) {
        uint64_t n = t->histogram[b] + t->histogram[b + 1];
        most = n > most ? n : most;
    }
    for (size_t b = 0; b < FK_COUNT(t->histogram); b += 2) {
        uint64_t n = t->histogram[b] + t->histogram[b + 1];
        int cells = (int)(60 * n / most);
        (void)printf("  %.2f %9" PRIu64 " ", (double)b / FK_COUNT(t->histogram), n);
        for (int c = 0; c < cells; c++)
            (void)putchar('#');
        (void)putchar('\n');
    }
}

ferkd_status cli_print_labels(const ferkd_store *s, uint32_t image, bool as_json)
{
    const ferkd_store_info *i = ferkd_store_about(s);
    ferkd_label_room room = {calloc(i->topk, sizeof(uint16_t)), calloc(i->topk, sizeof(float))};
    ferkd_soft_label l;
    json_t *list = json_array();
    ferkd_status st = FERKD_OK;

    if (!room.index || !room.prob)
        st = fk_fail(FERKD_MEMORY, "no memory for a label");
    for (uint32_t r = 0; st == FERKD_OK && r < i->regions; r++) {
        st = ferkd_store_label(s, image, r, room, &l);
        if (st != FERKD_OK)
            break;
        json_t *top = json_array();
        for (uint32_t k = 0; k < l.k; k++)
            (void)json_array_append_new(top,
                                        json_pack("[i,f]", (int)l.index[k], (double)l.prob[k]));
        if (!as_json) {
            (void)printf("region %-4u p %.4f  inside %.4f ", r, (double)l.teacher_max,
                         (double)l.inside);
            for (uint32_t k = 0; k < l.k; k++)
                (void)printf(" %u:%.4f", l.index[k], (double)l.prob[k]);
            (void)printf("  rest %.4f\n", (double)l.rest);
        }
        (void)json_array_append_new(list,
                                    json_pack("{s:i, s:f, s:f, s:f, s:o}", "region", (int)r, "p",
                                              (double)l.teacher_max, "inside", (double)l.inside,
                                              "rest", (double)l.rest, "top", top));
    }
    free(room.index);
    free(room.prob);
    if (st == FERKD_OK && as_json)
        return cli_print_json(json_pack("{s:i, s:i, s:o}", "image", (int)image, "truth",
                                        (int)ferkd_store_truth(s, image), "labels", list));
    json_decref(list);
    return st;
}

ferkd_status cli_print_damage(const ferkd_store *s, const uint32_t *bad, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        (void)printf("image %u: damaged\n", bad[i]);
    if (n)
        return fk_fail(FERKD_CORRUPT,
                       "%s: %u of %u images are damaged; \"ferkd label ... --repair\" labels just "
                       "those again",
                       ferkd_store_path(s), n, ferkd_store_about(s)->images);
    (void)printf("%s: all %u images are whole\n", ferkd_store_path(s),
                 ferkd_store_about(s)->images);
    return FERKD_OK;
}

static ferkd_status verify(const ferkd_store *s)
{
    uint32_t *bad = NULL;
    uint32_t n = 0;

    TRY(ferkd_store_verify(s, &bad, &n));
    ferkd_status st = cli_print_damage(s, bad, n);
    free(bad);
    return st;
}

/* The images that the store was made of, where they are still there; else NULL. */
static ferkd_status find_data(const options *o, const ferkd_store *s, ferkd_dataset **out)
{
    const ferkd_store_info *i = ferkd_store_about(s);
    ferkd_dataset_options how = {.class_names = o->class_names, .ignore_exif = i->ignore_exif};

    *out = NULL;
    ferkd_status st = ferkd_dataset_open(out, o->data ? o->data : i->dataset, &how);
    if (st == FERKD_OK)
        st = ferkd_store_match(s, *out);
    if (st == FERKD_OK || o->data)
        return st;
    ferkd_dataset_close(out);
    (void)fprintf(stderr,
                  "%s is not there as it was; images go by number and are taken as square (--data "
                  "says where)\n",
                  i->dataset);
    return FERKD_OK;
}

/* Names where the images are at hand, numbers elsewhere. */
static ferkd_status print_suspects(const options *o, const ferkd_store *s, const ferkd_dataset *d,
                                   const ferkd_suspect *list, uint32_t n)
{
    json_t *all = json_array();

    for (uint32_t i = 0; i < n; i++) {
        const ferkd_suspect *x = &list[i];
        char number[3][16];
        const char *name[3] = {number[0], number[1], number[2]};
        const uint32_t v[3] = {x->image, x->truth, x->said};
        for (int k = 0; k < 3; k++)
            (void)snprintf(number[k], sizeof number[k], "%u", v[k]);
        if (d) {
            name[0] = ferkd_dataset_name(d, x->image);
            name[1] = ferkd_dataset_class_name(d, x->truth);
            name[2] = ferkd_dataset_class_name(d, x->said);
        }
        if (!o->json)
            (void)printf(
                "%.4f  %s is labelled %s, the teacher says %s (%u of %u regions agree with "
                "the label)\n",
                (double)x->score, name[0], name[1], name[2], x->agreeing,
                ferkd_store_about(s)->regions);
        (void)json_array_append_new(all, json_pack("{s:i, s:s, s:s, s:s, s:f, s:i}", "image",
                                                   (int)x->image, "name", name[0], "label", name[1],
                                                   "teacher", name[2], "score", (double)x->score,
                                                   "agreeing", (int)x->agreeing));
    }
    if (o->json)
        return cli_print_json(all);
    json_decref(all);
    return FERKD_OK;
}

static ferkd_status list_suspects(const options *o, const ferkd_store *s)
{
    ferkd_dataset *d = NULL;
    ferkd_suspect *list = calloc((size_t)o->suspects, sizeof *list);
    uint32_t n = 0;
    ferkd_status st = list ? find_data(o, s, &d) : fk_fail(FERKD_MEMORY, "no memory for a list");

    if (st == FERKD_OK)
        st = ferkd_store_suspects(s, (uint32_t)o->suspects, list, &n);
    if (st == FERKD_OK)
        st = print_suspects(o, s, d, list, n);
    ferkd_dataset_close(&d);
    free(list);
    return st;
}

static ferkd_status write_page(const options *o, const ferkd_store *s)
{
    ferkd_dataset *d = NULL;
    ferkd_status st = find_data(o, s, &d);

    if (st == FERKD_OK)
        st = ferkd_store_page(s, o->calibrate, (double)o->epochs, d, o->page);
    ferkd_dataset_close(&d);
    return st;
}

static ferkd_status write_sheet(const options *o, const ferkd_store *s)
{
    ferkd_dataset *d = NULL;
    ferkd_group group = strcmp(o->group, "ur") == 0   ? FERKD_UR
                        : strcmp(o->group, "hr") == 0 ? FERKD_HR
                                                      : FERKD_IR;
    ferkd_status st = find_data(o, s, &d);

    if (st == FERKD_OK && !d)
        st = fk_fail(FERKD_ABSENT, "a sheet needs the images: --data says where they are");
    if (st == FERKD_OK)
        st = ferkd_store_sheet(s, d, o->calibrate, (double)o->epochs, o->image, group, o->sheet);
    ferkd_dataset_close(&d);
    return st;
}

static ferkd_status inspect(const options *o, const char *path)
{
    ferkd_store *s = NULL;
    ferkd_store_stats stats;
    ferkd_status st = FERKD_OK;

    TRY(ferkd_store_open(&s, path));
    if (o->verify) {
        TRY_DONE(verify(s));
    } else if (o->suspects) {
        TRY_DONE(list_suspects(o, s));
    } else if (o->page) {
        TRY_DONE(write_page(o, s));
    } else if (o->sheet) {
        TRY_DONE(write_sheet(o, s));
    } else if (o->image >= 0) {
        TRY_DONE(cli_print_labels(s, (uint32_t)o->image, o->json));
    } else {
        TRY_DONE(ferkd_store_statistics(s, &stats));
        if (o->json)
            TRY_DONE(cli_print_json(store_json(s, &stats)));
        else
            print_store(s, &stats);
    }
done:
    ferkd_store_close(&s);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    return n == 1 ? inspect(base, argv[1])
                  : fk_fail(FERKD_USAGE, "ferkd inspect: one STORE is needed");
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_inspect, argc, argv, &o, work);
}

const cli_command cli_inspect = {
    "inspect",
    "show what a label store holds",
    "STORE [--json] [--verify] [--image N] [--suspects N] [--page FILE.html] [--sheet FILE]",
    "Prints how the store was made, its size, how sure the teacher was (quantiles and histogram "
    "of\n"
    "p, its largest probability), and how often it agrees with the ground truth; \"ferkd "
    "calibrate\"\n"
    "shows what rules make of it.\n\n"
    "  ferkd inspect labels.ferkd\n"
    "  ferkd inspect labels.ferkd --image 17\n"
    "  ferkd inspect labels.ferkd --suspects 50\n"
    "  ferkd inspect labels.ferkd --page labels.html\n"
    "  ferkd inspect labels.ferkd --sheet discarded.png --group ur --epochs 10\n"
    "  ferkd inspect labels.ferkd --sheet image17.html --image 17",
    table,
    run};
