/* A trained model as ONNX, as it is or in 8 bits. For the latter, the ranges of its values are measured on images: a
 * copy of the graph gives, in place of logits, the smallest and the largest of each value. */
#include "base/compat.h"

#include "train/model.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "net/quantise.h"
#include "train/view.h"

#define IMAGES  256 /* that are enough for ranges */
#define BATCH   16
#define SEVERAL 7 /* images in the graph that is written, so that what is repeated for each shows */

/* --- ranges ---------------------------------------------------------------------------------- */

/* Node id's value, reduced to one number an image: [N, 1]. Its elements are image after image, however they are shaped. */
static ferkd_status extreme(fk_graph *g, int id, fk_reduce kind, int *out)
{
    const fk_node *of = &g->nodes[id];
    int64_t images = g->nodes[g->input].shape.d[0];
    int64_t count = fk_shape_count(&of->shape);
    fk_node rows = {.op = FK_RESHAPE, .name = "rows", .in = &id, .n_in = 1};
    fk_node n = {.op = FK_REDUCE, .name = "extreme", .in = out, .n_in = 1};

    if (count % images)
        return fk_fail(FERKD_UNSUPPORTED,
                       "%s: the value of node %s has no images to be measured by", g->name,
                       of->name);
    memset(n.param, -1, sizeof n.param);
    memset(rows.param, -1, sizeof rows.param);
    rows.shape = fk_shape_of(2, images, count / images);
    n.u.reduce.kind = kind;
    n.u.reduce.axes = 2u;
    n.u.reduce.keep = true;
    TRY(fk_graph_add(g, &rows, out));
    return fk_graph_add(g, &n, out);
}

/* The graph's output becomes [N, 2 values]: smallest and largest of each that is on. */
static ferkd_status observe(fk_graph *g, const bool *on, size_t n_nodes)
{
    int *parts = NULL;
    fk_node all = {.op = FK_CONCAT, .name = "ranges", .param = {-1, -1, -1, -1}};

    TRY(fk_calloc(&parts, 2 * n_nodes, sizeof *parts, "ranges"));
    ferkd_status st = FERKD_OK;
    for (size_t i = 0; i < n_nodes && st == FERKD_OK; i++) {
        for (int k = 0; on[i] && k < 2 && st == FERKD_OK; k++)
            st = extreme(g, (int)i, k ? FK_BY_MAX : FK_BY_MIN, &parts[all.n_in++]);
    }
    all.in = parts;
    all.u.axis.axis = 1;
    if (st == FERKD_OK)
        st = fk_graph_add(g, &all, &g->output);
    free(parts);
    return st;
}

static int by_value(const void *a, const void *b)
{
    const float *x = a;
    const float *y = b;

    return (*x > *y) - (*x < *y);
}

/* Of what the images say, the outermost two in a hundred are left out: they cost all the others resolution. 0 is always
 * inside, as padding needs it. */
static void settle(float *extremes, uint32_t images, size_t columns, const bool *on, size_t n_nodes,
                   fk_range *ranges)
{
    size_t out = images / 50;
    size_t column = 0;

    for (size_t i = 0; i < n_nodes; i++) {
        ranges[i] = (fk_range){1.0f, -1.0f}; /* not in 8 bits */
        if (!on[i])
            continue;
        float *low = extremes + column++ * images;
        float *high = extremes + column++ * images;
        qsort(low, images, sizeof *low, by_value);
        qsort(high, images, sizeof *high, by_value);
        ranges[i].low = fminf(low[out], 0.0f);
        ranges[i].high = fmaxf(high[images - 1 - out], 0.0f);
    }
    assert(column == columns);
}

/* extremes: [columns][images], of as many images as could be read. */
static ferkd_status run_images(fk_plan *plan, fk_view *view, size_t columns, uint32_t images,
                               float *extremes, uint32_t *read, const ferkd_watch *watch)
{
    size_t each = fk_view_floats(view);

    *read = 0;
    for (;;) {
        uint32_t first;
        uint32_t n;
        const float *inputs;
        const fk_fault *faults;
        TRY(fk_view_next(view, &first, &n, &inputs, &faults));
        if (n == 0)
            break;
        memcpy(fk_plan_input(plan), inputs, n * each * sizeof *inputs);
        TRY(fk_plan_forward(plan, 0));
        const float *row = fk_plan_output(plan);
        for (uint32_t i = 0; i < n; i++, row += columns) {
            for (size_t c = 0; faults[i].status == FERKD_OK && c < columns; c++)
                extremes[c * images + *read] = row[c];
            *read += faults[i].status == FERKD_OK;
        }
        if (watch && watch->progress)
            watch->progress(watch->ctx, "ranges", first + n, images, "");
        if (watch && watch->stop && watch->stop(watch->ctx))
            return fk_fail(FERKD_STOPPED, "stopped after %u of %u images", first + n, images);
    }
    return *read
               ? FERKD_OK
               : fk_fail(FERKD_CORRUPT, "none of the images whose ranges are wanted could be read");
}

