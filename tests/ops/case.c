/* Parsing a problem: words to nodes. */
#include "case.h"

#define MAX_WORDS 64

static const char *const OPS[] = {
    "in",        "conv",      "norm",           "act",        "pool",      "mean",
    "dense",     "reshape",   "transpose",      "slice",      "pad",       "softmax",
    "add_self",  "mul_self",  "concat",         "scale",      "gate",      "gram",
    "layernorm", "attention", "attention_bias", "block",      "att_block", "train",
    "reduce",    "expand",    "gather",         "bare_dense", "pos_enc",   "pointwise"};

typedef struct parser {
    fk_graph *g;
    int x; /* the value so far */
    uint32_t salt;
    int n;
    const char *a[MAX_WORDS]; /* arguments of the op at hand */
} parser;

void ops_values(float *out, size_t n, uint32_t salt)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i + salt * 0x9E3779B9u;
        h ^= h >> 16;
        h *= 0x85EBCA6Bu;
        h ^= h >> 13;
        h *= 0xC2B2AE35u;
        h ^= h >> 16;
        out[i] = (float)((double)(h >> 8) * 0x1p-23 - 1.0);
    }
}

static int64_t num(const parser *p, int i)
{
    return i < p->n ? strtoll(p->a[i], NULL, 10) : 0;
}

static float real(const parser *p, int i)
{
    return i < p->n ? strtof(p->a[i], NULL) : 0.0f;
}

static ferkd_status param(parser *p, const char *kind, fk_shape shape, int *id)
{
    size_t n = (size_t)fk_shape_count(&shape);
    float *v = calloc(n, sizeof *v);
    char name[32];
    fk_param_kind k = FK_WEIGHT;

    if (!v)
        return FERKD_MEMORY;
    ops_values(v, n, ++p->salt);
    float scale = (float)(1.5 / sqrt((double)n / (double)shape.d[0]));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(kind, "weight") == 0)
            v[i] *= scale;
        else if (strcmp(kind, "norm") == 0)
            v[i] = 1.0f + 0.3f * v[i];
        else if (strcmp(kind, "bias") == 0)
            v[i] *= 0.2f;
        else
            v[i] += 2.0f;
    }
    k = strcmp(kind, "norm") == 0    ? FK_NORM_WEIGHT
        : strcmp(kind, "bias") == 0  ? FK_BIAS
        : strcmp(kind, "const") == 0 ? FK_BUFFER
                                     : FK_WEIGHT;
    (void)snprintf(name, sizeof name, "p%u", p->salt - 1);
    ferkd_status st = fk_graph_param(p->g, name, shape, k, v, id);
    free(v);
    return st;
}

static ferkd_status add(parser *p, fk_node *n)
{
    n->name = "op";
    if (!n->in && n->op != FK_INPUT) {
        n->in = &p->x;
        n->n_in = 1;
    }
    int id;
    TRY(fk_graph_add(p->g, n, &id));
    p->x = id;
    return FERKD_OK;
}

static fk_shape *shape(parser *p)
{
    return &p->g->nodes[p->x].shape;
}

static ferkd_status conv(parser *p, int64_t out, int64_t k, int64_t s, int64_t pad, int64_t groups,
                         bool bias)
{
    fk_node n = {.op = FK_CONV,
                 .param = {-1, -1, -1, -1},
                 .u.conv = {{{k, k}, {s, s}, {1, 1}, {pad, pad}, {pad, pad}}, groups}};

    TRY(param(p, "weight", fk_shape_of(4, out, shape(p)->d[1] / groups, k, k), &n.param[0]));
    if (bias)
        TRY(param(p, "bias", fk_shape_of(1, out), &n.param[1]));
    return add(p, &n);
}

static ferkd_status norm(parser *p)
{
    fk_shape c = fk_shape_of(1, shape(p)->d[1]);
    fk_node n = {.op = FK_BATCHNORM, .u.norm = {1e-5, 0.1}};

    TRY(param(p, "norm", c, &n.param[0]));
    TRY(param(p, "bias", c, &n.param[1]));
    TRY(param(p, "const", c, &n.param[2]));
    TRY(param(p, "const", c, &n.param[3]));
    return add(p, &n);
}

