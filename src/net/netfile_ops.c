/* The operations that a network file may name. */
#include "base/compat.h"

#include "base/option.h"
#include "net/netfile_inside.h"

#define MOST_KEYS 6

typedef struct site {
    fk_netfile *f;
    fk_chain *c;
    int x;
    const char *kind;
    json_t *v;     /* behind the operation's name, or NULL */
    json_t *layer; /* or NULL */
    char name[96]; /* of its parameters */
} site;

typedef int build(site *s);

typedef struct operation {
    const char *kind;
    build *build;
    const char *keys[MOST_KEYS]; /* that may stand beside it, besides name, in and keep */
} operation;

static int64_t number(const site *s, const char *key, int64_t otherwise)
{
    return fk_netfile_option(s->f, s->c, s->x, s->layer, key, otherwise);
}

/* What stands behind the operation's name; otherwise, where nothing does (-1: it has to). */
static int64_t main_number(const site *s, int64_t otherwise)
{
    if (!s->v && otherwise < 0)
        return fk_netfile_wrong(s->f, "\"%s\" needs a number", s->kind);
    return s->v ? fk_netfile_number(s->f, s->c, s->x, s->v, s->kind) : otherwise;
}

static bool flag(const site *s, const char *key, bool otherwise)
{
    json_t *v = json_object_get(s->layer, key);

    if (v && !json_is_boolean(v))
        (void)fk_netfile_wrong(s->f, "\"%s\" is true or false", key);
    return v ? json_is_true(v) : otherwise;
}

static double real(const site *s, const char *key, double otherwise)
{
    json_t *v = json_object_get(s->layer, key);

    if (v && !json_is_number(v))
        (void)fk_netfile_wrong(s->f, "\"%s\" is a number", key);
    return v ? json_number_value(v) : otherwise;
}

static bool failed(const site *s)
{
    return s->f->b.st != FERKD_OK;
}

/* FERKD_CORRUPT unless x has so many dimensions. */
static bool has_dimensions(const site *s, int n, const char *what)
{
    fk_shape shape = fk_build_shape(&s->f->b, s->x);

    if (!failed(s) && shape.n != n)
        (void)fk_netfile_wrong(s->f, "\"%s\" works on %s; what comes in has %d dimensions", s->kind,
                               what, shape.n);
    return !failed(s);
}

#define IMAGES "images, [N, channels, height, width]"
#define TOKENS "tokens, [N, tokens, channels]"

/* --- convolutions, products, norms --------------------------------------------------------------- */

static int conv(site *s)
{
    fk_builder *b = &s->f->b;

    if (!has_dimensions(s, 4, IMAGES))
        return -1;
    int64_t out = main_number(s, -1);
    int64_t k = number(s, "kernel", 3);
    int64_t stride = number(s, "stride", 1);
    int64_t pad = number(s, "padding", k / 2);
    int64_t groups = number(s, "groups", 1);
    int64_t in = fk_build_channels(b, s->x);
    if (!failed(s) && (out < 1 || k < 1 || stride < 1 || groups < 1 || in % groups || out % groups))
        return fk_netfile_wrong(s->f,
                                "a convolution from %" PRId64 " to %" PRId64 " channels in %" PRId64
                                " groups, kernel %" PRId64 ", stride %" PRId64 " is none",
                                in, out, groups, k, stride);
    bool bias = flag(s, "bias", false);
    int y = failed(s) ? -1 : fk_build_conv(b, s->x, s->name, out, k, stride, pad, groups);
    if (bias && !failed(s)) {
        fk_build_conv_bias(b, y, s->name, 1.0 / sqrt((double)(in / groups * k * k)));
        fk_build_conv_as_torch(b, y);
    }
    return y;
}

/* A convolution with as many groups as channels. */
static int depthwise(site *s)
{
    fk_builder *b = &s->f->b;

    if (!has_dimensions(s, 4, IMAGES))
        return -1;
    int64_t k = main_number(s, 3);
    int64_t stride = number(s, "stride", 1);
    int64_t pad = number(s, "padding", k / 2);
    int64_t in = fk_build_channels(b, s->x);
    if (!failed(s) && (k < 1 || stride < 1))
        return fk_netfile_wrong(s->f, "kernel and stride are at least 1");
    return failed(s) ? -1 : fk_build_conv(b, s->x, s->name, in, k, stride, pad, in);
}

