/* Which implementation of a convolution: direct, or Winograd's F(4x4, 3x3) where oneDNN has it (2.x, AVX-512, f32,
 * 3x3 with stride 1). With a tuner both are run on memory of the right size, and the choice is remembered; without
 * one Winograd is taken where it exists, which is right for whole blocks of 16 channels. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "base/trace.h"
#include "engine/tune.h"

#define ROOM_ALIGN 4096

bool fk_is_3x3(const fk_conv_args *a)
{
    const fk_window *w = &a->window;

    return a->groups == 1 && w->kernel[0] == 3 && w->kernel[1] == 3 && w->dilation[0] == 1 &&
           w->dilation[1] == 1 && a->weights.d[0] % 16 == 0 && a->weights.d[1] % 16 == 0;
}

static bool is_winograd(const fk_conv_args *a)
{
    return fk_is_3x3(a) && a->window.stride[0] == 1 && a->window.stride[1] == 1;
}

static void describe(const fk_conv_args *a, char *key, size_t size)
{
    static const char *const PROPS[] = {"infer", "forward", "data", "weights"};
    const fk_window *w = &a->window;

    (void)snprintf(key, size,
                   "conv %s %s n%" PRId64 " c%" PRId64 " %" PRId64 "x%" PRId64 " o%" PRId64
                   " k%" PRId64 "x%" PRId64 " s%" PRId64 " p%" PRId64 ",%" PRId64 "%s%s%s",
                   PROPS[a->prop], a->half ? "bf16" : "f32", a->src.d[0], a->src.d[1], a->src.d[2],
                   a->src.d[3], a->weights.d[0], w->kernel[0], w->kernel[1], w->stride[0],
                   w->begin[0], w->begin[1], a->bias ? " bias" : "", a->sum ? " sum" : "",
                   a->post.n ? " act" : "");
}

/* Give every argument of the primitive a place in the room. */
static ferkd_status bind_room(fk_plan *p, fk_prim *prim, const fk_pd *pd, const fk_conv_args *a,
                              bool measure_only, size_t *bytes)
{
    static const fk_slot PRODUCT[] = {FK_SRC, FK_WEIGHTS, FK_DST};
    static const fk_slot SLOTS[][4] = {
        [FK_INFERENCE] = {FK_SRC, FK_WEIGHTS, FK_DST, FK_BIASES},
        [FK_TRAINING] = {FK_SRC, FK_WEIGHTS, FK_DST, FK_BIASES},
        [FK_BACKWARD_DATA] = {FK_DIFF_DST, FK_WEIGHTS, FK_DIFF_SRC, FK_BIASES},
        [FK_BACKWARD_WEIGHTS] = {FK_SRC, FK_DIFF_DST, FK_DIFF_WEIGHTS, FK_DIFF_BIASES}};

    bool product = a->prop == FK_BACKWARD_WEIGHTS && fk_is_weights_product(a);

    *bytes = 0;
    for (int i = 0; i < (a->bias ? 4 : 3); i++) {
        fk_slot slot = product ? PRODUCT[i] : SLOTS[a->prop][i];
        fk_md *md = NULL;
        TRY(fk_pd_md(pd, slot, &md));
        size_t size = fk_md_bytes(md);
        fk_md_free(md);
        if (!measure_only)
            TRY(fk_prim_bind(p->dn, prim, slot, (uint8_t *)p->room + *bytes));
        *bytes += (size + ROOM_ALIGN - 1) / ROOM_ALIGN * ROOM_ALIGN;
    }
    return FERKD_OK;
}

static ferkd_status time_pd(fk_plan *p, const fk_pd *pd, const fk_conv_args *a, double *seconds)
{
    fk_prim *prim = NULL;
    size_t bytes;
    int repeats = fk_tuner_mode(p->o.tuner) == FK_TUNE_FULL ? 8 : 3;
    ferkd_status st = FERKD_OK;

    TRY(bind_room(p, NULL, pd, a, true, &bytes));
    if (bytes > p->room_bytes) {
        free(p->room);
        p->room = NULL;
        p->room_bytes = 0;
        TRY(fk_calloc_aligned(&p->room, bytes, "measuring convolutions"));
        p->room_bytes = bytes;
    }
    TRY(fk_prim_new(p->dn, &prim, pd, "measured"));
    TRY_DONE(bind_room(p, prim, pd, a, false, &bytes));
    *seconds = INFINITY;
    for (int i = 0; i <= repeats; i++) { /* the first one only warms */
        double start = fk_now_s();
        TRY_DONE(fk_prim_run(p->dn, prim));
        double t = fk_now_s() - start;
        *seconds = i ? fmin(*seconds, t) : (double)INFINITY;
    }
done:
    fk_prim_free(prim);
    return st;
}

static ferkd_status measure(fk_plan *p, fk_conv_args *a, const char *key, const char **choice)
{
    double seconds[2] = {INFINITY, INFINITY};

    for (int w = 0; w < 2; w++) {
        fk_pd *pd = NULL;
        a->winograd = w > 0;
        if (fk_pd_conv(p->dn, &pd, a) != FERKD_OK)
            continue;
        ferkd_status st = time_pd(p, pd, a, &seconds[w]);
        fk_pd_free(pd);
        TRY(st);
    }
    fk_trace("plan", "%s: direct %.3f ms, winograd %.3f ms", key, 1e3 * seconds[0],
             1e3 * seconds[1]);
    *choice = seconds[1] < seconds[0] ? "winograd" : "direct";
    return fk_tuner_note(p->o.tuner, key, *choice, fmin(seconds[0], seconds[1]));
}

