/* Building and holding a graph. */
#include "net/graph.h"

#include <search.h>

#include "base/mem.h"
#include "base/rng.h"

static const char *const OP_NAMES[] = {
    "input",   "const",     "conv",      "batchnorm", "activation", "binary", "pool", "reduce",
    "dense",   "matmul",    "reshape",   "transpose", "concat",     "slice",  "pad",  "softmax",
    "dropout", "layernorm", "attention", "expand",    "gather",     "select"};
static const char *const ACT_NAMES[] = {
    "relu",  "clip",  "sigmoid",   "silu",       "hardswish", "hardsigmoid", "leaky",
    "elu",   "gelu",  "gelu_tanh", "tanh",       "erf",       "exp",         "log",
    "sqrt",  "abs",   "sign",      "reciprocal", "softplus",  "softsign",    "mish",
    "round", "floor", "ceil",      "not",        "levels"};

const char *fk_op_name(fk_op op)
{
    return OP_NAMES[op];
}

const char *fk_act_name(fk_act act)
{
    return ACT_NAMES[act];
}

int64_t fk_shape_count(const fk_shape *s)
{
    int64_t n = 1;

    for (int i = 0; i < s->n; i++)
        n *= s->d[i];
    return n;
}

bool fk_shape_equal(const fk_shape *a, const fk_shape *b)
{
    return a->n == b->n && memcmp(a->d, b->d, (size_t)a->n * sizeof a->d[0]) == 0;
}

fk_shape fk_shape_of(int n, ...)
{
    fk_shape s = {.n = n};
    va_list args;

    va_start(args, n);
    for (int i = 0; i < n; i++)
        s.d[i] = va_arg(args, int64_t);
    va_end(args);
    return s;
}

void fk_shape_text(const fk_shape *s, char *text, size_t size)
{
    size_t at = 0;

    text[0] = '\0';
    for (int i = 0; i < s->n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRId64, i ? "x" : "", s->d[i]);
}

ferkd_status fk_graph_new(fk_graph **out, const char *name)
{
    fk_graph *g = NULL;

    TRY(fk_calloc(&g, 1, sizeof *g, name));
    g->input = g->output = -1;
    ferkd_status st = fk_strdup(&g->name, name);
    if (st != FERKD_OK)
        free(g);
    else
        *out = g;
    return st;
}

ferkd_status fk_graph_rename(fk_graph *g, const char *name)
{
    char *copy = NULL;

    TRY(fk_strdup(&copy, name));
    free(g->name);
    g->name = copy;
    return FERKD_OK;
}

/* The names are the parameters' own. */
static void keep_name(void *name)
{
    (void)name;
}

void fk_graph_free(fk_graph **graph)
{
    fk_graph *g = *graph;

    if (!g)
        return;
    for (size_t i = 0; i < g->n_nodes; i++) {
        free((void *)(uintptr_t)g->nodes[i].name); /* const for everyone else */
        free(g->nodes[i].in);
    }
    tdestroy(g->names, keep_name);
    for (size_t i = 0; i < g->n_params; i++) {
        free(g->params[i].name);
        free(g->params[i].given);
    }
    free(g->nodes);
    free(g->params);
    free(g->values);
    free(g->name);
    free(g);
    *graph = NULL;
}

