/* An experiment as one HTML page: the table, curves by epoch, time and images, sweeps, commands. */
#include "base/compat.h"

#include "report/experiment.h"

#include "base/mem.h"
#include "report/plot.h"
#include "report/store_figures.h"
#include "train/feed.h"

/* --- curves ------------------------------------------------------------------------------------ */

enum { BY_EPOCH, BY_MINUTES, BY_IMAGES, WAYS };

static const char *const X_NAMES[WAYS] = {"epochs", "minutes", "thousand images seen"};
static const char *const TITLES[WAYS] = {"Top-1 by epoch", "Top-1 by time", "Top-1 by images seen"};

static double x_by(const fk_epoch *e, int way, double extra)
{
    return way == BY_EPOCH     ? e->epoch
           : way == BY_MINUTES ? (e->seconds + extra) / 60.0
                               : e->images / 1000.0;
}

/* The mean over the seeds that have got to each epoch, with the range as a band. */
static ferkd_status curve_of(const ferkd_experiment *e, uint32_t setting, uint32_t method, int way,
                             fk_point **out, size_t *n)
{
    double extra = e->grid.methods[method].extra_seconds;
    size_t longest = 0;

    *n = 0;
    for (uint32_t i = 0; i < e->grid.n_trials; i++) {
        const fk_trial *t = &e->grid.trials[i];
        if (t->setting == setting && t->method == method && e->outcomes[i].n > longest)
            longest = e->outcomes[i].n;
    }
    TRY(fk_calloc(out, longest + 1, sizeof **out, "a curve"));
    for (size_t k = 0; k < longest; k++) {
        fk_point p = {0, 0, INFINITY, -INFINITY};
        int seeds = 0;
        for (uint32_t i = 0; i < e->grid.n_trials; i++) {
            const fk_trial *t = &e->grid.trials[i];
            const fk_outcome *o = &e->outcomes[i];
            if (t->setting != setting || t->method != method || o->n <= k)
                continue;
            p.x += x_by(&o->epochs[k], way, extra);
            p.y += o->epochs[k].top1;
            p.low = fmin(p.low, o->epochs[k].top1);
            p.high = fmax(p.high, o->epochs[k].top1);
            seeds++;
        }
        p.x /= seeds;
        p.y /= seeds;
        (*out)[(*n)++] = p;
    }
    return FERKD_OK;
}

static ferkd_status write_curves(const ferkd_experiment *e, uint32_t setting, int way, FILE *f)
{
    const fk_grid *g = &e->grid;
    fk_series *series = NULL;
    fk_point **points = NULL;
    fk_plot p = {.title = TITLES[way], .x_name = X_NAMES[way], .y_name = "top-1, %"};
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_calloc(&series, g->n_methods, sizeof *series, "a plot"));
    TRY_DONE(fk_calloc(&points, g->n_methods, sizeof *points, "a plot"));
    for (uint32_t m = 0; m < g->n_methods; m++) {
        size_t n = 0;
        if (g->methods[m].family)
            continue; /* its sweep is a plot of its own */
        TRY_DONE(curve_of(e, setting, m, way, &points[m], &n));
        if (n)
            series[p.n++] = (fk_series){g->methods[m].name, FK_LINES, (int)m, 0.0, points[m], n};
    }
    p.series = series;
    if (p.n)
        fk_plot_write(&p, f);
done:
    for (uint32_t m = 0; points && m < g->n_methods; m++)
        free(points[m]);
    free(points);
    free(series);
    return st;
}

/* --- sweeps ------------------------------------------------------------------------------------ */

/* Accuracy against the value of a varied method (the paper's figure 5, for its thresholds), with the
 * baseline as a level. */
