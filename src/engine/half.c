/* Does bf16 pay? A convolution that is all arithmetic, in both precisions. */
#include "base/compat.h"

#include "engine/dnnl_glue.h"
#include "engine/tune.h"

#include "base/mem.h"
#include "base/switches.h"
#include "base/trace.h"
#include "kernel/kernel.h"

#define CHANNELS 128
#define SIDE     16
#define IMAGES   8
#define TRIES    4
#define KEY      "products in bf16"

/* Seconds of the fastest of a few forward convolutions. */
static ferkd_status time_conv(fk_dn *dn, bool half, uint8_t *room, double *seconds)
{
    fk_conv_args a = {
        .prop = FK_INFERENCE,
        .src = fk_shape_of(4, (int64_t)IMAGES, (int64_t)CHANNELS, (int64_t)SIDE, (int64_t)SIDE),
        .weights = fk_shape_of(4, (int64_t)CHANNELS, (int64_t)CHANNELS, (int64_t)3, (int64_t)3),
        .groups = 1,
        .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
        .half = half};
    fk_pd *pd = NULL;
    fk_prim *prim = NULL;
    size_t third = (size_t)IMAGES * CHANNELS * SIDE * SIDE * sizeof(float);
    ferkd_status st = FERKD_OK;

    a.dst = a.src;
    TRY(fk_pd_conv(dn, &pd, &a));
    TRY_DONE(fk_prim_new(dn, &prim, pd, "bf16 or f32"));
    TRY_DONE(fk_prim_bind(dn, prim, FK_SRC, room));
    TRY_DONE(fk_prim_bind(dn, prim, FK_WEIGHTS, room + third));
    TRY_DONE(fk_prim_bind(dn, prim, FK_DST, room + 2 * third));
    *seconds = INFINITY;
    for (int i = 0; i < TRIES; i++) {
        double start = fk_now_s();
        TRY_DONE(fk_prim_run(dn, prim));
        *seconds = fmin(*seconds, fk_now_s() - start);
    }
done:
    fk_prim_free(prim);
    fk_pd_free(pd);
    return st;
}

/* FERKD_BF16=always or never takes the place of the measurement (tests, repeating a run elsewhere). */
static int said(void)
{
    return fk_switch_is("FERKD_BF16", "always") ? 1 : fk_switch_is("FERKD_BF16", "never") ? 0 : -1;
}

static ferkd_status measure(fk_dn *dn, bool *pays)
{
    size_t bytes = (size_t)3 * IMAGES * CHANNELS * SIDE * SIDE * sizeof(float);
    uint8_t *room = NULL;
    double seconds[2] = {0};
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc_aligned(&room, bytes, "bf16"));
    for (int half = 0; half < 2 && st == FERKD_OK; half++)
        st = time_conv(dn, half, room, &seconds[half]);
    free(room);
    if (st != FERKD_OK)
        return st;
    fk_trace("plan", "a convolution takes %.3f ms in f32, %.3f ms in bf16", 1e3 * seconds[0],
             1e3 * seconds[1]);
    *pays = seconds[1] < 0.9 * seconds[0];
    return FERKD_OK;
}

ferkd_status fk_half_pays(fk_dn *dn, fk_tuner *tuner, bool *pays)
{
    bool off = fk_tuner_mode(tuner) == FK_TUNE_OFF;
    const char *choice = off ? NULL : fk_tuner_find(tuner, KEY);

    if (said() >= 0) {
        *pays = said() > 0;
        return FERKD_OK;
    }
    if (choice) {
        *pays = strcmp(choice, "yes") == 0;
        return FERKD_OK;
    }
    *pays = fk_has_tiles(); /* they always do, which measuring on a busy machine need not see */
    if (!*pays && !off)
        TRY(measure(dn, pays));
    return off ? FERKD_OK : fk_tuner_note(tuner, KEY, *pays ? "yes" : "no", 0.0);
}
