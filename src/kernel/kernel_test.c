/* Every kernel of every instruction set against a plain twin in double, with odd sizes, both layouts and
 * both precisions. "kernel_test bench" times them. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernel/kernel.h"

#ifdef __x86_64__
extern const fk_norm_kernels fk_norm_avx512bf16, fk_norm_avx512, fk_norm_avx2, fk_norm_half8;
extern const fk_depthwise_kernels fk_depthwise_avx512bf16, fk_depthwise_avx512, fk_depthwise_avx2,
    fk_depthwise_half8;
#endif

typedef struct variant {
    const char *name;
    const fk_norm_kernels *norm;
    const fk_depthwise_kernels *depthwise;
} variant;

static size_t variants(variant *v)
{
    size_t n = 0;

    v[n++] = (variant){"plain16", &fk_norm_plain16, &fk_depthwise_plain16};
    v[n++] = (variant){"plain8", &fk_norm_plain8, &fk_depthwise_plain8};
#ifdef __x86_64__
    if (fk_norm_for(8) != &fk_norm_plain8)
        v[n++] = (variant){"avx2", &fk_norm_avx2, &fk_depthwise_avx2};
    if (fk_norm_for(16) != &fk_norm_plain16)
        v[n++] = (variant){"avx512", &fk_norm_avx512, &fk_depthwise_avx512};
    if (fk_norm_for(16) == &fk_norm_avx512bf16)
        v[n++] = (variant){"avx512bf16", &fk_norm_avx512bf16, &fk_depthwise_avx512bf16};
    if (fk_norm_for(8) == &fk_norm_half8)
        v[n++] = (variant){"half8", &fk_norm_half8, &fk_depthwise_half8};
#endif
    return n;
}

/* --- operands -------------------------------------------------------------------------------- */

static uint32_t state = 1;

static float random_value(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((double)(state >> 8) * 0x1p-23 - 1.0);
}

