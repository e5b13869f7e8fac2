/* Sliced recursive transformers (Shen, Liu, Xing 2021: SReT), with the names of the authors' code; of weights that several
 * blocks share, the first name. In training and in evaluation their code shuffles the tokens of the second loop of the
 * first stage anew each time; here the shuffle is one and the same, so that a network is a function. */
#include "net/zoo/zoo.h"

#include "base/mem.h"

enum { STAGES = 3, LOOPS = 2 };

typedef struct form {
    int64_t head;   /* channels */
    double hidden;  /* of an MLP, in widths */
    double between; /* of the MLP between two loops */
    int64_t heads[STAGES];
} form;

static const form FORMS[] = {
    {32, 3.6, 1.0, {2, 4, 8}}, {32, 4.0, 1.0, {2, 4, 8}}, {42, 3.0, 2.0, {3, 6, 12}}};

/* Blocks of a stage, and in how many groups their tokens attend: in the first and in the second loop. */
static const int64_t BLOCKS[STAGES] = {2, 5, 3};
static const int64_t GROUPS[STAGES][LOOPS] = {{8, 2}, {4, 1}, {1, 1}};

#define EPS 1e-6

/* --- tokens ---------------------------------------------------------------------------------- */

/* Tokens in another order: the i-th is number (i step + 3) mod n, with the step nearest to the golden section that has
 * no divisor in common with n. back: the order undone. */
static int shuffle(fk_builder *b, int x, bool back)
{
    int64_t n = fk_build_shape(b, x).d[1];
    int64_t step = (int64_t)(0.6180339887 * (double)n);
    float *index = NULL;

    for (bool common = true; common && b->st == FERKD_OK;) {
        int64_t r = n;
        for (int64_t d = ++step; d;) {
            int64_t rest = r % d;
            r = d;
            d = rest;
        }
        common = r != 1;
    }
    if (b->st == FERKD_OK)
        b->st = fk_calloc(&index, (size_t)n, sizeof *index, "a shuffle");
    if (b->st != FERKD_OK)
        return -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = (i * step + 3) % n;
        index[back ? from : i] = (float)(back ? i : from);
    }
    x = fk_build_gather(b, x, back ? "restore" : "shuffle", 1, fk_shape_of(1, n), index);
    free(index);
    return x;
}

/* Attention within groups of tokens that follow each other. */
static int attention(fk_builder *b, int x, int64_t heads, int64_t groups, bool shuffled)
{
    fk_shape s = fk_build_shape(b, x);
    int64_t n = s.d[1];
    int64_t width = s.d[2];

    if (n % groups) {
        b->st = fk_fail(FERKD_USAGE,
                        "%s: %" PRId64 " tokens are not %" PRId64
                        " groups; images of 224 or 128 pixels are",
                        b->g->name, n, groups);
        return -1;
    }
    if (shuffled)
        x = shuffle(b, x, false);
    x = fk_build_linear(b, x, "attn.qkv", 3 * width, 0, true);
    if (groups > 1)
        x = fk_build_reshape(b, x, fk_shape_of(3, s.d[0] * groups, n / groups, 3 * width));
    x = fk_build_attention(b, x, heads);
    if (groups > 1)
        x = fk_build_reshape(b, x, s);
    if (shuffled)
        x = shuffle(b, x, true);
    return fk_build_linear(b, x, "attn.proj", width, 0, true);
}

static int mlp(fk_builder *b, int x, double hidden)
{
    int64_t width = fk_build_shape(b, x).d[2];

    x = fk_build_linear(b, x, "mlp.fc1", (int64_t)((double)width * hidden), 0, true);
    x = fk_build_act(b, x, FK_GELU, 0, 0);
    return fk_build_linear(b, x, "mlp.fc2", width, 0, true);
}

/* x times a trained number. */
static int weighed(fk_builder *b, int x, int number)
{
    char name[32];

    (void)snprintf(name, sizeof name, "coefficient%d.bias", number);
    int c = fk_build_value(b, name, fk_shape_of(1, (int64_t)1), FK_INIT_ONE, 0);
    return fk_build_binary(b, FK_MUL, x, c);
}