static int batchnorm(site *s)
{
    bool zero = flag(s, "zero", false);

    if (failed(s) || !has_dimensions(s, 4, IMAGES))
        return -1;
    int x = fk_build_norm(&s->f->b, s->x, s->name);
    if (zero)
        fk_build_norm_from_zero(&s->f->b, x);
    return x;
}

static int layernorm(site *s)
{
    double eps = real(s, "eps", 1e-6);

    return failed(s) ? -1 : fk_build_layernorm(&s->f->b, s->x, s->name, eps);
}

static int linear(site *s)
{
    fk_shape shape = fk_build_shape(&s->f->b, s->x);
    int64_t out = main_number(s, -1);
    double std = real(s, "std", 0.0);
    bool bias = flag(s, "bias", true);

    if (!failed(s) && (out < 1 || shape.n < 2 || shape.n == 4))
        return fk_netfile_wrong(
            s->f, "\"linear\" needs outputs, and works on [N, channels] or " TOKENS
                  "; \"globalpool\" makes the first of an image, \"tokens\" the second");
    return failed(s) ? -1 : fk_build_linear(&s->f->b, s->x, s->name, out, std, bias);
}

/* --- activations --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    fk_act act;
    float a, c;
} ACTS[] = {{"relu", FK_RELU, 0, 0},
            {"relu6", FK_CLIP, 0, 6},
            {"sigmoid", FK_SIGMOID, 0, 0},
            {"silu", FK_SILU, 0, 0},
            {"hardswish", FK_HARDSWISH, 0, 0},
            {"hardsigmoid", FK_HARDSIGMOID, 1.0f / 6.0f, 0.5f},
            {"gelu", FK_GELU, 0, 0},
            {"gelu_tanh", FK_GELU_TANH, 0, 0},
            {"tanh", FK_TANH, 0, 0},
            {"elu", FK_ELU, 1, 0},
            {"leaky_relu", FK_LEAKY, 0.01f, 0},
            {"mish", FK_MISH, 0, 0},
            {"softplus", FK_SOFTPLUS, 0, 0}};

static int act_named(const site *s, int x, const char *name)
{
    for (size_t i = 0; i < FK_COUNT(ACTS); i++) {
        if (strcmp(ACTS[i].name, name) == 0)
            return fk_build_act(&s->f->b, x, ACTS[i].act, ACTS[i].a, ACTS[i].c);
    }
    return fk_netfile_wrong(s->f, "\"%.40s\" is no activation", name);
}

static int act(site *s)
{
    return act_named(s, s->x, s->kind);
}

/* --- pooling, gates -------------------------------------------------------------------------------- */

static int pool(site *s)
{
    if (!has_dimensions(s, 4, IMAGES))
        return -1;
    int64_t k = main_number(s, 2);
    int64_t stride = number(s, "stride", k);
    int64_t pad = number(s, "padding", 0);
    if (!failed(s) && (k < 1 || stride < 1 || pad >= k))
        return fk_netfile_wrong(
            s->f, "pooling by %" PRId64 ", stride %" PRId64 ", padding %" PRId64 " is none", k,
            stride, pad);
    return failed(s)
               ? -1
               : fk_build_pool(&s->f->b, s->x, strcmp(s->kind, "maxpool") == 0, k, stride, pad);
}

static int globalpool(site *s)
{
    return has_dimensions(s, 4, IMAGES) ? fk_build_global_pool(&s->f->b, s->x) : -1;
}

static int conv_with_bias(site *s, int x, const char *name, int64_t out)
{
    fk_builder *b = &s->f->b;
    char full[128];

    (void)snprintf(full, sizeof full, "%s.%s", s->name, name);
    int64_t in = fk_build_channels(b, x);
    int y = fk_build_conv(b, x, full, out, 1, 1, 0, 1);
    fk_build_conv_bias(b, y, full, 1.0 / sqrt((double)in));
    fk_build_conv_as_torch(b, y);
    return y;
}

