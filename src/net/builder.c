/* The words that the zoo is written in. */
#include "net/builder.h"

static int add(fk_builder *b, fk_node *n)
{
    int id = -1;

    if (b->st == FERKD_OK)
        b->st = fk_graph_add(b->g, n, &id);
    return id;
}

/* A new parameter, or the one of that name: layers of one name share theirs. */
static int param_named(fk_builder *b, const char *name, fk_shape shape, fk_param_kind kind,
                       fk_init init, double scale)
{
    int id = b->st == FERKD_OK ? fk_graph_find_param(b->g, name) : -1;

    if (id >= 0 && !fk_shape_equal(&b->g->params[id].shape, &shape))
        b->st = fk_fail(FERKD_BUG, "%s: %s has two shapes", b->g->name, name);
    if (b->st != FERKD_OK || id >= 0)
        return id;
    b->st = fk_graph_param(b->g, name, shape, kind, NULL, &id);
    if (b->st == FERKD_OK) {
        b->g->params[id].init = init;
        b->g->params[id].scale = scale;
    }
    return id;
}

static int param(fk_builder *b, const char *layer, const char *tail, fk_shape shape,
                 fk_param_kind kind, fk_init init, double scale)
{
    char name[256];

    (void)snprintf(name, sizeof name, "%s%s.%s", b->prefix, layer, tail);
    return param_named(b, name, shape, kind, init, scale);
}

static char *full_name(fk_builder *b, const char *name, char *text, size_t size)
{
    (void)snprintf(text, size, "%s%s", b->prefix, name);
    return text;
}

int64_t fk_build_channels(const fk_builder *b, int x)
{
    return b->st == FERKD_OK ? b->g->nodes[x].shape.d[1] : 1;
}

static int conv(fk_builder *b, int x, const char *name, int64_t out, const fk_window *w,
                int64_t groups)
{
    char text[256];
    int64_t k = w->kernel[0];
    fk_shape shape = fk_shape_of(4, out, fk_build_channels(b, x) / groups, k, k);
    double fan_out = (double)(out * k * k) / (double)groups;
    fk_node n = {
        .op = FK_CONV,
        .name = full_name(b, name, text, sizeof text),
        .in = &x,
        .n_in = 1,
        .param = {param(b, name, "weight", shape, FK_WEIGHT, FK_INIT_NORMAL, sqrt(2.0 / fan_out)),
                  -1, -1, -1},
        .u.conv = {.window = *w, .groups = groups}};

    return add(b, &n);
}

int fk_build_conv(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                  int64_t p, int64_t groups)
{
    const fk_window w = {{k, k}, {s, s}, {1, 1}, {p, p}, {p, p}};

    return conv(b, x, name, out, &w, groups);
}

int fk_build_conv_same(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                       int64_t groups)
{
    fk_shape in = fk_build_shape(b, x);
    fk_window w = {{k, k}, {s, s}, {1, 1}, {0, 0}, {0, 0}};

    for (int i = 0; i < 2; i++) {
        int64_t last = (in.d[2 + i] - 1) / s * s; /* where the last window begins */
        int64_t more = last + k - in.d[2 + i];
        more = more > 0 ? more : 0;
        w.begin[i] = more / 2;
        w.end[i] = more - more / 2;
    }
    return conv(b, x, name, out, &w, groups);
}

