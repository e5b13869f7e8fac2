/* A graph is copied node by node; what depends on the number of classes is stated anew on the way. */
#include "base/compat.h"

#include "net/head.h"

#include "base/mem.h"

/* Does a node hand its first input on, one value for one? */
static bool hands_on(const fk_node *n)
{
    return n->op == FK_RESHAPE || n->op == FK_DROPOUT || n->op == FK_ACT || n->op == FK_POOL ||
           n->op == FK_REDUCE || n->op == FK_TRANSPOSE || n->op == FK_SOFTMAX;
}

/* x + constant, or constant + x: the number of x's node; else -1. */
static int added_to(const fk_graph *g, const fk_node *n, int *constant)
{
    if (n->op != FK_BINARY || n->u.binary.kind != FK_ADD)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (g->nodes[n->in[i]].op == FK_CONST) {
            *constant = n->in[i];
            return n->in[1 - i];
        }
    }
    return -1;
}

int fk_graph_head(const fk_graph *g)
{
    int at = g->output;

    while (at >= 0) {
        const fk_node *n = &g->nodes[at];
        int constant = -1;
        if (n->op == FK_DENSE || n->op == FK_CONV)
            return at;
        if (hands_on(n))
            at = n->in[0];
        else
            at = added_to(g, n, &constant);
    }
    return -1;
}

/* Back from a node to the dense layers or convolutions that end there: several where their outputs are averaged,
 * or stand side by side. */
static void mark_back(fk_graph *g, int at)
{
    const fk_node *n = &g->nodes[at];

    if (n->op == FK_DENSE || n->op == FK_CONV) {
        for (int k = 0; k < FK_MAX_PARAMS; k++) {
            if (n->param[k] >= 0)
                g->params[n->param[k]].head = true;
        }
        return;
    }
    for (int i = 0; i < n->n_in && (hands_on(n) || n->op == FK_BINARY || n->op == FK_CONCAT); i++)
        mark_back(g, n->in[i]);
}

void fk_graph_mark_head(fk_graph *g)
{
    mark_back(g, g->output);
}

/* --- copying ----------------------------------------------------------------------------------- */

typedef struct copy {
    const fk_graph *from;
    fk_graph *to;
    int *node; /* [nodes of from]: its number in to */
    int *uses;
    int head;
    int bias_add;   /* the node that adds a bias behind the head, or -1 */
    int bias_const; /* what it adds */
    int64_t was, classes;
    bool anew;
} copy;

static ferkd_status copy_param(copy *c, int from, fk_shape shape, fk_param_kind kind, bool anew,
                               int *id)
{
    const fk_param *p = &c->from->params[from];

    return fk_graph_param(c->to, p->name, shape, kind, anew ? NULL : fk_graph_values(c->from, from),
                          id);
}

/* The weight [classes, ...] and the bias [classes] of the head. */
static ferkd_status copy_head(copy *c, fk_node *n)
{
    int weight = n->param[0];
    int bias = n->param[1];
    fk_shape shape = c->from->params[weight].shape;
    double fan_in;

    if (c->bias_add >= 0)
        bias = c->from->nodes[c->bias_const].param[0];
    shape.d[0] = c->classes;
    fan_in = (double)fk_shape_count(&shape) / (double)c->classes;
    TRY(copy_param(c, weight, shape, FK_WEIGHT, c->anew, &n->param[0]));
    if (c->anew) {
        c->to->params[n->param[0]].init = FK_INIT_UNIFORM;
        c->to->params[n->param[0]].scale = 1.0 / sqrt(fan_in);
    }
    if (bias < 0)
        return FERKD_OK;
    return copy_param(c, bias, fk_shape_of(1, c->classes), FK_BIAS, c->anew, &n->param[1]);
}

static ferkd_status copy_node(copy *c, int i, int *in)
{
    const fk_node *from = &c->from->nodes[i];
    fk_node n = *from;

    for (int k = 0; k < n.n_in; k++)
        in[k] = c->node[from->in[k]];
    n.in = in;
    if (i == c->head) {
        TRY(copy_head(c, &n));
    } else {
        for (int k = 0; k < FK_MAX_PARAMS; k++) {
            if (n.param[k] >= 0)
                TRY(copy_param(c, from->param[k], c->from->params[from->param[k]].shape,
                               c->from->params[from->param[k]].kind, false, &n.param[k]));
        }
    }
    if (n.op == FK_SLICE) /* states how many elements it takes */
        n.shape.d[0] = from->shape.d[from->u.axis.axis];
    for (int k = 0; i > c->head && n.op == FK_RESHAPE && k < n.shape.n; k++) {
        if (n.shape.d[k] == c->was)
            n.shape.d[k] = c->classes;
    }
    return fk_graph_add(c->to, &n, &c->node[i]);
}