/* Columns of images that were not read are closed up. */
static void close_up(float *extremes, size_t columns, uint32_t images, uint32_t read)
{
    for (size_t c = 1; c < columns && read < images; c++)
        memmove(extremes + c * read, extremes + c * images, read * sizeof *extremes);
}

/* ranges: of the values of the folded graph. */
static ferkd_status measure(const ferkd_model *m, const ferkd_export_options *o, fk_range *ranges,
                            const ferkd_watch *watch)
{
    fk_plan_options how = {0};
    fk_graph *g = NULL;
    fk_plan *plan = NULL;
    fk_view *view = NULL;
    bool *on = NULL;
    float *extremes = NULL;
    uint32_t images = o->int8_images ? o->int8_images : IMAGES;
    uint32_t read;
    ferkd_status st = FERKD_OK;

    images = (uint32_t)fk_min_size(images, ferkd_dataset_images(o->int8_data));
    TRY_DONE(fk_model_graph(m, BATCH, &g));
    fk_graph_fold_norms(g);
    size_t n_nodes = g->n_nodes;
    TRY_DONE(fk_calloc(&on, n_nodes, sizeof *on, m->path));
    fk_quantise_points(g, on);
    TRY_DONE(observe(g, on, n_nodes));
    size_t columns = (size_t)g->nodes[g->output].shape.d[1];
    TRY_DONE(fk_plan_new(&plan, g, &how));
    TRY_DONE(fk_calloc(&extremes, columns * images, sizeof *extremes, "ranges"));
    fk_view_options v = {.how = m->how,
                         .channels_last = m->channels_last,
                         .batch = (uint32_t)g->nodes[g->input].shape.d[0],
                         .threads = fk_threads(0),
                         .images = images};
    TRY_DONE(fk_view_new(&view, o->int8_data, &v));
    TRY_DONE(run_images(plan, view, columns, images, extremes, &read, watch));
    close_up(extremes, columns, images, read);
    settle(extremes, read, columns, on, n_nodes, ranges);
done:
    fk_view_free(&view);
    fk_plan_free(&plan);
    fk_graph_free(&g);
    free(extremes);
    free(on);
    return st;
}

/* --- export ---------------------------------------------------------------------------------- */

static ferkd_status check(const char *path, const ferkd_export_options *o)
{
    if (o->opset && (o->opset < 13 || o->opset > 18))
        return fk_fail(FERKD_USAGE, "%s: opset %u; 13 to 18 can be written", path, o->opset);
    if (o->int8_data && o->half)
        return fk_fail(FERKD_USAGE, "%s: in 16 bits or in 8, not both", path);
    return FERKD_OK;
}

ferkd_status ferkd_model_export(const ferkd_model *m, const char *path,
                                const ferkd_export_options *options, const ferkd_watch *watch)
{
    ferkd_export_options o = options ? *options : (ferkd_export_options){0};
    fk_onnx_form form = {.opset = o.opset, .half = o.half, .for_opencv4 = o.for_opencv4};
    char *card = NULL;
    char *sidecar = NULL;
    fk_graph *g = NULL;
    fk_range *ranges = NULL;
    ferkd_status st = FERKD_OK;

    TRY(check(path, &o));
    TRY_DONE(fk_model_card(&card, &m->how, m->channels_last, m->names, m->classes));
    TRY_DONE(fk_model_sidecar(&sidecar, path));
    TRY_DONE(fk_model_graph(m, SEVERAL, &g));
    if (o.fold_norms || o.int8_data)
        fk_graph_fold_norms(g);
    if (o.int8_data) {
        TRY_DONE(fk_calloc(&ranges, g->n_nodes, sizeof *ranges, path));
        TRY_DONE(measure(m, &o, ranges, watch));
        form.ranges = ranges;
    }
    fk_onnx_text text = {"ferkd", card};
    TRY_DONE(fk_onnx_write(path, g, &form, &text, 1));
    TRY_DONE(fk_file_replace(sidecar, card, strlen(card)));
done:
    fk_graph_free(&g);
    free(ranges);
    free(card);
    free(sidecar);
    return st;
}