static ferkd_status write_sweep(const ferkd_experiment *e, uint32_t setting, uint32_t first,
                                FILE *f)
{
    const fk_grid *g = &e->grid;
    const char *family = g->methods[first].family;
    fk_point *points = NULL;
    fk_point level[2];
    fk_series series[2];
    fk_plot p = {.title = family, .x_name = "value", .y_name = "top-1, %", .series = series};
    size_t n = 0;
    fk_row row;

    TRY(fk_calloc(&points, g->n_methods, sizeof *points, "a sweep"));
    for (uint32_t m = first; m < g->n_methods; m++) {
        if (!g->methods[m].family || strcmp(g->methods[m].family, family) != 0)
            continue;
        ferkd_status st = fk_row_of(&row, e, setting, m);
        if (st != FERKD_OK) {
            free(points);
            return st;
        }
        if (row.top1.n == 0)
            continue;
        double d = row.top1.deviation;
        points[n++] =
            (fk_point){g->methods[m].x, row.top1.mean, row.top1.mean - d, row.top1.mean + d};
    }
    if (n)
        series[p.n++] = (fk_series){family, FK_LINES, 0, 0.0, points, n};
    if (n && fk_row_of(&row, e, setting, g->baseline) == FERKD_OK && row.top1.n) {
        double y = row.top1.mean;
        double d = row.top1.deviation;
        level[0] = (fk_point){points[0].x, y, y - d, y + d};
        level[1] = (fk_point){points[n - 1].x, y, y - d, y + d};
        series[p.n++] = (fk_series){g->methods[g->baseline].name, FK_LINES, 1, 0.0, level, 2};
    }
    if (n)
        fk_plot_write(&p, f);
    free(points);
    return FERKD_OK;
}

static bool first_of_family(const fk_grid *g, uint32_t method)
{
    const char *family = g->methods[method].family;

    for (uint32_t m = 0; family && m < method; m++) {
        if (g->methods[m].family && strcmp(g->methods[m].family, family) == 0)
            return false;
    }
    return family != NULL;
}

/* --- the table --------------------------------------------------------------------------------- */

static void write_sample(const fk_sample *s, int digits, FILE *f)
{
    if (s->n == 0)
        (void)fputs("<td></td>", f);
    else if (s->n == 1)
        (void)fprintf(f, "<td>%.*f</td>", digits, s->mean);
    else
        (void)fprintf(f, "<td>%.*f ± %.*f</td>", digits, s->mean, digits, s->deviation);
}

static ferkd_status write_table(const ferkd_experiment *e, uint32_t setting, FILE *f)
{
    const fk_grid *g = &e->grid;
    fk_row row;

    (void)fputs("<table><tr><th>method</th><th>seeds</th><th>top-1</th><th>best</th><th>over ", f);
    fk_page_text(f, g->methods[g->baseline].name);
    (void)fputs(" (95%)</th><th>minutes</th>", f);
    if (g->target > 0.0)
        (void)fprintf(f, "<th>epochs to %g%%</th><th>minutes to it</th>", g->target);
    (void)fputs("</tr>\n", f);
    for (uint32_t m = 0; m < g->n_methods; m++) {
        TRY(fk_row_of(&row, e, setting, m));
        if (row.top1.n == 0)
            continue;
        (void)fputs("<tr><td>", f);
        fk_page_text(f, g->methods[m].name);
        (void)fprintf(f, "</td><td>%d</td>", row.top1.n);
        write_sample(&row.top1, 2, f);
        write_sample(&row.best, 2, f);
        if (row.gain.n > 1)
            (void)fprintf(f, "<td class=\"%s\">%+.2f [%+.2f, %+.2f]</td>",
                          row.gain.low > 0.0 ? "better" : "", row.gain.mean, row.gain.low,
                          row.gain.high);
        else if (row.gain.n == 1)
            (void)fprintf(f, "<td>%+.2f</td>", row.gain.mean);
        else
            (void)fputs("<td></td>", f);
        write_sample(&row.minutes, 1, f);
        if (g->target > 0.0) {
            write_sample(&row.target_epochs, 1, f);
            write_sample(&row.target_minutes, 1, f);
        }
        (void)fputs("</tr>\n", f);
    }
    (void)fputs("</table>\n", f);
    return FERKD_OK;
}

