/* Running a grid: what is missing is trained, what is there is left alone. */
#include "base/compat.h"

#include "report/experiment.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "train/recipe.h"
#include "train/run.h"

ferkd_status ferkd_experiment_open(ferkd_experiment **out, const char *file, const char *folder)
{
    ferkd_experiment *e = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&e, 1, sizeof *e, file));
    TRY_DONE(fk_strdup(&e->folder, folder));
    TRY_DONE(fk_grid_load(&e->grid, file, folder));
    TRY_DONE(fk_calloc(&e->outcomes, e->grid.n_trials, sizeof *e->outcomes, file));
    for (uint32_t i = 0; i < e->grid.n_trials; i++)
        TRY_DONE(fk_outcome_read(&e->outcomes[i], &e->grid.trials[i]));
    *out = e;
    e = NULL;
done:
    ferkd_experiment_close(&e);
    return st;
}

void ferkd_experiment_close(ferkd_experiment **experiment)
{
    ferkd_experiment *e = *experiment;

    if (!e)
        return;
    for (uint32_t i = 0; e->outcomes && i < e->grid.n_trials; i++)
        fk_outcome_fini(&e->outcomes[i]);
    free(e->outcomes);
    fk_grid_fini(&e->grid);
    free(e->folder);
    free(e);
    *experiment = NULL;
}

uint32_t ferkd_experiment_trials(const ferkd_experiment *e)
{
    return e->grid.n_trials;
}

ferkd_status ferkd_experiment_trial(const ferkd_experiment *e, uint32_t i, ferkd_trial *out)
{
    if (i >= e->grid.n_trials)
        return fk_fail(FERKD_USAGE, "run %u of %u", i, e->grid.n_trials);
    const fk_trial *t = &e->grid.trials[i];
    *out = (ferkd_trial){.setting = e->grid.settings[t->setting].name,
                         .method = e->grid.methods[t->method].name,
                         .folder = t->folder,
                         .seed = t->recipe.seed,
                         .epochs = (uint32_t)t->recipe.epochs,
                         .done = (uint32_t)e->outcomes[i].n};
    return FERKD_OK;
}

/* --- one run ----------------------------------------------------------------------------------- */

