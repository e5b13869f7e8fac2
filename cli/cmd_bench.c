/* ferkd bench */
#include "cli.h"

#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"

typedef struct options {
    int64_t batch, size, classes, repeat, warmup, max_memory;
    int64_t images, regions, topk, prob_bits;
    char *precision, *tune, *output;
    bool lean, profile, lockstep, json;
} options;

#define AT(field) offsetof(options, field)

static const fk_option TABLE[] = {
    {"batch", 'b', FK_OPT_INT, AT(batch), "64", 1, FK_MAX_BATCH, NULL, "N", "images at once"},
    {"size", 0, FK_OPT_INT, AT(size), "0", 0, 8192, NULL, "PX",
     "side of the input; 0: the model's usual one"},
    {"classes", 0, FK_OPT_INT, AT(classes), "0", 0, FK_MAX_CLASSES, NULL, "N",
     "of a model of the zoo, or of a store's labels; 0: 1000"},
    {"images", 0, FK_OPT_INT, AT(images), "20000", 1, 2147483647, NULL, "N", "store: images"},
    {"regions", 0, FK_OPT_INT, AT(regions), "200", 1, FK_MAX_REGIONS, NULL, "N",
     "store: regions an image"},
    {"topk", 0, FK_OPT_INT, AT(topk), "5", 1, FK_MAX_TOPK, NULL, "K",
     "store: probabilities kept a region"},
    {"prob-bits", 0, FK_OPT_INT, AT(prob_bits), "0", 0, 16, NULL, "N",
     "store: of a probability; 0: as \"ferkd label\" has it"},
    {"output", 'o', FK_OPT_TEXT, AT(output), NULL, 0, 0, NULL, "STORE",
     "store: keep it here; default: a temporary file that is removed"},
    {"precision", 0, FK_OPT_CHOICE, AT(precision), "auto", 0, 0, "auto|f32|bf16", NULL,
     "bf16 stores values in half the memory; auto: the faster of both here"},
    {"tune", 0, FK_OPT_TEXT, AT(tune), "quick", 0, 0, NULL, "HOW",
     "off: implementations by rule; quick, full: the fastest, measured once; or a file of choices"},
    {"max-memory", 0, FK_OPT_INT, AT(max_memory), "0", 0, 1e9, NULL, "MIB",
     "training: for activations, gradients and workspaces; 0: any"},
    {"repeat", 0, FK_OPT_INT, AT(repeat), "7", 1, 1000000, NULL, "N", "steps that are timed"},
    {"warmup", 0, FK_OPT_INT, AT(warmup), "2", 0, 1000000, NULL, "N", "steps before them"},
    {"lean", 0, FK_OPT_FLAG, AT(lean), "false", 0, 0, NULL, NULL,
     "training as \"ferkd train --lean\", with AdamW; prints the loss of each step"},
    {"profile", 0, FK_OPT_FLAG, AT(profile), "false", 0, 0, NULL, NULL,
     "also print where the time goes"},
    {"lockstep", 0, FK_OPT_FLAG, AT(lockstep), "false", 0, 0, NULL, NULL,
     "time one step for each line on standard input, to alternate with another program"},
    {"json", 0, FK_OPT_FLAG, AT(json), "false", 0, 0, NULL, NULL, "print as JSON"},
};

static const fk_option *table(size_t *n)
{
    *n = FK_COUNT(TABLE);
    return TABLE;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return (*x > *y) - (*x < *y);
}

/* Largest resident size so far, bytes. */
static double peak_bytes(void)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtod(line + 6, NULL);
    }
    if (f)
        (void)fclose(f);
    return kib * 1024.0;
}

/* One line in, one time in seconds out, until the input ends. */
static ferkd_status lockstep(ferkd_speed *s)
{
    char line[64];

    while (fgets(line, sizeof line, stdin)) {
        double seconds;
        TRY(ferkd_speed_step(s, &seconds));
        (void)printf("%.9f %.0f\n", seconds, peak_bytes());
        if (fflush(stdout) != 0)
            return fk_fail_errno(FERKD_IO, "standard output");
    }
    return FERKD_OK;
}

