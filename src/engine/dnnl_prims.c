/* oneDNN behind dnnl_glue.h: what is the same for all its versions. */
#include "engine/dnnl_inside.h"

#include <pthread.h>
#include <signal.h>

#include "base/mem.h"
#include "base/trace.h"

/* The memory of one execution. */
typedef struct arg_set {
    int n;
    dnnl_exec_arg_t args[FK_SLOT_COUNT];
} arg_set;

struct fk_prim {
    dnnl_primitive_t h;
    char *what;
    arg_set *sets;
    size_t n_sets, cap_sets;
    dnnl_primitive_desc_t pd;
};

static const struct {
    int arg;
    dnnl_query_t query;
    int index;
} SLOTS[FK_SLOT_COUNT] = {
    [FK_SRC] = {DNNL_ARG_SRC, dnnl_query_src_md, 0},
    [FK_SRC_1] = {DNNL_ARG_SRC_1, dnnl_query_src_md, 1},
    [FK_WEIGHTS] = {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
    [FK_BIASES] = {DNNL_ARG_BIAS, dnnl_query_weights_md, 1},
    [FK_DST] = {DNNL_ARG_DST, dnnl_query_dst_md, 0},
    [FK_MEAN_STAT] = {DNNL_ARG_MEAN, dnnl_query_undef, 0},
    [FK_VARIANCE_STAT] = {DNNL_ARG_VARIANCE, dnnl_query_undef, 0},
    [FK_SCALE] = {DNNL_ARG_SCALE, dnnl_query_undef, 0},
    [FK_SHIFT] = {DNNL_ARG_SHIFT, dnnl_query_undef, 0},
    [FK_WORKSPACE] = {DNNL_ARG_WORKSPACE, dnnl_query_workspace_md, 0},
    [FK_DIFF_SRC] = {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0},
    [FK_DIFF_WEIGHTS] = {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0},
    [FK_DIFF_BIASES] = {DNNL_ARG_DIFF_BIAS, dnnl_query_diff_weights_md, 1},
    [FK_DIFF_DST] = {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
    [FK_DIFF_SCALE] = {DNNL_ARG_DIFF_SCALE, dnnl_query_undef, 0},
    [FK_DIFF_SHIFT] = {DNNL_ARG_DIFF_SHIFT, dnnl_query_undef, 0},
};

ferkd_status fk_dn_check(dnnl_status_t s, const char *what)
{
    if (s == dnnl_success)
        return FERKD_OK;
    return fk_fail(s == dnnl_out_of_memory   ? FERKD_MEMORY
                   : s == dnnl_unimplemented ? FERKD_UNSUPPORTED
                                             : FERKD_BUG,
                   "oneDNN %s: %s (status %d)", fk_dn_version(), what, (int)s);
}

const char *fk_dn_version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();

    (void)snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

ferkd_status fk_dn_new(fk_dn **out)
{
    fk_dn *dn = NULL;

    TRY(fk_calloc(&dn, 1, sizeof *dn, "oneDNN"));
    ferkd_status st = fk_dn_check(dnnl_engine_create(&dn->engine, dnnl_cpu, 0), "no CPU engine");
    if (st == FERKD_OK)
        st = fk_dn_check(dnnl_stream_create(&dn->stream, dn->engine, dnnl_stream_default_flags),
                         "no stream");
    if (st != FERKD_OK)
        fk_dn_free(&dn);
    else
        *out = dn;
    return st;
}

void fk_dn_free(fk_dn **dn)
{
    if (!*dn)
        return;
    if ((*dn)->stream)
        (void)dnnl_stream_destroy((*dn)->stream);
    if ((*dn)->engine)
        (void)dnnl_engine_destroy((*dn)->engine);
    free(*dn);
    *dn = NULL;
}

static void plain_strides(int n, const int64_t *dims, int64_t *strides)
{
    int64_t step = 1;

    for (int i = n - 1; i >= 0; i--) {
        strides[i] = step;
        step *= dims[i];
    }
}

ferkd_status fk_md_plain(fk_md **out, const fk_shape *shape)
{
    int64_t strides[FK_MAX_DIMS];
    const int64_t one = 1;

    if (shape->n == 0) /* a scalar */
        return fk_md_strided(out, 1, &one, &one);
    plain_strides(shape->n, shape->d, strides);
    return fk_md_strided(out, shape->n, shape->d, strides);
}

ferkd_status fk_md_transposed(fk_md **out, const fk_shape *shape)
{
    int64_t strides[FK_MAX_DIMS];
    int64_t dims[FK_MAX_DIMS];
    int n = shape->n;

    plain_strides(n, shape->d, strides);
    memcpy(dims, shape->d, sizeof dims);
    dims[n - 2] = shape->d[n - 1];
    dims[n - 1] = shape->d[n - 2];
    int64_t t = strides[n - 2];
    strides[n - 2] = strides[n - 1];
    strides[n - 1] = t;
    return fk_md_strided(out, n, dims, strides);
}

int fk_dn_grouped(const fk_shape *s, int64_t groups, int64_t *dims)
{
    if (groups == 1) {
        memcpy(dims, s->d, 4 * sizeof *dims);
        return 4;
    }
    dims[0] = groups;
    dims[1] = s->d[0] / groups;
    memcpy(dims + 2, s->d + 1, 3 * sizeof *dims);
    return 5;
}

ferkd_status fk_md_weights(fk_md **out, const fk_shape *shape, int64_t groups)
{
    int64_t dims[FK_MAX_DIMS];
    int64_t strides[FK_MAX_DIMS];
    int n = fk_dn_grouped(shape, groups, dims);

    plain_strides(n, dims, strides);
    return fk_md_strided(out, n, dims, strides);
}

ferkd_status fk_md_lanes(fk_md **out, const fk_shape *shape, int lanes, bool half)
{
    return fk_md_tagged(out, shape, lanes == 16 ? dnnl_nChw16c : dnnl_nChw8c, half);
}

ferkd_status fk_md_last(fk_md **out, const fk_shape *shape, bool half)
{
    return fk_md_tagged(out, shape, dnnl_nhwc, half);
}

int fk_dn_lanes(void)
{
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    unsigned wide = (unsigned)dnnl_cpu_isa_avx512_core;

    return (isa & wide) == wide ? 16 : 8;
}

bool fk_md_is_last(const fk_md *md, const fk_shape *shape)
{
    fk_md *last = NULL;

    if (!md || fk_md_last(&last, shape, fk_md_half(md)) != FERKD_OK)
        return false;
    bool is = fk_md_equal(md, last);
    fk_md_free(last);
    return is;
}

int64_t fk_last_lanes(int64_t channels)
{
    int64_t lanes = fk_dn_lanes();

    return channels % lanes == 0 ? lanes : channels % 8 == 0 ? 8 : 0;
}

bool fk_md_equal(const fk_md *a, const fk_md *b)
{
    return dnnl_memory_desc_equal(fk_md_raw(a), fk_md_raw(b));
}

size_t fk_md_bytes(const fk_md *md)
{
    return dnnl_memory_desc_get_size(fk_md_raw(md));
}

/* oneDNN's words for our activations. */
dnnl_alg_kind_t fk_dn_act(const fk_post *act, float *a, float *b)
{
    *a = act->a;
    *b = act->b;
    switch (act->kind) {
    case FK_RELU:
        *a = 0.0f;
        return dnnl_eltwise_relu;
    case FK_LEAKY:
        return dnnl_eltwise_relu;
    case FK_CLIP:
        return dnnl_eltwise_clip_v2;
    case FK_SIGMOID:
        return dnnl_eltwise_logistic;
    case FK_SILU:
        *a = 1.0f;
        return dnnl_eltwise_swish;
    case FK_HARDSWISH:
        fk_dn_hardswish(a, b);
        return dnnl_eltwise_hardswish;
    case FK_ELU:
        return dnnl_eltwise_elu;
    case FK_GELU:
        return dnnl_eltwise_gelu_erf;
    case FK_GELU_TANH:
        return dnnl_eltwise_gelu_tanh;
    case FK_TANH:
        return dnnl_eltwise_tanh;
    case FK_MISH:
        return dnnl_eltwise_mish;
    default: /* ours (op_act.c) */
        break;
    }
    return dnnl_alg_kind_undef;
}

static fk_raw_md query(dnnl_primitive_desc_t pd, fk_slot slot)
{
    return dnnl_primitive_desc_query_md(pd, SLOTS[slot].query, SLOTS[slot].index);
}

ferkd_status fk_pd_md(const fk_pd *pd, fk_slot slot, fk_md **out)
{
    fk_raw_md d = query(pd->h, slot);

    if (!d)
        return fk_fail(FERKD_BUG, "oneDNN has no layout for argument %d", (int)slot);
    return fk_md_from(out, d);
}

/* What is fused behind a primitive. */
static dnnl_status_t set_post_ops(dnnl_primitive_attr_t attr, bool sum, const fk_post *post)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_post_ops_create(&ops);

    if (s == dnnl_success && sum)
        s = fk_dn_append_sum(ops);
    if (s == dnnl_success && post && post->n)
        s = fk_dn_append_act(ops, post);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops)
        (void)dnnl_post_ops_destroy(ops);
    return s;
}

