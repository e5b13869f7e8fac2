/* Reading an ONNX model: the file, the table of values, node after node. */
#include "base/compat.h"

#include "exchange/onnx.h"

#include "base/file.h"
#include "base/mem.h"
#include "exchange/onnx_external.h"
#include "exchange/onnx_graph.h"

#define MIN_OPSET 7
#define MAX_OPSET 28

struct fk_onnx_file {
    char *path;
    Onnx__ModelProto *model;
    uint64_t external; /* hash of its data in other files */
};

ferkd_preprocess ferkd_preprocess_defaults(void)
{
    return (ferkd_preprocess){.size_px = 224,
                              .mean = {0.485, 0.456, 0.406},
                              .std = {0.229, 0.224, 0.225},
                              .filter = FERKD_BILINEAR,
                              .crop_pct = 0.875,
                              .channels = 3};
}

/* --- the file -------------------------------------------------------------------------------- */

ferkd_status fk_onnx_parse(fk_onnx_file **out, const void *bytes, size_t n, const char *path)
{
    ferkd_status st = FERKD_OK;
    fk_onnx_file *f = NULL;

    if (n > FK_MAX_ONNX_BYTES)
        return fk_fail(FERKD_LIMIT, "%s: %zu bytes, the limit of protobuf is 2 GiB", path, n);
    TRY(fk_calloc(&f, 1, sizeof *f, path));
    TRY_DONE(fk_strdup(&f->path, path));
    f->model = onnx__model_proto__unpack(NULL, n, bytes);
    if (!f->model || !f->model->graph || f->model->graph->n_node == 0) {
        st = fk_fail(FERKD_CORRUPT, "%s: not an ONNX model, or damaged; export it again", path);
        goto done;
    }
    *out = f;
    f = NULL;
done:
    fk_onnx_close(&f);
    return st;
}

ferkd_status fk_onnx_open(fk_onnx_file **out, const char *path)
{
    fk_map map = {0};

    TRY(fk_map_open(&map, path));
    ferkd_status st = fk_onnx_parse(out, map.bytes, map.size_bytes, path);
    fk_map_close(&map);
    if (st == FERKD_OK)
        st = fk_onnx_load_external((*out)->model, path, &(*out)->external);
    if (st != FERKD_OK)
        fk_onnx_close(out);
    return st;
}

void fk_onnx_close(fk_onnx_file **file)
{
    fk_onnx_file *f = *file;

    if (!f)
        return;
    if (f->model)
        onnx__model_proto__free_unpacked(f->model, NULL);
    free(f->path);
    free(f);
    *file = NULL;
}

uint64_t fk_onnx_external(const fk_onnx_file *f)
{
    return f->external;
}

const char *fk_onnx_metadata(const fk_onnx_file *f, const char *key)
{
    for (size_t i = 0; i < f->model->n_metadata_props; i++) {
        const Onnx__StringStringEntryProto *e = f->model->metadata_props[i];
        if (e->key && strcmp(e->key, key) == 0)
            return e->value;
    }
    return NULL;
}

/* --- names ----------------------------------------------------------------------------------- */

static fk_value *slot_of(const fk_reader *r, const char *name)
{
    size_t i = fk_hash64(name, strlen(name), 0) & (r->table_size - 1);

    while (r->table[i].name && strcmp(r->table[i].name, name) != 0)
        i = (i + 1) & (r->table_size - 1);
    return &r->table[i];
}

ferkd_status fk_reader_set(fk_reader *r, const char *name, fk_constant *constant, int node)
{
    fk_value *v = slot_of(r, name);

    if (v->name)
        return fk_fail(FERKD_CORRUPT, "%s: the value \"%s\" is made twice", r->path, name);
    if (r->table_used + 1 >= r->table_size)
        return fk_fail(FERKD_LIMIT, "%s: more values than nodes promise", r->path);
    r->table_used++;
    *v = (fk_value){.name = name, .constant = constant, .node = node};
    return FERKD_OK;
}