static ferkd_status print_result(const options *o, const ferkd_speed *s, double *times)
{
    size_t n = (size_t)o->repeat;
    ferkd_speed_part parts[16];
    size_t n_parts = o->profile ? ferkd_speed_profile(s, parts, FK_COUNT(parts)) : 0;
    uint64_t arena;
    uint64_t weights;
    double steps = (double)(o->repeat + o->warmup);

    ferkd_speed_memory(s, &arena, &weights);
    qsort(times, n, sizeof *times, by_size);
    double median = times[n / 2];
    if (o->json) {
        json_t *list = json_object();
        for (size_t i = 0; i < n_parts; i++)
            (void)json_object_set_new(list, parts[i].what,
                                      json_real(1e3 * parts[i].seconds / steps));
        return cli_print_json(json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:o}",
                                        "median_ms", 1e3 * median, "fastest_ms", 1e3 * times[0],
                                        "slowest_ms", 1e3 * times[n - 1], "images_per_s",
                                        (double)o->batch / median, "arena_bytes", (double)arena,
                                        "weight_bytes", (double)weights, "peak_bytes", peak_bytes(),
                                        "precision", ferkd_speed_precision(s), "parts_ms", list));
    }
    (void)printf("%.2f ms a step (fastest %.2f, slowest %.2f), %.1f img/s, %s\n", 1e3 * median,
                 1e3 * times[0], 1e3 * times[n - 1], (double)o->batch / median,
                 ferkd_speed_precision(s));
    char memory[256];
    ferkd_speed_memory_text(s, memory, sizeof memory);
    (void)printf("%s\nweights and optimiser %.1f MiB, peak of the process %.1f MiB\n", memory,
                 (double)weights / 1048576.0, peak_bytes() / 1048576.0);
    for (size_t i = 0; i < n_parts; i++)
        (void)printf("  %8.2f ms  %s\n", 1e3 * parts[i].seconds / steps, parts[i].what);
    return FERKD_OK;
}

static ferkd_status time_steps(const options *o, ferkd_speed *s)
{
    double *times = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&times, (size_t)o->repeat, sizeof *times, "the bench"));
    for (int64_t i = -o->warmup; i < o->repeat; i++) {
        double seconds;
        TRY_DONE(ferkd_speed_step(s, &seconds));
        if (i >= 0)
            times[i] = seconds;
        if (o->lean && !o->json) {
            (void)printf("step %" PRId64 ": loss %.6f, %.2f s\n", i + o->warmup + 1,
                         ferkd_speed_loss(s), seconds);
            (void)fflush(stdout);
        }
    }
    st = print_result(o, s, times);
done:
    free(times);
    return st;
}

static ferkd_status bench(const options *o, const char *kind, const char *model)
{
    ferkd_speed *s = NULL;
    ferkd_speed_options so = ferkd_speed_defaults();

    so.model = model;
    so.train = strcmp(kind, "train") == 0;
    so.batch = (uint32_t)o->batch;
    so.size_px = (uint32_t)o->size;
    so.classes = (uint32_t)o->classes;
    so.max_bytes = (uint64_t)o->max_memory << 20;
    so.precision = o->precision;
    so.tune = o->tune;
    so.profile = o->profile;
    so.lean = o->lean;
    if (!so.train && strcmp(kind, "infer") != 0)
        return fk_fail(FERKD_USAGE, "ferkd bench: \"%s\" is neither train nor infer", kind);
    TRY(ferkd_speed_open(&s, &so));
    ferkd_status st = o->lockstep ? lockstep(s) : time_steps(o, s);
    ferkd_speed_close(&s);
    return st;
}

/* --- stores ------------------------------------------------------------------------------------ */