ferkd_status fk_dn_attr(dnnl_primitive_attr_t *out, bool sum, const fk_post *post)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);

    if (s == dnnl_success)
        s = set_post_ops(attr, sum, post);
    ferkd_status st = fk_dn_check(s, "attributes were refused");
    if (st != FERKD_OK && attr)
        (void)dnnl_primitive_attr_destroy(attr);
    else
        *out = attr;
    return st;
}

size_t fk_pd_workspace_bytes(const fk_pd *pd)
{
    fk_raw_md d = query(pd->h, FK_WORKSPACE);

    return d ? dnnl_memory_desc_get_size(d) : 0;
}

const char *fk_pd_impl(const fk_pd *pd)
{
    const char *text = NULL;

    (void)dnnl_primitive_desc_query(pd->h, dnnl_query_impl_info_str, 0, (void *)&text);
    return text ? text : "?";
}

void fk_pd_free(fk_pd *pd)
{
    if (!pd)
        return;
    if (pd->h)
        (void)dnnl_primitive_desc_destroy(pd->h);
    free(pd);
}

ferkd_status fk_dn_matmul_attr(dnnl_primitive_attr_t *out, const fk_matmul_args *a)
{
    TRY(fk_dn_attr(out, a->add, a->post));
    if (!a->own_scratch)
        return FERKD_OK;
    ferkd_status st =
        fk_dn_check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
                    "scratch of its own was refused");
    if (st != FERKD_OK)
        (void)dnnl_primitive_attr_destroy(*out);
    return st;
}

