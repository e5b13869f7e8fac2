/* A tensor through a network, as it is. */
#include "base/compat.h"

#include "base/file.h"
#include "base/mem.h"
#include "exchange/npy.h"
#include "net/netfile.h"
#include "train/init.h"
#include "train/model.h"

/* The network for a tensor of this shape, with its weights. */
static ferkd_status from_zoo(const ferkd_run_options *o, const fk_shape *x,
                             const ferkd_watch *watch, fk_graph **out)
{
    fk_zoo_options z = {.classes = o->classes ? o->classes : 1000};
    fk_graph *g = NULL;

    if (!o->weights)
        return fk_fail(FERKD_USAGE, "%s: a network without weights; give them with --weights FILE",
                       o->model);
    if (x->n != 4 || x->d[2] != x->d[3])
        return fk_fail(FERKD_USAGE, "%s: takes [N, channels, size, size]", o->model);
    z.batch = x->d[0];
    z.channels = x->d[1];
    z.size = x->d[2];
    TRY(fk_zoo_build(&g, o->model, &z));
    ferkd_status st = fk_load_init(g, o->weights, watch, NULL);
    if (st == FERKD_OK)
        *out = g;
    else
        fk_graph_free(&g);
    return st;
}

static ferkd_status from_onnx(const ferkd_run_options *o, const fk_shape *x, fk_graph **out)
{
    fk_onnx_file *f = NULL;

    TRY(fk_onnx_open(&f, o->model));
    ferkd_status st = fk_onnx_graph_raw(f, x, out);
    fk_onnx_close(&f);
    return st;
}

/* The whole tensor, in as many pieces as the network's batch asks for. */
static ferkd_status run_pieces(fk_plan *p, fk_graph *g, const fk_shape *x, const float *values,
                               fk_shape *y, float **out)
{
    const fk_shape *in = &g->nodes[g->input].shape;
    *y = g->nodes[g->output].shape;
    size_t n_in = (size_t)fk_shape_count(in);
    size_t n_out = (size_t)fk_shape_count(y);
    int64_t pieces = x->n ? x->d[0] / in->d[0] : 1;

    if (pieces < 1 || (x->n && x->d[0] % in->d[0]))
        return fk_fail(FERKD_USAGE, "%s: made for batches of %" PRId64 ", not %" PRId64, g->name,
                       in->d[0], x->d[0]);
    if (pieces > 1 && (y->n < 1 || y->d[0] != in->d[0]))
        return fk_fail(FERKD_UNSUPPORTED, "%s: made for batches of %" PRId64 " alone", g->name,
                       in->d[0]);
    TRY(fk_calloc(out, n_out * (size_t)pieces, sizeof **out, g->name));
    for (int64_t i = 0; i < pieces; i++) {
        memcpy(fk_plan_input(p), values + (size_t)i * n_in, n_in * sizeof(float));
        TRY(fk_plan_forward(p, 0));
        memcpy(*out + (size_t)i * n_out, fk_plan_output(p), n_out * sizeof(float));
    }
    if (y->n)
        y->d[0] *= pieces;
    return FERKD_OK;
}

static ferkd_status run_graph(const ferkd_run_options *o, fk_graph *g, const fk_shape *x,
                              const float *values, fk_shape *y, float **out)
{
    fk_plan_options how = {.half = o->precision && strcmp(o->precision, "f32") != 0};
    fk_plan *p = NULL;

    TRY(fk_plan_new(&p, g, &how));
    ferkd_status st = run_pieces(p, g, x, values, y, out);
    fk_plan_free(&p);
    return st;
}

static ferkd_status run_folder(const ferkd_run_options *o, const fk_shape *x, const float *values,
                               fk_shape *y, float **out)
{
    ferkd_model_options how = {.weights = o->weights, .precision = o->precision};
    ferkd_model *m = NULL;

    TRY(ferkd_model_open(&m, o->model, &how));
    const fk_shape *in = &m->graph->nodes[m->graph->input].shape;
    ferkd_status st = FERKD_OK;
    if (x->n != 4 || memcmp(x->d + 1, in->d + 1, 3 * sizeof *x->d) != 0) {
        char text[128];
        fk_shape_text(in, text, sizeof text);
        st = fk_fail(FERKD_USAGE, "%s: takes %s, with any number of images", o->model, text);
    }
    if (st == FERKD_OK) {
        *y = fk_shape_of(2, x->d[0], (int64_t)m->classes);
        st = fk_calloc(out, (size_t)fk_shape_count(y), sizeof **out, o->model);
    }
    if (st == FERKD_OK)
        st = ferkd_model_run(m, values, (uint32_t)x->d[0], *out);
    ferkd_model_close(&m);
    return st;
}

ferkd_status ferkd_run(const ferkd_run_options *o, const ferkd_watch *watch, char *shape,
                       size_t size)
{
    ferkd_status st = FERKD_OK;
    fk_graph *g = NULL;
    fk_shape x = {0};
    fk_shape y = {0};
    float *values = NULL;
    float *out = NULL;

    TRY(fk_npy_read(o->input, &x, &values));
    if (fk_is_folder(o->model)) {
        TRY_DONE(run_folder(o, &x, values, &y, &out));
    } else {
        if (fk_is_netfile(o->model) || (!fk_ends_with(o->model, ".onnx") && !fk_is_file(o->model)))
            TRY_DONE(from_zoo(o, &x, watch, &g));
        else
            TRY_DONE(from_onnx(o, &x, &g));
        TRY_DONE(run_graph(o, g, &x, values, &y, &out));
    }
    TRY_DONE(fk_npy_write(o->output, &y, out));
    fk_shape_text(&y, shape, size);
done:
    fk_graph_free(&g);
    free(values);
    free(out);
    return st;
}
