/* Matrix products by one thread of a team, each on memory of its own: in f32 oneDNN's sgemm or our own on matrix tiles, in bf16
 * oneDNN's matmul primitive, made for one thread and with its scratch from outside, which is what lets several threads run it at
 * once. */
#include "engine/dnnl_inside.h"

#include <omp.h>

#include "base/mem.h"
#include "base/trace.h"

enum { A, B, C, ROOM, ROW, OPERANDS };

/* What a thread needs to run it: its own stream and memory objects. */
typedef struct worker {
    dnnl_stream_t stream;
    dnnl_memory_t memory[OPERANDS];
} worker;

struct fk_product {
    fk_product_args args;
    fk_pd *pd; /* in bf16 */
    dnnl_primitive_t h;
    fk_md *b;
    size_t room, n_workers;
    worker *workers;
};

/* rows x columns as it lies in memory; turned: its transpose does. */
static ferkd_status matrix(fk_md **out, size_t rows, size_t columns, bool turned, bool half)
{
    fk_shape shape = {2, {(int64_t)rows, (int64_t)columns}};

    return fk_md_tagged(out, &shape, turned ? dnnl_ba : dnnl_ab, half);
}

static ferkd_status choose(fk_dn *dn, fk_product *p)
{
    const fk_product_args *g = &p->args;
    fk_shape b_shape = {2, {(int64_t)g->k, (int64_t)g->n}};
    fk_matmul_args m = {.add = g->add, .own_scratch = true};
    fk_md *a = NULL;
    fk_md *b = NULL;
    fk_md *c = NULL;
    fk_md *row = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(matrix(&a, g->m, g->k, g->turn_a, true));
    TRY_DONE(g->packed ? fk_md_tagged(&b, &b_shape, dnnl_format_tag_any, true)
                       : matrix(&b, g->k, g->n, g->turn_b, true));
    TRY_DONE(matrix(&c, g->m, g->n, false, g->finish));
    if (g->row)
        TRY_DONE(matrix(&row, 1, g->n, false, false));
    m.a = a;
    m.b = b;
    m.dst = c;
    m.bias = row;
    m.post = g->post.n ? &g->post : NULL;
    TRY_DONE(fk_pd_matmul(dn, &p->pd, &m));
    if (strncmp(fk_pd_impl(p->pd), "brg", 3) != 0) {
        st = fk_fail(FERKD_UNSUPPORTED, "oneDNN has no fast product in bf16");
        goto done;
    }
    fk_trace("dnnl", "product %zu x %zu x %zu: %s", g->m, g->n, g->k, fk_pd_impl(p->pd));
    TRY_DONE(fk_dn_check(dnnl_primitive_create(&p->h, p->pd->h), "a product was refused"));
    TRY_DONE(fk_pd_md(p->pd, FK_WEIGHTS, &p->b));
done:
    fk_md_free(a);
    fk_md_free(b);
    fk_md_free(c);
    fk_md_free(row);
    return st;
}

static int operands_of(const fk_product *p)
{
    return p->args.row ? OPERANDS : ROW;
}

static ferkd_status make_workers(fk_dn *dn, fk_product *p, size_t threads)
{
    static const dnnl_query_t QUERIES[OPERANDS] = {dnnl_query_src_md, dnnl_query_weights_md,
                                                   dnnl_query_dst_md, dnnl_query_scratchpad_md,
                                                   dnnl_query_weights_md};

    TRY(fk_calloc(&p->workers, threads, sizeof *p->workers, "products"));
    p->n_workers = threads;
    for (size_t t = 0; t < threads; t++) {
        worker *w = &p->workers[t];
        TRY(fk_dn_check(dnnl_stream_create(&w->stream, dn->engine, dnnl_stream_default_flags),
                        "no stream"));
        for (int i = 0; i < operands_of(p); i++) {
            fk_raw_md md = dnnl_primitive_desc_query_md(p->pd->h, QUERIES[i], i == ROW);
            if (i == ROOM)
                p->room = dnnl_memory_desc_get_size(md);
            TRY(fk_dn_check(dnnl_memory_create(&w->memory[i], md, dn->engine, DNNL_MEMORY_NONE),
                            "no memory for a product"));
        }
    }
    return FERKD_OK;
}

