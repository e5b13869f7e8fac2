/* Compile a graph to steps, give every buffer its place, run. */
#include "base/compat.h"

#include "engine/step.h"
#include "engine/tune.h"

#include "base/mem.h"
#include "base/trace.h"

#include <omp.h>

static fk_compile_fn *const COMPILERS[FK_OP_COUNT] = {
    [FK_CONST] = fk_compile_const,         [FK_CONV] = fk_compile_conv,
    [FK_BATCHNORM] = fk_compile_norm,      [FK_ACT] = fk_compile_act,
    [FK_BINARY] = fk_compile_binary,       [FK_POOL] = fk_compile_pool,
    [FK_REDUCE] = fk_compile_reduce,       [FK_DENSE] = fk_compile_dense,
    [FK_MATMUL] = fk_compile_matmul,       [FK_RESHAPE] = fk_compile_reshape,
    [FK_TRANSPOSE] = fk_compile_transpose, [FK_CONCAT] = fk_compile_concat,
    [FK_SLICE] = fk_compile_slice,         [FK_PAD] = fk_compile_pad,
    [FK_SOFTMAX] = fk_compile_softmax,     [FK_DROPOUT] = fk_compile_dropout,
    [FK_LAYERNORM] = fk_compile_layernorm, [FK_ATTENTION] = fk_compile_attention,
    [FK_EXPAND] = fk_compile_expand,       [FK_GATHER] = fk_compile_gather,
    [FK_SELECT] = fk_compile_select,
};

/* --- running --------------------------------------------------------------------------------- */

void *fk_buffer_at(const fk_plan *p, int buffer)
{
    return p->arena + p->buffers[buffer].offset;
}

float *fk_data(const fk_plan *p, int tensor)
{
    const fk_tensor *t = &p->tensors[tensor];

    if (p->slice_in && tensor == p->tensor_of[p->g->input])
        return p->slice_in;
    return t->data < 0 ? fk_graph_values(p->g, t->param) : fk_buffer_at(p, t->data);
}

float *fk_grad(const fk_plan *p, int tensor)
{
    return fk_buffer_at(p, p->tensors[tensor].grad);
}

fk_operand fk_data_operand(const fk_plan *p, int tensor)
{
    if (tensor < 0)
        return (fk_operand){0};
    return (fk_operand){fk_data(p, tensor), fk_md_half(p->tensors[tensor].md)};
}

fk_operand fk_buffer_operand(const fk_plan *p, int buffer, bool half)
{
    return buffer < 0 ? (fk_operand){0} : (fk_operand){fk_buffer_at(p, buffer), half};
}

float *fk_din(const fk_plan *p, const fk_step *s, int i)
{
    return fk_buffer_at(p, s->din[i]);
}

size_t fk_floats(const fk_plan *p, int tensor)
{
    const fk_md *md = p->tensors[tensor].md;

    return fk_md_bytes(md) / (fk_md_half(md) ? sizeof(uint16_t) : sizeof(float));
}

void *fk_ref_pointer(const fk_plan *p, const fk_step *s, fk_ref r)
{
    switch (r.kind) {
    case FK_REF_BUFFER:
        return fk_buffer_at(p, s->buffers[r.i]);
    case FK_REF_DATA:
        return fk_data(p, r.i);
    case FK_REF_GRAD:
        return fk_grad(p, r.i);
    case FK_REF_VALUES:
        return fk_graph_values(p->g, r.i);
    case FK_REF_GRADS:
        return p->grads + p->g->params[r.i].offset;
    case FK_REF_SCRATCH:
        return p->scratch;
    case FK_REF_DIN:
        break;
    }
    return fk_din(p, s, r.i);
}

ferkd_status fk_run(fk_plan *p, const fk_step *s, int role)
{
    return fk_prim_run(p->dn, s->prims[role].prim);
}

ferkd_status fk_plan_refresh(fk_plan *p)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i]->refresh)
            TRY(p->steps[i]->refresh(p, p->steps[i]));
    }
    return FERKD_OK;
}

ferkd_status fk_run_step(fk_plan *p, fk_step *s, bool back)
{
    if (!p->o.profile)
        return back ? s->backward(p, s) : s->forward(p, s);
    double start = fk_now_s();
    ferkd_status st = back ? s->backward(p, s) : s->forward(p, s);
    s->seconds[back] += fk_now_s() - start;
    return st;
}

