/* The fastest way to run a whole network: the layout that convolutions are given, how many images go through it
 * at once (in inference: a few whose values stay in the cache can be faster than many), and the precision.
 * Each candidate is compiled and run. */
#include "base/compat.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/trace.h"
#include "engine/dnnl_glue.h"
#include "engine/tune.h"

#define MIN_SLICE 2
#define ENGINE    10 /* grows when the engine changes so much that choices should be made anew */

/* STORED: bf16 in memory, multiplied in f32. */
typedef enum numbers { IN_F32, IN_BF16, STORED } numbers;

typedef struct candidate {
    fk_layout layout;
    uint32_t slices;
    numbers half;
} candidate;

static const char *const PRECISIONS[] = {"f32", "bf16", "bf16 in memory"};

/* What a network is, for the key: its operations and shapes, not its weights. */
static uint64_t hash_graph(const fk_graph *g)
{
    uint64_t h = 0;

    for (size_t i = 0; i < g->n_nodes; i++) {
        const fk_node *n = &g->nodes[i];
        h = fk_hash64(&n->op, sizeof n->op, h);
        h = fk_hash64(n->in, (size_t)n->n_in * sizeof *n->in, h);
        h = fk_hash64(n->shape.d, (size_t)n->shape.n * sizeof *n->shape.d, h);
        if (n->op == FK_CONV) {
            h = fk_hash64(&n->u.conv.window, sizeof n->u.conv.window, h);
            h = fk_hash64(&n->u.conv.groups, sizeof n->u.conv.groups, h);
        }
    }
    return h;
}

static ferkd_status run_once(fk_plan *plan, bool train, double *seconds)
{
    double start = fk_now_s();

    TRY(fk_plan_forward(plan, 0));
    if (train)
        TRY(fk_plan_backward(plan));
    *seconds = fmin(*seconds, fk_now_s() - start);
    return FERKD_OK;
}

static ferkd_status time_candidate(const fk_plan_options *o, const candidate *c,
                                   fk_graph_maker *make, void *ctx, uint32_t batch, double *seconds)
{
    fk_plan_options mine = *o;
    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    int repeats = fk_tuner_mode(o->tuner) == FK_TUNE_FULL ? 5 : 2;
    ferkd_status st = FERKD_OK;

    mine.layout = c->layout;
    mine.slices = c->slices;
    mine.half = c->half != IN_F32;
    mine.stored = c->half == STORED;
    mine.profile = false;
    *seconds = INFINITY;
    TRY_DONE(make(ctx, batch / c->slices, &g));
    if (c->slices > 1 && g->nodes[g->input].shape.d[0] != batch / c->slices)
        goto done; /* the model's batch is fixed */
    TRY_DONE(fk_plan_new(&plan, g, &mine));
    TRY_DONE(run_once(plan, o->train, seconds)); /* the caches and pages are cold */
    *seconds = INFINITY;
    for (int i = 0; i < repeats; i++)
        TRY_DONE(run_once(plan, o->train, seconds));
    fk_trace("plan", "layout %d, %u slices, %s: %.3f ms", (int)c->layout, c->slices,
             PRECISIONS[c->half], 1e3 * *seconds);
done:
    fk_plan_free(&plan);
    fk_graph_free(&g);
    return st;
}

static bool better(const fk_plan_options *o, candidate c, fk_graph_maker *make, void *ctx,
                   uint32_t batch, candidate *best, double *best_s, ferkd_status *st)
{
    double seconds;

    if (*st != FERKD_OK)
        return false;
    *st = time_candidate(o, &c, make, ctx, batch, &seconds);
    if (*st != FERKD_OK || seconds >= 0.985 * *best_s) /* a tie keeps what was first */
        return false;
    *best = c;
    *best_s = seconds;
    return true;
}

