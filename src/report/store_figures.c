/* A sample of regions with their groups, drawn. */
#include "base/compat.h"

#include "report/store_figures.h"

#include "base/file.h"
#include "base/mem.h"
#include "label/labels.h"
#include "report/plot.h"

#define IMAGES 500 /* looked at */
#define POINTS 700 /* drawn, of each group */
#define BINS   20

static const char *const GROUPS[] = {"discarded (UR)", "treated (HR)", "kept (IR)"};

/* One region of the sample. */
typedef struct spot {
    double x, y, area; /* of the image's width, height, area */
    double p;
    ferkd_group group;
    uint16_t truth;
    bool right;
} spot;

typedef struct sample {
    spot *spots;
    size_t n, cap;
} sample;

/* Scratch for one image. */
typedef struct scratch {
    fk_labels labels;
    ferkd_treatment *treat;
    ferkd_image image;
    uint8_t *file;
    size_t cap;
} scratch;

static ferkd_status size_of(const ferkd_dataset *data, uint32_t image, scratch *w, uint32_t *width,
                            uint32_t *height)
{
    *width = *height = 1000;
    if (!data)
        return FERKD_OK;
    TRY(ferkd_dataset_image(data, image, &w->image, &w->file, &w->cap, NULL));
    *width = w->image.width;
    *height = w->image.height;
    return FERKD_OK;
}

static ferkd_status add_image(sample *s, const ferkd_store *store, const ferkd_calibration *c,
                              const ferkd_dataset *data, uint32_t image, scratch *w)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    uint32_t truth = ferkd_store_truth(store, image);
    uint32_t width;
    uint32_t height;
    bool has;

    TRY(fk_labels_find(&w->labels, store, image, &has));
    if (!has || size_of(data, image, w, &width, &height) != FERKD_OK)
        return FERKD_OK; /* an image that cannot be read has no place in the sample */

    ferkd_store_place(store, image, width, height, w->labels.label);
    ferkd_calibration_judge(c, 0.0, truth, w->labels.label, info->regions, w->treat);
    TRY(fk_grow(&s->spots, &s->cap, s->n + info->regions, sizeof *s->spots));
    for (uint32_t r = 0; r < info->regions; r++) {
        ferkd_box b = ferkd_store_region(store, image, r, &w->labels.label[r], width, height).box;
        s->spots[s->n++] = (spot){.x = (b.left + b.width / 2.0) / width,
                                  .y = (b.top + b.height / 2.0) / height,
                                  .area = (double)w->labels.label[r].area,
                                  .p = (double)w->labels.label[r].teacher_max,
                                  .group = ferkd_group_of(w->treat[r]),
                                  .truth = (uint16_t)truth,
                                  .right = w->labels.label[r].index[0] == truth};
    }
    return FERKD_OK;
}

static ferkd_status take_sample(sample *s, const ferkd_store *store, const ferkd_calibration *c,
                                const ferkd_dataset *data)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    uint32_t step = info->images / IMAGES + 1;
    scratch w = {0};
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_labels_init(&w.labels, store));
    TRY_DONE(fk_calloc(&w.treat, info->regions, sizeof *w.treat, "a sample"));
    for (uint32_t i = 0; i < info->images; i += step)
        TRY_DONE(add_image(s, store, c, data, i, &w));
done:
    fk_labels_fini(&w.labels);
    free(w.treat);
    ferkd_image_fini(&w.image);
    free(w.file);
    return st;
}

/* --- figures ----------------------------------------------------------------------------------- */

/* Where the centres of a group's regions lie (figure 1). */
static void write_centres(const sample *s, ferkd_group g, fk_point *points, FILE *f)
{
    char title[96];
    size_t in_group = 0;
    fk_series series = {NULL, FK_POINTS, (int)g, 0.0, points, 0};
    fk_plot p = {.title = title,
                 .x_name = "across the image",
                 .y_name = "up the image",
                 .series = &series,
                 .n = 1,
                 .x_high = 1.0,
                 .y_high = 1.0};

    for (size_t i = 0; i < s->n; i++)
        in_group += s->spots[i].group == g;
    size_t step = in_group / POINTS + 1;
    size_t seen = 0;
    for (size_t i = 0; i < s->n; i++) {
        const spot *at = &s->spots[i];
        if (at->group == g && seen++ % step == 0)
            points[series.n++] = (fk_point){at->x, 1.0 - at->y, 1.0 - at->y, 1.0 - at->y};
    }
    (void)snprintf(title, sizeof title, "Centres of regions: %s", GROUPS[g]);
    if (series.n)
        fk_plot_write(&p, f);
}