static ferkd_status run_forward(fk_plan *p)
{
    for (size_t i = 0; i < p->n_steps; i++)
        TRY(fk_run_step(p, p->steps[i], false));
    return FERKD_OK;
}

/* Whoever reads the input reads it at p->slice_in. */
static ferkd_status rebind_input(fk_plan *p)
{
    int input = p->tensor_of[p->g->input];

    for (size_t i = 0; i < p->n_steps; i++) {
        fk_step *s = p->steps[i];
        for (int r = 0; r < FK_MAX_PRIMS; r++) {
            for (int k = 0; s->prims[r].prim && k < s->prims[r].n_args; k++) {
                const fk_arg *a = &s->prims[r].args[k];
                if (a->ref.kind == FK_REF_DATA && a->ref.i == input)
                    TRY(fk_prim_rebind(s->prims[r].prim, a->slot, p->slice_in));
            }
        }
    }
    return FERKD_OK;
}

ferkd_status fk_plan_forward(fk_plan *p, uint64_t step)
{
    size_t in = fk_floats(p, p->tensor_of[p->g->input]);
    size_t out = fk_floats(p, p->output);

    p->step = step;
    if (p->o.slices == 1)
        return run_forward(p);
    for (uint32_t k = 0; k < p->o.slices; k++) {
        p->slice_in = p->whole_in + k * in;
        TRY(rebind_input(p));
        TRY(run_forward(p));
        memcpy(p->whole_out + k * out, fk_data(p, p->output), out * sizeof(float));
    }
    return FERKD_OK;
}

/* The last values, fewer than a vector: by way of whole vectors on the stack. */
static void add_rest(const fk_norm_kernels *k, fk_operand dst, fk_operand a, fk_operand b, size_t n)
{
    float room[3][FK_MAX_LANES] = {{0}};
    size_t size_a = n * (a.half ? sizeof(uint16_t) : sizeof(float));
    size_t size_b = n * (b.half ? sizeof(uint16_t) : sizeof(float));
    fk_operand x = {room[0], a.half};
    fk_operand y = {b.data ? room[1] : NULL, b.half};

    memcpy(room[0], a.data, size_a);
    if (b.data)
        memcpy(room[1], b.data, size_b);
    k->add((fk_operand){room[2], dst.half}, x, y, (size_t)k->lanes);
    memcpy(dst.data, room[2], n * (dst.half ? sizeof(uint16_t) : sizeof(float)));
}

void fk_add(fk_operand dst, fk_operand a, fk_operand b, size_t n)
{
    const fk_norm_kernels *k = fk_norm_for(fk_dn_lanes());
    size_t lanes = (size_t)k->lanes;
    size_t whole = n / lanes * lanes;
    size_t piece = 1024 * lanes;

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < whole; i += piece)
        k->add(fk_operand_at(dst, i), fk_operand_at(a, i), fk_operand_at(b, i),
               fk_min_size(piece, whole - i));
    if (whole < n)
        add_rest(k, fk_operand_at(dst, whole), fk_operand_at(a, whole), fk_operand_at(b, whole),
                 n - whole);
}

/* Where a value is used more than once, its gradient is the sum of what each use says. */
static void add_gradients(fk_plan *p, const fk_step *s)
{
    for (int i = 0; i < s->n_in; i++) {
        const fk_sum *sum = &s->sums[i];
        if (sum->dst < 0)
            continue;
        bool half = fk_md_half(p->tensors[s->in[i]].md);
        fk_add(fk_buffer_operand(p, sum->dst, half), fk_buffer_operand(p, sum->a, half),
               fk_buffer_operand(p, sum->b, half), fk_floats(p, s->in[i]));
    }
}

/* Steps begin..end forward again, those whose values were thrown away (recompute.c). */
static ferkd_status run_again(fk_plan *p, int begin, int end)
{
    ferkd_status st = FERKD_OK;

    p->redoing = true;
    for (int k = begin; k <= end && st == FERKD_OK; k++) {
        fk_step *s = p->steps[k];
        const fk_buffer *b = &p->buffers[p->tensors[s->out].data];
        if (b->again <= b->until && p->tensors[s->out].lazy < 0)
            st = fk_run_step(p, s, false);
    }
    p->redoing = false;
    return st;
}

void fk_plan_backward_of_head(fk_plan *p, bool head)
{
    size_t first = 0;

    while (head && first < p->n_steps && !fk_writes_head(p, p->steps[first]))
        first++;
    p->backward_from = first < p->n_steps ? first : 0;
}

