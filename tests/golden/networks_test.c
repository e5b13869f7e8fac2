/* Networks against PyTorch and ONNX Runtime: parameter names and counts, 20 training losses, and the
 * logits of models that other programs exported (skipped, loudly, where those are absent). */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "case.h"
#include "engine/optim.h"
#include "engine/plan.h"
#include "exchange/onnx.h"
#include "net/head.h"
#include "net/layers.h"
#include "net/zoo/zoo.h"
#include "train/loss.h"

#define OK(call)                                \
    do {                                        \
        if ((call) != FERKD_OK)                 \
            fail_msg("%s", ferkd_last_error()); \
    } while (0)

/* --- names and counts ------------------------------------------------------------------------ */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of lines with line feeds between them; each is freed. */
static unsigned long crc_of_lines(char **lines, size_t n)
{
    unsigned long crc = crc32(0, NULL, 0);

    for (size_t i = 0; i < n; i++) {
        if (i)
            crc = crc32(crc, (const Bytef *)"\n", 1);
        crc = crc32(crc, (const Bytef *)lines[i], (uInt)strlen(lines[i]));
        free(lines[i]);
    }
    return crc;
}

static unsigned long names_crc(const fk_graph *g)
{
    char **lines = calloc(g->n_params, sizeof *lines);
    size_t n = 0;

    assert_non_null(lines);
    for (size_t i = 0; i < g->n_params; i++) {
        char shape[128];
        if (g->params[i].init == FK_INIT_GIVEN) /* a constant of ours */
            continue;
        fk_shape_text(&g->params[i].shape, shape, sizeof shape);
        OK(fk_asprintf(&lines[n++], "%s %s", g->params[i].name, shape));
    }
    qsort(lines, n, sizeof *lines, by_text);
    unsigned long crc = crc_of_lines(lines, n);
    free(lines);
    return crc;
}

/* With TEST_FEW in the environment (for sanitizers, which are slow) three of four networks are spared what takes long. */
static bool is_spared(int n)
{
    return getenv("TEST_FEW") && n % 4 != 0;
}

/* What a line of a golden file says of a network: a number of parameters, and a checksum. */
typedef void check_network(const char *name, fk_graph *g, unsigned long count, unsigned long crc);

/* Each network that the file names; gives how many. */
static int for_each_network(const char *file, check_network *check)
{
    char line[256];
    int n = 0;
    FILE *f = fopen(file, "r");

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char name[64];
        unsigned long count;
        unsigned long crc;
        fk_graph *g = NULL;
        fk_zoo_options o = {1, 3, 224, 1000};
        if (*line == '#' || sscanf(line, "%63s %lu %lx", name, &count, &crc) != 3)
            continue;
        OK(fk_zoo_build(&g, name, &o));
        check(name, g, count, crc);
        fk_graph_free(&g);
        n++;
    }
    (void)fclose(f);
    return n;
}

static void check_names(const char *name, fk_graph *g, unsigned long count, unsigned long crc)
{
    if (fk_graph_trained(g) != count || names_crc(g) != crc)
        fail_msg("%s: %zu parameters, or other names than its peer's %lu", name,
                 fk_graph_trained(g), count);
}

static void state_dicts_are_torchvisions(void **state)
{
    (void)state;
    assert_int_equal(for_each_network(TEST_SOURCE "/golden/state_dicts.txt", check_names), 73);
}