/* How the areas of each group's regions are spread (figure 1). */
static void write_areas(const sample *s, FILE *f)
{
    fk_point points[3][BINS];
    fk_series series[3];
    fk_plot p = {.title = "Areas of regions by group",
                 .x_name = "share of the image",
                 .y_name = "% of the group",
                 .series = series,
                 .x_high = 1.0,
                 .y_from_zero = true};

    for (int g = 0; g < 3; g++) {
        double count[BINS] = {0};
        double all = 0.0;
        for (size_t i = 0; i < s->n; i++) {
            if (s->spots[i].group != (ferkd_group)g)
                continue;
            count[fk_min_int((int)(s->spots[i].area * BINS), BINS - 1)]++;
            all++;
        }
        for (int b = 0; b < BINS; b++) {
            double y = all > 0.0 ? 100.0 * count[b] / all : 0.0;
            points[g][b] = (fk_point){(b + 0.5) / BINS, y, y, y};
        }
        if (all > 0.0)
            series[p.n++] = (fk_series){GROUPS[g], FK_LINES, g, 0.0, points[g], BINS};
    }
    fk_plot_write(&p, f);
}

/* How sure the teacher is, by group (figure 2). */
static void write_surety(const sample *s, FILE *f)
{
    fk_point bars[3][BINS];
    fk_series series[3];
    double count[3][BINS] = {{0}};
    fk_plot p = {.title = "The teacher's largest probability",
                 .x_name = "p, over all its own classes",
                 .y_name = "% of regions",
                 .series = series,
                 .x_high = 1.0,
                 .y_from_zero = true};

    for (size_t i = 0; i < s->n; i++)
        count[s->spots[i].group][fk_min_int((int)(s->spots[i].p * BINS), BINS - 1)]++;
    for (int b = 0; b < BINS; b++) {
        double base = 0.0;
        for (int g = 0; g < 3; g++) { /* one upon the other */
            double y = base + 100.0 * count[g][b] / (double)fk_max_int((int)s->n, 1);
            bars[g][b] = (fk_point){(double)b / BINS, y, base, y};
            base = y;
        }
    }
    for (int g = 0; g < 3; g++) {
        double all = 0.0;
        for (int b = 0; b < BINS; b++)
            all += count[g][b];
        if (all > 0.0)
            series[p.n++] = (fk_series){GROUPS[g], FK_BARS, g, 1.0 / BINS, bars[g], BINS};
    }
    fk_plot_write(&p, f);
}

enum { BY_SURETY, BY_AREA, BY_PLACE };

/* What a region is looked at by: from 0 to 1. */
static double measure_of(const spot *at, int by)
{
    double x = 2.0 * (at->x - 0.5);
    double y = 2.0 * (at->y - 0.5);

    return by == BY_SURETY ? at->p : by == BY_AREA ? at->area : fmin(sqrt(x * x + y * y), 1.0);
}

/* How often the teacher's first class is the ground truth. */
static void write_right(const sample *s, int by, FILE *f)
{
    static const char *const names[] = {"p, over all its own classes", "share of the image",
                                        "distance of the centre from the middle (1: the edge)"};
    static const char *const titles[] = {"How often the teacher is right: by its surety",
                                         "How often the teacher is right: by area",
                                         "How often the teacher is right: by place"};
    fk_point points[BINS];
    fk_series line = {NULL, FK_LINES, 2, 0.0, points, 0};
    double count[BINS] = {0};
    double hits[BINS] = {0};
    fk_plot p = {.title = titles[by],
                 .x_name = names[by],
                 .y_name = "% of regions, among the data set's classes",
                 .series = &line,
                 .n = 1,
                 .x_high = 1.0};

    for (size_t i = 0; i < s->n; i++) {
        int b = fk_min_int((int)(measure_of(&s->spots[i], by) * BINS), BINS - 1);
        count[b]++;
        hits[b] += s->spots[i].right;
    }
    for (int b = 0; b < BINS; b++) {
        if (count[b] < 5.0)
            continue; /* too few to say */
        double y = 100.0 * hits[b] / count[b];
        double half = 196.0 * sqrt(y / 100.0 * (1.0 - y / 100.0) / count[b]);
        points[line.n++] =
            (fk_point){(b + 0.5) / BINS, y, fmax(y - half, 0.0), fmin(y + half, 100.0)};
    }
    if (line.n)
        fk_plot_write(&p, f);
}

typedef struct class_count {
    uint32_t class;
    double regions, right;
} class_count;

static int by_right(const void *a, const void *b)
{
    const class_count *x = a;
    const class_count *y = b;
    double u = x->regions > 0.0 ? x->right / x->regions : 2.0;
    double v = y->regions > 0.0 ? y->right / y->regions : 2.0;

    return (u > v) - (u < v);
}