void fk_reader_set_node(fk_reader *r, const fk_value *v, int node)
{
    r->table[v - r->table].as_node = node + 1;
}

const fk_value *fk_reader_find(const fk_reader *r, const char *name)
{
    const fk_value *v = slot_of(r, name);

    return v->name ? v : NULL;
}

ferkd_status fk_reader_refuse(const fk_reader *r, const char *why)
{
    return fk_fail(FERKD_UNSUPPORTED, "%s: node \"%s\", op %s, opset %" PRId64 ": %s", r->path,
                   r->node->name && *r->node->name ? r->node->name
                   : r->node->n_output             ? r->node->output[0]
                                                   : "?",
                   r->node->op_type, r->opset, why);
}

/* --- attributes and inputs of the node at hand ----------------------------------------------- */

const Onnx__AttributeProto *fk_attr(const fk_reader *r, const char *name)
{
    for (size_t i = 0; i < r->node->n_attribute; i++) {
        const Onnx__AttributeProto *a = r->node->attribute[i];
        if (a->name && strcmp(a->name, name) == 0)
            return a;
    }
    return NULL;
}

int64_t fk_attr_int(const fk_reader *r, const char *name, int64_t initial)
{
    const Onnx__AttributeProto *a = fk_attr(r, name);

    return a && a->has_i ? a->i : initial;
}

float fk_attr_float(const fk_reader *r, const char *name, float initial)
{
    const Onnx__AttributeProto *a = fk_attr(r, name);

    return a && a->has_f ? a->f : initial;
}

const fk_value *fk_input(const fk_reader *r, size_t i)
{
    if (i >= r->node->n_input || r->node->input[i][0] == '\0')
        return NULL;
    return fk_reader_find(r, r->node->input[i]);
}

const fk_constant *fk_input_constant(const fk_reader *r, size_t i, bool *bad)
{
    const fk_value *v = fk_input(r, i);

    *bad = v && !v->constant;
    return v ? v->constant : NULL;
}

ferkd_status fk_ints(const fk_reader *r, const char *name, size_t i, int64_t *out, int max, int *n)
{
    const Onnx__AttributeProto *a = fk_attr(r, name);
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    *n = 0;
    if (bad || (c && c->real))
        return fk_reader_refuse(r, "a list of integers is computed while running");
    int64_t count = a ? (int64_t)a->n_ints : c ? fk_shape_count(&c->shape) : 0;
    if (count > max)
        return fk_reader_refuse(r, "a list of integers is too long");
    for (int k = 0; k < count; k++)
        out[k] = a ? a->ints[k] : c->i[k];
    *n = (int)count;
    return FERKD_OK;
}

ferkd_status fk_axis(const fk_reader *r, int64_t axis, int rank, int *out)
{
    if (axis < -rank || axis >= rank)
        return fk_reader_refuse(r, "an axis out of range");
    *out = (int)(axis < 0 ? axis + rank : axis);
    return FERKD_OK;
}

ferkd_status fk_reshape_target(const fk_reader *r, const fk_shape *in, fk_shape *out)
{
    int64_t dims[FK_MAX_DIMS];
    int64_t known = 1;
    int open = -1;
    int n;
    bool keep_zero = fk_attr_int(r, "allowzero", 0) != 0;

    TRY(fk_ints(r, "shape", 1, dims, FK_MAX_DIMS, &n));
    *out = (fk_shape){.n = n};
    for (int i = 0; i < n; i++) {
        out->d[i] = dims[i];
        if (dims[i] == 0 && !keep_zero)
            out->d[i] = i < in->n ? in->d[i] : 0;
        if (dims[i] < -1 || (dims[i] == -1 && open >= 0))
            return fk_reader_refuse(r, "a shape with more than one open dimension");
        if (dims[i] == -1)
            open = i;
        else if (__builtin_mul_overflow(known, out->d[i], &known))
            return fk_reader_refuse(r, "a shape that is too large");
    }
    int64_t all = fk_shape_count(in);
    if (open >= 0)
        out->d[open] = known ? all / known : 0;
    if (fk_shape_count(out) != all)
        return fk_reader_refuse(r, "the number of elements changes");
    return FERKD_OK;
}

