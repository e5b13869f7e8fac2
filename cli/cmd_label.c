/* ferkd label */
#include "cli.h"

#include "base/limits.h"
#include "base/mem.h"

typedef struct options {
    char *teacher, *output, *part, *map, *label_classes, *class_names, *on_bad_image;
    cli_teacher input;
    int64_t regions, topk, prob_bits, seed, batch, threads;
    double scale_min, scale_max, ratio_min, ratio_max, flip, temperature;
    char *weights, *average;
    bool flips, ignore_exif, overwrite, repair, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"teacher", 't', FK_OPT_TEXT, AT(teacher), NULL, 0, 0, NULL, "MODEL",
     "the teacher: MODEL.onnx (with MODEL.json beside it) or a run folder; several, of the same "
     "classes, with commas between them: their answers are averaged"},
    {"teacher-weights", 0, FK_OPT_TEXT, AT(weights), NULL, 0, 0, NULL, "W,W",
     "of several teachers; default: equal"},
    {"average", 0, FK_OPT_CHOICE, AT(average), "probs", 0, 0, "probs|logits", NULL,
     "what of several answers is averaged"},
    {"teacher-flips", 0, FK_OPT_FLAG, AT(flips), "false", 0, 0, NULL, NULL,
     "teachers see each region mirrored, too (twice the time)"},
    {"output", 'o', FK_OPT_TEXT, AT(output), "labels.ferkd", 0, 0, NULL, "STORE",
     "the label store to write"},
    {"regions", 'r', FK_OPT_INT, AT(regions), "8", 1, FK_MAX_REGIONS, NULL, "N",
     "random regions an image"},
    {"topk", 'k', FK_OPT_INT, AT(topk), "0", 0, FK_MAX_TOPK, NULL, "K",
     "probabilities kept a region; 0: 5, of up to ten classes all, 20 where labels are over more "
     "classes than the data set's"},
    {"prob-bits", 0, FK_OPT_INT, AT(prob_bits), "0", 0, 16, NULL, "N",
     "of a probability, 8 to 16; 0: enough for 1/256 and 0.01 total variation, 12 for up to 64 "
     "classes"},
    {"seed", 's', FK_OPT_INT, AT(seed), "0", 0, 9007199254740991.0, NULL, "N",
     "of the regions; the only thing about them that is stored"},
    {"scale-min", 0, FK_OPT_REAL, AT(scale_min), "0.08", 0.0001, 1, NULL, "X",
     "smallest share of the image's area"},
    {"scale-max", 0, FK_OPT_REAL, AT(scale_max), "1", 0.0001, 1, NULL, "X",
     "largest share of the image's area"},
    {"ratio-min", 0, FK_OPT_REAL, AT(ratio_min), "0.75", 0.001, 1000, NULL, "X",
     "narrowest region, width to height"},
    {"ratio-max", 0, FK_OPT_REAL, AT(ratio_max), "1.33333333333", 0.001, 1000, NULL, "X",
     "widest region"},
    {"flip", 0, FK_OPT_REAL, AT(flip), "0.5", 0, 1, NULL, "P", "probability of a mirrored region"},
    {"temperature", 0, FK_OPT_REAL, AT(temperature), "1", 0.01, 1000, NULL, "T",
     "of the teacher's softmax"},
    CLI_TEACHER(options, input, "auto", "quick"),
    {"class-map", 0, FK_OPT_TEXT, AT(map), NULL, 0, 0, NULL, "FILE",
     "lines \"class index\": the data set's classes among the teacher's; default: by name"},
    {"label-classes", 0, FK_OPT_CHOICE, AT(label_classes), "auto", 0, 0, "auto|data|teacher", NULL,
     "what labels are over: the data set's classes, or all of the teacher's, which a student then "
     "learns along; what it knows of others is cut off in the end. auto: the teacher's, up to "
     "2048"},
    {"class-names", 0, FK_OPT_TEXT, AT(class_names), NULL, 0, 0, NULL, "FILE",
     "names for IDX data, one a line"},
    {"batch", 'b', FK_OPT_INT, AT(batch), "64", 1, FK_MAX_BATCH, NULL, "N",
     "regions the teacher sees at once"},
    {"threads", 0, FK_OPT_INT, AT(threads), "0", 0, 1024, NULL, "N",
     "that decode; 0: as many as cores"},
    {"on-bad-image", 0, FK_OPT_CHOICE, AT(on_bad_image), "skip", 0, 0, "skip|stop", NULL,
     "what to do with unreadable images"},
    {"ignore-exif", 0, FK_OPT_FLAG, AT(ignore_exif), "false", 0, 0, NULL, NULL,
     "leave images as stored, as torchvision does; default: turn them upright"},
    {"overwrite", 0, FK_OPT_FLAG, AT(overwrite), "false", 0, 0, NULL, NULL,
     "start anew where a store is there already"},
    {"part", 0, FK_OPT_TEXT, AT(part), NULL, 0, 0, NULL, "I/N",
     "label part I of N (1/4 ... 4/4, on as many machines) into STORE.IofN; \"ferkd store merge\" "
     "puts them together"},
    {"repair", 0, FK_OPT_FLAG, AT(repair), "false", 0, 0, NULL, NULL,
     "label again just those images of a finished store that are damaged"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print the result as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static ferkd_label_options label_options(const options *o)
{
    ferkd_label_options l = ferkd_label_defaults();

    l.regions = (uint32_t)o->regions;
    l.topk = (uint32_t)o->topk;
    l.prob_bits = (uint32_t)o->prob_bits;
    l.sampler = (ferkd_sampler){(uint64_t)o->seed, o->scale_min, o->scale_max,
                                o->ratio_min,      o->ratio_max, o->flip};
    l.temperature = o->temperature;
    l.batch = (uint32_t)o->batch;
    l.threads = (uint32_t)o->threads;
    l.stop_on_bad_image = strcmp(o->on_bad_image, "stop") == 0;
    l.overwrite = o->overwrite;
    l.repair = o->repair;
    l.map = o->map;
    l.width = ferkd_label_width_of(o->label_classes);
    l.average = strcmp(o->average, "probs") == 0 ? FERKD_AVERAGE_PROBS : FERKD_AVERAGE_LOGITS;
    l.flips = o->flips;
    return l;
}

static ferkd_status print_result(const options *o, const ferkd_label_result *r)
{
    uint64_t regions = (uint64_t)(r->images - r->skipped) * (uint64_t)o->regions;

    if (o->json)
        return cli_print_json(json_pack(
            "{s:s, s:i, s:i, s:I, s:f, s:I, s:f}", "store", o->output, "images", (int)r->images,
            "skipped", (int)r->skipped, "regions", (json_int_t)regions, "seconds", r->seconds,
            "bytes", (json_int_t)r->file_bytes, "bytes_per_region", r->bytes_per_region));
    cli_progress_end();
    if (r->complete_before)
        (void)printf("%s: complete already\n", o->output);
    if (r->repaired)
        (void)printf("%u images labelled again\n", r->repaired);
    if (r->resumed_at)
        (void)printf("resumed at image %u\n", r->resumed_at);
    (void)printf("%s: %" PRIu64 " regions of %u images in %.1f s, %.2f MB, %.2f bytes a region\n",
                 o->output, regions, r->images - r->skipped, r->seconds,
                 (double)r->file_bytes / 1e6, r->bytes_per_region);
    if (r->skipped)
        (void)printf("%u images skipped%s%s\n", r->skipped, *r->first_bad ? ", the first: " : "",
                     r->first_bad);
    return FERKD_OK;
}

/* "2/4" */
static ferkd_status read_part(options *o, ferkd_label_options *l)
{
    char end;
    char *path = NULL;

    if (!o->part)
        return FERKD_OK;
    if (sscanf(o->part, "%u/%u%c", &l->part, &l->parts, &end) != 2 || l->part < 1 ||
        l->part > l->parts)
        return fk_fail(FERKD_USAGE, "--part %s: 1/4 to 4/4 are the parts of four", o->part);
    TRY(fk_asprintf(&path, "%s.%uof%u", o->output, l->part, l->parts));
    free(o->output);
    o->output = path;
    return FERKD_OK;
}

typedef struct teachers {
    ferkd_model *model[FERKD_MAX_TEACHERS];
    double weight[FERKD_MAX_TEACHERS];
    uint32_t n;
} teachers;

/* "a.onnx,b.onnx" */
static ferkd_status open_teachers(const options *o, teachers *t)
{
    ferkd_model_options m = cli_model_options(&o->input);
    ferkd_status st = FERKD_OK;
    char *names = NULL;
    char *rest = NULL;

    TRY(fk_strdup(&names, o->teacher));
    for (char *name = strtok_r(names, ",", &rest); name && st == FERKD_OK;
         name = strtok_r(NULL, ",", &rest)) {
        if (t->n == FERKD_MAX_TEACHERS)
            st = fk_fail(FERKD_USAGE, "--teacher: at most %d label together", FERKD_MAX_TEACHERS);
        else
            st = ferkd_model_open(&t->model[t->n++], name, &m);
    }
    if (st == FERKD_OK && t->n == 0)
        st = fk_fail(FERKD_USAGE, "--teacher: names no file");
    free(names);
    return st;
}

/* "2,1" */
static ferkd_status read_weights(const options *o, teachers *t)
{
    const char *p = o->weights;
    uint32_t n = 0;

    for (int used = 0; p && n < FERKD_MAX_TEACHERS; p += used) {
        if (sscanf(p, "%lf%n", &t->weight[n], &used) != 1)
            break;
        n++;
        used += p[used] == ',';
    }
    if (o->weights && (*p || n != t->n))
        return fk_fail(FERKD_USAGE, "--teacher-weights %s: %u numbers with commas are needed",
                       o->weights, t->n);
    return FERKD_OK;
}

static ferkd_status label(options *o, const char *path)
{
    ferkd_dataset *data = NULL;
    teachers t = {.n = 0};
    ferkd_label_result result;
    ferkd_dataset_options d = {.class_names = o->class_names, .ignore_exif = o->ignore_exif};
    ferkd_label_options l = label_options(o);
    ferkd_watch watch = cli_watch();
    ferkd_status st = FERKD_OK;

    TRY_DONE(read_part(o, &l));
    TRY_DONE(ferkd_dataset_open(&data, path, &d));
    TRY_DONE(open_teachers(o, &t));
    TRY_DONE(read_weights(o, &t));
    l.others = t.model + 1;
    l.n_others = t.n - 1;
    l.weights = o->weights ? t.weight : NULL;
    TRY_DONE(ferkd_label(t.model[0], data, o->output, &l, &watch, &result));
    TRY_DONE(print_result(o, &result));
done:
    for (uint32_t i = 0; i < t.n; i++)
        ferkd_model_close(&t.model[i]);
    ferkd_dataset_close(&data);
    return st;
}

static ferkd_status work(void *base, int n, char **argv)
{
    options *o = base;

    if (n != 1 || !o->teacher)
        return fk_fail(FERKD_USAGE,
                       "ferkd label: one DATA and --teacher MODEL are needed; see ferkd "
                       "label --help");
    return label(o, argv[1]);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_label, argc, argv, &o, work);
}

