/* The gradients of parameters: their memory, their sum where several steps have a part in one, and when they are
 * complete. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"

#include <sys/mman.h>
#include <unistd.h>

/* --- memory ---------------------------------------------------------------------------------- */

/* Lean: pages that are there only while something is in them. */
ferkd_status fk_new_gradients(fk_plan *p)
{
    if (!p->o.lean)
        return fk_calloc_aligned(&p->grads, p->g->n_trained * sizeof(float), "gradients");
    size_t bytes = p->g->n_trained * sizeof(float);
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return fk_fail(FERKD_MEMORY, "gradients: no room for %zu bytes", bytes);
    p->grads = pages;
    return FERKD_OK;
}

void fk_free_gradients(fk_plan *p)
{
    if (p->o.lean && p->grads)
        (void)munmap(p->grads, p->g->n_trained * sizeof(float));
    else
        free(p->grads);
    free(p->writers);
    free(p->written);
    free(p->others);
}

/* --- parameters that several steps share ------------------------------------------------------- */

#define MAX_WRITTEN (2 * FK_MAX_PARAMS + 1)

/* The parameters whose gradients backward of this step writes; gives how many. */
static int written_by(const fk_plan *p, const fk_step *s, int *params)
{
    const fk_node *nodes[2] = {s->node, s->before};
    int n = 0;

    if (!p->tensors[s->out].needs_grad ||
        (s->node && s->node->op == FK_CONST && p->tensors[s->out].grad < 0))
        return 0; /* a constant that products have as their scale is theirs */
    for (int k = 0; k < 2; k++) {
        for (int i = 0; nodes[k] && i < FK_MAX_PARAMS; i++) {
            int id = nodes[k]->param[i];
            if (id >= 0 && p->g->params[id].kind != FK_BUFFER)
                params[n++] = id;
        }
    }
    if (s->scale_param >= 0 && p->g->params[s->scale_param].kind != FK_BUFFER)
        params[n++] = s->scale_param;
    return n;
}

bool fk_writes_head(const fk_plan *p, const fk_step *s)
{
    int params[MAX_WRITTEN];
    int n = written_by(p, s, params);

    while (n-- > 0) {
        if (p->g->params[params[n]].head)
            return true;
    }
    return false;
}

/* Count the writers of each, and make room for what the others of a step's parameters have written. */
ferkd_status fk_plan_sharing(fk_plan *p)
{
    size_t most = 0;

    TRY(fk_calloc(&p->writers, p->g->n_params + 1, sizeof *p->writers, p->g->name));
    TRY(fk_calloc(&p->written, p->g->n_params + 1, sizeof *p->written, p->g->name));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < p->n_steps; i++) {
            int params[MAX_WRITTEN];
            int n = written_by(p, p->steps[i], params);
            size_t shared = 0;
            for (int k = 0; k < n; k++) {
                p->writers[params[k]] += pass == 0;
                shared += p->writers[params[k]] > 1 ? p->g->params[params[k]].count : 0;
            }
            most = pass && shared > most ? shared : most;
        }
    }
    return most ? fk_calloc_aligned(&p->others, most * sizeof *p->others, "shared gradients")
                : FERKD_OK;
}

/* Backward of a step writes its parameters' gradients: those that others have a part in are put aside for the while,
 * and added. */
ferkd_status fk_run_backward(fk_plan *p, fk_step *s)
{
    int params[MAX_WRITTEN];
    int n = written_by(p, s, params);
    int again = 0;
    float *others = p->others;

    for (int k = 0; k < n; k++) {
        const fk_param *param = &p->g->params[params[k]];
        if (p->written[params[k]]++ == 0)
            continue;
        memcpy(others, p->grads + param->offset, param->count * sizeof *others);
        others += param->count;
        params[again++] = params[k];
    }
    TRY(fk_run_step(p, s, true));
    others = p->others;
    for (int k = 0; k < again; k++) {
        const fk_param *param = &p->g->params[params[k]];
        float *to = p->grads + param->offset;
        for (size_t i = 0; i < param->count; i++)
            to[i] += others[i];
        others += param->count;
    }
    return FERKD_OK;
}

/* Whole pages of a gradient that nobody reads any more go back to the system. */
static void give_back(const fk_plan *p, const fk_param *param)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (param->offset * sizeof(float) + page - 1) / page * page;
    size_t end = (param->offset + param->count) * sizeof(float) / page * page;

    if (end > begin)
        (void)madvise((uint8_t *)p->grads + begin, end - begin, MADV_DONTNEED);
}

/* Gradients that this step was the last to write. */
void fk_hand_over(fk_plan *p, const fk_step *s, fk_gradient_fn *take, void *ctx)
{
    int params[MAX_WRITTEN];
    int n = written_by(p, s, params);

    for (int k = 0; k < n; k++) {
        const fk_param *param = &p->g->params[params[k]];
        if (p->written[params[k]] < p->writers[params[k]])
            continue;
        take(ctx, (size_t)params[k], p->grads + param->offset);
        if (p->o.lean)
            give_back(p, param);
    }
}

/* to[i] = sum over threads of from[t stride + i]; param -1: nothing. */
void fk_add_parts(fk_plan *p, int param, const float *from, size_t stride, size_t threads)
{
    if (param < 0 || p->g->params[param].kind == FK_BUFFER)
        return;
    float *to = p->grads + p->g->params[param].offset;
    size_t n = p->g->params[param].count;

#pragma omp parallel for simd schedule(static) num_threads((int)p->threads)
    for (size_t i = 0; i < n; i++) {
        float sum = from[i];
        for (size_t t = 1; t < threads; t++)
            sum += from[t * stride + i];
        to[i] = sum;
    }
}