/* Squeeze and excite (Hu, Shen and Sun 2017): fc1, act, fc2, gate, by which x is multiplied. */
static int excite(site *s)
{
    fk_builder *b = &s->f->b;
    const char *inner_act = json_string_value(json_object_get(s->layer, "act"));
    const char *gate = json_string_value(json_object_get(s->layer, "gate"));

    if (!has_dimensions(s, 4, IMAGES))
        return -1;
    int64_t inner = main_number(s, -1);
    if (!failed(s) && inner < 1)
        return fk_netfile_wrong(s->f, "\"excite\" needs a width of at least 1");
    int y = fk_build_mean(b, s->x, 1u << 2 | 1u << 3, true);
    y = conv_with_bias(s, y, "fc1", inner);
    y = act_named(s, y, inner_act ? inner_act : "relu");
    y = conv_with_bias(s, y, "fc2", fk_build_channels(b, s->x));
    y = act_named(s, y, gate ? gate : "sigmoid");
    return fk_build_binary(b, FK_MUL, s->x, y);
}

static int dropout(site *s)
{
    double p = s->v ? json_number_value(s->v) : 0.5;

    if (!(p >= 0.0 && p < 1.0))
        return fk_netfile_wrong(s->f, "\"dropout\": 0 to 1, 1 excluded");
    return fk_build_dropout(&s->f->b, s->x, p);
}

/* A trained factor a channel (LayerScale: Touvron et al. 2021), which starts at a number. */
static int scale(site *s)
{
    fk_builder *b = &s->f->b;
    fk_shape shape = fk_build_shape(b, s->x);
    double start = s->v ? json_number_value(s->v) : 1.0;

    if (failed(s) || shape.n < 2)
        return fk_netfile_wrong(s->f, "\"scale\" works on what has channels");
    fk_shape one = shape.n == 4 ? fk_shape_of(4, (int64_t)1, shape.d[1], (int64_t)1, (int64_t)1)
                                : fk_shape_of(1, shape.d[shape.n - 1]);
    return fk_build_binary(b, FK_MUL, s->x, fk_build_value(b, s->name, one, FK_INIT_CONST, start));
}

/* --- several ways ---------------------------------------------------------------------------------- */

static int joined(const site *s, const int *in, int n, const char *how)
{
    fk_builder *b = &s->f->b;
    fk_shape first = fk_build_shape(b, in[0]);
    int y = in[0];

    if (strcmp(how, "concat") == 0)
        return fk_build_concat(b, n, in, first.n == 4 ? 1 : first.n - 1);
    if (strcmp(how, "add") != 0 && strcmp(how, "multiply") != 0)
        return fk_netfile_wrong(s->f, "\"%.40s\": add, multiply or concat", how);
    for (int i = 1; i < n && !failed(s); i++) {
        fk_shape other = fk_build_shape(b, in[i]);
        if (!fk_shape_equal(&first, &other)) {
            char a[96];
            char c[96];
            fk_shape_text(&first, a, sizeof a);
            fk_shape_text(&other, c, sizeof c);
            return fk_netfile_wrong(s->f, "%s and %s are not of one shape", a, c);
        }
        y = strcmp(how, "add") == 0 ? fk_build_add(b, y, in[i])
                                    : fk_build_binary(b, FK_MUL, y, in[i]);
    }
    return y;
}

/* With outputs that were kept: a name, or a list of names. */
static int join(site *s)
{
    int in[FK_NETFILE_KEPT] = {s->x};
    int n = 1;

    if (json_is_string(s->v))
        in[n++] = fk_netfile_kept(s->f, s->c, json_string_value(s->v));
    for (size_t i = 0; i < json_array_size(s->v) && n < FK_NETFILE_KEPT && !failed(s); i++) {
        const char *name = json_string_value(json_array_get(s->v, i));
        in[n++] = fk_netfile_kept(s->f, s->c, name ? name : "");
    }
    if (!failed(s) && n < 2)
        return fk_netfile_wrong(s->f, "\"%s\" needs the name of what was kept, or a list of names",
                                s->kind);
    return failed(s) ? -1 : joined(s, in, n, s->kind);
}

static int chain(const site *s, json_t *layers, const char *what)
{
    fk_chain inner = {.outside = s->c, .depth = s->c->depth + 1};

    return fk_netfile_chain(s->f, &inner, s->x, layers, what);
}

/* Layers whose output is added to what came in; where shapes differ, to what the shortcut makes of it ("none": nothing
 * is added then). */