/* A bias of the head's size that is added right behind a head without one. */
static void find_bias(copy *c)
{
    c->bias_add = -1;
    for (int i = c->head + 1; i < (int)c->from->n_nodes; i++) {
        int constant = -1;
        if (c->uses[i] && added_to(c->from, &c->from->nodes[i], &constant) == c->head &&
            c->from->nodes[c->head].op == FK_DENSE && c->from->nodes[c->head].param[1] < 0 &&
            c->uses[c->head] == 1 && c->uses[constant] == 1 &&
            c->from->params[c->from->nodes[constant].param[0]].count == (size_t)c->was) {
            c->bias_add = i;
            c->bias_const = constant;
        }
    }
}

static ferkd_status copy_nodes(copy *c, int output)
{
    const fk_graph *g = c->from;
    int *in = NULL;
    size_t most = 1;

    for (size_t i = 0; i < g->n_nodes; i++)
        most = g->nodes[i].n_in > (int)most ? (size_t)g->nodes[i].n_in : most;
    TRY(fk_calloc(&in, most, sizeof *in, g->name));
    ferkd_status st = FERKD_OK;
    for (int i = 0; st == FERKD_OK && i <= output; i++) {
        if (i == c->bias_add)
            c->node[i] = c->node[c->head];
        else if (c->uses[i] && !(c->bias_add >= 0 && i == c->bias_const))
            st = copy_node(c, i, in);
    }
    free(in);
    return st;
}

/* --- the head ---------------------------------------------------------------------------------- */

static ferkd_status check_output(const copy *c, int output)
{
    const fk_shape *s = &c->to->nodes[c->node[output]].shape;

    if (s->n == 2 && s->d[1] == c->classes)
        return FERKD_OK;
    return fk_fail(FERKD_UNSUPPORTED,
                   "%s: with %" PRId64 " classes its output would not be [batch, classes]",
                   c->from->name, c->classes);
}

ferkd_status fk_graph_rehead(fk_graph **graph, int64_t classes, uint64_t seed, bool *anew)
{
    fk_graph *g = *graph;
    copy c = {.from = g, .classes = classes, .head = fk_graph_head(g)};
    int output = g->output;
    ferkd_status st = FERKD_OK;

    if (c.head < 0)
        return fk_fail(FERKD_UNSUPPORTED,
                       "%s: no dense layer or convolution stands at its end, which could be a head",
                       g->name);
    while (g->nodes[output].op == FK_SOFTMAX)
        output = g->nodes[output].in[0];
    c.was = g->params[g->nodes[c.head].param[0]].shape.d[0];
    c.anew = c.was != classes;
    TRY_DONE(fk_calloc(&c.node, g->n_nodes, sizeof *c.node, g->name));
    TRY_DONE(fk_calloc(&c.uses, g->n_nodes, sizeof *c.uses, g->name));
    fk_graph_uses(g, c.uses);
    c.uses[output]++; /* the output is used from outside */
    find_bias(&c);
    TRY_DONE(fk_graph_new(&c.to, g->name));
    TRY_DONE(copy_nodes(&c, output));
    TRY_DONE(check_output(&c, output));
    TRY_DONE(fk_graph_finish(c.to, c.node[output]));
    fk_graph_mark_head(c.to);
    for (size_t i = 0; c.anew && i < c.to->n_params; i++) {
        if (c.to->params[i].head)
            fk_graph_init_param(c.to, (int)i, seed);
    }
    *anew = c.anew;
    *graph = c.to;
    c.to = g;
done:
    fk_graph_free(&c.to);
    free(c.node);
    free(c.uses);
    return st;
}

/* --- other outputs ----------------------------------------------------------------------------- */

void fk_graph_take_head(fk_graph *to, const fk_graph *from, const uint32_t *rows)
{
    assert(to->n_params == from->n_params);
    for (size_t i = 0; i < to->n_params; i++) {
        const fk_param *p = &to->params[i];
        size_t each = p->count / (size_t)p->shape.d[0];
        for (int64_t c = 0; p->head && c < p->shape.d[0]; c++)
            memcpy(to->values + p->offset + (size_t)c * each,
                   from->values + from->params[i].offset + rows[c] * each,
                   each * sizeof *to->values);
    }
}

void fk_graph_init_head(fk_graph *g, uint64_t seed)
{
    for (size_t i = 0; i < g->n_params; i++) {
        fk_param *p = &g->params[i];
        if (p->head && p->init == FK_INIT_GIVEN)
            memset(g->values + p->offset, 0, p->count * sizeof *g->values);
        else if (p->head)
            fk_graph_init_param(g, (int)i, seed);
    }
}
