/* The op tester: every line of cases.txt in several modes. golden: outputs and gradients are PyTorch's; last: with channels
 * last, too; sliced: 1x1 convolutions a few images at a time; bf16: they are near PyTorch's in f32; grad: they are what finite differences say; repeat: the same bytes
 * twice. A failing line is printed, to be pasted back: ops_test grad conv_3x3. */
#include "base/compat.h"

#include "base/mem.h"
#include "case.h"
#include "engine/plan.h"
#include "exchange/safetensors.h"

#define GOLDEN_TOLERANCE 2e-4   /* of the largest value: Winograd's share */
#define BF16_TOLERANCE   1.2e-1 /* root of the mean square, of PyTorch's */
#define GRAD_TOLERANCE   4e-3
#define GRAD_SAMPLES     6 /* parameters a tensor */

/* Compared in bf16? In which layout? */
static bool in_half;
static fk_layout layout = FK_LAYOUT_ANY;
static bool sliced;

static ferkd_status prepare(ops_case *c, fk_plan **plan, const char *line)
{
    fk_plan_options o = {.train = true, .half = in_half, .layout = layout, .slice_bytes = sliced};

    TRY(ops_case_parse(c, line));
    TRY(fk_plan_new(plan, c->g, &o));
    ops_values(fk_plan_input(*plan), c->n_inputs, 1000);
    return FERKD_OK;
}

static size_t outputs(const ops_case *c)
{
    return (size_t)fk_shape_count(&c->g->nodes[c->g->output].shape);
}

static ferkd_status both_ways(const ops_case *c, fk_plan *plan)
{
    TRY(fk_plan_forward(plan, 0));
    ops_values(fk_plan_output_grad(plan), outputs(c), 2000);
    return fk_plan_backward(plan);
}

static double worst(const float *a, const float *b, size_t n)
{
    double top = 1e-6;
    double diff = 0.0;

    for (size_t i = 0; i < n; i++) {
        top = fmax(top, fabs((double)b[i]));
        diff = isfinite(a[i]) ? fmax(diff, fabs((double)a[i] - (double)b[i])) : INFINITY;
    }
    return diff / top;
}

/* Where values are rounded some fall on the other side of a kink: the mean counts, not the worst. */
static double mean_error(const float *a, const float *b, size_t n)
{
    double diff = 0.0;
    double size = 1e-12;

    for (size_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2.0);
        size += pow((double)b[i], 2.0);
    }
    return isfinite(diff) ? sqrt(diff / size) : INFINITY;
}

static ferkd_status compare(const fk_safetensors *f, const char *name, const float *mine, size_t n)
{
    float *want = NULL;

    TRY(fk_calloc(&want, n, sizeof *want, name));
    ferkd_status st = fk_safetensors_copy(f, name, want, n);
    double e = st != FERKD_OK ? 0.0 : in_half ? mean_error(mine, want, n) : worst(mine, want, n);
    free(want);
    if (st == FERKD_OK && !(e <= (in_half ? BF16_TOLERANCE : GOLDEN_TOLERANCE)))
        st = fk_fail(FERKD_BUG, "%s is off by %.2e of its %s", name, e,
                     in_half ? "size" : "largest value");
    return st;
}

/* The same by the plan for inference, which fuses otherwise; BatchNorm has other statistics there. */
static ferkd_status inference(const ops_case *c, const fk_safetensors *f)
{
    fk_plan_options o = {.train = false, .half = in_half, .layout = layout};
    fk_plan *plan = NULL;
    char name[128];

    for (size_t i = 0; i < c->g->n_nodes; i++) {
        if (c->g->nodes[i].op == FK_BATCHNORM)
            return FERKD_OK;
    }
    TRY(fk_plan_new(&plan, c->g, &o));
    ops_values(fk_plan_input(plan), c->n_inputs, 1000);
    ferkd_status st = fk_plan_forward(plan, 0);
    (void)snprintf(name, sizeof name, "%s.y", c->name);
    if (st == FERKD_OK)
        st = compare(f, name, fk_plan_output(plan), outputs(c));
    fk_plan_free(&plan);
    return st == FERKD_OK ? st : fk_fail(FERKD_BUG, "inference: %s", ferkd_last_error());
}

static ferkd_status golden(const ops_case *c, fk_plan *plan, const fk_safetensors *f)
{
    char name[128];

    TRY(inference(c, f));
    TRY(both_ways(c, plan));
    (void)snprintf(name, sizeof name, "%s.y", c->name);
    TRY(compare(f, name, fk_plan_output(plan), outputs(c)));
    for (size_t i = 0; i < c->g->n_params; i++) {
        const fk_param *p = &c->g->params[i];
        if (p->kind == FK_BUFFER)
            continue;
        (void)snprintf(name, sizeof name, "%s.d%s", c->name, p->name + 1);
        TRY(compare(f, name, fk_plan_grads(plan) + p->offset, p->count));
    }
    return FERKD_OK;
}

/* sum(dy y): the scalar whose derivative backward gives. */
static ferkd_status scalar(const ops_case *c, fk_plan *plan, const float *dy, double *out)
{
    TRY(fk_plan_refresh(plan));
    TRY(fk_plan_forward(plan, 0));
    *out = 0.0;
    for (size_t i = 0; i < outputs(c); i++)
        *out += (double)dy[i] * (double)fk_plan_output(plan)[i];
    return FERKD_OK;
}

