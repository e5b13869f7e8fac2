/* "ferkd info": layers, shapes, parameters, multiply-adds of any model. */
#include "base/compat.h"

#include "train/model.h"

#include "base/file.h"
#include "base/mem.h"
#include "net/netfile.h"

const char *ferkd_zoo_name(uint32_t i)
{
    return i < fk_zoo_count ? fk_zoo[i].name : NULL;
}

const char *ferkd_zoo_about(uint32_t i)
{
    return i < fk_zoo_count ? fk_zoo[i].about : NULL;
}

static ferkd_status describe_layers(ferkd_description *out, const fk_graph *g)
{
    char text[128];
    int *uses = NULL;

    TRY(fk_calloc(&uses, g->n_nodes, sizeof *uses, g->name));
    fk_graph_uses(g, uses);
    ferkd_status st = fk_calloc(&out->layers, g->n_nodes, sizeof *out->layers, g->name);
    double batch = (double)g->nodes[g->input].shape.d[0];
    for (size_t i = 0; st == FERKD_OK && i < g->n_nodes; i++) {
        const fk_node *n = &g->nodes[i];
        if (uses[i] == 0 || n->op == FK_CONST)
            continue;
        ferkd_layer *l = &out->layers[out->n_layers];
        char *name = NULL;
        char *shape = NULL;
        fk_shape_text(&n->shape, text, sizeof text);
        st = fk_strdup(&name, n->name);
        if (st == FERKD_OK)
            st = fk_strdup(&shape, text);
        *l = (ferkd_layer){.name = name,
                           .shape = shape,
                           .kind = n->op == FK_ACT ? fk_act_name(n->u.act.kind) : fk_op_name(n->op),
                           .macs = fk_node_macs(g, n) / batch};
        for (int k = 0; k < FK_MAX_PARAMS; k++) {
            if (n->param[k] >= 0 && g->params[n->param[k]].kind != FK_BUFFER)
                l->params += g->params[n->param[k]].count;
        }
        out->macs += l->macs;
        out->n_layers++;
    }
    free(uses);
    return st;
}

static ferkd_status describe_params(ferkd_description *out, const fk_graph *g)
{
    char text[128];

    TRY(fk_calloc(&out->params, g->n_params, sizeof *out->params, g->name));
    for (size_t i = 0; i < g->n_params; i++) {
        fk_shape_text(&g->params[i].shape, text, sizeof text);
        TRY(fk_asprintf(&out->params[i], "%s %s", g->params[i].name, text));
        out->n_params++;
    }
    return FERKD_OK;
}

/* The graph of a zoo name. */
static ferkd_status zoo_graph(fk_graph **g, ferkd_description *out, const char *name,
                              uint32_t batch)
{
    const fk_zoo_entry *e = fk_zoo_find(name);

    if (e || fk_is_netfile(name)) {
        int64_t size = fk_zoo_size(name);
        out->about = e ? e->about : "a network file";
        out->size_px = out->size_px ? out->size_px : (uint32_t)size;
        out->classes = out->classes ? out->classes : size == 224 ? 1000 : 10;
    }
    fk_zoo_options o = {.batch = batch,
                        .channels = out->size_px == 28 && e && e->size == 28 ? 1 : 3,
                        .size = out->size_px,
                        .classes = out->classes};
    return fk_zoo_build(g, name, &o);
}

/* Of an ONNX file or a zoo name, for a batch. */
static ferkd_status file_or_zoo_graph(fk_graph **g, ferkd_description *out, const char *what,
                                      uint32_t batch)
{
    fk_onnx_file *onnx = NULL;

    if (!fk_is_file(what) || fk_is_netfile(what))
        return zoo_graph(g, out, what, batch);
    TRY(fk_onnx_open(&onnx, what));
    ferkd_status st = fk_onnx_graph(onnx, batch, out->size_px, g);
    fk_onnx_close(&onnx);
    return st;
}

ferkd_status ferkd_describe(ferkd_description *out, const char *what, uint32_t size_px,
                            uint32_t classes)
{
    fk_graph *g = NULL;
    ferkd_model *m = NULL;
    ferkd_status st = FERKD_OK;
    const fk_graph *graph;

    *out = (ferkd_description){.size_px = size_px, .classes = classes};
    if (fk_is_folder(what)) {
        TRY_DONE(ferkd_model_open(&m, what, NULL));
        graph = m->graph;
    } else {
        TRY_DONE(file_or_zoo_graph(&g, out, what, 1));
        graph = g;
    }
    (void)snprintf(out->name, sizeof out->name, "%.63s", graph->name);
    out->trained = fk_graph_trained(graph);
    out->classes = (uint32_t)graph->nodes[graph->output].shape.d[1];
    out->size_px = (uint32_t)graph->nodes[graph->input].shape.d[2];
    TRY_DONE(describe_layers(out, graph));
    TRY_DONE(describe_params(out, graph));
done:
    fk_graph_free(&g);
    ferkd_model_close(&m);
    if (st != FERKD_OK)
        ferkd_description_fini(out);
    return st;
}

void ferkd_description_fini(ferkd_description *d)
{
    for (uint32_t i = 0; i < d->n_layers; i++) {
        free((void *)(uintptr_t)d->layers[i].name);
        free((void *)(uintptr_t)d->layers[i].shape);
    }
    for (uint32_t i = 0; i < d->n_params; i++)
        free(d->params[i]);
    free(d->layers);
    free(d->params);
    *d = (ferkd_description){0};
}

static ferkd_status arena_of(fk_graph *g, bool train, double *bytes)
{
    fk_plan_options o = {.train = train};
    fk_plan *p = NULL;

    TRY(fk_plan_new(&p, g, &o));
    *bytes = (double)fk_plan_bytes(p);
    fk_plan_free(&p);
    return FERKD_OK;
}

ferkd_status ferkd_measure_footprint(ferkd_footprint *out, const char *what, uint32_t size_px,
                                     uint32_t classes, uint32_t batch)
{
    ferkd_description about = {.size_px = size_px, .classes = classes};
    fk_graph *g = NULL;
    ferkd_status st = FERKD_OK;

    *out = (ferkd_footprint){0};
    if (fk_is_folder(what))
        return fk_fail(FERKD_USAGE,
                       "%s: a run folder; memory is told of a model's name or an ONNX file", what);
    TRY_DONE(file_or_zoo_graph(&g, &about, what, batch));
    out->weights = (double)(g->n_values * sizeof(float));
    out->learning = 3.0 * (double)(g->n_trained * sizeof(float));
    TRY_DONE(arena_of(g, true, &out->train));
    TRY_DONE(arena_of(g, false, &out->run));
done:
    fk_graph_free(&g);
    return st;
}