/* A network file that writes a model of the zoo down makes the same graph. */
static void network_files_are_what_they_say(void **state)
{
    static const char *const PAIRS[][2] = {
        {"../examples/networks/resnet18.json", "resnet18"},
        {"../examples/networks/resnet18d.json", "resnet18d"},
        {"../examples/networks/vit_tiny.json", "vit_tiny_patch16_224"}};

    (void)state;
    for (size_t i = 0; i < FK_COUNT(PAIRS); i++) {
        fk_graph *a = NULL;
        fk_graph *b = NULL;
        fk_zoo_options o = {2, 3, 96, 7};
        char path[512];
        (void)snprintf(path, sizeof path, TEST_SOURCE "/%s", PAIRS[i][0]);
        OK(fk_zoo_build(&a, path, &o));
        OK(fk_zoo_build(&b, PAIRS[i][1], &o));
        assert_int_equal(a->n_nodes, b->n_nodes);
        assert_int_equal(a->n_params, b->n_params);
        double macs[2] = {0, 0};
        for (size_t n = 0; n < a->n_nodes; n++) {
            macs[0] += fk_node_macs(a, &a->nodes[n]);
            macs[1] += fk_node_macs(b, &b->nodes[n]);
        }
        assert_true(macs[0] == macs[1]);
        for (size_t p = 0; p < a->n_params; p++) { /* tokens may stand elsewhere in the order */
            const fk_param *x = &a->params[p];
            int k = fk_graph_find_param(b, x->name);
            const fk_param *y = &b->params[k < 0 ? 0 : k];
            if (k < 0 || !fk_shape_equal(&x->shape, &y->shape) || x->kind != y->kind ||
                x->init != y->init || fabs(x->scale - y->scale) > 1e-12)
                fail_msg("%s: %s is not %s", PAIRS[i][0], x->name, y->name);
        }
        fk_graph_free(&a);
        fk_graph_free(&b);
    }
}

static void check_layers(const char *name, fk_graph *g, unsigned long count, unsigned long crc)
{
    char **lines = calloc(g->n_params, sizeof *lines);
    int *layer = calloc(g->n_params, sizeof *layer);
    size_t k = 0;

    assert_non_null(lines);
    assert_non_null(layer);
    fk_graph_mark_head(g);
    int top = fk_graph_layers(g, layer);
    for (size_t i = 0; i < g->n_params; i++) {
        if (g->params[i].kind != FK_BUFFER)
            OK(fk_asprintf(&lines[k++], "%s %d", g->params[i].name, top - layer[i]));
    }
    assert_int_equal(k, count);
    qsort(lines, k, sizeof *lines, by_text);
    if (crc_of_lines(lines, k) != crc)
        fail_msg("%s: other layers than timm's", name);
    free(lines);
    free(layer);
}

/* Layers as timm counts them for layer-wise learning rates. */
static void layers_are_timms(void **state)
{
    (void)state;
    assert_int_equal(for_each_network(TEST_SOURCE "/golden/layers.txt", check_layers), 9);
}

/* --- 20 losses ------------------------------------------------------------------------------- */

/* The weights of make_ops.py's train_losses(): numbered in order, or by their names. */
static void formula_weights(fk_graph *g, bool by_name)
{
    uint32_t salt = 0;

    for (size_t i = 0; i < g->n_params; i++) {
        const fk_param *p = &g->params[i];
        float *v = g->values + p->offset;
        if (p->kind == FK_BUFFER)
            continue;
        salt = by_name ? (uint32_t)crc32(0, (const Bytef *)p->name, (uInt)strlen(p->name)) & 0xFFFFu
                       : salt + 1;
        ops_values(v, p->count, salt);
        float scale = (float)sqrt(6.0 / ((double)p->count / (double)p->shape.d[0]));
        for (size_t k = 0; k < p->count; k++) {
            if (p->shape.n > 1)
                v[k] *= p->shape.n == 2 ? scale * 0.1f : scale;
            else
                v[k] = 0.1f * v[k] + (p->kind == FK_NORM_WEIGHT ? 1.0f : 0.0f);
        }
    }
}

/* How far each loss may be from PyTorch's in f32, relative: bf16 keeps 8 bits. */
#define F32_BAND  1e-3
#define BF16_BAND 3e-2

typedef struct trained {
    const char *name;
    double lr;
    int64_t side;
    bool half;
    double want[20];
} trained;