const cli_command cli_label = {
    "label",
    "let a teacher label random regions of every image, once",
    "DATA --teacher MODEL.onnx [-o STORE] [options]",
    "DATA is a folder of class folders, an IDX file (MNIST's format, also .gz) or a CIFAR binary\n"
    "file or folder. Each image is decoded once; N random regions of it (torchvision's\n"
    "RandomResizedCrop) go through the teacher, and the top K probabilities among the data set's\n"
    "classes are stored, a few bytes a region. Interrupted with Ctrl-C or killed, the same "
    "command\n"
    "goes on where it was, to the same bytes.\n\n"
    "The teacher's preprocessing is never guessed: it stands in MODEL.json beside the model\n"
    "({\"input\": {\"size\": 224, \"mean\": [..], \"std\": [..], \"resize\": \"bicubic\"},\n"
    "\"output\": {\"classes\": \"names.txt\"}}) or is given by the --teacher options.\n\n"
    "  ferkd label photos/train --teacher big.onnx --regions 8 --seed 1 -o labels.ferkd\n"
    "  ferkd label photos/train --teacher big.onnx,bigger.onnx --teacher-weights 1,2 "
    "--teacher-flips\n"
    "  ferkd label photos/train --teacher big.onnx --part 2/4 -o labels.ferkd   # and 1/4, 3/4, "
    "4/4\n"
    "  ferkd store merge -o labels.ferkd labels.ferkd.*of4",
    table,
    run};