ferkd_status fk_choose_conv(fk_plan *p, fk_pd **pd, fk_conv_args *a)
{
    char key[256];

    a->winograd = !p->o.direct && !a->half && is_winograd(a);
    if (a->winograd && fk_tuner_mode(p->o.tuner) != FK_TUNE_OFF) {
        describe(a, key, sizeof key);
        const char *choice = fk_tuner_find(p->o.tuner, key);
        if (!choice)
            TRY(measure(p, a, key, &choice));
        a->winograd = strcmp(choice, "winograd") == 0;
    }
    if (a->winograd && fk_pd_conv(p->dn, pd, a) == FERKD_OK)
        return FERKD_OK;
    a->winograd = false;
    return fk_pd_conv(p->dn, pd, a);
}

/* oneDNN's primitive for one direction: seconds more. Forward stays for the others. */
static ferkd_status add_direction(fk_plan *p, fk_conv_args *a, fk_pd **pd, double *seconds)
{
    fk_md *md = NULL;
    double more;

    if (a->prop == FK_BACKWARD_WEIGHTS && fk_is_weights_product(a))
        TRY(fk_pd_weights_product(p->dn, a, fk_weights_parts(a, p->threads), pd, &md));
    else
        TRY(fk_choose_conv(p, pd, a));
    fk_md_free(md);
    TRY(time_pd(p, *pd, a, &more));
    *seconds += more;
    return FERKD_OK;
}

/* All directions that there are: in training the gradients as well. */
static ferkd_status time_directions(fk_plan *p, const fk_conv_args *all, double *seconds)
{
    static const fk_prop PROPS[] = {FK_BACKWARD_DATA, FK_BACKWARD_WEIGHTS};
    fk_conv_args a = *all;
    fk_pd *pds[3] = {NULL, NULL, NULL};
    ferkd_status st = FERKD_OK;

    *seconds = 0.0;
    TRY_DONE(add_direction(p, &a, &pds[0], seconds));
    for (size_t i = 0; a.prop != FK_INFERENCE && i < FK_COUNT(PROPS); i++) {
        fk_conv_args back = a;
        back.prop = PROPS[i];
        back.forward = pds[0];
        TRY_DONE(add_direction(p, &back, &pds[i + 1], seconds));
    }
done:
    for (int i = 2; i >= 0; i--)
        fk_pd_free(pds[i]);
    return st;
}

/* The gradient of the weights alone, as oneDNN's product. */
static ferkd_status time_product(fk_plan *p, const fk_conv_args *a, double *seconds)
{
    fk_pd *pd = NULL;
    fk_md *md = NULL;

    TRY(fk_pd_weights_product(p->dn, a, fk_weights_parts(a, p->threads), &pd, &md));
    ferkd_status st = time_pd(p, pd, a, seconds);
    fk_md_free(md);
    fk_pd_free(pd);
    return st;
}

/* Which of two ways is faster; each has a word for it. */
static ferkd_status compare(fk_plan *p, const fk_conv_args *a, const char *word,
                            fk_time_conv_fn *time, const char *other_word, fk_time_conv_fn *other,
                            bool *other_wins)
{
    char key[320];
    char what[256];
    double seconds[2];

    describe(a, what, sizeof what);
    (void)snprintf(key, sizeof key, "%s or %s", what, other_word);
    const char *choice = fk_tuner_find(p->o.tuner, key);
    if (!choice) {
        TRY(time(p, a, &seconds[0]));
        TRY(other(p, a, &seconds[1]));
        fk_trace("plan", "%s: %s %.3f ms, %s %.3f ms", what, word, 1e3 * seconds[0], other_word,
                 1e3 * seconds[1]);
        choice = seconds[1] < seconds[0] ? other_word : word;
        TRY(fk_tuner_note(p->o.tuner, key, choice, fmin(seconds[0], seconds[1])));
    }
    *other_wins = strcmp(choice, other_word) == 0;
    return FERKD_OK;
}

ferkd_status fk_md_own(const fk_plan *p, const fk_shape *shape, fk_md **md)
{
    return p->o.layout == FK_LAYOUT_LAST ? fk_md_last(md, shape, p->half_conv)
                                         : fk_md_lanes(md, shape, fk_dn_lanes(), p->half_conv);
}

ferkd_status fk_conv_against(fk_plan *p, const fk_conv_args *all, const char *word,
                             fk_time_conv_fn *other, bool *wins)
{
    fk_conv_args a = *all;
    fk_md *src = NULL;
    fk_md *dst = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_md_own(p, &a.src, &src));
    TRY_DONE(fk_md_own(p, &a.dst, &dst));
    a.src_md = src;
    a.dst_md = dst;
    st = compare(p, &a, "direct", time_directions, word, other, wins);
done:
    fk_md_free(src);
    fk_md_free(dst);
    return st;
}

ferkd_status fk_weights_against(fk_plan *p, const fk_conv_args *a, const char *word,
                                fk_time_conv_fn *other, bool *wins)
{
    return compare(p, a, "product", time_product, word, other, wins);
}
