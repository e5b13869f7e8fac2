/* An experiment as Markdown and CSV. */
#include "base/compat.h"

#include "report/experiment.h"

static bool any_gain(const ferkd_experiment *e, uint32_t setting)
{
    fk_row row;

    for (uint32_t m = 0; m < e->grid.n_methods; m++) {
        if (fk_row_of(&row, e, setting, m) == FERKD_OK && row.gain.n > 0)
            return true;
    }
    return false;
}

/* "+0.62 [+0.10, +1.14]", or without the interval for one pair. */
static void write_gain(const fk_row *row, FILE *f)
{
    if (row->gain.n == 0)
        (void)fputs(" |", f);
    else if (row->gain.n == 1)
        (void)fprintf(f, " %+.2f (one pair) |", row->gain.mean);
    else
        (void)fprintf(f, " %+.2f [%+.2f, %+.2f] |", row->gain.mean, row->gain.low, row->gain.high);
}

static ferkd_status write_rows(const ferkd_experiment *e, uint32_t setting, FILE *f)
{
    const fk_grid *g = &e->grid;
    bool gains = any_gain(e, setting);
    fk_row row;

    (void)fputs("| method | seeds | top-1 | best |", f);
    if (gains)
        (void)fprintf(f, " over %s, paired, 95%% |", g->methods[g->baseline].name);
    (void)fputs(" minutes |", f);
    if (g->target > 0.0)
        (void)fprintf(f, " epochs to %g%% | minutes to it |", g->target);
    (void)fprintf(f, "\n|---|---|---|---|%s---|%s\n", gains ? "---|" : "",
                  g->target > 0.0 ? "---|---|" : "");
    for (uint32_t m = 0; m < g->n_methods; m++) {
        TRY(fk_row_of(&row, e, setting, m));
        if (row.top1.n == 0)
            continue;
        (void)fprintf(f, "| %s | %d | ", g->methods[m].name, row.top1.n);
        if (row.top1.n > 1)
            (void)fprintf(f, "%.2f ± %.2f | %.2f |", row.top1.mean, row.top1.deviation,
                          row.best.mean);
        else
            (void)fprintf(f, "%.2f | %.2f |", row.top1.mean, row.best.mean);
        if (gains)
            write_gain(&row, f);
        (void)fprintf(f, " %.1f |", row.minutes.mean);
        if (g->target > 0.0 && row.target_epochs.n == 0)
            (void)fputs(" | |", f);
        else if (g->target > 0.0)
            (void)fprintf(f, " %.1f (%d of %d) | %.1f |", row.target_epochs.mean,
                          row.target_epochs.n, row.top1.n, row.target_minutes.mean);
        (void)fputc('\n', f);
    }
    (void)fputc('\n', f);
    return FERKD_OK;
}

ferkd_status fk_write_markdown(const ferkd_experiment *e, FILE *f)
{
    const fk_grid *g = &e->grid;
    uint32_t finished = 0;

    for (uint32_t i = 0; i < g->n_trials; i++)
        finished += e->outcomes[i].finished;
    (void)fprintf(f, "# %s\n\n", g->name);
    if (*g->about)
        (void)fprintf(f, "%s\n\n", g->about);
    (void)fprintf(f,
                  "%u of %u runs are finished. top-1 is the last epoch's (mean ± deviation over "
                  "seeds), best that of the best epoch.\n\n",
                  finished, g->n_trials);
    for (uint32_t s = 0; s < g->n_settings; s++) {
        if (*g->settings[s].name)
            (void)fprintf(f, "## %s\n\n", g->settings[s].name);
        TRY(write_rows(e, s, f));
    }
    (void)fputs("results.csv has each run and the command that repeats it.\n", f);
    return FERKD_OK;
}

/* A CSV field. */
static void write_field(const char *text, FILE *f)
{
    (void)fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            (void)fputc('"', f);
        (void)fputc(*text, f);
    }
    (void)fputs("\",", f);
}

ferkd_status fk_write_csv(const ferkd_experiment *e, FILE *f)
{
    const fk_grid *g = &e->grid;

    (void)fputs("setting,method,seed,epochs,done,top1,top5,best_top1,train_loss,seconds,images,"
                "epochs_to_target,seconds_to_target,command\n",
                f);
    for (uint32_t i = 0; i < g->n_trials; i++) {
        const fk_trial *t = &g->trials[i];
        const fk_outcome *o = &e->outcomes[i];
        if (o->n == 0)
            continue;
        const fk_epoch *last = &o->epochs[o->n - 1];
        const fk_epoch *at = g->target > 0.0 ? fk_outcome_reach(o, g->target) : NULL;
        double extra = g->methods[t->method].extra_seconds;
        write_field(g->settings[t->setting].name, f);
        write_field(g->methods[t->method].name, f);
        (void)fprintf(f, "%" PRId64 ",%" PRId64 ",%zu,%.3f,%.3f,%.3f,%.5f,%.1f,%.0f,",
                      t->recipe.seed, t->recipe.epochs, o->n, last->top1, last->top5, o->best,
                      last->train_loss, last->seconds + extra, last->images);
        if (at)
            (void)fprintf(f, "%.0f,%.1f,", at->epoch, at->seconds + extra);
        else
            (void)fputs(",,", f);
        (void)fprintf(f, "\"ferkd train %s/recipe.yaml -o NEW\"\n", t->folder);
    }
    return FERKD_OK;
}
