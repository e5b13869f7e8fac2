/* By name, whatever the file. */
#include "base/compat.h"

#include "train/init.h"

#include "base/file.h"
#include "base/mem.h"
#include "exchange/safetensors.h"
#include "exchange/torch_file.h"
#include "train/run.h"

/* One of the two is open. */
typedef struct source {
    const char *from;
    fk_safetensors *safe;
    fk_torch_file *torch;
} source;

static ferkd_status open_source(source *s, const char *from)
{
    char *path = NULL;

    *s = (source){.from = from};
    if (fk_ends_with(from, ".pth") || fk_ends_with(from, ".pt") || fk_ends_with(from, ".bin"))
        return fk_torch_open(&s->torch, from);
    if (!fk_is_folder(from))
        return fk_safetensors_open(&s->safe, from);
    TRY(fk_path_join(&path, from, "best.safetensors"));
    ferkd_status st = fk_safetensors_open(&s->safe, path);
    free(path);
    return st;
}

/* FERKD_ABSENT: no such tensor; FERKD_CORRUPT: of another size. */
static ferkd_status copy(const source *s, const fk_param *p, float *values)
{
    if (s->safe)
        return fk_safetensors_copy(s->safe, p->name, values, p->count);
    const fk_torch_tensor *t = fk_torch_find(s->torch, p->name);
    if (!t)
        return fk_fail(FERKD_ABSENT, "%s: no %s", s->from, p->name);
    if (t->count != p->count)
        return fk_fail(FERKD_CORRUPT, "%s: %s has %zu values, not %zu", s->from, t->name, t->count,
                       p->count);
    fk_torch_values(t, values);
    return FERKD_OK;
}

ferkd_status fk_load_init(fk_graph *g, const char *from, const ferkd_watch *watch)
{
    source s;
    size_t taken = 0;
    size_t missing = 0;
    ferkd_status st = open_source(&s, from);

    for (size_t i = 0; i < g->n_params && st == FERKD_OK; i++) {
        const fk_param *p = &g->params[i];
        if (p->init == FK_INIT_GIVEN)
            continue;
        st = copy(&s, p, fk_graph_values(g, (int)i));
        taken += st == FERKD_OK;
        if (st == FERKD_CORRUPT)
            fk_say(watch, "%s: starts anew (another size)", p->name);
        if (st == FERKD_ABSENT && missing++ < 5)
            fk_say(watch, "%s: starts anew (not in %s)", p->name, from);
        if (st == FERKD_CORRUPT || st == FERKD_ABSENT)
            st = FERKD_OK;
    }
    if (st == FERKD_OK && taken == 0)
        st = fk_fail(
            FERKD_USAGE,
            "%s: none of its tensors has a name of %s (\"%s\", ...); \"ferkd info %s\" lists them",
            from, g->name, g->params[0].name, g->name);
    if (st == FERKD_OK)
        fk_say(watch, "%zu of %zu tensors are %s's", taken, g->n_params, from);
    fk_safetensors_close(&s.safe);
    fk_torch_close(&s.torch);
    return st;
}