static ferkd_status act(parser *p, const char *name, float a, float b)
{
    fk_node n = {.op = FK_ACT, .param = {-1, -1, -1, -1}, .u.act = {FK_ACT_COUNT, a, b}};

    for (int i = 0; i < FK_ACT_COUNT; i++) {
        if (strcmp(fk_act_name((fk_act)i), name) == 0)
            n.u.act.kind = (fk_act)i;
    }
    return n.u.act.kind == FK_ACT_COUNT ? fk_fail(FERKD_USAGE, "activation %s", name) : add(p, &n);
}

static ferkd_status mean(parser *p, const char *axes, bool keep)
{
    fk_node n = {.op = FK_REDUCE, .param = {-1, -1, -1, -1}, .u.reduce = {0, keep}};

    for (const char *c = axes; *c; c += *c == ',' || c[1] != ',' ? 1 : 2)
        n.u.reduce.axes |= *c == ',' ? 0 : 1u << (*c - '0');
    return add(p, &n);
}

static ferkd_status binary(parser *p, fk_binary kind, int a, int b)
{
    int in[2] = {a, b};
    fk_node n = {
        .op = FK_BINARY, .in = in, .n_in = 2, .param = {-1, -1, -1, -1}, .u.binary = {kind}};

    return add(p, &n);
}

/* x and a constant (op scale), or a trained value (op train). */
static ferkd_status scale(parser *p, const char *of)
{
    static const char *const KINDS[] = {"add", "sub", "mul", "div", "pow", "max", "min"};
    fk_shape s = {.n = p->n - 1};
    fk_node c = {.op = FK_CONST, .param = {-1, -1, -1, -1}};
    int x = p->x;
    int kind = 0;

    for (int i = 0; i < s.n; i++)
        s.d[i] = num(p, i + 1);
    for (int i = 0; i < 7; i++)
        kind = strcmp(KINDS[i], p->a[0]) == 0 ? i : kind;
    TRY(param(p, of, s, &c.param[0]));
    c.in = &x;
    TRY(add(p, &c));
    return binary(p, (fk_binary)kind, x, p->x);
}

static ferkd_status gate(parser *p)
{
    int x = p->x;

    TRY(mean(p, "2,3", true));
    TRY(conv(p, shape(p)->d[1], 1, 1, 0, 1, false));
    TRY(act(p, "sigmoid", 0, 0));
    return binary(p, FK_MUL, x, p->x);
}

/* x + depthwise convolution of x: the residual is the input. */
static ferkd_status pos_enc(parser *p)
{
    int x = p->x;
    int64_t c = shape(p)->d[1];

    TRY(conv(p, c, 3, 1, 1, c, true));
    return binary(p, FK_ADD, x, p->x);
}

/* x + conv(silu(conv(x))), both 1x1 with a bias. */
static ferkd_status pointwise(parser *p, int64_t width)
{
    int x = p->x;
    int64_t c = shape(p)->d[1];

    TRY(conv(p, width, 1, 1, 0, 1, true));
    TRY(act(p, "silu", 0, 0));
    TRY(conv(p, c, 1, 1, 0, 1, true));
    return binary(p, FK_ADD, x, p->x);
}

static ferkd_status gram(parser *p)
{
    int in[2] = {p->x, 0};
    fk_node t = {.op = FK_TRANSPOSE, .param = {-1, -1, -1, -1}, .u.transpose = {{0, 1, 3, 2}}};

    TRY(add(p, &t));
    in[1] = p->x;
    fk_node n = {.op = FK_MATMUL, .in = in, .n_in = 2, .param = {-1, -1, -1, -1}};
    return add(p, &n);
}

static ferkd_status simple(parser *p, const char *op)
{
    fk_node n = {.param = {-1, -1, -1, -1}};
    int twice[2] = {p->x, p->x};

    if (strcmp(op, "in") == 0) {
        n.op = FK_INPUT;
        n.shape = fk_shape_of(4, num(p, 0), num(p, 1), num(p, 2), num(p, 3));
    } else if (strcmp(op, "reshape") == 0) {
        n.op = FK_RESHAPE;
        for (n.shape.n = 0; n.shape.n < p->n; n.shape.n++)
            n.shape.d[n.shape.n] = num(p, n.shape.n);
    } else if (strcmp(op, "expand") == 0) {
        n.op = FK_EXPAND;
        for (n.shape.n = 0; n.shape.n < p->n; n.shape.n++)
            n.shape.d[n.shape.n] = num(p, n.shape.n);
    } else if (strcmp(op, "transpose") == 0) {
        n.op = FK_TRANSPOSE;
        for (int i = 0; i < p->n; i++)
            n.u.transpose.perm[i] = (int)num(p, i);
    } else if (strcmp(op, "slice") == 0) {
        n.op = FK_SLICE;
        n.shape = fk_shape_of(1, num(p, 2));
        n.u.axis.axis = (int)num(p, 0);
        n.u.axis.start = num(p, 1);
        n.u.axis.step = num(p, 3);
    } else if (strcmp(op, "pad") == 0) {
        n.op = FK_PAD;
        for (int i = 2; i < 4; i++) {
            n.u.pad.begin[i] = num(p, 0);
            n.u.pad.end[i] = num(p, 1);
        }
        n.u.pad.value = real(p, 2);
    } else if (strcmp(op, "softmax") == 0) {
        n.op = FK_SOFTMAX;
        n.u.axis.axis = (int)num(p, 0);
    } else { /* concat */
        n.op = FK_CONCAT;
        n.in = twice;
        n.n_in = 2;
        n.u.axis.axis = (int)num(p, 0);
    }
    return add(p, &n);
}