ferkd_status fk_squeeze_target(const fk_reader *r, const fk_shape *in, fk_shape *out)
{
    int64_t axes[FK_MAX_DIMS];
    int n_axes;
    unsigned marked = 0;
    bool grow = strcmp(r->node->op_type, "Unsqueeze") == 0;

    TRY(fk_ints(r, "axes", 1, axes, FK_MAX_DIMS, &n_axes));
    int rank = grow ? in->n + n_axes : in->n;
    if (rank > FK_MAX_DIMS)
        return fk_reader_refuse(r, "too many dimensions");
    for (int i = 0; i < n_axes; i++) {
        int axis = 0;
        TRY(fk_axis(r, axes[i], rank, &axis));
        marked |= 1u << axis;
    }
    *out = (fk_shape){.n = 0};
    for (int i = 0, k = 0; i < rank; i++) {
        bool mark = marked >> i & 1u;
        if (grow && !mark && k >= in->n)
            return fk_reader_refuse(r, "an axis is given twice");
        if (!grow && mark && in->d[i] != 1)
            return fk_reader_refuse(r, "a squeezed dimension is not 1");
        if (grow)
            out->d[out->n++] = mark ? 1 : in->d[k++];
        else if (!(n_axes ? mark : in->d[i] == 1))
            out->d[out->n++] = in->d[i];
    }
    return FERKD_OK;
}

ferkd_status fk_slice_range(const fk_reader *r, int64_t start, int64_t end, int64_t step,
                            int64_t dim, int64_t *first, int64_t *count)
{
    int64_t low = step < 0 ? -1 : 0;
    int64_t high = step < 0 ? dim - 1 : dim;

    if (step == 0 || step == INT64_MIN)
        return fk_reader_refuse(r, "a slice with this step");
    start = start < -dim ? low : start < 0 ? start + dim : start;
    start = start < 0 ? 0 : start > high ? high : start;
    end = end < -dim ? low : end < 0 ? end + dim : end;
    end = end > high + (step < 0) ? high + (step < 0) : end;
    int64_t span = step > 0 ? end - start : start - end;
    int64_t size = step > 0 ? step : -step;
    *first = start;
    *count = span > 0 ? (span - 1) / size + 1 : 0;
    return FERKD_OK;
}

/* --- the graph ------------------------------------------------------------------------------- */

static ferkd_status add_initialisers(fk_reader *r)
{
    const Onnx__GraphProto *g = r->model->graph;

    for (size_t i = 0; i < g->n_initializer; i++) {
        const Onnx__TensorProto *t = g->initializer[i];
        fk_constant *c = NULL;
        char what[256];
        if (!t->name)
            return fk_fail(FERKD_CORRUPT, "%s: an initialiser without a name", r->path);
        (void)snprintf(what, sizeof what, "%s: initialiser \"%s\"", r->path, t->name);
        TRY(fk_constant_decode(&c, t, what));
        ferkd_status st = fk_reader_set(r, t->name, c, -1);
        if (st != FERKD_OK) {
            fk_constant_free(c);
            return st;
        }
        slot_of(r, t->name)->given = true;
    }
    return FERKD_OK;
}

static int64_t dim_of(const Onnx__TensorShapeProto *s, size_t i)
{
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];

    return d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ? d->dim_value : 0;
}