static ferkd_status print_store(const options *o, const ferkd_store_speed *r)
{
    if (o->json)
        return cli_print_json(json_pack(
            "{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "images",
            (json_int_t)o->images, "regions", (json_int_t)o->regions, "topk", (json_int_t)o->topk,
            "bytes_per_region", r->bytes_per_region, "file_bytes", r->file_bytes, "write_s",
            r->write_s, "open_ms", r->open_ms, "open_bytes", r->open_bytes, "verify_s", r->verify_s,
            "labels_per_s", r->labels_per_s, "dense_labels_per_s", r->dense_labels_per_s,
            "visits_per_s", r->visits_per_s, "worst_probability", r->worst_probability,
            "worst_variation", r->worst_variation, "mean_variation", r->mean_variation));
    cli_progress_end();
    (void)printf("%.2f bytes a region, %.1f MB\n", r->bytes_per_region, r->file_bytes / 1e6);
    (void)printf("written in %.1f s, verified in %.1f s (%.2f GB/s)\n", r->write_s, r->verify_s,
                 r->file_bytes / 1e9 / r->verify_s);
    (void)printf("opened in %.2f ms, %.1f MB of memory\n", r->open_ms, r->open_bytes / 1e6);
    (void)printf(
        "one thread reads %.1f million labels a second, %.1f million expanded; %.2f million "
        "visits of training\n",
        r->labels_per_s / 1e6, r->dense_labels_per_s / 1e6, r->visits_per_s / 1e6);
    (void)printf(
        "packing moves a probability by at most %.5f, a label by %.5f (total variation; %.5f "
        "on average)\n",
        r->worst_probability, r->worst_variation, r->mean_variation);
    return FERKD_OK;
}

static ferkd_status bench_store(const options *o)
{
    const char *folder = getenv("TMPDIR");
    char path[PATH_MAX];
    ferkd_store_speed result;
    ferkd_watch watch = cli_watch();
    ferkd_store_speed_options s = {.images = (uint32_t)o->images,
                                   .regions = (uint32_t)o->regions,
                                   .topk = (uint32_t)o->topk,
                                   .classes = o->classes ? (uint32_t)o->classes : 1000,
                                   .prob_bits = (uint32_t)o->prob_bits,
                                   .seed = 1,
                                   .path = path,
                                   .keep = o->output != NULL};

    (void)snprintf(path, sizeof path, "%s/ferkd-bench-%d.ferkd", folder ? folder : "/tmp",
                   (int)getpid());
    if (o->output)
        s.path = o->output;
    TRY(ferkd_store_measure(&s, &watch, &result));
    return print_store(o, &result);
}

static ferkd_status work(void *base, int n, char **argv)
{
    const options *o = base;
    bool store = n == 1 && strcmp(argv[1], "store") == 0;

    if (n != 2 && !store)
        return fk_fail(FERKD_USAGE,
                       "ferkd bench: \"train MODEL\", \"infer MODEL\" or \"store\" is needed");
    return store ? bench_store(o) : bench(o, argv[1], argv[2]);
}

static ferkd_status run(int argc, char **argv)
{
    options o = {0};

    return cli_run(&cli_bench, argc, argv, &o, work);
}

const cli_command cli_bench = {
    "bench",
    "how fast a model trains or runs on this machine, and what a store costs",
    "train|infer MODEL [options], or store [options]",
    "MODEL is a name that \"ferkd info\" lists or an ONNX file; input and targets are random. A\n"
    "training step is all of it: forward, loss, backward, optimiser. \"store\" writes, seals, "
    "opens,\n"
    "verifies and reads a store of made-up labels, spread as an ImageNet teacher's are.\n\n"
    "  ferkd bench train resnet18 --size 128 --profile\n"
    "  ferkd bench infer big.onnx --size 224 --batch 8 --json\n"
    "  ferkd bench store --images 1281167 --regions 200 --topk 5 --classes 1000 --json",
    table,
    run};
