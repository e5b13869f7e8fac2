/* Folding of BatchNorms, and the places of 8-bit values: those that ONNX Runtime's and other engines' rules for
 * QuantizeLinear and DequantizeLinear look for around their 8-bit operators. */
#include "base/compat.h"

#include "net/quantise.h"

int fk_value_of(const fk_graph *g, int id)
{
    while (g->nodes[id].op == FK_DROPOUT)
        id = g->nodes[id].in[0];
    return id;
}

/* Nodes that use a parameter. */
static int users_of(const fk_graph *g, int param)
{
    int users = 0;

    for (size_t i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < FK_MAX_PARAMS; k++)
            users += g->nodes[i].op != FK_INPUT && g->nodes[i].param[k] == param;
    }
    return users;
}

/* Readers of node id's output; *reader is the last of them, -1: none. */
static int readers_of(const fk_graph *g, const int *uses, int id, int *reader)
{
    int readers = 0;

    *reader = -1;
    for (size_t i = 0; i < g->n_nodes; i++) {
        for (int k = 0; uses[i] && k < g->nodes[i].n_in; k++) {
            if (g->nodes[i].in[k] == id) {
                readers++;
                *reader = (int)i;
            }
        }
    }
    return readers;
}

/* w' = scale w, b' = scale (b - mean) + shift, written where the BatchNorm's shift was (Ioffe and Szegedy 2015). */
static void fold(fk_graph *g, fk_node *conv, const fk_node *norm)
{
    float *w = fk_graph_values(g, conv->param[0]);
    const float *bias = conv->param[1] >= 0 ? fk_graph_values(g, conv->param[1]) : NULL;
    const float *gain = fk_graph_values(g, norm->param[0]);
    float *shift = fk_graph_values(g, norm->param[1]);
    const float *mean = fk_graph_values(g, norm->param[2]);
    const float *variance = fk_graph_values(g, norm->param[3]);
    size_t channels = (size_t)conv->shape.d[1];
    size_t each = g->params[conv->param[0]].count / channels;

    for (size_t c = 0; c < channels; c++) {
        double scale = (double)gain[c] / sqrt((double)variance[c] + norm->u.norm.eps);
        double b = bias ? (double)bias[c] : 0.0;
        for (size_t i = 0; i < each; i++)
            w[c * each + i] = (float)((double)w[c * each + i] * scale);
        shift[c] = (float)((b - (double)mean[c]) * scale + (double)shift[c]);
    }
    conv->param[1] = norm->param[1];
}

static void replace_value(fk_graph *g, int old, int by)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_in; k++)
            g->nodes[i].in[k] = g->nodes[i].in[k] == old ? by : g->nodes[i].in[k];
    }
    g->output = g->output == old ? by : g->output;
}

void fk_graph_fold_norms(fk_graph *g)
{
    int *uses = calloc(g->n_nodes, sizeof *uses);

    if (!uses) /* it stays as it is, which is right, too */
        return;
    fk_graph_uses(g, uses);
    for (size_t i = 0; i < g->n_nodes; i++) {
        fk_node *norm = &g->nodes[i];
        int reader;
        if (norm->op != FK_BATCHNORM || !uses[i] || g->nodes[norm->in[0]].op != FK_CONV)
            continue;
        int conv = norm->in[0];
        if (g->output == conv || readers_of(g, uses, conv, &reader) != 1 ||
            users_of(g, g->nodes[conv].param[0]) != 1 || users_of(g, norm->param[1]) != 1)
            continue;
        fold(g, &g->nodes[conv], norm);
        replace_value(g, (int)i, conv);
        uses[i] = 0;
    }
    free(uses);
}

/* --- places ---------------------------------------------------------------------------------- */

static bool is_map(const fk_graph *g, int id)
{
    return g->nodes[id].shape.n == 4 && g->nodes[id].op != FK_CONST;
}

/* Does this node work on 8-bit values? */
static bool takes_bytes(const fk_graph *g, const fk_node *n)
{
    switch (n->op) {
    case FK_CONV:
    case FK_DENSE:
        return true;
    case FK_POOL:
        return !n->u.pool.max;
    case FK_REDUCE:
        return n->u.reduce.kind == FK_BY_MEAN && is_map(g, n->in[0]);
    case FK_CONCAT:
        return n->shape.n == 4;
    case FK_BINARY:
        return (n->u.binary.kind == FK_ADD || n->u.binary.kind == FK_MUL) && is_map(g, n->in[0]) &&
               is_map(g, n->in[1]);
    default:
        return false;
    }
}

/* A ReLU or ReLU6, which is only a limit of the range of 8 bits. */
static bool is_limit(const fk_node *n)
{
    return n->op == FK_ACT &&
           (n->u.act.kind == FK_RELU || (n->u.act.kind == FK_CLIP && n->u.act.a >= 0.0f));
}

void fk_quantise_points(const fk_graph *g, bool *on)
{
    int *uses = calloc(g->n_nodes, sizeof *uses);

    memset(on, 0, g->n_nodes * sizeof *on);
    if (!uses)
        return;
    fk_graph_uses(g, uses);
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fk_node *n = &g->nodes[i];
        for (int k = 0; uses[i] && takes_bytes(g, n) && k < n->n_in; k++)
            on[fk_value_of(g, n->in[k])] = true;
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        int reader;
        if (!uses[i] || g->nodes[i].op != FK_CONV)
            continue;
        bool limited = readers_of(g, uses, (int)i, &reader) == 1 && is_limit(&g->nodes[reader]);
        on[i] = !limited;
        if (limited)
            on[reader] = true;
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        on[i] = on[i] && g->nodes[i].op != FK_CONST;
    on[fk_value_of(g, g->output)] = false;
    free(uses);
}