static ferkd_status dense_of(parser *p, int64_t out, bool bias)
{
    fk_node n = {.op = FK_DENSE, .param = {-1, -1, -1, -1}};

    TRY(param(p, "weight", fk_shape_of(2, out, shape(p)->d[shape(p)->n - 1]), &n.param[0]));
    if (bias)
        TRY(param(p, "bias", fk_shape_of(1, out), &n.param[1]));
    return add(p, &n);
}

static ferkd_status dense(parser *p)
{
    return dense_of(p, num(p, 0), true);
}

static ferkd_status layernorm(parser *p)
{
    fk_shape c = fk_shape_of(1, shape(p)->d[shape(p)->n - 1]);
    fk_node n = {.op = FK_LAYERNORM, .param = {-1, -1, -1, -1}, .u.norm = {1e-6, 0}};

    TRY(param(p, "norm", c, &n.param[0]));
    TRY(param(p, "bias", c, &n.param[1]));
    return add(p, &n);
}

/* windows > 0: with a trained value that is added to the scores, [windows, heads, T, T]. */
static ferkd_status attention(parser *p, int64_t heads, int64_t windows)
{
    int in[2] = {p->x, -1};
    int64_t t = shape(p)->d[1];
    fk_node c = {.op = FK_CONST, .param = {-1, -1, -1, -1}};
    fk_node n = {.op = FK_ATTENTION, .in = in, .n_in = 1, .param = {-1, -1, -1, -1}};

    n.u.attention.heads = heads;
    n.u.attention.scale = 1.0 / sqrt((double)shape(p)->d[2] / (double)(3 * heads));
    if (windows) {
        TRY(param(p, "norm", fk_shape_of(4, windows, heads, t, t), &c.param[0]));
        c.in = in;
        TRY(add(p, &c));
        in[1] = p->x;
        n.n_in = 2;
    }
    return add(p, &n);
}

/* x + c (MLP of LayerNorm of x), c a trained value a channel or absent. */
static ferkd_status block(parser *p, int64_t hidden, bool scaled)
{
    int x = p->x;
    int64_t width = shape(p)->d[shape(p)->n - 1];

    TRY(layernorm(p));
    TRY(dense_of(p, hidden, true));
    TRY(act(p, "gelu", 0, 0));
    TRY(dense_of(p, width, true));
    if (scaled) {
        fk_node c = {.op = FK_CONST, .param = {-1, -1, -1, -1}, .in = &x};
        int y = p->x;
        TRY(param(p, "norm", fk_shape_of(1, width), &c.param[0]));
        TRY(add(p, &c));
        TRY(binary(p, FK_MUL, y, p->x));
    }
    return binary(p, FK_ADD, x, p->x);
}

static ferkd_status att_block(parser *p, int64_t heads)
{
    int x = p->x;
    int64_t width = shape(p)->d[shape(p)->n - 1];

    TRY(layernorm(p));
    TRY(dense_of(p, 3 * width, true));
    TRY(attention(p, heads, 0));
    TRY(dense_of(p, width, true));
    return binary(p, FK_ADD, x, p->x);
}

static ferkd_status reduce(parser *p)
{
    static const char *const KINDS[] = {"avg", "sum", "top", "low", "l2"};
    int kind = 0;

    for (int i = 0; i < 5; i++)
        kind = strcmp(KINDS[i], p->a[0]) == 0 ? i : kind;
    TRY(mean(p, p->a[1], num(p, 2) != 0));
    p->g->nodes[p->x].u.reduce.kind = (fk_reduce)kind;
    return FERKD_OK;
}

