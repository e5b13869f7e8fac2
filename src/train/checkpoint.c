/* Writing and reading checkpoints. Numbers in the metadata have 17 digits: they come back exact. */
#include "base/compat.h"

#include "train/checkpoint.h"

#include <jansson.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "exchange/safetensors.h"

/* A group of tensors: the parameters' names with a prefix, at the parameters' places in values. */
typedef struct group {
    const char *prefix;
    float *values;
    bool trained_only;
    uint16_t *half; /* in place of values: bf16 */
} group;

enum { MAX_GROUPS = 5 };

static int groups_of(group *out, const fk_graph *g, const fk_optim *o, float *accumulated)
{
    int n = 0;

    out[n++] = (group){"", g->values, false, NULL};
    if (o->m)
        out[n++] = (group){"optim.m.", o->m, true, NULL};
    if (o->v)
        out[n++] = (group){"optim.v.", o->v, true, NULL};
    if (o->half_m)
        out[n++] = (group){"optim.m.", NULL, true, o->half_m};
    if (o->half_v)
        out[n++] = (group){"optim.v.", NULL, true, o->half_v};
    if (o->ema)
        out[n++] = (group){"ema.", o->ema, false, NULL};
    if (accumulated)
        out[n++] = (group){"grad.", accumulated, true, NULL};
    return n;
}

static char *metadata(const fk_checkpoint_meta *m, uint64_t optim_step)
{
    const fk_progress *p = &m->progress;
    json_error_t error;
    json_t *card = json_loads(m->card, 0, &error);
    json_t *meta = json_pack(
        "{s:s, s:i, s:s, s:o, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f}", "format", "ferkd",
        "version", 1, "model", m->model, "card", card, "batch", (json_int_t)p->batch, "optim_step",
        (json_int_t)optim_step, "loss_sum", p->loss_sum, "loss_count", (json_int_t)p->loss_count,
        "hard", (json_int_t)p->hard, "important", (json_int_t)p->important, "dropped",
        (json_int_t)p->dropped, "best_top1", p->best_top1, "head_rate", p->head_rate);
    char *text = meta ? json_dumps(meta, JSON_COMPACT) : NULL;

    json_decref(meta);
    return text;
}

static ferkd_status save(const char *path, const fk_graph *g, const group *groups, int n_groups,
                         const fk_checkpoint_meta *meta, uint64_t optim_step)
{
    fk_tensor_out *tensors = NULL;
    char **names = NULL;
    size_t n = 0;
    size_t most = g->n_params * (size_t)n_groups;
    char *text = metadata(meta, optim_step);
    ferkd_status st = FERKD_OK;

    if (!text) {
        st = fk_fail(FERKD_MEMORY, "%s: no memory for its metadata", path);
        goto done;
    }
    TRY_DONE(fk_calloc(&tensors, most, sizeof *tensors, path));
    TRY_DONE(fk_calloc(&names, most, sizeof *names, path));
    for (int k = 0; k < n_groups; k++) {
        for (size_t i = 0; i < g->n_params; i++) {
            const fk_param *p = &g->params[i];
            if (groups[k].trained_only && p->kind == FK_BUFFER)
                continue;
            TRY_DONE(fk_asprintf(&names[n], "%s%s", groups[k].prefix, p->name));
            tensors[n] =
                (fk_tensor_out){.name = names[n],
                                .n_dims = p->shape.n,
                                .dims = p->shape.d,
                                .values = groups[k].values ? groups[k].values + p->offset : NULL,
                                .half = groups[k].half ? groups[k].half + p->offset : NULL};
            n++;
        }
    }
    TRY_DONE(fk_safetensors_write(path, tensors, n, text));
done:
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
    free(tensors);
    free(text);
    return st;
}

ferkd_status fk_checkpoint_save(const char *path, const fk_graph *g, const fk_optim *optim,
                                const float *accumulated, const fk_checkpoint_meta *meta)
{
    group groups[MAX_GROUPS];
    int n = groups_of(groups, g, optim, (float *)(uintptr_t)accumulated);

    return save(path, g, groups, n, meta, optim->step);
}

ferkd_status fk_weights_save(const char *path, const fk_graph *g, const float *values,
                             const fk_checkpoint_meta *meta)
{
    group all = {"", (float *)(uintptr_t)values, false, NULL};

    return save(path, g, &all, 1, meta, 0);
}

static ferkd_status read_progress(const fk_safetensors *f, const char *path, fk_progress *p,
                                  uint64_t *optim_step)
{
    const char *text = fk_safetensors_text(f);
    json_error_t error;
    json_t *meta = text ? json_loads(text, 0, &error) : NULL;
    json_int_t batch;
    json_int_t step;
    json_int_t count;
    json_int_t hard;
    json_int_t important;
    json_int_t dropped;

    p->head_rate = 1.0;
    int bad = json_unpack(meta, "{s:I, s:I, s:F, s:I, s:I, s:I, s:I, s:F, s?F}", "batch", &batch,
                          "optim_step", &step, "loss_sum", &p->loss_sum, "loss_count", &count,
                          "hard", &hard, "important", &important, "dropped", &dropped, "best_top1",
                          &p->best_top1, "head_rate", &p->head_rate);
    json_decref(meta);
    if (bad || batch < 0 || step < 0 || count < 0)
        return fk_fail(FERKD_CORRUPT, "%s: not a checkpoint that can be resumed", path);
    p->batch = (uint64_t)batch;
    p->loss_count = (uint64_t)count;
    p->hard = (uint64_t)hard;
    p->important = (uint64_t)important;
    p->dropped = (uint64_t)dropped;
    *optim_step = (uint64_t)step;
    return FERKD_OK;
}

/* Of bf16 nothing is lost on the way by float. */
static ferkd_status copy_half(const fk_safetensors *f, const char *name, uint16_t *to, size_t n)
{
    float *values = NULL;

    TRY(fk_calloc(&values, n, sizeof *values, name));
    ferkd_status st = fk_safetensors_copy(f, name, values, n);
    for (size_t i = 0; st == FERKD_OK && i < n; i++)
        to[i] = fk_bf16_bits(values[i]);
    free(values);
    return st;
}

ferkd_status fk_checkpoint_progress(const char *path, fk_progress *progress)
{
    fk_safetensors *f = NULL;
    uint64_t step;

    TRY(fk_safetensors_open(&f, path));
    ferkd_status st = read_progress(f, path, progress, &step);
    fk_safetensors_close(&f);
    return st;
}

ferkd_status fk_checkpoint_load(const char *path, fk_graph *g, fk_optim *optim, float *accumulated,
                                fk_progress *progress)
{
    fk_safetensors *f = NULL;
    group groups[MAX_GROUPS];
    int n = groups_of(groups, g, optim, accumulated);
    char name[512];
    ferkd_status st = FERKD_OK;

    TRY(fk_safetensors_open(&f, path));
    TRY_DONE(read_progress(f, path, progress, &optim->step));
    for (int k = 0; k < n; k++) {
        for (size_t i = 0; i < g->n_params; i++) {
            const fk_param *p = &g->params[i];
            if (groups[k].trained_only && p->kind == FK_BUFFER)
                continue;
            (void)snprintf(name, sizeof name, "%s%s", groups[k].prefix, p->name);
            if (groups[k].half)
                TRY_DONE(copy_half(f, name, groups[k].half + p->offset, p->count));
            else
                TRY_DONE(fk_safetensors_copy(f, name, groups[k].values + p->offset, p->count));
        }
    }
done:
    fk_safetensors_close(&f);
    return st;
}