ferkd_status fk_plan_backward(fk_plan *p)
{
    return fk_plan_backward_each(p, NULL, NULL);
}

ferkd_status fk_plan_backward_each(fk_plan *p, fk_gradient_fn *take, void *ctx)
{
    memset(p->written, 0, p->g->n_params * sizeof *p->written);
    for (size_t i = p->n_steps; i-- > p->backward_from;) {
        fk_step *s = p->steps[i];
        if (p->redo && p->redo[i] >= 0)
            TRY(run_again(p, p->redo[i], (int)i));
        if (!p->tensors[s->out].needs_grad)
            continue;
        TRY(fk_run_backward(p, s));
        add_gradients(p, s);
        if (take)
            fk_hand_over(p, s, take, ctx);
    }
    return FERKD_OK;
}

float *fk_plan_input(fk_plan *p)
{
    return p->whole_in ? p->whole_in : fk_data(p, p->tensor_of[p->g->input]);
}

const float *fk_plan_output(const fk_plan *p)
{
    return p->whole_out ? p->whole_out : fk_data(p, p->output);
}

float *fk_plan_output_grad(fk_plan *p)
{
    return fk_grad(p, p->output);
}

float *fk_plan_grads(fk_plan *p)
{
    return p->grads;
}

void fk_plan_profile(const fk_plan *p, fk_plan_time *to)
{
    static const char *const NAMES[FK_KIND_COUNT] = {"other",   "convolution", "depthwise", "norm",
                                                     "reorder", "dense",       "attention"};

    for (int k = 0; k < FK_KIND_COUNT; k++)
        to[k] = (fk_plan_time){.what = NAMES[k]};
    for (size_t i = 0; i < p->n_steps; i++) {
        const fk_step *s = p->steps[i];
        fk_kind kind = s->inner_s > 0 ? FK_KIND_NORM : s->kind; /* what is around a convolution */
        to[kind].forward_s += s->seconds[0];
        to[kind].backward_s += s->seconds[1] - s->inner_s;
        to[s->kind].backward_s += s->inner_s;
        fk_trace("time", "%9.3f ms forward %9.3f ms backward %9.3f ms inside  %s",
                 1e3 * s->seconds[0], 1e3 * s->seconds[1], 1e3 * s->inner_s,
                 s->node ? s->node->name : "reorder");
    }
}

void fk_plan_memory(const fk_plan *p, size_t *bytes)
{
    fk_memory_by_kind(p->buffers, p->n_buffers, bytes);
}

const char *fk_plan_precision(const fk_plan *p)
{
    return !p->o.half ? "f32"
           : p->half_conv
               ? "bf16"
               : "bf16 in memory where it pays, f32 arithmetic (faster on this processor)";
}

size_t fk_plan_bytes(const fk_plan *p)
{
    return p->arena_bytes;
}

/* --- compiling ------------------------------------------------------------------------------- */

static ferkd_status add_input(fk_plan *p)
{
    const fk_node *n = &p->g->nodes[p->g->input];
    fk_tensor t = {.shape = n->shape, .node = p->g->input, .step = -1, .param = -1};
    int id;

    TRY(fk_md_plain(&t.md, &n->shape));
    TRY(fk_plan_buffer(p, fk_md_bytes(t.md), 0, FK_ALWAYS, &t.data));
    p->buffers[t.data].kind = FK_MEMORY_VALUES;
    TRY(fk_new_tensor(p, t, &id));
    p->tensor_of[p->g->input] = id;
    return FERKD_OK;
}

/* The gradient of tensor t gets one more part, buffer b, at step s. Its step may read two parts; a third one,
 * or a second for a step that reads one, is added at once. */
static ferkd_status add_part(fk_plan *p, fk_step *s, int i, int b)
{
    fk_tensor *t = &p->tensors[s->in[i]];
    int now = fk_backward_mark(s->number);
    int dst = t->grad;

    if (t->grad < 0) {
        t->grad = b;
        return FERKD_OK;
    }
    if (t->grad2 < 0 && t->step >= 0 && p->steps[t->step]->takes_two) {
        t->grad2 = b;
        return FERKD_OK;
    }
    if (p->buffers[dst].shared)
        dst = b;
    if (p->buffers[dst].shared)
        TRY(fk_plan_buffer(p, p->buffers[b].bytes, now, now, &dst));
    s->sums[i] = (fk_sum){dst, t->grad, b};
    t->grad = dst;
    return FERKD_OK;
}