static void check_losses(const trained *t, bool half)
{
    enum { BATCH = 8, CLASSES = 10, STEPS = 20 };

    const char *name = t->name;
    const double *want = t->want;
    const int64_t side = t->side;
    bool numbered = strcmp(name, "mobilenet_v2") == 0 || strcmp(name, "resnet18") == 0;
    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    fk_optim optim;
    fk_zoo_options z = {BATCH, 3, side, CLASSES};
    fk_plan_options o = {.train = true, .half = half};
    fk_optim_options oo = {.kind = FK_SGD, .momentum = 0.9, .nesterov = true, .decay = 5e-4};
    float targets[BATCH * CLASSES];
    double worst = 0.0;

    OK(fk_zoo_build(&g, name, &z));
    fk_graph_init(g, 0);
    formula_weights(g, !numbered);
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == FK_DROPOUT)
            g->nodes[i].u.dropout.ratio = 0.0;
    }
    OK(fk_plan_new(&plan, g, &o));
    OK(fk_optim_init(&optim, g, &oo));
    for (int s = 0; s < STEPS; s++) {
        ops_values(fk_plan_input(plan), (size_t)(BATCH * 3 * side * side),
                   (uint32_t)(5000 + s % 4));
        memset(targets, 0, sizeof targets);
        for (int i = 0; i < BATCH; i++)
            targets[i * CLASSES + (7 * i + 3 * (s % 4)) % 10] = 1.0f;
        OK(fk_plan_forward(plan, (uint64_t)s));
        double loss = fk_soft_cross_entropy(fk_plan_output(plan), targets, BATCH, CLASSES, 1.0,
                                            fk_plan_output_grad(plan));
        if (!(fabs(loss - want[s]) <= (half ? BF16_BAND : F32_BAND) * want[s]))
            fail_msg("%s: loss %d is %.7g, PyTorch's %.7g", name, s, loss, want[s]);
        worst = fmax(worst, fabs(loss - want[s]) / want[s]);
        OK(fk_plan_backward(plan));
        (void)fk_optim_step(&optim, g, fk_plan_grads(plan), t->lr, 1.0);
        OK(fk_plan_refresh(plan));
    }
    print_message("%s%s: 20 losses within %.1e of PyTorch's\n", name, half ? ", bf16" : "", worst);
    fk_optim_fini(&optim);
    fk_plan_free(&plan);
    fk_graph_free(&g);
}

static void training_losses_are_pytorchs(void **state)
{
    char line[1024];
    int n = 0;
    FILE *f = fopen(TEST_SOURCE "/golden/losses.txt", "r");

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        trained t;
        int k = 0;
        char *rest = NULL;
        if (*line == '#')
            continue;
        t.name = strtok_r(line, " \n", &rest);
        t.lr = strtod(strtok_r(NULL, " \n", &rest), NULL);
        t.side = strtol(strtok_r(NULL, " \n", &rest), NULL, 10);
        t.half = *strtok_r(NULL, " \n", &rest) == '1';
        for (char *w = strtok_r(NULL, " \n", &rest); w && k < 20; w = strtok_r(NULL, " \n", &rest))
            t.want[k++] = strtod(w, NULL);
        assert_int_equal(k, 20);
        if (is_spared(n++))
            continue;
        check_losses(&t, false);
        if (!t.half)
            continue;
        (void)setenv("FERKD_BF16", "always", 1); /* multiplied in bf16, and only stored in it */
        check_losses(&t, true);
        (void)setenv("FERKD_BF16", "never", 1);
        check_losses(&t, true);
        (void)unsetenv("FERKD_BF16");
    }
    (void)fclose(f);
    assert_int_equal(n, 16);
}

/* --- recomputation --------------------------------------------------------------------------- */

enum { FEW = 4 };

/* The losses of a few steps of training, and the bytes of the arena. */
static size_t few_losses(const char *name, size_t max_bytes, bool half, double *losses)
{
    enum { BATCH = 8, CLASSES = 10 };

    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    fk_optim optim;
    fk_zoo_options z = {BATCH, 3, 64, CLASSES};
    fk_plan_options o = {.train = true, .half = half, .max_bytes = max_bytes};
    fk_optim_options oo = {.kind = FK_SGD, .momentum = 0.9};
    float targets[BATCH * CLASSES] = {0};

    OK(fk_zoo_build(&g, name, &z));
    fk_graph_init(g, 3);
    OK(fk_plan_new(&plan, g, &o));
    OK(fk_optim_init(&optim, g, &oo));
    for (int i = 0; i < BATCH; i++)
        targets[i * CLASSES + i] = 1.0f;
    for (int s = 0; s < FEW; s++) {
        ops_values(fk_plan_input(plan), BATCH * 3 * 64 * 64, (uint32_t)s);
        OK(fk_plan_forward(plan, (uint64_t)s));
        losses[s] = fk_soft_cross_entropy(fk_plan_output(plan), targets, BATCH, CLASSES, 1.0,
                                          fk_plan_output_grad(plan));
        OK(fk_plan_backward(plan));
        (void)fk_optim_step(&optim, g, fk_plan_grads(plan), 0.01, 1.0);
        OK(fk_plan_refresh(plan));
    }
    size_t bytes = fk_plan_bytes(plan);
    fk_optim_fini(&optim);
    fk_plan_free(&plan);
    fk_graph_free(&g);
    return bytes;
}