/* The one input that is no initialiser. */
static ferkd_status find_input(const fk_reader *r, const Onnx__ValueInfoProto **out,
                               const Onnx__TensorShapeProto **shape)
{
    const Onnx__GraphProto *g = r->model->graph;
    const Onnx__ValueInfoProto *input = NULL;

    for (size_t i = 0; i < g->n_input; i++) {
        if (!g->input[i]->name)
            return fk_fail(FERKD_CORRUPT, "%s: an input without a name", r->path);
        if (fk_reader_find(r, g->input[i]->name))
            continue; /* an initialiser, listed as input in old files */
        if (input)
            return fk_fail(FERKD_UNSUPPORTED, "%s: two inputs, \"%s\" and \"%s\"; one is needed",
                           r->path, input->name, g->input[i]->name);
        input = g->input[i];
    }
    if (!input)
        return fk_fail(FERKD_UNSUPPORTED, "%s: no input", r->path);
    *out = input;
    *shape = input->type && input->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
                 ? input->type->tensor_type->shape
                 : NULL;
    return FERKD_OK;
}

/* Images: open dimensions are batch, 3 channels, size_px. */
static ferkd_status image_shape(const fk_reader *r, const Onnx__TensorShapeProto *s, uint32_t batch,
                                uint32_t size_px, fk_shape *out)
{
    if (!s || s->n_dim != 4)
        return fk_fail(FERKD_UNSUPPORTED, "%s: the input is no batch of images (4 dimensions)",
                       r->path);
    bool last = dim_of(s, 3) == 3 || (dim_of(s, 3) == 1 && dim_of(s, 1) != 1);
    if (dim_of(s, 1) == 3)
        last = false;
    *out = (fk_shape){.n = 4};
    out->d[0] = dim_of(s, 0) > 0 ? dim_of(s, 0) : batch;
    for (size_t i = 1; i < 4; i++) {
        bool channel = i == (last ? 3 : 1);
        int64_t d = dim_of(s, i);
        out->d[i] = d > 0 ? d : channel ? 3 : size_px;
        if (!channel && size_px && d > 0 && d != size_px)
            return fk_fail(
                FERKD_USAGE,
                "%s: made for images of %" PRId64 " pixels, not %u; give it %" PRId64
                " as their size (--size of a student, --teacher-size), or export it for another",
                r->path, d, size_px, d);
    }
    return FERKD_OK;
}

static ferkd_status raw_shape(const fk_reader *r, const Onnx__TensorShapeProto *s,
                              const fk_shape *given, fk_shape *out)
{
    char text[128];

    *out = *given;
    fk_shape_text(given, text, sizeof text);
    if (s && s->n_dim != (size_t)given->n)
        return fk_fail(FERKD_USAGE, "%s: the input has %zu dimensions, not %s", r->path, s->n_dim,
                       text);
    for (size_t i = 0; s && i < s->n_dim; i++) {
        int64_t d = dim_of(s, i);
        if (i == 0 && d > 0)
            out->d[0] = d;
        else if (d > 0 && d != given->d[i])
            return fk_fail(FERKD_USAGE,
                           "%s: dimension %zu of the input is %" PRId64 ", not as in %s", r->path,
                           i, d, text);
    }
    return FERKD_OK;
}

/* The input for the shape `raw`, or (NULL) for images. */
static ferkd_status add_input(fk_reader *r, const fk_shape *raw, uint32_t batch, uint32_t size_px)
{
    const Onnx__ValueInfoProto *input = NULL;
    const Onnx__TensorShapeProto *s = NULL;
    int id;

    TRY(find_input(r, &input, &s));
    assert(input);
    fk_node n = {.op = FK_INPUT, .name = input->name, .param = {-1, -1, -1, -1}};
    TRY(raw ? raw_shape(r, s, raw, &n.shape) : image_shape(r, s, batch, size_px, &n.shape));
    TRY(fk_graph_add(r->g, &n, &id));
    return fk_reader_set(r, input->name, NULL, id);
}

static ferkd_status find_opset(fk_reader *r)
{
    for (size_t i = 0; i < r->model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = r->model->opset_import[i];
        if (!o->domain || !*o->domain || strcmp(o->domain, "ai.onnx") == 0)
            r->opset = o->version;
    }
    if (r->opset < MIN_OPSET || r->opset > MAX_OPSET)
        return fk_fail(FERKD_UNSUPPORTED, "%s: opset %" PRId64 ", this build reads %d to %d",
                       r->path, r->opset, MIN_OPSET, MAX_OPSET);
    return FERKD_OK;
}