static float get(fk_operand o, size_t i)
{
    float v;

    if (!o.half)
        return ((const float *)o.data)[i];
    uint32_t u = (uint32_t)((const uint16_t *)o.data)[i] << 16;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* An operand of n values, scaled; bf16 ones hold what bf16 can hold. */
static fk_operand make(size_t n, bool half, double scale, double offset)
{
    fk_operand o = {calloc(n, 4), half};

    assert_non_null(o.data);
    for (size_t i = 0; i < n; i++) {
        float v = (float)((double)random_value() * scale + offset);
        if (half) {
            uint32_t u;
            memcpy(&u, &v, sizeof u);
            ((uint16_t *)o.data)[i] = (uint16_t)(u >> 16);
        } else {
            ((float *)o.data)[i] = v;
        }
    }
    return o;
}

static double act_of(fk_post act, double z)
{
    if (!act.n)
        return z;
    return act.kind == FK_RELU    ? fmax(z, 0)
           : act.kind == FK_CLIP  ? fmin(fmax(z, (double)act.a), (double)act.b)
           : act.kind == FK_LEAKY ? (z > 0 ? z : (double)act.a * z)
           : act.kind == FK_SILU  ? z / (1 + exp(-z))
           : act.kind == FK_MISH  ? z * tanh(log1p(exp(z)))
                                  : z * fmin(fmax(z + 3, 0), 6) / 6;
}

static double slope_of(fk_post act, double z)
{
    double s = 1 / (1 + exp(-z));
    double t = tanh(log1p(exp(z)));

    if (!act.n)
        return 1;
    return act.kind == FK_RELU    ? z > 0
           : act.kind == FK_CLIP  ? z > (double)act.a && z < (double)act.b
           : act.kind == FK_LEAKY ? (z > 0 ? 1 : (double)act.a)
           : act.kind == FK_SILU  ? s * (1 + z * (1 - s))
           : act.kind == FK_MISH  ? t + z * (1 - t * t) * s
           : z <= -3              ? 0
           : z >= 3               ? 1
                                  : z / 3 + 0.5;
}

static void near(double mine, double want, double scale, bool half, const char *what)
{
    double allowed = (half ? 8e-3 : 2e-5) * (fabs(want) + scale);

    if (!(fabs(mine - want) <= allowed))
        fail_msg("%s: %.9g, the plain twin says %.9g", what, mine, want);
}

/* --- BatchNorm ------------------------------------------------------------------------------- */

static const fk_post ACTS[] = {{0},
                               {1, FK_RELU, 0, 0},
                               {1, FK_CLIP, 0, 0.5f},
                               {1, FK_LEAKY, 0.1f, 0},
                               {1, FK_HARDSWISH, 0, 0},
                               {1, FK_SILU, 0, 0},
                               {1, FK_MISH, 0, 0}};

typedef struct norm_case {
    fk_norm_args k;
    size_t n; /* elements */
    double *z, *dz;
} norm_case;

static bool kink_near(fk_post act, double z)
{
    return act.n &&
           ((fabs(z) < 1e-3) || fabs(z - (double)act.b) < 1e-3 || fabs(fabs(z) - 3) < 1e-3);
}

#define MAX_VECTORS 35 /* more than rows have the sums of at hand */
#define MAX_WIDTH   (MAX_VECTORS * FK_MAX_LANES)

/* rows: this many vectors side by side, pixel by pixel; 0: one vector, of two where it is last. */
static void check_norm(const variant *v, size_t pixels, size_t rows, bool last, bool half,
                       fk_post act, bool residual, bool two, bool keeps)
{
    const fk_norm_kernels *kernels = rows ? v->norm->rows : v->norm;
    size_t lanes = (size_t)v->norm->lanes;
    size_t width = (rows ? rows : 1) * lanes;
    size_t first = last ? lanes : 0;
    size_t pixel = first + width;
    size_t n = 3 * pixels * pixel;
    static float vectors[6][MAX_WIDTH];
    fk_norm_args k = {
        .at = {first, 3, pixels * pixel, pixels, pixel, rows}, .act = act, .sums_step = lanes};
    double sum[MAX_WIDTH] = {0}, squares[MAX_WIDTH] = {0};
    double sdz[MAX_WIDTH] = {0}, product[MAX_WIDTH] = {0};

    for (size_t i = 0; i < 6; i++) {
        for (size_t l = 0; l < width; l++)
            vectors[i][l] = random_value() + (i == 1 ? 1.5f : 0.0f);
    }
    k.mean = vectors[0], k.scale = vectors[1], k.shift = vectors[2];
    k.to_dz = vectors[3], k.to_y = vectors[4], k.to_1 = vectors[5];
    k.y = make(n, half, 2, 0.5);
    k.residual = residual ? make(n, half, 1, 0) : (fk_operand){0};
    k.a = make(n, half, 1, 0);
    k.g = make(n, half, 1, 0);
    k.g2 = two ? make(n, half, 1, 0) : (fk_operand){0};
    k.dz = keeps ? make(n, half, 1, 0) : (fk_operand){0};
    k.dy = make(n, half, 1, 0);
    kernels->moments(&k, sum, squares);
    kernels->forward(&k);
    kernels->sums(&k, sdz, product);
    kernels->backward(&k);
    for (size_t l = 0; l < width; l++) {
        double s = 0, q = 0, s1 = 0, p1 = 0;
        bool kinks = false;
        for (size_t i = 0; i < 3 * pixels; i++) {
            size_t at = k.at.first + i * pixel + l;
            double d = (double)get(k.y, at) - (double)k.mean[l];
            double z = d * (double)k.scale[l] + (double)k.shift[l];
            z += residual ? (double)get(k.residual, at) : 0;
            double g = (double)get(k.g, at) + (two ? (double)get(k.g2, at) : 0);
            double dz = g * slope_of(act, z);
            s += d, q += d * d, s1 += dz, p1 += dz * d;
            near((double)get(k.a, at), act_of(act, z), 1, half, "forward");
            if (kink_near(act, z) || (half && act.n)) {
                kinks = true;
                continue;
            }
            if (keeps)
                near((double)get(k.dz, at), dz, 1, half, "dz");
            near((double)get(k.dy, at),
                 dz * (double)k.to_dz[l] + d * (double)k.to_y[l] + (double)k.to_1[l], 1, half,
                 "backward");
        }
        near(sum[l], s, sqrt(q), false, "sum");
        near(squares[l], q, 1, false, "squares");
        if (!kinks) {
            near(sdz[l], s1, 5, half, "sum of dz");
            near(product[l], p1, 5, half, "product");
        }
    }
    free(k.y.data), free(k.residual.data), free(k.a.data), free(k.g.data), free(k.g2.data);
    free(k.dz.data), free(k.dy.data);
}

static void norms_are_their_plain_twin(void **unused)
{
    variant v[6];
    size_t n = variants(v);

    (void)unused;
    for (size_t i = 0; i < n; i++) {
        for (size_t a = 0; a < FK_COUNT(ACTS); a++) {
            for (int bits = 0; bits < 32; bits++) {
                bool residual = bits & 4;
                if (residual && ACTS[a].n && !fk_act_from_output(ACTS[a].kind))
                    continue; /* its slope cannot be told: never asked for */
                check_norm(&v[i], bits & 1 ? 1 : 29, 0, bits & 2, bits & 16, ACTS[a], residual,
                           bits & 8, bits & 4);
                check_norm(&v[i], bits & 1 ? 1 : 30, bits & 1 ? MAX_VECTORS : 3, bits & 2,
                           bits & 16, ACTS[a], residual, bits & 8, bits & 4);
            }
        }
        check_norm(&v[i], 1300, 0, false, false, ACTS[1], true, true, true);
        check_norm(&v[i], 1300, 2, false, false, ACTS[1], true, true, true);
    }
}

/* --- depthwise convolution ------------------------------------------------------------------- */

typedef struct shape {
    int64_t height, width;
    int kernel[2], stride[2], pad[2];
} shape;

static const shape SHAPES[] = {{9, 17, {3, 3}, {1, 1}, {1, 1}},  {8, 8, {3, 3}, {2, 2}, {1, 1}},
                               {7, 9, {3, 3}, {2, 2}, {0, 0}},   {4, 4, {3, 3}, {1, 1}, {1, 1}},
                               {1, 1, {3, 3}, {1, 1}, {1, 1}},   {11, 6, {5, 5}, {1, 1}, {2, 2}},
                               {10, 12, {5, 5}, {2, 2}, {2, 2}}, {9, 9, {7, 7}, {1, 1}, {3, 3}},
                               {8, 5, {1, 3}, {1, 2}, {0, 1}},   {9, 6, {2, 4}, {3, 1}, {1, 0}},
                               {23, 5, {3, 3}, {1, 1}, {1, 1}},  {41, 9, {3, 3}, {2, 2}, {1, 1}},
                               {29, 3, {5, 5}, {1, 1}, {2, 2}},  {37, 4, {3, 3}, {3, 4}, {1, 0}},
                               {19, 7, {5, 5}, {2, 2}, {1, 1}}};

static double input_at(const fk_depthwise_args *k, size_t n, int64_t y, int64_t x, size_t l)
{
    if (y < 0 || x < 0 || y >= k->height || x >= k->width)
        return 0;
    double v = (double)get(k->x, k->in.first + n * k->in.image +
                                     (size_t)(y * k->width + x) * k->in.pixel + l);
    const fk_norm_args *b = k->before;
    return b ? act_of(b->act, (v - (double)b->mean[l]) * (double)b->scale[l] + (double)b->shift[l])
             : v;
}

/* The gradient of the output at element `at`. */
static double gradient_at(const fk_depthwise_args *k, size_t at, size_t l)
{
    const fk_norm_args *b = k->behind;

    if (!b)
        return (double)get(k->dy, at);
    double d = (double)get(b->y, at) - (double)b->mean[l];
    double dz = slope_of(b->act, d * (double)b->scale[l] + (double)b->shift[l]) *
                ((double)get(b->g, at) + (b->g2.data ? (double)get(b->g2, at) : 0));
    return dz * (double)b->to_dz[l] + d * (double)b->to_y[l] + (double)b->to_1[l];
}

/* What the kernel must have written, by the definition. */
static void check_results(const fk_depthwise_args *k, size_t lanes, bool half)
{
    size_t size = (size_t)(k->height * k->width) * lanes * k->images;
    double *dx = calloc(size, sizeof *dx);
    double dw[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE * FK_MAX_LANES] = {0};
    double sum[FK_MAX_LANES] = {0}, squares[FK_MAX_LANES] = {0};
    double sum_dz[FK_MAX_LANES] = {0}, product_dz[FK_MAX_LANES] = {0};

    assert_non_null(dx);
    for (size_t n = 0; n < k->images; n++) {
        for (int64_t i = 0; i < k->out_height * k->out_width * (int64_t)lanes; i++) {
            size_t l = (size_t)i % lanes;
            int64_t u = i / (int64_t)lanes % k->out_width;
            int64_t v = i / (int64_t)lanes / k->out_width;
            size_t at =
                k->out.first + n * k->out.image + (size_t)(v * k->out_width + u) * k->out.pixel + l;
            double y = k->bias ? (double)k->bias[l] : 0;
            double g = gradient_at(k, at, l);
            for (int a = 0; a < k->kernel[0]; a++) {
                for (int b = 0; b < k->kernel[1]; b++) {
                    size_t tap = (size_t)(a * k->kernel[1] + b) * lanes + l;
                    int64_t py = v * k->stride[0] - k->pad[0] + a;
                    int64_t px = u * k->stride[1] - k->pad[1] + b;
                    double x = input_at(k, n, py, px, l);
                    y += x * (double)k->weights[tap];
                    dw[tap] += x * g;
                    if (py >= 0 && px >= 0 && py < k->height && px < k->width)
                        dx[((n * (size_t)k->height + (size_t)py) * (size_t)k->width + (size_t)px) *
                               lanes +
                           l] += g * (double)k->weights[tap];
                }
            }
            sum[l] += y - (double)k->origin[l];
            squares[l] += (y - (double)k->origin[l]) * (y - (double)k->origin[l]);
            near((double)get(k->y, at), act_of(k->post, y), 1, half, "forward");
        }
    }
    for (size_t i = 0; i < size; i++) {
        size_t l = i % lanes;
        size_t p = i / lanes % (size_t)(k->height * k->width);
        size_t n = i / lanes / (size_t)(k->height * k->width);
        size_t at = k->in.first + n * k->in.image + p * k->in.pixel + l;
        if (k->before) {
            const fk_norm_args *b = k->before;
            double d = (double)get(k->x, at) - (double)b->mean[l];
            dx[i] *= slope_of(b->act, d * (double)b->scale[l] + (double)b->shift[l]);
            sum_dz[l] += dx[i];
            product_dz[l] += dx[i] * d;
        }
        near((double)get(k->dx, at), dx[i], 1, half, "dx");
    }
    for (size_t l = 0; k->before && l < lanes; l++) {
        near(k->sum_dz[l], sum_dz[l], 5, false, "sum of dz");
        near(k->product_dz[l], product_dz[l], 5, false, "product");
    }
    for (size_t i = 0; i < (size_t)(k->kernel[0] * k->kernel[1]) * lanes; i++)
        near(k->dweights[i], dw[i], 3, false, "dweights");
    for (size_t l = 0; l < lanes; l++) {
        near(k->sum[l], sum[l], 3, false, "sum");
        near(k->squares[l], squares[l], 3, false, "squares");
    }
    free(dx);
}

static void check_depthwise(const variant *v, const shape *s, bool last, bool half, bool fused,
                            fk_post act)
{
    size_t lanes = (size_t)v->depthwise->lanes;
    size_t pixel = last ? 2 * lanes : lanes;
    float w[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE * FK_MAX_LANES], vectors[8][FK_MAX_LANES];
    double dw[FK_MAX_DEPTHWISE * FK_MAX_DEPTHWISE * FK_MAX_LANES] = {0};
    double sum[FK_MAX_LANES] = {0}, squares[FK_MAX_LANES] = {0};
    double sum_dz[FK_MAX_LANES] = {0}, product_dz[FK_MAX_LANES] = {0};
    fk_norm_args before = {.act = act}, behind = {.act = act};
    fk_depthwise_args k = {.images = 2,
                           .height = s->height,
                           .width = s->width,
                           .post = fused ? (fk_post){0} : act,
                           .weights = w,
                           .dweights = dw,
                           .sum = sum,
                           .squares = squares};

    for (size_t i = 0; i < FK_COUNT(w); i++)
        w[i] = random_value();
    for (size_t i = 0; i < 8 * FK_MAX_LANES; i++)
        vectors[i / FK_MAX_LANES][i % FK_MAX_LANES] = random_value();
    before.mean = behind.mean = vectors[0], before.scale = behind.scale = vectors[1];
    before.shift = behind.shift = vectors[2], k.origin = vectors[3];
    behind.to_dz = vectors[5], behind.to_y = vectors[6], behind.to_1 = vectors[7];
    k.bias = fused ? NULL : vectors[4];
    k.before = fused ? &before : NULL;
    k.behind = fused ? &behind : NULL;
    k.sum_dz = sum_dz, k.product_dz = product_dz;
    int64_t extent[2] = {s->height, s->width};
    int64_t out[2];
    for (int i = 0; i < 2; i++) {
        k.kernel[i] = s->kernel[i], k.stride[i] = s->stride[i], k.pad[i] = s->pad[i];
        out[i] = (extent[i] + 2 * s->pad[i] - s->kernel[i]) / s->stride[i] + 1;
    }
    k.out_height = out[0], k.out_width = out[1];
    size_t in_pixels = (size_t)(s->height * s->width);
    size_t out_pixels = (size_t)(out[0] * out[1]);
    k.in = (fk_planes){last ? lanes : 0, 2, in_pixels * pixel, in_pixels, pixel, 1};
    k.out = (fk_planes){last ? lanes : 0, 2, out_pixels * pixel, out_pixels, pixel, 1};
    k.x = make(2 * in_pixels * pixel, half, 1, 0);
    k.dx = make(2 * in_pixels * pixel, half, 1, 0);
    k.y = make(2 * out_pixels * pixel, half, 1, 0);
    k.dy = make(2 * out_pixels * pixel, half, 1, 0);
    k.room = calloc(fk_depthwise_room(&k), sizeof(float));
    assert_non_null(k.room);
    before.y = k.x;
    behind.g = k.dy;
    behind.y = make(2 * out_pixels * pixel, half, 1, 0);
    behind.g2 = act.n ? (fk_operand){0} : make(2 * out_pixels * pixel, half, 1, 0);
    v->depthwise->forward(&k);
    v->depthwise->backward(&k);
    check_results(&k, lanes, half);
    free(behind.y.data), free(behind.g2.data);
    free(k.x.data), free(k.dx.data), free(k.y.data), free(k.dy.data), free(k.room);
}

/* --- channels that move ---------------------------------------------------------------------- */

/* Three vectors of two images; lanes of `to` come from them as `lane` says, or are 0. */
static void check_gather(const fk_gather_kernel *kernel, size_t pixels, size_t n_sources, bool half)
{
    enum { IMAGES = 2, MAX = FK_MAX_LANES * 9 * 3 * IMAGES };

    size_t lanes = (size_t)kernel->lanes;
    size_t vector = pixels * lanes;
    float in_f[MAX];
    uint16_t in_h[MAX];
    float out_f[MAX];
    uint16_t out_h[MAX];
    fk_gather_source sources[3];
    fk_operand in = {half ? (void *)in_h : (void *)in_f, half};
    fk_operand out = {half ? (void *)out_h : (void *)out_f, half};
    fk_gather k = {.to = out, .sources = sources, .n_sources = n_sources};

    for (size_t i = 0; i < MAX; i++) {
        in_f[i] = random_value();
        in_h[i] = (uint16_t)(0x3f00 + i % 251);
    }
    memset(sources, -1, sizeof sources);
    for (size_t s = 0; s < 3; s++) {
        sources[s].from = in;
        sources[s].first = s * vector;
        sources[s].image = 3 * vector;
    }
    for (size_t l = 0; l < lanes; l++) {
        if (l % 5 != 4) /* the others are from nowhere */
            sources[l % n_sources].lane[l] = (int32_t)((7 * l + 3) % lanes);
    }
    k.at = (fk_planes){vector, IMAGES, 2 * vector, pixels, lanes, 1};
    kernel->gather(&k);
    for (size_t image = 0; image < IMAGES; image++) {
        for (size_t i = 0; i < vector; i++) {
            size_t l = i % lanes;
            size_t from =
                (l % n_sources) * vector + image * 3 * vector + i - l + (7 * l + 3) % lanes;
            float want = l % 5 == 4 ? 0.0f : get(in, from);
            assert_true(get(out, vector + image * 2 * vector + i) == want);
        }
    }
}

static void channels_move_as_they_are_told(void **unused)
{
    static const fk_gather_kernel *const PLAIN[] = {&fk_gather_plain16, &fk_gather_plain8};

    (void)unused;
    for (size_t pixels = 1; pixels <= 9; pixels += 4) {
        for (size_t n = 1; n <= 3; n++) {
            for (int half = 0; half < 2; half++) {
                for (size_t i = 0; i < FK_COUNT(PLAIN); i++) {
                    check_gather(PLAIN[i], pixels, n, half);
                    check_gather(fk_gather_for(PLAIN[i]->lanes), pixels, n, half);
                }
            }
        }
    }
}

static void depthwise_convolutions_are_their_plain_twin(void **unused)
{
    variant v[6];
    size_t n = variants(v);

    (void)unused;
    for (size_t i = 0; i < n; i++) {
        for (size_t s = 0; s < FK_COUNT(SHAPES); s++) {
            for (int bits = 0; bits < 8; bits++)
                check_depthwise(&v[i], &SHAPES[s], bits & 1, bits & 2, bits & 4,
                                ACTS[(s + (size_t)bits) % FK_COUNT(ACTS)]);
        }
    }
}

/* --- times ----------------------------------------------------------------------------------- */

/* One vector of channels, or (rows) several side by side, whose gradient before the activation is stored, too. */
static double time_norm(const variant *v, int what, bool half, size_t vectors)
{
    const fk_norm_kernels *norm = vectors > 1 ? v->norm->rows : v->norm;
    size_t channels = (size_t)norm->lanes * vectors;
    size_t pixels = 4096 / vectors;
    size_t n = pixels * channels;
    float *one = make(channels, false, 0, 1).data;
    double *sums = calloc(2 * channels, sizeof *sums);
    fk_norm_args k = {.at = {0, 8, n / 8, pixels / 8, channels, vectors},
                      .act = {1, FK_RELU, 0, 0},
                      .sums_step = (size_t)norm->lanes};
    double best = 1e9;

    k.mean = k.scale = k.shift = k.to_dz = k.to_y = k.to_1 = one;
    k.y = make(n, half, 1, 0), k.a = make(n, half, 1, 0);
    k.g = make(n, half, 1, 0), k.dy = make(n, half, 1, 0);
    if (vectors > 1)
        k.dz = make(n, half, 1, 0);
    for (int r = 0; r < 20; r++) {
        double start = fk_now_s();
        if (what == 0)
            norm->moments(&k, sums, sums + channels);
        else if (what == 1)
            norm->forward(&k);
        else if (what == 2)
            norm->sums(&k, sums, sums + channels);
        else
            norm->backward(&k);
        best = fmin(best, fk_now_s() - start);
    }
    free(k.y.data), free(k.a.data), free(k.g.data), free(k.dy.data), free(k.dz.data);
    free(one), free(sums);
    return (double)n / best * 1e-9;
}

static double time_depthwise(const variant *v, bool back, bool half, int stride)
{
    size_t lanes = (size_t)v->depthwise->lanes;
    float w[9 * FK_MAX_LANES] = {0}, one[FK_MAX_LANES] = {0};
    double dw[9 * FK_MAX_LANES] = {0};
    int64_t side = 32;
    int64_t out = (side - 1) / stride + 1;
    size_t in_n = (size_t)(side * side), out_n = (size_t)(out * out);
    fk_norm_args norm = {.act = {1, FK_CLIP, 0, 6},
                         .mean = one,
                         .scale = one,
                         .shift = one,
                         .to_dz = one,
                         .to_y = one,
                         .to_1 = one};
    double sums[2][FK_MAX_LANES] = {{0}};
    fk_depthwise_args k = {.images = 8,
                           .height = side,
                           .width = side,
                           .out_height = out,
                           .out_width = out,
                           .kernel = {3, 3},
                           .stride = {stride, stride},
                           .pad = {1, 1},
                           .in = {0, 8, in_n * lanes, in_n, lanes},
                           .out = {0, 8, out_n * lanes, out_n, lanes},
                           .before = &norm,
                           .sum_dz = sums[0],
                           .product_dz = sums[1],
                           .weights = w,
                           .dweights = dw};
    double best = 1e9;

    k.x = make(8 * in_n * lanes, half, 1, 0), k.dx = make(8 * in_n * lanes, half, 1, 0);
    k.y = make(8 * out_n * lanes, half, 1, 0), k.dy = make(8 * out_n * lanes, half, 1, 0);
    k.room = calloc(fk_depthwise_room(&k), sizeof(float));
    norm.y = k.x;
    for (int r = 0; r < 20; r++) {
        double start = fk_now_s();
        if (back)
            v->depthwise->backward(&k);
        else
            v->depthwise->forward(&k);
        best = fmin(best, fk_now_s() - start);
    }
    free(k.x.data), free(k.dx.data), free(k.y.data), free(k.dy.data), free(k.room);
    return (double)(8 * in_n * lanes) / best * 1e-9;
}

static int bench(void)
{
    variant v[6];
    size_t n = variants(v);

    for (size_t i = 0; i < n; i++) {
        for (int half = 0; half < 2; half++) {
            (void)printf("%-10s %s  Gvalues/s:", v[i].name, half ? "bf16" : "f32 ");
            for (int what = 0; what < 8; what++)
                (void)printf(" %s%s %.2f", what == 4 ? "rows: " : "",
                             (const char *[]){"moments", "forward", "sums", "backward"}[what % 4],
                             time_norm(&v[i], what % 4, half, what < 4 ? 1 : 6));
            for (int what = 0; what < 4; what++)
                (void)printf(" dw%s/%d %.2f", what & 1 ? "-back" : "", 1 + (what >> 1),
                             time_depthwise(&v[i], what & 1, half, 1 + (what >> 1)));
            (void)printf("\n");
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_their_plain_twin),
        cmocka_unit_test(channels_move_as_they_are_told),
        cmocka_unit_test(depthwise_convolutions_are_their_plain_twin),
    };

    if (argc > 1 && strcmp(argv[1], "bench") == 0)
        return bench();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