static int residual(site *s)
{
    fk_builder *b = &s->f->b;
    json_t *shortcut = json_object_get(s->layer, "shortcut");
    const char *word = json_string_value(shortcut);
    int y = chain(s, s->v, "residual");

    if (failed(s))
        return -1;
    fk_shape in = fk_build_shape(b, s->x);
    fk_shape out = fk_build_shape(b, y);
    int x = s->x;
    if (!fk_shape_equal(&in, &out)) {
        if (word && strcmp(word, "none") == 0)
            return y;
        if (!shortcut)
            return fk_netfile_wrong(s->f, "what comes out has another shape than what comes in, so "
                                          "\"shortcut\" is needed: layers, or \"none\"");
        x = chain(s, shortcut, "shortcut");
    }
    int both[2] = {y, x};
    return failed(s) ? -1 : joined(s, both, 2, "add");
}

static int parallel(site *s)
{
    const char *how = json_string_value(json_object_get(s->layer, "join"));
    int out[FK_NETFILE_KEPT];
    size_t n = json_array_size(s->v);

    if (n < 1 || n > FK_NETFILE_KEPT)
        return fk_netfile_wrong(s->f, "\"parallel\" needs a list of 1 to %d lists of layers",
                                FK_NETFILE_KEPT);
    for (size_t i = 0; i < n && !failed(s); i++)
        out[i] = chain(s, json_array_get(s->v, i), "parallel");
    return failed(s) ? -1 : joined(s, out, (int)n, how ? how : "concat");
}

/* --- tokens ---------------------------------------------------------------------------------------- */

static int tokens(site *s)
{
    static const int PERM[] = {0, 2, 3, 1};

    if (!has_dimensions(s, 4, IMAGES))
        return -1;
    fk_shape in = fk_build_shape(&s->f->b, s->x);
    int x = fk_build_transpose(&s->f->b, s->x, 4, PERM);
    return fk_build_reshape(&s->f->b, x, fk_shape_of(3, in.d[0], in.d[2] * in.d[3], in.d[1]));
}

/* One more token before the others; it is trained. */
static int classtoken(site *s)
{
    fk_builder *b = &s->f->b;

    if (!has_dimensions(s, 3, TOKENS))
        return -1;
    fk_shape in = fk_build_shape(b, s->x);
    int token = fk_build_value(b, s->name, fk_shape_of(3, (int64_t)1, (int64_t)1, in.d[2]),
                               FK_INIT_NORMAL, 1e-6);
    int both[2] = {fk_build_expand(b, token, fk_shape_of(3, in.d[0], (int64_t)1, in.d[2])), s->x};
    return fk_build_concat(b, 2, both, 1);
}

/* A trained value for each place, added. */
static int positions(site *s)
{
    fk_builder *b = &s->f->b;

    if (!has_dimensions(s, 3, TOKENS))
        return -1;
    fk_shape in = fk_build_shape(b, s->x);
    int place = fk_build_value(b, s->name, fk_shape_of(3, (int64_t)1, in.d[1], in.d[2]),
                               FK_INIT_NORMAL, 0.02);
    return fk_build_add(b, s->x, place);
}

/* qkv, attention of so many heads, proj. */
static int attention(site *s)
{
    fk_builder *b = &s->f->b;
    char name[128];

    if (!has_dimensions(s, 3, TOKENS))
        return -1;
    int64_t heads = main_number(s, -1);
    double std = real(s, "std", 0.02);
    int64_t width = fk_build_shape(b, s->x).d[2];
    if (!failed(s) && (heads < 1 || width % heads))
        return fk_netfile_wrong(s->f, "%" PRId64 " channels in %" PRId64 " heads", width, heads);
    (void)snprintf(name, sizeof name, "%s.qkv", s->name);
    int y = fk_build_linear(b, s->x, name, 3 * width, std, true);
    y = fk_build_attention(b, y, heads);
    (void)snprintf(name, sizeof name, "%s.proj", s->name);
    return fk_build_linear(b, y, name, width, std, true);
}

