/* RegNets (Radosavovic, Kosaraju, Girshick, He, Dollar, "Designing network design spaces", 2020) with torchvision's names. */
#include "net/zoo/zoo.h"

#define SE_RATIO 0.25 /* Y: squeeze and excite, of the block's input */

/* Section 3.3: block i would have w0 + wa i channels; that is rounded to a power of wm times w0, and to a multiple of 8. */
typedef struct form {
    int64_t depth, w0;
    double wa, wm;
    int64_t group_width;
    bool squeeze;
} form;

static const form FORMS[] = {
    {22, 24, 24.48, 2.54, 16, false},  {16, 56, 35.73, 2.28, 16, false},
    {18, 80, 34.01, 2.25, 24, false},  {25, 88, 26.31, 2.25, 48, false},
    {23, 80, 49.56, 2.88, 120, false}, {22, 216, 55.59, 2.1, 128, false},
    {16, 48, 27.89, 2.09, 8, true},    {14, 56, 38.84, 2.4, 16, true},
    {27, 48, 20.71, 2.65, 24, true},   {21, 80, 42.63, 2.66, 24, true},
    {17, 192, 76.82, 2.19, 56, true},  {18, 200, 106.23, 2.48, 112, true},
};

static int64_t block_width(const form *f, int64_t i)
{
    float width = (float)f->w0 + (float)i * (float)f->wa;
    float steps = rintf(logf(width / (float)f->w0) / (float)log(f->wm));

    return (int64_t)rintf((float)f->w0 * powf((float)f->wm, steps) / 8.0f) * 8;
}

/* To a multiple of g, never losing more than a tenth. */
static int64_t divisible(int64_t v, int64_t g)
{
    int64_t n = (v + g / 2) / g * g;

    n = n < g ? g : n;
    return (double)n < 0.9 * (double)v ? n + g : n;
}

static int conv_norm(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                     int64_t groups)
{
    char part[64];

    (void)snprintf(part, sizeof part, "%s.0", name);
    x = fk_build_conv(b, x, part, out, k, s, k / 2, groups);
    (void)snprintf(part, sizeof part, "%s.1", name);
    return fk_build_norm(b, x, part);
}

static int relu(fk_builder *b, int x)
{
    return fk_build_act(b, x, FK_RELU, 0, 0);
}

static int conv_bias(fk_builder *b, int x, const char *name, int64_t out)
{
    double bound = 1.0 / sqrt((double)fk_build_channels(b, x));

    x = fk_build_conv(b, x, name, out, 1, 1, 0, 1);
    fk_build_conv_bias(b, x, name, bound);
    return x;
}

static int squeeze_excite(fk_builder *b, int x, int64_t width)
{
    int64_t channels = fk_build_channels(b, x);
    int y = fk_build_mean(b, x, 1u << 2 | 1u << 3, true);

    y = relu(b, conv_bias(b, y, "f.se.fc1", width));
    y = conv_bias(b, y, "f.se.fc2", channels);
    return fk_build_binary(b, FK_MUL, x, fk_build_act(b, y, FK_SIGMOID, 0, 0));
}

static int block(fk_builder *b, int x, int64_t width, int64_t s, int64_t group, bool squeeze)
{
    int64_t in = fk_build_channels(b, x);
    int y = relu(b, conv_norm(b, x, "f.a", width, 1, 1, 1));

    y = relu(b, conv_norm(b, y, "f.b", width, 3, s, width / group));
    if (squeeze)
        y = squeeze_excite(b, y, (int64_t)rint(SE_RATIO * (double)in));
    y = conv_norm(b, y, "f.c", width, 1, 1, 1);
    if (s != 1 || in != width)
        x = conv_norm(b, x, "proj", width, 1, s, 1);
    return relu(b, fk_build_add(b, y, x));
}

int fk_build_regnet(fk_builder *b, int x, const fk_zoo_options *o, int variant)
{
    const form *f = &FORMS[variant];
    int stage = 0;

    x = relu(b, conv_norm(b, x, "stem", 32, 3, 2, 1));
    for (int64_t i = 0, first = 0; i < f->depth; i++) {
        int64_t width = block_width(f, i);
        if (i == 0 || width != block_width(f, i - 1)) { /* a stage is a run of one width */
            stage++;
            first = i;
        }
        int64_t group = width < f->group_width ? width : f->group_width;
        (void)snprintf(b->prefix, sizeof b->prefix, "trunk_output.block%d.block%d-%" PRId64 ".",
                       stage, stage, i - first);
        x = block(b, x, divisible(width, group), i == first ? 2 : 1, group, f->squeeze);
    }
    b->prefix[0] = '\0';
    x = fk_build_global_pool(b, x);
    return fk_build_dense(b, x, "fc", o->classes, 0.01);
}