static void less_memory_gives_the_same_losses(void **state)
{
    static const char *const NAMES[] = {"resnet18", "resnet50", "mobilenet_v2", "resnet20"};

    (void)state;
    for (size_t i = 0; i < FK_COUNT(NAMES); i++) {
        for (int half = 0; half < 2; half++) {
            double all[FEW];
            double less[FEW];
            size_t whole = few_losses(NAMES[i], 0, half, all);
            size_t cut = few_losses(NAMES[i], whole - 1, half, less);
            assert_true(cut < whole);
            assert_memory_equal(all, less, sizeof all);
        }
    }
}

/* Every network of moderate size takes its steps in bf16, in both ways of using it. Fresh weights and 2x2 pixels for the
 * last BatchNorms make first losses that differ by a tenth; the bands above are for those that can be held to more. */
static void check_half_steps(const char *name, fk_graph *g, unsigned long count, unsigned long crc)
{
    static const char *const WAYS[] = {"always", "never"};
    static int n;
    double want[FEW];
    double got[FEW];

    (void)g;
    (void)crc;
    if (count > 7000000 || strstr(name, "swin") || strstr(name, "sret") || /* 64 px are too few */
        is_spared(n++))
        return;
    (void)few_losses(name, 0, false, want);
    for (size_t w = 0; w < FK_COUNT(WAYS); w++) {
        (void)setenv("FERKD_BF16", WAYS[w], 1);
        (void)few_losses(name, 0, true, got);
        (void)unsetenv("FERKD_BF16");
        if (!(fabs(got[0] - want[0]) <= 0.15 * want[0]) || !isfinite(got[FEW - 1]))
            fail_msg("%s, bf16 %s: losses %g to %g, in f32 %g to %g", name, WAYS[w], got[0],
                     got[FEW - 1], want[0], want[FEW - 1]);
    }
}

static void every_network_takes_steps_in_bf16(void **state)
{
    (void)state;
    assert_int_equal(for_each_network(TEST_SOURCE "/golden/state_dicts.txt", check_half_steps), 73);
}

/* --- the update within backward --------------------------------------------------------------- */

typedef struct lean {
    fk_optim optim;
    fk_graph *g;
} lean;

static void step_param(void *ctx, size_t param, const float *grad)
{
    lean *l = ctx;

    fk_optim_param(&l->optim, l->g, param, grad);
}

/* Weights and the last loss after a few steps of AdamW. */
static double adamw_steps(const char *name, int64_t side, bool within, bool half_states, int steps,
                          fk_graph **out)
{
    enum { BATCH = 8, CLASSES = 10 };

    lean l;
    fk_plan *plan = NULL;
    fk_zoo_options z = {BATCH, 3, side, CLASSES};
    fk_plan_options o = {.train = true, .lean = within};
    fk_optim_options oo = {.kind = FK_ADAMW,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .decay = 0.01,
                           .half_states = half_states};
    float targets[BATCH * CLASSES] = {0};
    double loss = 0.0;

    OK(fk_zoo_build(&l.g, name, &z));
    fk_graph_init(l.g, 3);
    OK(fk_plan_new(&plan, l.g, &o));
    OK(fk_optim_init(&l.optim, l.g, &oo));
    for (int i = 0; i < BATCH; i++)
        targets[i * CLASSES + i] = 1.0f;
    for (int s = 0; s < steps; s++) {
        ops_values(fk_plan_input(plan), (size_t)(BATCH * 3 * side * side), (uint32_t)(s % 4));
        OK(fk_plan_forward(plan, (uint64_t)s));
        loss = fk_soft_cross_entropy(fk_plan_output(plan), targets, BATCH, CLASSES, 1.0,
                                     fk_plan_output_grad(plan));
        if (within) {
            fk_optim_begin(&l.optim, 3e-4, 1.0);
            OK(fk_plan_backward_each(plan, step_param, &l));
        } else {
            OK(fk_plan_backward(plan));
            (void)fk_optim_step(&l.optim, l.g, fk_plan_grads(plan), 3e-4, 1.0);
        }
        OK(fk_plan_refresh(plan));
    }
    fk_optim_fini(&l.optim);
    fk_plan_free(&plan);
    *out = l.g;
    return loss;
}