static ferkd_status difference(const ops_case *c, fk_plan *plan, const float *dy, const fk_param *p,
                               size_t k, const float *grads)
{
    const float h = 1e-2f;
    float *v = c->g->values + p->offset + k;
    float keep = *v;
    double high;
    double low;
    double scale = 1e-3;

    for (size_t i = 0; i < p->count; i++)
        scale = fmax(scale, fabs((double)grads[p->offset + i]));
    *v = keep + h;
    TRY(scalar(c, plan, dy, &high));
    *v = keep - h;
    TRY(scalar(c, plan, dy, &low));
    *v = keep;
    double numeric = (high - low) / (2.0 * (double)h);
    double mine = (double)grads[p->offset + k];
    if (fabs(numeric - mine) > GRAD_TOLERANCE * scale)
        return fk_fail(FERKD_BUG, "%s[%zu]: gradient %.6g, finite difference %.6g", p->name, k,
                       mine, numeric);
    return FERKD_OK;
}

/* Kinks (relu, clip, max) make some differences wrong: smooth cases only. */
static bool is_smooth(const char *line)
{
    static const char *const KINKS[] = {"relu", "clip", "leaky", "hard", "max",
                                        "elu",  "top",  "low",   "abs",  "levels"};

    if (strstr(line, "gelu"))
        return true;
    for (size_t i = 0; i < FK_COUNT(KINKS); i++) {
        if (strstr(line, KINKS[i]))
            return false;
    }
    return true;
}

static ferkd_status grad(const ops_case *c, fk_plan *plan)
{
    float *dy = NULL;
    float *grads = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(both_ways(c, plan));
    TRY_DONE(fk_calloc(&dy, outputs(c), sizeof *dy, c->name));
    TRY_DONE(fk_calloc(&grads, c->g->n_trained, sizeof *grads, c->name));
    ops_values(dy, outputs(c), 2000);
    memcpy(grads, fk_plan_grads(plan), c->g->n_trained * sizeof *grads);
    for (size_t i = 0; i < c->g->n_params; i++) {
        const fk_param *p = &c->g->params[i];
        for (size_t s = 0; s < GRAD_SAMPLES && p->kind != FK_BUFFER; s++)
            TRY_DONE(difference(c, plan, dy, p, s * 7919 % p->count, grads));
    }
done:
    free(dy);
    free(grads);
    return st;
}

static ferkd_status repeat(const ops_case *c, fk_plan *plan)
{
    size_t n = outputs(c);
    float *first = NULL;
    float *values = NULL; /* running statistics, too */
    size_t bytes = c->g->n_values * sizeof *values;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_calloc(&first, n + c->g->n_trained, sizeof *first, c->name));
    TRY_DONE(fk_calloc(&values, c->g->n_values, sizeof *values, c->name));
    memcpy(values, c->g->values, bytes);
    TRY_DONE(both_ways(c, plan));
    memcpy(first, fk_plan_output(plan), n * sizeof *first);
    memcpy(first + n, fk_plan_grads(plan), c->g->n_trained * sizeof *first);
    memcpy(c->g->values, values, bytes);
    TRY_DONE(both_ways(c, plan));
    if (memcmp(first, fk_plan_output(plan), n * sizeof *first) != 0 ||
        memcmp(first + n, fk_plan_grads(plan), c->g->n_trained * sizeof *first) != 0)
        st = fk_fail(FERKD_BUG, "two runs differ");
done:
    free(values);
    free(first);
    return st;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "golden";
    const char *only = argc > 2 ? argv[2] : NULL;
    fk_safetensors *f = NULL;
    char line[512];
    int passed = 0;
    int failed = 0;
    FILE *cases = fopen(TEST_SOURCE "/ops/cases.txt", "r");

    in_half = strncmp(mode, "bf16", 4) == 0;
    sliced = strstr(mode, "sliced") != NULL;
    layout = strstr(mode, "last")    ? FK_LAYOUT_LAST
             : strstr(mode, "lanes") ? FK_LAYOUT_LANES
                                     : FK_LAYOUT_ANY;
    if (!cases || fk_safetensors_open(&f, TEST_SOURCE "/golden/ops.safetensors") != FERKD_OK) {
        (void)printf("%s\n", ferkd_last_error());
        return 1;
    }
    while (fgets(line, sizeof line, cases)) {
        ops_case c = {0};
        fk_plan *plan = NULL;
        ferkd_status st = prepare(&c, &plan, line);
        bool skip = st == FERKD_ABSENT || (only && strcmp(only, c.name) != 0) ||
                    (strcmp(mode, "grad") == 0 && !is_smooth(line));
        if (st == FERKD_OK && !skip)
            st = strcmp(mode, "grad") == 0     ? grad(&c, plan)
                 : strcmp(mode, "repeat") == 0 ? repeat(&c, plan)
                                               : golden(&c, plan, f);
        if (!skip && st != FERKD_OK)
            (void)printf("FAILED %s: %s\n  %s", mode, ferkd_last_error(), line);
        passed += !skip && st == FERKD_OK;
        failed += !skip && st != FERKD_OK;
        fk_plan_free(&plan);
        fk_graph_free(&c.g);
    }
    (void)fclose(cases);
    fk_safetensors_close(&f);
    (void)printf("%d passed, %d failed\n", passed, failed);
    return failed || passed == 0;
}