ferkd_status fk_graph_add(fk_graph *g, const fk_node *proto, int *id)
{
    fk_node n = *proto;
    size_t inputs = (size_t)proto->n_in;
    ferkd_status st = FERKD_OK;

    n.name = NULL;
    n.in = NULL;
    if (g->n_nodes >= FK_MAX_NODES)
        return fk_fail(FERKD_LIMIT, "%s: more than %u nodes", g->name, FK_MAX_NODES);
    TRY(fk_grow(&g->nodes, &g->cap_nodes, g->n_nodes + 1, sizeof *g->nodes));
    char *name = NULL;
    TRY_DONE(fk_strdup(&name, proto->name));
    n.name = name;
    TRY_DONE(fk_calloc(&n.in, inputs, sizeof *n.in, proto->name));
    if (inputs)
        memcpy(n.in, proto->in, inputs * sizeof *n.in);
    TRY_DONE(fk_shape_infer(g, &n));
    int64_t count = 1;
    for (int i = 0; i < n.shape.n; i++) {
        if (n.shape.d[i] <= 0 || __builtin_mul_overflow(count, n.shape.d[i], &count) ||
            (uint64_t)count > FK_MAX_TENSOR) {
            char text[128];
            fk_shape_text(&n.shape, text, sizeof text);
            st = fk_fail(FERKD_LIMIT, "node %s (%s): an output of shape %s", n.name,
                         fk_op_name(n.op), text);
            goto done;
        }
    }
    if (n.op == FK_INPUT)
        g->input = (int)g->n_nodes;
    *id = (int)g->n_nodes;
    g->nodes[g->n_nodes++] = n;
    return FERKD_OK;
done:
    free((void *)(uintptr_t)n.name);
    free(n.in);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A name that is taken gets the number of the parameter behind it. */
static ferkd_status unique_name(const fk_graph *g, const char *name, char **out)
{
    TRY(fk_strdup(out, name));
    for (size_t k = g->n_params; tfind(*out, &g->names, by_name); k++) {
        free(*out);
        *out = NULL;
        TRY(fk_asprintf(out, "%s.%zu", name, k));
    }
    return FERKD_OK;
}

ferkd_status fk_graph_param(fk_graph *g, const char *name, fk_shape shape, fk_param_kind kind,
                            const float *given, int *id)
{
    ferkd_status st = FERKD_OK;
    fk_param p = {.shape = shape, .kind = kind, .count = (size_t)fk_shape_count(&shape)};

    TRY(fk_grow(&g->params, &g->cap_params, g->n_params + 1, sizeof *g->params));
    TRY_DONE(unique_name(g, name, &p.name));
    if (given) {
        TRY_DONE(fk_calloc(&p.given, p.count, sizeof *p.given, name));
        memcpy(p.given, given, p.count * sizeof *given);
    }
    if (!tsearch(p.name, &g->names, by_name)) {
        st = fk_fail(FERKD_MEMORY, "%s: no memory", name);
        goto done;
    }
    *id = (int)g->n_params;
    g->params[g->n_params++] = p;
    return FERKD_OK;
done:
    free(p.name);
    free(p.given);
    return st;
}

static size_t lay_out(fk_graph *g, size_t at, bool trained)
{
    for (size_t i = 0; i < g->n_params; i++) {
        fk_param *p = &g->params[i];
        if ((p->kind != FK_BUFFER) != trained)
            continue;
        p->offset = at;
        at += (p->count + 15) / 16 * 16; /* each on its own cache line */
    }
    return at;
}

ferkd_status fk_graph_finish(fk_graph *g, int output)
{
    g->output = output;
    g->n_trained = lay_out(g, 0, true);
    g->n_values = lay_out(g, g->n_trained, false);
    TRY(fk_calloc_aligned(&g->values, g->n_values * sizeof *g->values, g->name));
    for (size_t i = 0; i < g->n_params; i++) {
        fk_param *p = &g->params[i];
        if (p->given)
            memcpy(g->values + p->offset, p->given, p->count * sizeof *p->given);
        free(p->given);
        p->given = NULL;
    }
    return FERKD_OK;
}

void fk_graph_init_param(fk_graph *g, int param, uint64_t seed)
{
    const fk_param *p = &g->params[param];
    float *v = g->values + p->offset;
    fk_rng r = fk_rng_at(seed, FK_RNG_INIT, (uint32_t)param, 0);

    for (size_t k = 0; k < p->count; k++) {
        switch (p->init) {
        case FK_INIT_ZERO:
            v[k] = 0.0f;
            break;
        case FK_INIT_ONE:
            v[k] = 1.0f;
            break;
        case FK_INIT_CONST:
            v[k] = (float)p->scale;
            break;
        case FK_INIT_NORMAL:
            v[k] = (float)(p->scale * fk_rng_normal(&r));
            break;
        case FK_INIT_UNIFORM:
            v[k] = (float)(p->scale * (2.0 * fk_rng_unit(&r) - 1.0));
            break;
        case FK_INIT_GIVEN:
            break;
        }
    }
}

void fk_graph_init(fk_graph *g, uint64_t seed)
{
    for (size_t i = 0; i < g->n_params; i++)
        fk_graph_init_param(g, (int)i, seed);
}

float *fk_graph_values(const fk_graph *g, int param)
{
    return g->values + g->params[param].offset;
}

int fk_graph_find_param(const fk_graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_params; i++) {
        if (strcmp(g->params[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

void fk_graph_uses(const fk_graph *g, int *out)
{
    memset(out, 0, g->n_nodes * sizeof *out);
    out[g->output] = 1;
    for (size_t i = g->n_nodes; i-- > 0;) {
        for (int k = 0; out[i] && k < g->nodes[i].n_in; k++)
            out[g->nodes[i].in[k]]++;
    }
}

size_t fk_graph_trained(const fk_graph *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n_params; i++)
        n += g->params[i].kind != FK_BUFFER ? g->params[i].count : 0;
    return n;
}

double fk_node_macs(const fk_graph *g, const fk_node *n)
{
    double out = (double)fk_shape_count(&n->shape);

    if (n->op == FK_CONV) {
        const fk_shape *w = &g->params[n->param[0]].shape;
        return out * (double)(w->d[1] * w->d[2] * w->d[3]);
    }
    if (n->op == FK_DENSE)
        return out * (double)g->params[n->param[0]].shape.d[1];
    if (n->op == FK_MATMUL) {
        const fk_shape *a = &g->nodes[n->in[0]].shape;
        return out * (double)a->d[a->n - 1];
    }
    if (n->op == FK_ATTENTION) /* scores, and values by them */
        return 2.0 * out * (double)n->shape.d[1];
    return 0.0;
}