int fk_build_norm(fk_builder *b, int x, const char *name)
{
    char text[256];
    fk_shape c = fk_shape_of(1, fk_build_channels(b, x));
    fk_node n = {.op = FK_BATCHNORM,
                 .name = full_name(b, name, text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {param(b, name, "weight", c, FK_NORM_WEIGHT, FK_INIT_ONE, 0),
                           param(b, name, "bias", c, FK_BIAS, FK_INIT_ZERO, 0),
                           param(b, name, "running_mean", c, FK_BUFFER, FK_INIT_ZERO, 0),
                           param(b, name, "running_var", c, FK_BUFFER, FK_INIT_ONE, 0)},
                 .u.norm = {.eps = 1e-5, .momentum = 0.1}};

    return add(b, &n);
}

void fk_build_norm_from_zero(fk_builder *b, int x)
{
    if (b->st == FERKD_OK)
        b->g->params[b->g->nodes[x].param[0]].init = FK_INIT_ZERO;
}

static bool is_relu(fk_act kind, float a, float c)
{
    return kind == FK_RELU || (kind == FK_CLIP && a == 0.0f && c == 6.0f);
}

int fk_build_act(fk_builder *b, int x, fk_act kind, float a, float c)
{
    bool relu = is_relu(kind, a, c);
    char text[256];

    if (b->for_relu && relu)
        kind = *b->for_relu;
    b->relus += relu;
    fk_node n = {.op = FK_ACT,
                 .name = full_name(b, fk_act_name(kind), text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .u.act = {kind, a, c}};

    return add(b, &n);
}

int fk_build_add(fk_builder *b, int x, int y)
{
    char text[256];
    int in[2] = {x, y};
    fk_node n = {.op = FK_BINARY,
                 .name = full_name(b, "add", text, sizeof text),
                 .in = in,
                 .n_in = 2,
                 .param = {-1, -1, -1, -1},
                 .u.binary = {FK_ADD}};

    return add(b, &n);
}

static int pool(fk_builder *b, int x, const fk_window *w, bool max, bool include_pad)
{
    char text[256];
    fk_node n = {.op = FK_POOL,
                 .name = full_name(b, "pool", text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .u.pool = {.window = *w, .max = max, .include_pad = include_pad}};

    return add(b, &n);
}

int fk_build_pool(fk_builder *b, int x, bool max, int64_t k, int64_t s, int64_t p)
{
    const fk_window w = {{k, k}, {s, s}, {1, 1}, {p, p}, {p, p}};

    return pool(b, x, &w, max, true);
}

int fk_build_mean_pool(fk_builder *b, int x, int64_t k)
{
    fk_shape in = fk_build_shape(b, x);
    const fk_window w = {
        {k, k}, {k, k}, {1, 1}, {0, 0}, {(k - in.d[2] % k) % k, (k - in.d[3] % k) % k}};

    return pool(b, x, &w, false, false);
}

int fk_build_global_pool(fk_builder *b, int x)
{
    fk_node n = {.op = FK_REDUCE,
                 .name = "avgpool",
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .u.reduce = {.axes = 1u << 2 | 1u << 3, .keep = false}};

    return add(b, &n);
}

int fk_build_dropout(fk_builder *b, int x, double ratio)
{
    fk_node n = {.op = FK_DROPOUT,
                 .name = "dropout",
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .u.dropout = {ratio}};

    return add(b, &n);
}

int fk_build_dense(fk_builder *b, int x, const char *name, int64_t out, double std)
{
    char text[256];
    int64_t in = fk_build_channels(b, x);
    double bound = 1.0 / sqrt((double)in);
    fk_init init = std > 0 ? FK_INIT_NORMAL : FK_INIT_UNIFORM;
    fk_node n = {.op = FK_DENSE,
                 .name = full_name(b, name, text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {param(b, name, "weight", fk_shape_of(2, out, in), FK_WEIGHT, init,
                                 std > 0 ? std : bound),
                           param(b, name, "bias", fk_shape_of(1, out), FK_BIAS,
                                 std > 0 ? FK_INIT_ZERO : FK_INIT_UNIFORM, bound),
                           -1, -1}};

    return add(b, &n);
}

fk_shape fk_build_shape(const fk_builder *b, int x)
{
    return b->st == FERKD_OK
               ? b->g->nodes[x].shape
               : (fk_shape){.n = 4, .d = {1, 1, 1, 1}}; /* nothing is built any more */
}

/* A node without parameters on the inputs `in`. */
static int simple(fk_builder *b, fk_node n, const char *name, const int *in, int n_in)
{
    char text[256];
    int copy[8];

    memcpy(copy, in, (size_t)n_in * sizeof *in);
    n.name = full_name(b, name, text, sizeof text);
    n.in = copy;
    n.n_in = n_in;
    for (int i = 0; i < FK_MAX_PARAMS; i++)
        n.param[i] = -1;
    return add(b, &n);
}

int fk_build_linear(fk_builder *b, int x, const char *name, int64_t out, double std, bool bias)
{
    char text[256];
    fk_shape s = fk_build_shape(b, x);
    int64_t in = s.d[s.n - 1];
    double bound = 1.0 / sqrt((double)in);
    fk_node n = {.op = FK_DENSE,
                 .name = full_name(b, name, text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1}};

    n.param[0] = param(b, name, "weight", fk_shape_of(2, out, in), FK_WEIGHT,
                       std > 0 ? FK_INIT_NORMAL : FK_INIT_UNIFORM, std > 0 ? std : bound);
    if (bias)
        n.param[1] = param(b, name, "bias", fk_shape_of(1, out), FK_BIAS,
                           std > 0 ? FK_INIT_ZERO : FK_INIT_UNIFORM, bound);
    return add(b, &n);
}

int fk_build_linear_uniform(fk_builder *b, int x, const char *name, int64_t out, double bound)
{
    x = fk_build_linear(b, x, name, out, bound, true);
    if (b->st == FERKD_OK)
        b->g->params[b->g->nodes[x].param[0]].init = FK_INIT_UNIFORM;
    return x;
}

int fk_build_layernorm(fk_builder *b, int x, const char *name, double eps)
{
    char text[256];
    fk_shape s = fk_build_shape(b, x);
    fk_shape c = fk_shape_of(1, s.d[s.n - 1]);
    fk_node n = {.op = FK_LAYERNORM,
                 .name = full_name(b, name, text, sizeof text),
                 .in = &x,
                 .n_in = 1,
                 .param = {param(b, name, "weight", c, FK_NORM_WEIGHT, FK_INIT_ONE, 0),
                           param(b, name, "bias", c, FK_BIAS, FK_INIT_ZERO, 0), -1, -1},
                 .u.norm = {.eps = eps}};

    return add(b, &n);
}

int fk_build_attention_biased(fk_builder *b, int qkv, int bias, int64_t heads)
{
    fk_shape s = fk_build_shape(b, qkv);
    double width = (double)s.d[s.n - 1] / (double)(3 * heads);

    return simple(b, (fk_node){.op = FK_ATTENTION, .u.attention = {heads, 1.0 / sqrt(width)}},
                  "attention", (int[]){qkv, bias}, bias >= 0 ? 2 : 1);
}

int fk_build_attention(fk_builder *b, int qkv, int64_t heads)
{
    return fk_build_attention_biased(b, qkv, -1, heads);
}

/* A buffer of given values. */
static int given(fk_builder *b, const char *name, fk_shape shape, const float *values)
{
    char text[256];
    int id = -1;

    if (b->st == FERKD_OK)
        b->st = fk_graph_param(b->g, full_name(b, name, text, sizeof text), shape, FK_BUFFER,
                               values, &id);
    if (b->st == FERKD_OK)
        b->g->params[id].init = FK_INIT_GIVEN;
    return id;
}

int fk_build_constant(fk_builder *b, const char *name, fk_shape shape, const float *values)
{
    fk_node n = {.op = FK_CONST, .name = name, .param = {-1, -1, -1, -1}};

    n.param[0] = given(b, name, shape, values);
    return add(b, &n);
}

int fk_build_gather(fk_builder *b, int x, const char *name, int axis, fk_shape shape,
                    const float *index)
{
    fk_node n = {.op = FK_GATHER,
                 .name = "gather",
                 .in = &x,
                 .n_in = 1,
                 .param = {-1, -1, -1, -1},
                 .u.axis = {.axis = axis}};

    n.param[0] = given(b, name, shape, index);
    return add(b, &n);
}

int fk_build_pad(fk_builder *b, int x, int axis, int64_t behind)
{
    fk_node n = {.op = FK_PAD};

    if (behind == 0)
        return x;
    n.u.pad.end[axis] = behind;
    return simple(b, n, "pad", &x, 1);
}

int fk_build_value(fk_builder *b, const char *name, fk_shape shape, fk_init init, double scale)
{
    char text[256];
    fk_node n = {.op = FK_CONST, .param = {-1, -1, -1, -1}};

    n.name = full_name(b, name, text, sizeof text);
    n.param[0] = param_named(b, text, shape, FK_BIAS, init, scale);
    return add(b, &n);
}

int fk_build_binary(fk_builder *b, fk_binary kind, int x, int y)
{
    return simple(b, (fk_node){.op = FK_BINARY, .u.binary = {kind}}, "binary", (int[]){x, y}, 2);
}

int fk_build_times(fk_builder *b, int x, float v)
{
    int number = fk_build_constant(b, "number", fk_shape_of(1, (int64_t)1), &v);

    return fk_build_binary(b, FK_MUL, x, number);
}

int fk_build_reshape(fk_builder *b, int x, fk_shape to)
{
    return simple(b, (fk_node){.op = FK_RESHAPE, .shape = to}, "reshape", &x, 1);
}

int fk_build_transpose(fk_builder *b, int x, int n, const int *perm)
{
    fk_node node = {.op = FK_TRANSPOSE};

    memcpy(node.u.transpose.perm, perm, (size_t)n * sizeof *perm);
    return simple(b, node, "transpose", &x, 1);
}

int fk_build_expand(fk_builder *b, int x, fk_shape to)
{
    return simple(b, (fk_node){.op = FK_EXPAND, .shape = to}, "expand", &x, 1);
}

int fk_build_concat(fk_builder *b, int n, const int *in, int axis)
{
    return simple(b, (fk_node){.op = FK_CONCAT, .u.axis = {.axis = axis}}, "concat", in, n);
}

int fk_build_slice(fk_builder *b, int x, int axis, int64_t start, int64_t count)
{
    return simple(b,
                  (fk_node){.op = FK_SLICE,
                            .shape = fk_shape_of(1, count),
                            .u.axis = {.axis = axis, .start = start, .step = 1}},
                  "slice", &x, 1);
}

int fk_build_mean(fk_builder *b, int x, unsigned axes, bool keep)
{
    return simple(b, (fk_node){.op = FK_REDUCE, .u.reduce = {axes, keep, FK_BY_MEAN}}, "mean", &x,
                  1);
}

void fk_build_conv_bias(fk_builder *b, int x, const char *name, double bound)
{
    if (b->st != FERKD_OK)
        return;
    int id = param(b, name, "bias", fk_shape_of(1, b->g->nodes[x].shape.d[1]), FK_BIAS,
                   FK_INIT_UNIFORM, bound);
    b->g->nodes[x].param[1] = id;
}

void fk_build_conv_as_torch(fk_builder *b, int x)
{
    if (b->st != FERKD_OK)
        return;
    fk_param *w = &b->g->params[b->g->nodes[x].param[0]];
    w->init = FK_INIT_UNIFORM;
    w->scale = 1.0 / sqrt((double)w->count / (double)w->shape.d[0]);
}