ferkd_status fk_prim_new(fk_dn *dn, fk_prim **out, const fk_pd *pd, const char *what)
{
    ferkd_status st = FERKD_OK;
    fk_prim *p = NULL;

    (void)dn;
    fk_trace("dnnl", "%s: %s", what, fk_pd_impl(pd));
    TRY(fk_calloc(&p, 1, sizeof *p, what));
    TRY_DONE(fk_strdup(&p->what, what));
    TRY_DONE(fk_dn_check(dnnl_primitive_desc_clone(&p->pd, pd->h), what));
    TRY_DONE(fk_dn_check(dnnl_primitive_create(&p->h, pd->h), what));
    *out = p;
    p = NULL;
done:
    fk_prim_free(p);
    return st;
}

void fk_prim_free(fk_prim *p)
{
    if (!p)
        return;
    for (size_t k = 0; k < p->n_sets; k++) {
        for (int i = 0; i < p->sets[k].n; i++)
            (void)dnnl_memory_destroy(p->sets[k].args[i].memory);
    }
    free(p->sets);
    if (p->pd)
        (void)dnnl_primitive_desc_destroy(p->pd);
    if (p->h)
        (void)dnnl_primitive_destroy(p->h);
    free(p->what);
    free(p);
}

/* Statistics, scales and shifts are vectors of one value a channel. */
static ferkd_status vector_md(const fk_prim *p, fk_md **out)
{
    int64_t channels = fk_dn_channels(query(p->pd, FK_SRC));
    int64_t one = 1;

    return fk_md_strided(out, 1, &channels, &one);
}

