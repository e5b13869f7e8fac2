/* Attention as exporters write it, in a dozen nodes, found at its end: one node of the graph, which has a step of its own. */
#include "base/compat.h"

#include "exchange/onnx_import.h"

/* Queries, keys or values: which of the three they are of [B, T, 3 heads width], times a number. */
typedef struct part {
    int qkv, which;
    int64_t heads;
    double scale;
} part;

static const fk_node *node_at(const fk_reader *r, int id)
{
    return &r->g->nodes[id];
}

/* The value of a constant of one element. */
static bool number_of(const fk_reader *r, int id, double *v)
{
    const fk_node *n = node_at(r, id);

    if (n->op != FK_CONST || r->g->params[n->param[0]].count != 1 ||
        !r->g->params[n->param[0]].given)
        return false;
    *v = (double)r->g->params[n->param[0]].given[0];
    return true;
}

/* Without products and quotients by numbers, which go to scale. */
static int peel(const fk_reader *r, int id, double *scale)
{
    double v;

    for (;;) {
        const fk_node *n = node_at(r, id);
        if (n->op != FK_BINARY || n->n_in != 2)
            return id;
        if ((n->u.binary.kind == FK_MUL || n->u.binary.kind == FK_DIV) &&
            number_of(r, n->in[1], &v)) {
            *scale *= n->u.binary.kind == FK_MUL ? v : 1.0 / v;
            id = n->in[0];
        } else if (n->u.binary.kind == FK_MUL && number_of(r, n->in[0], &v)) {
            *scale *= v;
            id = n->in[1];
        } else {
            return id;
        }
    }
}

static bool is_transpose(const fk_node *n, int rank, const int *perm)
{
    return n->op == FK_TRANSPOSE && n->shape.n == rank &&
           memcmp(n->u.transpose.perm, perm, (size_t)rank * sizeof *perm) == 0;
}

/* [B, H, T, d] out of [3, B, H, T, d] out of [B, T, 3 H d]. */
static bool find_part(const fk_reader *r, int id, part *p)
{
    static const int PERM[] = {2, 0, 3, 1, 4};
    const fk_node *n = node_at(r, id = peel(r, id, &p->scale));

    if (n->op == FK_RESHAPE)
        n = node_at(r, n->in[0]);
    if (n->op == FK_SLICE && n->u.axis.axis == 0 && n->shape.n == 5 && n->shape.d[0] == 1) {
        p->which = (int)n->u.axis.start;
    } else if (n->op == FK_GATHER && n->u.axis.axis == 0 && r->g->params[n->param[0]].count == 1) {
        p->which = (int)r->g->params[n->param[0]].given[0];
    } else {
        return false;
    }
    n = node_at(r, n->in[0]);
    if (!is_transpose(n, 5, PERM))
        return false;
    n = node_at(r, n->in[0]);
    if (n->op != FK_RESHAPE || n->shape.n != 5 || n->shape.d[2] != 3)
        return false;
    p->qkv = n->in[0];
    p->heads = n->shape.d[3];
    const fk_shape *from = &node_at(r, p->qkv)->shape;
    return from->n == 3 && from->d[0] == n->shape.d[0] && from->d[1] == n->shape.d[1];
}

/* Keys, turned; PyTorch's exporter of graphs turns [B H, T, d]. */
static bool find_keys(const fk_reader *r, int id, part *p)
{
    static const int TURN[] = {0, 1, 3, 2};
    static const int TURN_FLAT[] = {0, 2, 1};
    const fk_node *n = node_at(r, peel(r, id, &p->scale));

    if (is_transpose(n, 4, TURN))
        return find_part(r, n->in[0], p);
    if (n->op != FK_RESHAPE || n->shape.n != 4)
        return false;
    const fk_shape *to = &n->shape;
    n = node_at(r, n->in[0]);
    if (!is_transpose(n, 3, TURN_FLAT) || n->shape.d[1] != to->d[2] || n->shape.d[2] != to->d[3])
        return false;
    n = node_at(r, n->in[0]);
    return n->op == FK_RESHAPE && find_part(r, n->in[0], p);
}

bool fk_import_attention_at(const fk_reader *r, int id, const fk_shape *to, fk_node *out, int *qkv)
{
    static const int JOIN[] = {0, 2, 1, 3};
    const fk_node *n = node_at(r, id);
    part q = {.scale = 1.0};
    part k = {.scale = 1.0};
    part v = {.scale = 1.0};

    if (to->n != 3 || !is_transpose(n, 4, JOIN))
        return false;
    n = node_at(r, n->in[0]);
    if (n->op != FK_MATMUL || !find_part(r, n->in[1], &v) || v.which != 2 || v.scale != 1.0)
        return false;
    n = node_at(r, n->in[0]);
    if (n->op != FK_SOFTMAX || n->shape.n != 4 || n->u.axis.axis != 3)
        return false;
    n = node_at(r, peel(r, n->in[0], &q.scale));
    if (n->op != FK_MATMUL || !find_part(r, n->in[0], &q) || !find_keys(r, n->in[1], &k))
        return false;
    const fk_shape *from = &node_at(r, v.qkv)->shape;
    if (q.which != 0 || k.which != 1 || q.qkv != v.qkv || k.qkv != v.qkv ||
        to->d[0] != from->d[0] || to->d[1] != from->d[1] || 3 * to->d[2] != from->d[2])
        return false;
    *qkv = v.qkv;
    *out = FK_NODE(.op = FK_ATTENTION, .n_in = 1, .u.attention = {v.heads, q.scale * k.scale});
    return true;
}