static int weighed_sum(fk_builder *b, int x, int y, int first)
{
    return fk_build_add(b, weighed(b, x, first), weighed(b, y, first + 1));
}

static int block(fk_builder *b, int x, const form *f, int stage, int loop)
{
    int64_t groups = GROUPS[stage][loop];
    bool shuffled = loop > 0 && groups > 1;

    int y = fk_build_layernorm(b, x, "norm1", EPS);
    y = attention(b, y, f->heads[stage], groups, shuffled);
    x = weighed_sum(b, x, y, 1);
    y = fk_build_layernorm(b, x, "norm2", EPS);
    return weighed_sum(b, x, mlp(b, y, f->hidden), 3);
}

/* Each block runs twice with the same weights; behind each time there is an MLP of its own. */
static int stage(fk_builder *b, int x, const form *f, int number)
{
    static const int TO_TOKENS[] = {0, 2, 3, 1};
    static const int TO_MAP[] = {0, 3, 1, 2};

    fk_shape s = fk_build_shape(b, x);
    x = fk_build_transpose(b, x, 4, TO_TOKENS);
    x = fk_build_reshape(b, x, fk_shape_of(3, s.d[0], s.d[2] * s.d[3], s.d[1]));
    for (int i = 0; i < BLOCKS[number]; i++) {
        for (int loop = 0; loop < LOOPS; loop++) {
            int shared = 2 * LOOPS * i;
            (void)snprintf(b->prefix, sizeof b->prefix, "transformers.%d.blocks.%d.", number,
                           shared);
            x = block(b, x, f, number, loop);
            (void)snprintf(b->prefix, sizeof b->prefix, "transformers.%d.blocks.%d.", number,
                           shared + 2 * loop + 1);
            int y = mlp(b, fk_build_layernorm(b, x, "norm1", EPS), f->between);
            x = weighed_sum(b, x, y, 1);
        }
    }
    b->prefix[0] = '\0';
    x = fk_build_reshape(b, x, fk_shape_of(4, s.d[0], s.d[2], s.d[3], s.d[1]));
    return fk_build_transpose(b, x, 4, TO_MAP);
}

/* --- convolutions ---------------------------------------------------------------------------- */

/* With a bias, both as torch.nn.Conv2d starts. */
static int conv(fk_builder *b, int x, const char *name, int64_t out, int64_t groups)
{
    double fan_in = 9.0 * (double)fk_build_channels(b, x) / (double)groups;

    x = fk_build_conv(b, x, name, out, 3, 2, 1, groups);
    fk_build_conv_as_torch(b, x);
    fk_build_conv_bias(b, x, name, 1.0 / sqrt(fan_in));
    return x;
}

static int embed(fk_builder *b, int x, int64_t width)
{
    for (int i = 1; i <= 3; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "conv%d", i);
        x = conv(b, x, name, i == 1 ? width / 2 : width, 1);
        (void)snprintf(name, sizeof name, "bn%d", i);
        x = fk_build_act(b, fk_build_norm(b, x, name), FK_RELU, 0, 0);
    }
    return x;
}

int fk_build_sret(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant];

    (void)snprintf(b->prefix, sizeof b->prefix, "patch_embed.");
    x = embed(b, x, f->head * f->heads[0]);
    b->prefix[0] = '\0';
    fk_shape s = fk_build_shape(b, x);
    s.d[0] = 1;
    x = fk_build_add(b, x, fk_build_value(b, "pos_embed", s, FK_INIT_NORMAL, 0.02));
    for (int i = 0; i < STAGES; i++) {
        x = stage(b, x, f, i);
        (void)snprintf(b->prefix, sizeof b->prefix, "pools.%d.", i);
        if (i + 1 < STAGES)
            x = conv(b, x, "conv", f->head * f->heads[i + 1], fk_build_channels(b, x));
        b->prefix[0] = '\0';
    }
    x = fk_build_global_pool(b, x);
    x = fk_build_layernorm(b, x, "norm", EPS);
    return fk_build_linear(b, x, "head", o->classes, 0, true);
}