ferkd_status fk_prim_bind(fk_dn *dn, fk_prim *p, fk_slot slot, void *bytes)
{
    return fk_prim_bind_set(dn, p, 0, slot, bytes);
}

ferkd_status fk_prim_bind_set(fk_dn *dn, fk_prim *p, int set, fk_slot slot, void *bytes)
{
    fk_md *vector = NULL;
    dnnl_memory_t memory = NULL;
    bool by_channel = SLOTS[slot].query == dnnl_query_undef;

    TRY(fk_grow(&p->sets, &p->cap_sets, (size_t)set + 1, sizeof *p->sets));
    for (; p->n_sets <= (size_t)set; p->n_sets++)
        p->sets[p->n_sets] = (arg_set){0};
    if (by_channel)
        TRY(vector_md(p, &vector));
    fk_raw_md d = by_channel ? fk_md_raw(vector) : query(p->pd, slot);
    ferkd_status st = d ? fk_dn_check(dnnl_memory_create(&memory, d, dn->engine, bytes), p->what)
                        : fk_fail(FERKD_BUG, "%s: no layout for argument %d", p->what, (int)slot);
    fk_md_free(vector);
    TRY(st);
    arg_set *to = &p->sets[set];
    to->args[to->n++] = (dnnl_exec_arg_t){SLOTS[slot].arg, memory};
    return FERKD_OK;
}

ferkd_status fk_prim_rebind(fk_prim *p, fk_slot slot, void *bytes)
{
    for (int i = 0; p->n_sets && i < p->sets[0].n; i++) {
        if (p->sets[0].args[i].arg == SLOTS[slot].arg)
            return fk_dn_check(dnnl_memory_set_data_handle(p->sets[0].args[i].memory, bytes),
                               p->what);
    }
    return fk_fail(FERKD_BUG, "%s: argument %d is not bound", p->what, (int)slot);
}

ferkd_status fk_prim_run(fk_dn *dn, const fk_prim *p)
{
    return fk_prim_run_set(dn, p, 0);
}

ferkd_status fk_prim_run_set(fk_dn *dn, const fk_prim *p, int set)
{
    const arg_set *a = &p->sets[set];

    return fk_dn_check(dnnl_primitive_execute(p->h, dn->stream, a->n, a->args), p->what);
}

/* oneDNN's sgemm (2.6, with AVX2 as with AVX-512) keeps values far below the stack pointer, where a signal handler puts its
 * own: Ctrl-C in a product broke the heap. Signals that can wait do. */
static void hold_signals(sigset_t *before)
{
    static const int at_once[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all;

    (void)sigfillset(&all);
    for (size_t i = 0; i < FK_COUNT(at_once); i++)
        (void)sigdelset(&all, at_once[i]);
    (void)pthread_sigmask(SIG_BLOCK, &all, before);
}

bool fk_gemm(const fk_gemm_args *g, void *room)
{
    sigset_t before;

    if (room && fk_tiles_pay(g->m, g->n, g->k)) {
        fk_tiles_gemm(g, room);
        return true;
    }
    hold_signals(&before);
    dnnl_status_t st =
        dnnl_sgemm(g->turn_a ? 'T' : 'N', g->turn_b ? 'T' : 'N', (dnnl_dim_t)g->m, (dnnl_dim_t)g->n,
                   (dnnl_dim_t)g->k, g->alpha, g->a, (dnnl_dim_t)g->lda, g->b, (dnnl_dim_t)g->ldb,
                   g->beta, g->c, (dnnl_dim_t)g->ldc);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return st == dnnl_success;
}