static void write_commands(const ferkd_experiment *e, FILE *f)
{
    (void)fputs("<details><summary>Each run, and the command that repeats it</summary><pre>", f);
    for (uint32_t i = 0; i < e->grid.n_trials; i++) {
        const fk_outcome *o = &e->outcomes[i];
        if (o->n == 0)
            continue;
        (void)fprintf(f, "%6.2f  epoch %zu/%" PRId64 "  ferkd train ", o->epochs[o->n - 1].top1,
                      o->n, e->grid.trials[i].recipe.epochs);
        fk_page_text(f, e->grid.trials[i].folder);
        (void)fputs("/recipe.yaml -o NEW\n", f);
    }
    (void)fputs("</pre></details>\n", f);
}

static ferkd_status write_setting(const ferkd_experiment *e, uint32_t setting, FILE *f)
{
    const fk_grid *g = &e->grid;

    if (*g->settings[setting].name) {
        (void)fputs("<h2>", f);
        fk_page_text(f, g->settings[setting].name);
        (void)fputs("</h2>\n", f);
    }
    TRY(write_table(e, setting, f));
    (void)fputs("<p></p><div class=\"plots\">\n", f);
    for (int way = 0; way < WAYS; way++)
        TRY(write_curves(e, setting, way, f));
    for (uint32_t m = 0; m < g->n_methods; m++) {
        if (first_of_family(g, m))
            TRY(write_sweep(e, setting, m, f));
    }
    (void)fputs("</div>\n", f);
    return FERKD_OK;
}

/* --- the store --------------------------------------------------------------------------------- */

/* What the first calibrated method makes of its store. A store or data that are gone are no reason to
 * have no page. */
static ferkd_status write_store(const ferkd_experiment *e, FILE *f)
{
    const fk_grid *g = &e->grid;
    ferkd_store *store = NULL;
    ferkd_dataset *data = NULL;
    ferkd_calibration *c = NULL;
    uint32_t i = 0;

    while (i < g->n_trials && strcmp(g->trials[i].recipe.method, "ferkd") != 0)
        i++;
    if (i == g->n_trials || !g->trials[i].recipe.labels)
        return FERKD_OK;
    const ferkd_recipe *r = &g->trials[i].recipe;
    ferkd_dataset_options how = {.class_names = r->class_names, .ignore_exif = r->ignore_exif};
    ferkd_status st = ferkd_store_open(&store, r->labels);
    if (st == FERKD_OK)
        st = ferkd_dataset_open(&data, r->data, &how);
    if (st == FERKD_OK)
        st = ferkd_calibration_new(&c, r->calibrate, store, fk_looks(r));
    if (st == FERKD_OK) {
        (void)fputs("<h2>Regions, as ", f);
        fk_page_text(f, g->methods[g->trials[i].method].name);
        (void)fputs(" treats them</h2>\n<p><code>", f);
        fk_page_text(f, ferkd_calibration_rules(c));
        (void)fputs("</code></p>\n", f);
        st = fk_write_store_figures(f, store, c, data);
    }
    ferkd_calibration_free(&c);
    ferkd_dataset_close(&data);
    ferkd_store_close(&store);
    return st == FERKD_MEMORY ? st : FERKD_OK;
}

ferkd_status fk_write_page(const ferkd_experiment *e, FILE *f)
{
    fk_page_begin(f, e->grid.name);
    (void)fputs("<h1>", f);
    fk_page_text(f, e->grid.name);
    (void)fputs("</h1>\n<p>", f);
    fk_page_text(f, e->grid.about);
    (void)fputs("</p>\n<p>top-1 is the last epoch's, best that of the best epoch; mean ± deviation "
                "over seeds. Differences are paired by seed, with Student's 95% interval; bands "
                "show the range over seeds.</p>\n",
                f);
    for (uint32_t s = 0; s < e->grid.n_settings; s++)
        TRY(write_setting(e, s, f));
    TRY(write_store(e, f));
    write_commands(e, f);
    fk_page_end(f);
    return FERKD_OK;
}