/* The classes that the teacher knows least. */
static ferkd_status write_classes(const sample *s, const ferkd_store *store,
                                  const ferkd_dataset *data, FILE *f)
{
    uint32_t classes = ferkd_store_about(store)->classes;
    class_count *count = NULL;

    TRY(fk_calloc(&count, classes, sizeof *count, "a table"));
    for (uint32_t c = 0; c < classes; c++)
        count[c].class = c;
    for (size_t i = 0; i < s->n; i++) {
        if (s->spots[i].truth >= classes)
            continue;
        count[s->spots[i].truth].regions++;
        count[s->spots[i].truth].right += s->spots[i].right;
    }
    qsort(count, classes, sizeof *count, by_right);
    (void)fputs("<h2>Classes that the teacher knows least</h2>\n<table><tr><th>class</th>"
                "<th>regions looked at</th><th>teacher right</th></tr>\n",
                f);
    for (uint32_t c = 0; c < classes && c < 20 && count[c].regions > 0.0; c++) {
        (void)fputs("<tr><td>", f);
        if (data)
            fk_page_text(f, ferkd_dataset_class_name(data, count[c].class));
        else
            (void)fprintf(f, "%u", count[c].class);
        (void)fprintf(f, "</td><td>%.0f</td><td>%.1f%%</td></tr>\n", count[c].regions,
                      100.0 * count[c].right / count[c].regions);
    }
    (void)fputs("</table>\n", f);
    free(count);
    return FERKD_OK;
}

ferkd_status fk_write_store_figures(FILE *f, const ferkd_store *store, const ferkd_calibration *c,
                                    const ferkd_dataset *data)
{
    sample s = {0};
    fk_point *points = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(take_sample(&s, store, c, data));
    TRY_DONE(fk_calloc(&points, s.n + 1, sizeof *points, "a plot"));
    (void)fputs("<div class=\"plots\">\n", f);
    write_surety(&s, f);
    write_areas(&s, f);
    for (int g = 0; g < 3; g++)
        write_centres(&s, (ferkd_group)g, points, f);
    for (int by = BY_SURETY; by <= BY_PLACE; by++)
        write_right(&s, by, f);
    (void)fputs("</div>\n", f);
    TRY_DONE(write_classes(&s, store, data, f));
done:
    free(points);
    free(s.spots);
    return st;
}

/* --- a page of its own ------------------------------------------------------------------------- */

static void write_head(FILE *f, const ferkd_store *store, const ferkd_calibration *c,
                       const ferkd_calibration_counts *n)
{
    const ferkd_store_info *i = ferkd_store_about(store);
    const uint64_t all = n->regions ? n->regions : 1;

    fk_page_begin(f, ferkd_store_path(store));
    (void)fputs("<h1>", f);
    fk_page_text(f, ferkd_store_path(store));
    (void)fprintf(f, "</h1>\n<p>%u images, %u regions each, top %u of %u classes; teacher ",
                  i->labelled, i->regions, i->topk, i->label_classes);
    fk_page_text(f, i->teacher);
    (void)fprintf(f, " with %u classes at %u px. %.2f bytes a region.</p>\n<p>Rules: <code>",
                  i->teacher_classes, i->teacher_px,
                  (double)i->file_bytes / ((double)i->images * i->regions));
    fk_page_text(f, ferkd_calibration_rules(c));
    (void)fputs("</code></p>\n<pre>", f);
    fk_page_text(f, ferkd_calibration_words(c));
    (void)fputs("</pre>\n<table><tr><th>group</th><th>regions</th><th>share</th>"
                "<th>teacher right</th></tr>\n",
                f);
    for (int g = 0; g < 3; g++)
        (void)fprintf(f, "<tr><td>%s</td><td>%" PRIu64 "</td><td>%.2f%%</td><td>%.2f%%</td></tr>\n",
                      GROUPS[g], n->group[g], 100.0 * (double)n->group[g] / (double)all,
                      100.0 * (double)n->group_right[g] / (double)(n->group[g] ? n->group[g] : 1));
    (void)fputs("</table>\n<p></p>\n", f);
}

ferkd_status ferkd_store_page(const ferkd_store *store, const char *rules, double visits,
                              const ferkd_dataset *data, const char *path)
{
    ferkd_calibration *c = NULL;
    ferkd_calibration_counts n;
    char *text = NULL;
    size_t size = 0;
    FILE *f = NULL;
    ferkd_status st = FERKD_OK;

    TRY(ferkd_calibration_new(&c, rules, store, visits));
    TRY_DONE(ferkd_calibration_count(c, store, 0.0, &n));
    f = open_memstream(&text, &size);
    if (!f) {
        st = fk_fail(FERKD_MEMORY, "%s: no memory to write it", path);
        goto done;
    }
    write_head(f, store, c, &n);
    st = fk_write_store_figures(f, store, c, data);
    fk_page_end(f);
    (void)fclose(f);
    if (st == FERKD_OK)
        st = fk_file_replace(path, text, size);
done:
    free(text);
    ferkd_calibration_free(&c);
    return st;
}