/* These say how a run is computed, not what: they may differ from those that it began with. */
static bool may_differ(const char *key)
{
    static const char *const keys[] = {"threads", "run", "save_every", "memory"};

    for (size_t i = 0; i < FK_COUNT(keys); i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

/* The first key whose line differs, or NULL. Both texts are cut up. */
static const char *first_difference(char *was, char *is)
{
    char *rest_was = NULL;
    char *rest_is = NULL;
    char *a = strtok_r(was, "\n", &rest_was);
    char *b = strtok_r(is, "\n", &rest_is);

    while (a || b) {
        const char *line = b ? b : a;
        if (!a || !b || strcmp(a, b) != 0) {
            char *colon = strchr((char *)(uintptr_t)line, ':');
            if (*line != '#' && colon) {
                *colon = '\0';
                if (!may_differ(line))
                    return line;
            }
        }
        a = a ? strtok_r(NULL, "\n", &rest_was) : NULL;
        b = b ? strtok_r(NULL, "\n", &rest_is) : NULL;
    }
    return NULL;
}

/* Was the folder made with this recipe? */
static ferkd_status check_recipe(const fk_trial *t, const char *path)
{
    char *was = NULL;
    char *is = NULL;
    ferkd_recipe r;
    ferkd_status st = ferkd_recipe_init(&r);

    if (st == FERKD_OK)
        st = ferkd_recipe_load(&r, path);
    if (st == FERKD_OK)
        st = fk_recipe_text(&r, &was);
    if (st == FERKD_OK)
        st = fk_recipe_text(&t->recipe, &is);
    const char *key = st == FERKD_OK ? first_difference(was, is) : NULL;
    if (key)
        st =
            fk_fail(FERKD_USAGE,
                    "%s was made with another \"%s\" than the experiment says; remove that folder, "
                    "or give the method another name",
                    t->folder, key);
    ferkd_recipe_fini(&r);
    free(was);
    free(is);
    return st;
}

/* Is another process at it? */
static bool is_busy(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool busy = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;

    if (fd >= 0)
        (void)close(fd);
    return busy;
}

static ferkd_status run_trial(ferkd_experiment *e, uint32_t i, const ferkd_watch *watch)
{
    fk_trial *t = &e->grid.trials[i];
    fk_outcome *o = &e->outcomes[i];
    ferkd_train_result result;
    char *path = NULL;
    char *last = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_path_join(&path, t->folder, "recipe.yaml"));
    TRY_DONE(fk_path_join(&last, t->folder, "last.safetensors"));
    if (fk_is_file(path))
        TRY_DONE(check_recipe(t, path));
    fk_outcome_fini(o);
    TRY_DONE(fk_outcome_read(o, t)); /* another process may have finished it meanwhile */
    if (o->finished || is_busy(t->folder))
        goto done;
    fk_say(watch, "run %u/%u: %s", i + 1, e->grid.n_trials, t->folder);
    if (fk_is_file(last))
        TRY_DONE(ferkd_train_resume(t->folder, watch, &result));
    else
        TRY_DONE(ferkd_train(&t->recipe, watch, &result));
    fk_outcome_fini(o);
    TRY_DONE(fk_outcome_read(o, t));
done:
    free(path);
    free(last);
    return st;
}

ferkd_status ferkd_experiment_run(ferkd_experiment *e, const ferkd_watch *watch)
{
    for (uint32_t i = 0; i < e->grid.n_trials; i++) {
        TRY(run_trial(e, i, watch));
        if (watch && watch->stop && watch->stop(watch->ctx))
            return fk_fail(FERKD_STOPPED, "stopped; the same command goes on");
    }
    return FERKD_OK;
}

/* --- rows of the table ------------------------------------------------------------------------- */

/* The finished run of this method, setting and seed; -1: none. */
static int64_t find(const ferkd_experiment *e, uint32_t setting, uint32_t method, int64_t seed)
{
    for (uint32_t i = 0; i < e->grid.n_trials; i++) {
        const fk_trial *t = &e->grid.trials[i];
        if (t->setting == setting && t->method == method && t->recipe.seed == seed &&
            e->outcomes[i].finished)
            return i;
    }
    return -1;
}

static double last_top1(const fk_outcome *o)
{
    return o->epochs[o->n - 1].top1;
}

ferkd_status fk_row_of(fk_row *row, const ferkd_experiment *e, uint32_t setting, uint32_t method)
{
    enum { TOP1, BEST, MINUTES, GAIN, EPOCHS, TIME, ALL };

    const fk_grid *g = &e->grid;
    double extra = g->methods[method].extra_seconds;
    double *v = NULL;
    int n[ALL] = {0};
    size_t cap = g->n_trials;

    *row = (fk_row){.setting = setting, .method = method};
    TRY(fk_calloc(&v, ALL * cap, sizeof *v, "the table"));
    for (uint32_t i = 0; i < g->n_trials; i++) {
        const fk_trial *t = &g->trials[i];
        const fk_outcome *o = &e->outcomes[i];
        if (t->setting != setting || t->method != method || !o->finished)
            continue;
        v[TOP1 * cap + (size_t)n[TOP1]++] = last_top1(o);
        v[BEST * cap + (size_t)n[BEST]++] = o->best;
        v[MINUTES * cap + (size_t)n[MINUTES]++] = (o->epochs[o->n - 1].seconds + extra) / 60.0;
        int64_t base = find(e, setting, g->baseline, t->recipe.seed);
        if (base >= 0 && method != g->baseline)
            v[GAIN * cap + (size_t)n[GAIN]++] = last_top1(o) - last_top1(&e->outcomes[base]);
        const fk_epoch *at = g->target > 0.0 ? fk_outcome_reach(o, g->target) : NULL;
        if (at) {
            v[EPOCHS * cap + (size_t)n[EPOCHS]++] = at->epoch;
            v[TIME * cap + (size_t)n[TIME]++] = (at->seconds + extra) / 60.0;
        }
    }
    row->top1 = fk_sample_of(v + TOP1 * cap, n[TOP1]);
    row->best = fk_sample_of(v + BEST * cap, n[BEST]);
    row->minutes = fk_sample_of(v + MINUTES * cap, n[MINUTES]);
    row->gain = fk_sample_of(v + GAIN * cap, n[GAIN]);
    row->target_epochs = fk_sample_of(v + EPOCHS * cap, n[EPOCHS]);
    row->target_minutes = fk_sample_of(v + TIME * cap, n[TIME]);
    free(v);
    return FERKD_OK;
}

/* --- the three files --------------------------------------------------------------------------- */

typedef ferkd_status write_fn(const ferkd_experiment *e, FILE *f);

static ferkd_status write_file(const ferkd_experiment *e, const char *name, write_fn *write)
{
    char *text = NULL;
    size_t n = 0;
    char *path = NULL;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory for %s", name);
    ferkd_status st = write(e, f);
    (void)fclose(f);
    if (st == FERKD_OK)
        st = fk_path_join(&path, e->folder, name);
    if (st == FERKD_OK)
        st = fk_file_replace(path, text, n);
    free(text);
    free(path);
    return st;
}

ferkd_status ferkd_experiment_report(ferkd_experiment *e)
{
    TRY(fk_make_folder(e->folder));
    TRY(write_file(e, "results.md", fk_write_markdown));
    TRY(write_file(e, "results.csv", fk_write_csv));
    return write_file(e, "index.html", fk_write_page);
}