static void updates_within_backward_are_the_same(void **state)
{
    static const struct {
        const char *name;
        int64_t side;
    } NETWORKS[] = {{"resnet18", 64},        {"mobilenet_v2_x0_5", 64},
                    {"efficientnet_b0", 64}, {"deit_tiny_patch16_224", 64},
                    {"convnext_atto", 64},   {"shufflenet_v2_x0_5", 64},
                    {"sret_lt", 128}};

    (void)state;
    for (size_t i = 0; i < FK_COUNT(NETWORKS); i++) {
        fk_graph *a = NULL;
        fk_graph *b = NULL;
        (void)adamw_steps(NETWORKS[i].name, NETWORKS[i].side, false, false, 3, &a);
        (void)adamw_steps(NETWORKS[i].name, NETWORKS[i].side, true, false, 3, &b);
        if (memcmp(a->values, b->values, a->n_values * sizeof *a->values) != 0)
            fail_msg("%s: other weights when each moves within backward", NETWORKS[i].name);
        fk_graph_free(&a);
        fk_graph_free(&b);
    }
}

/* States in bf16 would stand still if they were rounded to the nearest: v moves by a thousandth. */
static void states_in_bf16_learn_as_well(void **state)
{
    fk_graph *g = NULL;

    (void)state;
    double want = adamw_steps("deit_tiny_patch16_224", 32, true, false, 60, &g);
    fk_graph_free(&g);
    double got = adamw_steps("deit_tiny_patch16_224", 32, true, true, 60, &g);
    fk_graph_free(&g);
    print_message("60 steps: loss %.4f, %.4f with states in bf16\n", want, got);
    assert_true(fabs(got - want) < 0.1 * want + 0.02);
}

static void too_little_memory_is_refused(void **state)
{
    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    fk_zoo_options z = {8, 3, 64, 10};
    fk_plan_options o = {.train = true, .max_bytes = 1 << 20};

    (void)state;
    OK(fk_zoo_build(&g, "resnet18", &z));
    assert_int_equal(fk_plan_new(&plan, g, &o), FERKD_LIMIT);
    assert_non_null(strstr(ferkd_last_error(), "--max-memory"));
    fk_graph_free(&g);
}

/* --- models of other programs ---------------------------------------------------------------- */

/* A float array of an .npz (a ZIP of stored .npy members). */
static float *npz_array(const fk_map *m, const char *name, size_t *n)
{
    size_t at = 0;

    while (at + 30 < m->size_bytes && fk_u32le(m->bytes + at) == 0x04034b50) {
        const uint8_t *h = m->bytes + at;
        size_t name_n = fk_u16le(h + 26);
        size_t extra = fk_u16le(h + 28);
        uint64_t size = fk_u32le(h + 18);
        if (size == 0xffffffff) /* Zip64: id, length, then the two sizes */
            size = fk_u64le(h + 30 + name_n + 4);
        const uint8_t *npy = h + 30 + name_n + extra;
        if (strncmp((const char *)h + 30, name, strlen(name)) == 0) {
            size_t head = 10 + fk_u16le(npy + 8);
            *n = (size_t)(size - head) / sizeof(float);
            float *v = malloc(*n * sizeof *v);
            assert_non_null(v);
            memcpy(v, npy + head, *n * sizeof *v);
            return v;
        }
        at += 30 + name_n + extra + (size_t)size;
    }
    fail_msg("no array %s", name);
    return NULL;
}