/* One of the tokens, as [N, channels]. */
static int token(site *s)
{
    if (!has_dimensions(s, 3, TOKENS))
        return -1;
    fk_shape in = fk_build_shape(&s->f->b, s->x);
    int64_t at = main_number(s, 0);
    if (!failed(s) && at >= in.d[1])
        return fk_netfile_wrong(s->f, "token %" PRId64 " of %" PRId64, at, in.d[1]);
    int x = fk_build_slice(&s->f->b, s->x, 1, at, 1);
    return fk_build_reshape(&s->f->b, x, fk_shape_of(2, in.d[0], in.d[2]));
}

static int meantoken(site *s)
{
    return has_dimensions(s, 3, TOKENS) ? fk_build_mean(&s->f->b, s->x, 1u << 1, false) : -1;
}

/* --- the table ------------------------------------------------------------------------------------- */

static const operation OPERATIONS[] = {
    {"conv", conv, {"kernel", "stride", "padding", "groups", "bias"}},
    {"depthwise", depthwise, {"stride", "padding"}},
    {"linear", linear, {"bias", "std"}},
    {"batchnorm", batchnorm, {"zero"}},
    {"layernorm", layernorm, {"eps"}},
    {"maxpool", pool, {"stride", "padding"}},
    {"avgpool", pool, {"stride", "padding"}},
    {"globalpool", globalpool, {NULL}},
    {"dropout", dropout, {NULL}},
    {"excite", excite, {"act", "gate"}},
    {"scale", scale, {NULL}},
    {"add", join, {NULL}},
    {"multiply", join, {NULL}},
    {"concat", join, {NULL}},
    {"residual", residual, {"shortcut"}},
    {"parallel", parallel, {"join"}},
    {"tokens", tokens, {NULL}},
    {"classtoken", classtoken, {NULL}},
    {"positions", positions, {NULL}},
    {"attention", attention, {"std"}},
    {"token", token, {NULL}},
    {"meantoken", meantoken, {NULL}},
};

static const operation *find(const char *kind)
{
    static const operation ACT = {"activation", act, {NULL}};

    for (size_t i = 0; i < FK_COUNT(OPERATIONS); i++) {
        if (strcmp(OPERATIONS[i].kind, kind) == 0)
            return &OPERATIONS[i];
    }
    for (size_t i = 0; i < FK_COUNT(ACTS); i++) {
        if (strcmp(ACTS[i].name, kind) == 0)
            return &ACT;
    }
    return NULL;
}

bool fk_netfile_knows(const char *kind)
{
    return find(kind) != NULL;
}

const char *fk_netfile_nearest(const char *kind)
{
    const char *near = "block";

    for (size_t i = 0; i < FK_COUNT(OPERATIONS) + FK_COUNT(ACTS); i++) {
        size_t n = FK_COUNT(OPERATIONS);
        const char *word = i < n ? OPERATIONS[i].kind : ACTS[i - n].name;
        if (fk_word_distance(word, kind) < fk_word_distance(near, kind))
            near = word;
    }
    return near;
}

bool fk_netfile_may_have(const char *kind, const char *key)
{
    const operation *o = find(kind);

    if (strcmp(key, "name") == 0 || strcmp(key, "in") == 0 || strcmp(key, "keep") == 0)
        return true;
    for (int i = 0; o && i < MOST_KEYS && o->keys[i]; i++) {
        if (strcmp(o->keys[i], key) == 0)
            return true;
    }
    return strcmp(kind, "block") == 0; /* its parameters */
}

int fk_netfile_op(fk_netfile *f, fk_chain *c, int x, const char *kind, json_t *v, json_t *layer)
{
    site s = {.f = f, .c = c, .x = x, .kind = kind, .v = v, .layer = layer};
    const char *name = json_string_value(json_object_get(layer, "name"));

    if (json_is_null(v) || json_is_true(v)) /* {"batchnorm": true, "name": "bn1"} */
        s.v = NULL;
    if (name && strlen(name) >= sizeof s.name)
        return fk_netfile_wrong(f, "its name is too long");
    if (name)
        (void)snprintf(s.name, sizeof s.name, "%s", name);
    else /* no two are alike: the number of the operation */
        (void)snprintf(s.name, sizeof s.name, "%s%zu", kind, f->b.g->n_nodes);
    const operation *o = find(kind);
    int y = o ? o->build(&s) : fk_netfile_wrong(f, "\"%s\" is no operation", kind);
    return f->b.st == FERKD_OK ? y : -1;
}