/* In reverse order of the steps: which buffers hold the gradients, and until when. */
static ferkd_status plan_gradients(fk_plan *p)
{
    for (size_t k = p->n_steps; k-- > 0;) {
        fk_step *s = p->steps[k];
        const fk_tensor *out = &p->tensors[s->out];
        int now = fk_backward_mark((int)k);
        if (!out->needs_grad)
            continue;
        int reader = s->spread_by >= 0 ? s->spread_by : (int)k;
        if (out->grad >= 0)
            fk_keep_until_backward(p, out->grad, reader);
        if (out->grad2 >= 0)
            fk_keep_until_backward(p, out->grad2, reader);
        for (int i = 0; i < s->n_in; i++) {
            fk_tensor *t = &p->tensors[s->in[i]];
            if (!fk_wants_din(p, s, i) || (i == 0 && s->spread_by >= 0))
                continue;
            if (s->passes == i && out->grad2 < 0 && (s->is_view || fk_md_equal(t->md, out->md))) {
                s->din[i] = out->grad;
                p->buffers[out->grad].shared = true;
            } else {
                TRY(fk_plan_buffer(p, fk_md_bytes(t->md), now, now, &s->din[i]));
            }
            TRY(add_part(p, s, i, s->din[i]));
            if (t->step >= 0) {
                fk_keep_until_backward(p, s->din[i], t->step);
                fk_keep_until_backward(p, t->grad, t->step);
            }
        }
    }
    return FERKD_OK;
}

/* Every tensor lives at least until its last reader. */
static void extend_lives(fk_plan *p)
{
    for (size_t k = 0; k < p->n_steps; k++) {
        for (int i = 0; i < p->steps[k]->n_in; i++) {
            int buffer = p->tensors[p->steps[k]->in[i]].data;
            if (buffer >= 0 && p->buffers[buffer].last >= 0 && p->buffers[buffer].last < (int)k)
                p->buffers[buffer].last = (int)k;
        }
    }
    p->buffers[p->tensors[p->output].data].last = FK_ALWAYS;
}

static int time_of(const fk_plan *p, int mark)
{
    return mark >= 0 ? mark : 2 * (int)p->n_steps - 1 - (-1 - mark);
}

static ferkd_status place(fk_plan *p)
{
    for (size_t i = 0; i < p->n_buffers; i++) {
        p->buffers[i].first = time_of(p, p->buffers[i].first);
        p->buffers[i].last = time_of(p, p->buffers[i].last);
    }
    if (p->o.train && p->o.max_bytes)
        TRY(fk_place_within(p));
    else
        fk_place_buffers(p->buffers, p->n_buffers, &p->arena_bytes);
    fk_trace("plan", "%s: %zu steps, arena %.1f MiB", p->g->name, p->n_steps,
             (double)p->arena_bytes / 1048576.0);
    return fk_calloc_aligned(&p->arena, p->arena_bytes, "the arena of a network");
}

static ferkd_status bind_all(fk_plan *p)
{
    for (size_t k = 0; k < p->n_steps; k++) {
        fk_step *s = p->steps[k];
        if (s->bind)
            TRY(s->bind(p, s));
        for (int r = 0; r < FK_MAX_PRIMS; r++) {
            fk_bound_prim *b = &s->prims[r];
            for (int i = 0; b->prim && i < b->n_args; i++)
                TRY(fk_prim_bind(p->dn, b->prim, b->args[i].slot,
                                 fk_ref_pointer(p, s, b->args[i].ref)));
        }
    }
    return FERKD_OK;
}

static ferkd_status compile_nodes(fk_plan *p)
{
    TRY(add_input(p));
    for (size_t i = 0; i < p->g->n_nodes; i++) {
        const fk_node *n = &p->g->nodes[i];
        if (p->absorbed[i] || n->op == FK_INPUT || (p->uses[i] == 0))
            continue;
        TRY(COMPILERS[n->op](p, n, (int)i));
    }
    return fk_want_plain(p, p->tensor_of[p->g->output], &p->output);
}