ferkd_status fk_product_new(fk_dn *dn, fk_product **out, const fk_product_args *args,
                            size_t threads)
{
    fk_product *p = NULL;
    ferkd_status st = FERKD_OK;
    int team = omp_get_max_threads();

    TRY(fk_calloc(&p, 1, sizeof *p, "a product"));
    p->args = *args;
    if (args->half) {
        omp_set_num_threads(1); /* that is whom oneDNN plans for */
        st = choose(dn, p);
        omp_set_num_threads(team);
        TRY_DONE(st);
        TRY_DONE(make_workers(dn, p, threads));
    } else if (args->tiles) {
        p->room = fk_tiles_room(args->m, args->n, args->k);
    }
    *out = p;
    p = NULL;
done:
    fk_product_free(p);
    return st;
}

void fk_product_free(fk_product *p)
{
    if (!p)
        return;
    for (size_t t = 0; t < p->n_workers; t++) {
        for (int i = 0; i < OPERANDS; i++) {
            if (p->workers[t].memory[i])
                (void)dnnl_memory_destroy(p->workers[t].memory[i]);
        }
        if (p->workers[t].stream)
            (void)dnnl_stream_destroy(p->workers[t].stream);
    }
    free(p->workers);
    if (p->h)
        (void)dnnl_primitive_destroy(p->h);
    fk_pd_free(p->pd);
    fk_md_free(p->b);
    free(p);
}

size_t fk_product_room(const fk_product *p)
{
    return (p->room + 63) / 64 * 64;
}

bool fk_product_half(const fk_product *p)
{
    return p->args.half;
}

bool fk_product_packed(const fk_product *p)
{
    return p->args.packed;
}

const fk_md *fk_product_b(const fk_product *p)
{
    return p->b;
}

static bool run_half(const fk_product *p, worker *w, void *const *operands)
{
    static const int ARGS[OPERANDS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                       DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS};
    dnnl_exec_arg_t args[OPERANDS];
    int n = operands_of(p);
    bool ok = true;

    for (int i = 0; i < n; i++) {
        ok = ok && dnnl_memory_set_data_handle(w->memory[i], operands[i]) == dnnl_success;
        args[i] = (dnnl_exec_arg_t){ARGS[i], w->memory[i]};
    }
    return ok && dnnl_primitive_execute(p->h, w->stream, n, args) == dnnl_success;
}

static fk_gemm_args gemm_of(const fk_product_args *g, const void *a, const void *b, void *c)
{
    return (fk_gemm_args){.turn_a = g->turn_a,
                          .turn_b = g->turn_b,
                          .m = g->m,
                          .n = g->n,
                          .k = g->k,
                          .alpha = 1.0f,
                          .a = a,
                          .lda = g->turn_a ? g->m : g->k,
                          .b = b,
                          .ldb = g->turn_b ? g->k : g->n,
                          .beta = g->add ? 1.0f : 0.0f,
                          .c = c,
                          .ldc = g->n,
                          .packed_b = g->packed ? b : NULL};
}

void fk_product_pack(const fk_product *p, const float *b, void *to)
{
    fk_gemm_args f = gemm_of(&p->args, NULL, b, NULL);

    fk_tiles_pack(&f, to);
}

bool fk_product_adds(const fk_product *p)
{
    return p->args.add;
}

bool fk_product_finishes(const fk_product *p)
{
    return p->args.finish;
}

bool fk_product_run(const fk_product *p, size_t thread, const void *a, const void *b, void *c,
                    const float *row, void *room)
{
    const fk_product_args *g = &p->args;

    if (g->half)
        return run_half(p, &p->workers[thread],
                        (void *[]){(void *)(uintptr_t)a, (void *)(uintptr_t)b, c, room,
                                   (void *)(uintptr_t)row});
    fk_gemm_args f = gemm_of(g, a, b, c);
    f.row = row;
    if (!g->tiles)
        return fk_gemm(&f, NULL);
    fk_tiles_gemm(&f, room);
    return true;
}