static void check_model(const char *name)
{
    char path[512];
    fk_map npz = {0};
    fk_onnx_file *f = NULL;
    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    fk_plan_options o = {0};
    size_t n_in;
    size_t n_out;

    (void)snprintf(path, sizeof path, "%s/models/zoo/%s.npz", TEST_SHARED, name);
    OK(fk_map_open(&npz, path));
    float *in = npz_array(&npz, "input.npy", &n_in);
    float *want = npz_array(&npz, "logits.npy", &n_out);
    (void)snprintf(path, sizeof path, "%s/models/zoo/%s.onnx", TEST_SHARED, name);
    OK(fk_onnx_open(&f, path));
    OK(fk_onnx_graph(f, 2, 0, &g));
    OK(fk_plan_new(&plan, g, &o));
    memcpy(fk_plan_input(plan), in, n_in * sizeof *in);
    OK(fk_plan_forward(plan, 0));
    for (size_t i = 0; i < n_out; i++) {
        double d = fabs((double)fk_plan_output(plan)[i] - (double)want[i]);
        if (!(d < 1e-3))
            fail_msg("%s: logit %zu is %g, ONNX Runtime's %g", name, i,
                     (double)fk_plan_output(plan)[i], (double)want[i]);
    }
    free(in);
    free(want);
    fk_plan_free(&plan);
    fk_graph_free(&g);
    fk_onnx_close(&f);
    fk_map_close(&npz);
}

static void exported_models_run_as_elsewhere(void **state)
{
    static const char *const NAMES[] = {"timm_mobilenetv3_small_050",
                                        "timm_test_efficientnet",
                                        "timm_test_nfnet",
                                        "timm_test_resnet",
                                        "tv_mobilenet_v2_w035",
                                        "tv_shufflenet_v2_x0_5",
                                        "timm_deit_micro_distilled",
                                        "timm_swin_micro",
                                        "timm_test_convnext",
                                        "timm_test_vit",
                                        "timm_test_vit3"};

    (void)state;
    if (!fk_is_folder(TEST_SHARED "/models/zoo")) {
        print_message("SKIPPED: no " TEST_SHARED "/models/zoo\n");
        skip();
    }
    for (size_t i = 0; i < FK_COUNT(NAMES); i++)
        check_model(NAMES[i]);
}

/* What the importer refuses, it refuses by node, op and opset. */
static void unsupported_operators_are_named(void **state)
{
    fk_onnx_file *f = NULL;
    fk_graph *g = NULL;
    uint8_t *bytes = NULL;
    size_t n;

    (void)state;
    OK(fk_file_read(&bytes, &n, TEST_SOURCE "/data/onnx/mixed13.onnx", 1u << 20, false));
    for (uint8_t *at = bytes; (at = memmem(at, n - (size_t)(at - bytes), "MaxPool", 7)) != NULL;)
        memcpy(at, "MadPool", 7);
    OK(fk_onnx_parse(&f, bytes, n, "mad.onnx"));
    assert_int_equal(fk_onnx_graph(f, 1, 0, &g), FERKD_UNSUPPORTED);
    assert_non_null(strstr(ferkd_last_error(), "MadPool"));
    assert_non_null(strstr(ferkd_last_error(), "opset 13"));
    fk_onnx_close(&f);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_dicts_are_torchvisions),
        cmocka_unit_test(network_files_are_what_they_say),
        cmocka_unit_test(layers_are_timms),
        cmocka_unit_test(training_losses_are_pytorchs),
        cmocka_unit_test(less_memory_gives_the_same_losses),
        cmocka_unit_test(every_network_takes_steps_in_bf16),
        cmocka_unit_test(updates_within_backward_are_the_same),
        cmocka_unit_test(states_in_bf16_learn_as_well),
        cmocka_unit_test(too_little_memory_is_refused),
        cmocka_unit_test(exported_models_run_as_elsewhere),
        cmocka_unit_test(unsupported_operators_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