static ferkd_status gather(parser *p)
{
    fk_node n = {.op = FK_GATHER, .param = {-1, -1, -1, -1}, .u.axis = {.axis = (int)num(p, 0)}};
    float index[MAX_WORDS];

    for (int i = 1; i < p->n; i++)
        index[i - 1] = real(p, i);
    TRY(fk_graph_param(p->g, "index", fk_shape_of(1, (int64_t)(p->n - 1)), FK_BUFFER, index,
                       &n.param[0]));
    return add(p, &n);
}

static ferkd_status pool(parser *p)
{
    int64_t k = num(p, 1);
    int64_t s = num(p, 2);
    int64_t pad = num(p, 3);
    fk_node n = {.op = FK_POOL,
                 .param = {-1, -1, -1, -1},
                 .u.pool = {{{k, k}, {s, s}, {1, 1}, {pad, pad}, {pad, pad}},
                            strcmp(p->a[0], "max") == 0,
                            num(p, 4) != 0}};

    return add(p, &n);
}

static ferkd_status one(parser *p, const char *op)
{
    if (strcmp(op, "conv") == 0)
        return conv(p, num(p, 0), num(p, 1), num(p, 2), num(p, 3), num(p, 4), num(p, 5) != 0);
    if (strcmp(op, "norm") == 0)
        return norm(p);
    if (strcmp(op, "act") == 0)
        return act(p, p->a[0], real(p, 1), real(p, 2));
    if (strcmp(op, "pool") == 0)
        return pool(p);
    if (strcmp(op, "mean") == 0)
        return mean(p, p->a[0], num(p, 1) != 0);
    if (strcmp(op, "dense") == 0)
        return dense(p);
    if (strcmp(op, "add_self") == 0 || strcmp(op, "mul_self") == 0)
        return binary(p, *op == 'a' ? FK_ADD : FK_MUL, p->x, p->x);
    if (strcmp(op, "scale") == 0)
        return scale(p, "const");
    if (strcmp(op, "train") == 0)
        return scale(p, "norm");
    if (strcmp(op, "layernorm") == 0)
        return layernorm(p);
    if (strcmp(op, "attention") == 0 || strcmp(op, "attention_bias") == 0)
        return attention(p, num(p, 0), num(p, 1));
    if (strcmp(op, "block") == 0)
        return block(p, num(p, 0), num(p, 1) != 0);
    if (strcmp(op, "att_block") == 0)
        return att_block(p, num(p, 0));
    if (strcmp(op, "reduce") == 0)
        return reduce(p);
    if (strcmp(op, "gather") == 0)
        return gather(p);
    if (strcmp(op, "pos_enc") == 0)
        return pos_enc(p);
    if (strcmp(op, "pointwise") == 0)
        return pointwise(p, num(p, 0));
    if (strcmp(op, "bare_dense") == 0)
        return dense_of(p, num(p, 0), false);
    if (strcmp(op, "gate") == 0)
        return gate(p);
    if (strcmp(op, "gram") == 0)
        return gram(p);
    return simple(p, op);
}

static bool is_op(const char *word)
{
    for (size_t i = 0; i < FK_COUNT(OPS); i++) {
        if (strcmp(OPS[i], word) == 0)
            return true;
    }
    return false;
}

ferkd_status ops_case_parse(ops_case *c, const char *line)
{
    char text[512];
    char *rest = NULL;
    parser p = {.x = -1};

    (void)snprintf(text, sizeof text, "%s", line);
    const char *word = strtok_r(text, " \t\n", &rest);
    if (!word || *word == '#')
        return FERKD_ABSENT;
    (void)snprintf(c->name, sizeof c->name, "%s", word);
    TRY(fk_graph_new(&p.g, c->name));
    ferkd_status st = FERKD_OK;
    const char *op = strtok_r(NULL, " \t\n", &rest);
    while (op && st == FERKD_OK) {
        p.n = 0;
        while ((word = strtok_r(NULL, " \t\n", &rest)) != NULL && !is_op(word))
            p.a[p.n++] = word;
        st = one(&p, op);
        op = word;
    }
    if (st == FERKD_OK)
        st = fk_graph_finish(p.g, p.x);
    c->g = p.g;
    c->n_inputs = st == FERKD_OK ? (size_t)fk_shape_count(&p.g->nodes[p.g->input].shape) : 0;
    return st;
}