/* One property after the other, each from the best of this precision so far. */
static ferkd_status search_from(const fk_plan_options *o, candidate c, fk_graph_maker *make,
                                void *ctx, uint32_t batch, candidate *best, double *best_s)
{
    ferkd_status st = FERKD_OK;
    bool full = fk_tuner_mode(o->tuner) == FK_TUNE_FULL;
    candidate mine = c;
    double mine_s = INFINITY;

    (void)better(o, c, make, ctx, batch, &mine, &mine_s, &st);
    c.layout = FK_LAYOUT_LANES;
    if (!o->train || full) /* in training convolutions take them anyway */
        (void)better(o, c, make, ctx, batch, &mine, &mine_s, &st);
    c.layout = FK_LAYOUT_LAST;
    if (full || (!o->train && c.half == IN_BF16 && fk_has_own_winograd(true)))
        (void)better(o, c, make, ctx, batch, &mine, &mine_s, &st);
    for (uint32_t slices = 2; !o->train && batch % slices == 0 && batch / slices >= MIN_SLICE;
         slices *= 2) {
        c = mine;
        c.slices = slices;
        if (!better(o, c, make, ctx, batch, &mine, &mine_s, &st) && slices > 4 * mine.slices)
            break;
    }
    if (st == FERKD_OK && mine_s < 0.985 * *best_s) {
        *best = mine;
        *best_s = mine_s;
    }
    return st;
}

/* In f32; in bf16 as this processor multiplies it; in training also in bf16 in memory alone. Where bf16 does not pay, a
 * plan for inference that asks for it is one in f32, which is not looked for twice. */
static ferkd_status search(const fk_plan_options *o, fk_precision precision, fk_graph_maker *make,
                           void *ctx, uint32_t batch, candidate *best, double *best_s)
{
    fk_dn *dn = NULL;
    bool pays = false;
    ferkd_status st = FERKD_OK;

    *best_s = INFINITY;
    if (precision != FK_PRECISION_F32) {
        TRY(fk_dn_new(&dn));
        st = fk_half_pays(dn, o->tuner, &pays);
        fk_dn_free(&dn);
        TRY(st);
    }
    if (precision != FK_PRECISION_BF16)
        TRY(search_from(o, (candidate){.slices = 1, .half = IN_F32}, make, ctx, batch, best,
                        best_s));
    if (precision != FK_PRECISION_F32 && o->train)
        TRY(search_from(o, (candidate){.slices = 1, .half = STORED}, make, ctx, batch, best,
                        best_s));
    if (precision != FK_PRECISION_F32 && (pays || (!o->train && precision == FK_PRECISION_BF16)))
        TRY(search_from(o, (candidate){.slices = 1, .half = IN_BF16}, make, ctx, batch, best,
                        best_s));
    return FERKD_OK;
}

static ferkd_status key_of(const fk_plan_options *o, fk_precision precision, fk_graph_maker *make,
                           void *ctx, uint32_t batch, char **key)
{
    static const char *const WORDS[] = {"f32", "bf16", "auto"};
    fk_graph *g = NULL;

    TRY(make(ctx, batch, &g));
    ferkd_status st = fk_asprintf(key, "network %s %016" PRIx64 " engine %d %s %s batch %u%s",
                                  g->name, hash_graph(g), ENGINE, o->train ? "train" : "infer",
                                  WORDS[precision], batch, o->direct ? " direct" : "");
    fk_graph_free(&g);
    return st;
}

ferkd_status fk_tune_plan(fk_plan_options *o, fk_precision precision, fk_graph_maker *make,
                          void *ctx, uint32_t batch)
{
    candidate c = {FK_LAYOUT_ANY, 1, precision == FK_PRECISION_BF16 ? IN_BF16 : IN_F32};
    char *key = NULL;
    char choice[64];
    double seconds;
    ferkd_status st = FERKD_OK;

    o->half = c.half != IN_F32;
    o->slices = 1;
    if (fk_tuner_mode(o->tuner) == FK_TUNE_OFF)
        return FERKD_OK;
    TRY(key_of(o, precision, make, ctx, batch, &key));
    const char *known = fk_tuner_find(o->tuner, key);
    unsigned layout;
    unsigned slices;
    unsigned half;
    if (known && sscanf(known, "layout %u slices %u half %u", &layout, &slices, &half) == 3 &&
        layout <= FK_LAYOUT_LAST && half <= STORED && slices >= 1 && batch % slices == 0) {
        c = (candidate){(fk_layout)layout, slices, (numbers)half};
    } else {
        TRY_DONE(search(o, precision, make, ctx, batch, &c, &seconds));
        (void)snprintf(choice, sizeof choice, "layout %u slices %u half %u", (unsigned)c.layout,
                       c.slices, (unsigned)c.half);
        TRY_DONE(fk_tuner_note(o->tuner, key, choice, seconds));
    }
    o->layout = c.layout;
    o->slices = c.slices;
    o->half = c.half != IN_F32;
    o->stored = c.half == STORED;
done:
    free(key);
    return st;
}