static ferkd_status allocate_params(fk_plan *p)
{
    size_t largest = 0;

    for (size_t i = 0; i < p->g->n_params; i++)
        largest = fk_max_size(largest, p->g->params[i].count);
    for (size_t i = 0; i < p->g->n_nodes; i++) {
        if (p->g->nodes[i].op == FK_CONV)
            largest = fk_max_size(largest, fk_conv_scratch(p, &p->g->nodes[i]));
    }
    TRY(fk_calloc_aligned(&p->scratch, largest * sizeof(float), "folded weights"));
    if (!p->o.train)
        return FERKD_OK;
    return fk_new_gradients(p);
}

static ferkd_status allocate_slices(fk_plan *p)
{
    size_t in = fk_floats(p, p->tensor_of[p->g->input]);
    size_t out = fk_floats(p, p->output);

    free(p->room);
    p->room = NULL;
    p->o.tuner = NULL; /* it is the maker's, and may be gone from here on */
    if (p->o.slices == 1)
        return FERKD_OK;
    assert(!p->o.train);
    TRY(fk_calloc_aligned(&p->whole_in, p->o.slices * in * sizeof(float), "the input"));
    return fk_calloc_aligned(&p->whole_out, p->o.slices * out * sizeof(float), "the output");
}

ferkd_status fk_plan_new(fk_plan **out, fk_graph *g, const fk_plan_options *o)
{
    ferkd_status st = FERKD_OK;
    fk_plan *p = NULL;

    TRY(fk_calloc(&p, 1, sizeof *p, g->name));
    p->g = g;
    p->o = *o;
    p->o.slices = o->slices ? o->slices : 1;
    p->threads = (size_t)omp_get_max_threads();
    TRY_DONE(fk_dn_new(&p->dn));
    if (o->half && !o->stored)
        TRY_DONE(fk_half_pays(p->dn, o->tuner, &p->half_conv));
    if (o->train && p->half_conv && o->layout == FK_LAYOUT_ANY)
        p->o.layout = FK_LAYOUT_LAST; /* what matrix tiles work on, and our own kernels */
    p->o.half = p->half_conv || (o->half && o->train);
    TRY_DONE(fk_calloc(&p->tensor_of, g->n_nodes, sizeof *p->tensor_of, g->name));
    TRY_DONE(fk_calloc(&p->uses, g->n_nodes, sizeof *p->uses, g->name));
    TRY_DONE(fk_calloc(&p->sliced, g->n_nodes, sizeof *p->sliced, g->name));
    TRY_DONE(fk_calloc(&p->absorbed, g->n_nodes, sizeof *p->absorbed, g->name));
    memset(p->tensor_of, -1, g->n_nodes * sizeof *p->tensor_of);
    fk_graph_uses(g, p->uses);
    TRY_DONE(allocate_params(p));
    TRY_DONE(compile_nodes(p));
    if (o->train) {
        int S = (int)p->n_steps; /* the caller writes the output's gradient between the passes */
        fk_tensor *t = &p->tensors[p->output];
        TRY_DONE(fk_plan_buffer(p, fk_md_bytes(t->md), S, S, &t->grad));
        TRY_DONE(plan_gradients(p));
        TRY_DONE(fk_plan_sharing(p));
    }
    extend_lives(p);
    TRY_DONE(place(p));
    TRY_DONE(bind_all(p));
    TRY_DONE(allocate_slices(p));
    TRY_DONE(fk_plan_refresh(p));
    *out = p;
    p = NULL;
done:
    fk_plan_free(&p);
    return st;
}

static void free_step(fk_step *s)
{
    for (int r = 0; r < FK_MAX_PRIMS; r++)
        fk_prim_free(s->prims[r].prim);
    fk_step_drop_products(s);
    free(s->in);
    free(s->din);
    free(s->sums);
    free(s->map);
    free(s);
}

void fk_plan_free(fk_plan **plan)
{
    fk_plan *p = *plan;

    if (!p)
        return;
    for (size_t i = 0; i < p->n_steps; i++)
        free_step(p->steps[i]);
    for (size_t i = 0; i < p->n_tensors; i++)
        fk_md_free(p->tensors[i].md);
    free(p->steps);
    free(p->tensors);
    free(p->buffers);
    free(p->tensor_of);
    free(p->uses);
    free(p->redo);
    free(p->sliced);
    free(p->absorbed);
    fk_free_gradients(p);
    free(p->scratch);
    free(p->room);
    free(p->whole_in);
    free(p->whole_out);
    free(p->arena);
    fk_dn_free(&p->dn);
    free(p);
    *plan = NULL;
}