static ferkd_status add_nodes(fk_reader *r)
{
    const Onnx__GraphProto *g = r->model->graph;

    for (size_t i = 0; i < g->n_node; i++) {
        bool folded;
        r->node = g->node[i];
        const char *domain = r->node->domain;
        if (!r->node->op_type || (domain && *domain && strcmp(domain, "ai.onnx") != 0 &&
                                  strcmp(domain, "com.microsoft") != 0))
            return fk_reader_refuse(r, "operators of other domains are not supported");
        for (size_t k = 0; k < r->node->n_input; k++) {
            if (*r->node->input[k] && !fk_reader_find(r, r->node->input[k]))
                return fk_fail(FERKD_CORRUPT,
                               "%s: node \"%s\" (%s) uses \"%s\", which nothing before it makes",
                               r->path, r->node->name ? r->node->name : "?", r->node->op_type,
                               r->node->input[k]);
        }
        TRY(fk_fold_node(r, &folded));
        if (!folded)
            TRY(fk_import_node(r));
    }
    return FERKD_OK;
}

static ferkd_status finish(fk_reader *r, bool raw)
{
    const Onnx__GraphProto *g = r->model->graph;

    if (g->n_output < 1 || !g->output[0]->name)
        return fk_fail(FERKD_CORRUPT, "%s: no output", r->path);
    const fk_value *v = fk_reader_find(r, g->output[0]->name);
    if (!v || v->constant)
        return fk_fail(FERKD_UNSUPPORTED, "%s: the output \"%s\" does not depend on the input",
                       r->path, g->output[0]->name);
    const fk_shape *s = &r->g->nodes[v->node].shape;
    if (raw)
        return fk_graph_finish(r->g, v->node);
    if (s->n < 2 || fk_shape_count(s) != s->d[0] * s->d[1] ||
        s->d[0] != r->g->nodes[r->g->input].shape.d[0]) {
        char text[128];
        fk_shape_text(s, text, sizeof text);
        return fk_fail(
            FERKD_UNSUPPORTED,
            "%s: the output has shape %s; a classifier gives one row of classes an image", r->path,
            text);
    }
    return fk_graph_finish(r->g, v->node);
}

static size_t count_values(const Onnx__GraphProto *g)
{
    size_t n = g->n_initializer + g->n_input + 2;

    for (size_t i = 0; i < g->n_node; i++)
        n += g->node[i]->n_output;
    return n;
}

static ferkd_status make_graph(const fk_onnx_file *f, const fk_shape *raw, uint32_t batch,
                               uint32_t size_px, fk_graph **out)
{
    ferkd_status st = FERKD_OK;
    fk_reader r = {.path = f->path, .model = f->model, .table_size = 64};

    while (r.table_size < 2 * count_values(f->model->graph))
        r.table_size *= 2;
    TRY(fk_calloc(&r.table, r.table_size, sizeof *r.table, f->path));
    const char *slash = strrchr(f->path, '/');
    TRY_DONE(fk_graph_new(&r.g, slash ? slash + 1 : f->path));
    TRY_DONE(find_opset(&r));
    TRY_DONE(add_initialisers(&r));
    TRY_DONE(add_input(&r, raw, batch, size_px));
    TRY_DONE(add_nodes(&r));
    TRY_DONE(finish(&r, raw != NULL));
    *out = r.g;
    r.g = NULL;
done:
    for (size_t i = 0; i < r.table_size; i++)
        fk_constant_free(r.table[i].constant);
    free(r.table);
    free(r.quantised);
    fk_graph_free(&r.g);
    return st;
}

ferkd_status fk_onnx_graph(const fk_onnx_file *f, uint32_t batch, uint32_t size_px, fk_graph **out)
{
    return make_graph(f, NULL, batch, size_px, out);
}

ferkd_status fk_onnx_graph_raw(const fk_onnx_file *f, const fk_shape *input, fk_graph **out)
{
    return make_graph(f, input, 0, 0, out);
}
