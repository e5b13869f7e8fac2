/* Writing a graph as ONNX: batch open, weights under their torchvision names. The protobuf
 * is put together in a pool that is freed in one go. */
#include "base/compat.h"

#include "exchange/onnx_writer.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

/* --- the pool -------------------------------------------------------------------------------- */

void *fk_writer_take(fk_writer *w, size_t n, size_t size)
{
    void *p = NULL;

    if (w->st == FERKD_OK)
        w->st = fk_grow(&w->pool, &w->cap_pool, w->n_pool + 1, sizeof *w->pool);
    if (w->st == FERKD_OK)
        w->st = fk_calloc(&p, n, size, w->path);
    if (w->st != FERKD_OK)
        return NULL;
    w->pool[w->n_pool++] = p;
    return p;
}

char *fk_writer_text(fk_writer *w, const char *format, ...)
{
    char buffer[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    char *p = fk_writer_take(w, strlen(buffer) + 1, 1);
    if (p)
        memcpy(p, buffer, strlen(buffer) + 1);
    return p;
}

/* --- attributes ------------------------------------------------------------------------------ */

static Onnx__AttributeProto *attr(fk_writer *w, Onnx__NodeProto *n, const char *name)
{
    Onnx__AttributeProto *a = fk_writer_take(w, 1, sizeof *a);
    Onnx__AttributeProto **list =
        fk_writer_take(w, n->n_attribute + 1, sizeof(Onnx__AttributeProto *));

    if (!a || !list)
        return NULL;
    onnx__attribute_proto__init(a);
    a->name = fk_writer_text(w, "%s", name);
    a->has_type = 1;
    if (n->n_attribute)
        memcpy(list, n->attribute, n->n_attribute * sizeof *list);
    list[n->n_attribute++] = a;
    n->attribute = list;
    return a;
}

void fk_writer_int(fk_writer *w, Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = attr(w, n, name);

    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = 1;
    a->i = v;
}

void fk_writer_float(fk_writer *w, Onnx__NodeProto *n, const char *name, double v)
{
    Onnx__AttributeProto *a = attr(w, n, name);

    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    a->has_f = 1;
    a->f = (float)v;
}

void fk_writer_ints(fk_writer *w, Onnx__NodeProto *n, const char *name, const int64_t *v, size_t k)
{
    Onnx__AttributeProto *a = attr(w, n, name);
    int64_t *copy = fk_writer_take(w, k, sizeof *copy);

    if (!a || !copy)
        return;
    memcpy(copy, v, k * sizeof *v);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    a->n_ints = k;
    a->ints = copy;
}

/* --- nodes and tensors ----------------------------------------------------------------------- */

char *fk_writer_result(fk_writer *w, int id)
{
    id = fk_value_of(w->g, id);
    if (id == w->g->output)
        return fk_writer_text(w, w->half ? "logits16" : "logits");
    if (id == w->g->input)
        return fk_writer_text(w, w->half ? "input16" : "input");
    if (w->g->nodes[id].op == FK_CONST)
        return fk_writer_param(w, w->g->nodes[id].param[0]);
    return fk_writer_text(w, "v%d_%s", id, w->g->nodes[id].name);
}

char *fk_writer_value(fk_writer *w, int id)
{
    id = fk_value_of(w->g, id);
    return fk_writer_in_bytes(w, id) ? fk_writer_text(w, "%s_8", fk_writer_result(w, id))
                                     : fk_writer_result(w, id);
}

/* A node with room for n_in inputs and one output, last in the list; its names are the caller's. */
static Onnx__NodeProto *add_node(fk_writer *w, const char *op, size_t n_in)
{
    Onnx__NodeProto *n = fk_writer_take(w, 1, sizeof *n);
    char **in = fk_writer_take(w, n_in, sizeof *in);
    char **out = fk_writer_take(w, 1, sizeof *out);

    if (w->st == FERKD_OK)
        w->st = fk_grow(&w->nodes, &w->cap_nodes, w->n_nodes + 1, sizeof(Onnx__NodeProto *));
    if (w->st != FERKD_OK)
        return NULL;
    onnx__node_proto__init(n);
    n->op_type = fk_writer_text(w, "%s", op);
    n->input = in;
    n->n_input = n_in;
    n->output = out;
    n->n_output = 1;
    w->nodes[w->n_nodes++] = n;
    return n;
}

Onnx__NodeProto *fk_writer_node(fk_writer *w, const char *op, int id, size_t n_in)
{
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = add_node(w, op, n_in);

    if (!n)
        return NULL;
    n->name = fk_writer_text(w, "%d_%s", id, from->name);
    n->output[0] = fk_writer_result(w, id);
    for (int i = 0; i < from->n_in && (size_t)i < n_in; i++)
        n->input[i] = fk_writer_value(w, from->in[i]);
    return n;
}

Onnx__NodeProto *fk_writer_step(fk_writer *w, const char *op, int id, bool last, char *const *in,
                                size_t n_in)
{
    size_t number = w->n_nodes;
    Onnx__NodeProto *n = add_node(w, op, n_in);

    if (!n)
        return NULL;
    n->name = fk_writer_text(w, "%d_%zu_%s", id, number, op);
    n->output[0] = last ? fk_writer_result(w, id) : fk_writer_text(w, "v%d_%zu_%s", id, number, op);
    memcpy(n->input, in, n_in * sizeof *in);
    return n;
}

Onnx__TensorProto *fk_writer_tensor(fk_writer *w, const char *name, size_t n_dims,
                                    const int64_t *dims)
{
    Onnx__TensorProto *t = fk_writer_take(w, 1, sizeof *t);
    int64_t *copy = fk_writer_take(w, n_dims, sizeof *copy);

    if (w->st == FERKD_OK)
        w->st =
            fk_grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof(Onnx__TensorProto *));
    if (w->st != FERKD_OK)
        return NULL;
    onnx__tensor_proto__init(t);
    for (size_t i = 0; i < n_dims; i++) /* a scalar has none */
        copy[i] = dims[i];
    t->name = fk_writer_text(w, "%s", name);
    t->n_dims = n_dims;
    t->dims = copy;
    t->has_data_type = t->has_raw_data = 1;
    w->tensors[w->n_tensors++] = t;
    return t;
}

/* An initialiser of integers; its name. */
char *fk_writer_integers(fk_writer *w, const char *name, const int64_t *v, size_t n)
{
    int64_t dims = (int64_t)n;
    Onnx__TensorProto *t = fk_writer_tensor(w, name, 1, &dims);
    int64_t *copy = fk_writer_take(w, n, sizeof *copy);

    if (!t || !copy)
        return NULL;
    memcpy(copy, v, n * sizeof *v);
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    t->raw_data.data = (uint8_t *)copy;
    t->raw_data.len = n * sizeof *copy;
    return t->name;
}

char *fk_writer_number(fk_writer *w, const char *name, float v)
{
    Onnx__TensorProto *t = fk_writer_tensor(w, name, 0, NULL);
    float *copy = fk_writer_take(w, 1, sizeof *copy);

    if (!t || !copy)
        return NULL;
    *copy = v;
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->raw_data.data = (uint8_t *)copy;
    t->raw_data.len = sizeof *copy;
    return t->name;
}

/* --- small steps ----------------------------------------------------------------------------- */

char *fk_writer_apply(fk_writer *w, const char *op, int id, bool last, char *a, char *b)
{
    char *in[2] = {a, b};
    Onnx__NodeProto *n = fk_writer_step(w, op, id, last, in, b ? 2 : 1);

    return n ? n->output[0] : NULL;
}

char *fk_writer_setting(fk_writer *w, int id, const char *tail, double v)
{
    char name[64];

    (void)snprintf(name, sizeof name, "v%d_%s", id, tail);
    return fk_writer_number(w, name, (float)v);
}

char *fk_writer_reshape(fk_writer *w, int id, bool last, char *x, const char *tail, int n,
                        const int64_t *dims)
{
    char name[64];
    int64_t open[FK_MAX_DIMS];

    memcpy(open, dims, (size_t)n * sizeof *dims);
    open[0] = -1;
    (void)snprintf(name, sizeof name, "v%d_%s", id, tail);
    return fk_writer_apply(w, "Reshape", id, last, x, fk_writer_integers(w, name, open, (size_t)n));
}

char *fk_writer_permute(fk_writer *w, int id, bool last, char *x, int n, const int64_t *perm)
{
    Onnx__NodeProto *node = fk_writer_step(w, "Transpose", id, last, &x, 1);

    if (!node)
        return NULL;
    fk_writer_ints(w, node, "perm", perm, (size_t)n);
    return node->output[0];
}

/* --- the model ------------------------------------------------------------------------------- */

static Onnx__ValueInfoProto *value_info(fk_writer *w, const char *name, const fk_shape *s)
{
    Onnx__ValueInfoProto *v = fk_writer_take(w, 1, sizeof *v);
    Onnx__TypeProto *type = fk_writer_take(w, 1, sizeof *type);
    Onnx__TypeProto__Tensor *t = fk_writer_take(w, 1, sizeof *t);
    Onnx__TensorShapeProto *shape = fk_writer_take(w, 1, sizeof *shape);
    Onnx__TensorShapeProto__Dimension **dims =
        fk_writer_take(w, (size_t)s->n, sizeof(Onnx__TensorShapeProto__Dimension *));

    for (int i = 0; dims && i < s->n; i++) {
        dims[i] = fk_writer_take(w, 1, sizeof **dims);
        if (!dims[i])
            break;
        onnx__tensor_shape_proto__dimension__init(dims[i]);
        dims[i]->value_case = i ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
                                : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (i)
            dims[i]->dim_value = s->d[i];
        else
            dims[i]->dim_param = fk_writer_text(w, "N");
    }
    if (w->st != FERKD_OK)
        return NULL;
    onnx__value_info_proto__init(v);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(t);
    onnx__tensor_shape_proto__init(shape);
    shape->n_dim = (size_t)s->n;
    shape->dim = dims;
    t->has_elem_type = 1;
    t->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = t;
    v->name = fk_writer_text(w, "%s", name);
    v->type = type;
    return v;
}

/* Exporters write equal initialisers once (all the biases of a new network), and so do we. */
static const int *find_equals(fk_writer *w)
{
    const fk_graph *g = w->g;
    int *same = fk_writer_take(w, g->n_params, sizeof *same);

    for (size_t i = 0; same && i < g->n_params; i++) {
        const fk_param *p = &g->params[i];
        for (same[i] = 0; same[i] < (int)i; same[i]++) {
            const fk_param *q = &g->params[same[i]];
            if (fk_shape_equal(&p->shape, &q->shape) &&
                memcmp(g->values + p->offset, g->values + q->offset, p->count * sizeof(float)) == 0)
                break;
        }
    }
    return same;
}

char *fk_writer_param(fk_writer *w, int param)
{
    return w->same ? fk_writer_text(w, "%s", w->g->params[w->same[param]].name) : NULL;
}

/* Parameters that living nodes use as they are; those in 8 bits are written already, and those of a gathering are written as integers. */
static void write_weights(fk_writer *w, const int *uses)
{
    bool *used = fk_writer_take(w, w->g->n_params, sizeof *used);

    for (size_t i = 0; used && i < w->g->n_nodes; i++) {
        const fk_node *n = &w->g->nodes[i];
        for (int k = 0;
             k < FK_MAX_PARAMS && uses[i] && n->op != FK_GATHER && !fk_writer_has_bytes(w, n);
             k++) {
            if (n->param[k] >= 0)
                used[w->same[n->param[k]]] = true;
        }
    }
    for (size_t i = 0; i < w->g->n_params && w->st == FERKD_OK; i++) {
        const fk_param *p = &w->g->params[i];
        if (!used[i])
            continue;
        Onnx__TensorProto *t = fk_writer_tensor(w, p->name, (size_t)p->shape.n, p->shape.d);
        if (!t)
            return;
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
        t->raw_data.data = (uint8_t *)(w->g->values + p->offset);
        t->raw_data.len = p->count * sizeof(float);
    }
}

/* --- float16 ---------------------------------------------------------------------------------- */

static void cast(fk_writer *w, const char *from, const char *to, int type)
{
    Onnx__NodeProto *n = add_node(w, "Cast", 1);

    if (!n)
        return;
    n->name = fk_writer_text(w, "cast_%s", to);
    n->input[0] = fk_writer_text(w, "%s", from);
    n->output[0] = fk_writer_text(w, "%s", to);
    fk_writer_int(w, n, "to", type);
}

static void halve_tensors(fk_writer *w)
{
    for (size_t i = 0; i < w->n_tensors && w->st == FERKD_OK; i++) {
        Onnx__TensorProto *t = w->tensors[i];
        if (t->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
            continue;
        size_t n = t->raw_data.len / sizeof(float);
        uint8_t *out = fk_writer_take(w, n, 2);
        for (size_t k = 0; out && k < n; k++) {
            float v;
            memcpy(&v, t->raw_data.data + k * sizeof v, sizeof v);
            fk_put_u16(out + 2 * k, fk_half_bits(v));
        }
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16;
        t->raw_data.data = out;
        t->raw_data.len = 2 * n;
    }
}

/* --- the file ---------------------------------------------------------------------------------- */

static ferkd_status pack(fk_writer *w, Onnx__GraphProto *graph, const fk_onnx_text *texts,
                         size_t n_texts)
{
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset;
    Onnx__OperatorSetIdProto *opsets = &opset;
    Onnx__StringStringEntryProto **props =
        fk_writer_take(w, n_texts, sizeof(Onnx__StringStringEntryProto *));
    char producer[] = "ferkd";
    char version[32];
    char domain[] = "";

    onnx__model_proto__init(&model);
    onnx__operator_set_id_proto__init(&opset);
    opset.has_version = 1;
    opset.version = w->opset;
    opset.domain = domain;
    for (size_t i = 0; props && i < n_texts; i++) {
        props[i] = fk_writer_take(w, 1, sizeof **props);
        if (!props[i])
            break;
        onnx__string_string_entry_proto__init(props[i]);
        props[i]->key = fk_writer_take(w, strlen(texts[i].key) + 1, 1);
        props[i]->value = fk_writer_take(w, strlen(texts[i].value) + 1, 1);
        if (w->st != FERKD_OK)
            break;
        memcpy(props[i]->key, texts[i].key, strlen(texts[i].key) + 1);
        memcpy(props[i]->value, texts[i].value, strlen(texts[i].value) + 1);
    }
    TRY(w->st);
    (void)snprintf(version, sizeof version, "%s", ferkd_version());
    model.has_ir_version = 1;
    model.ir_version = w->opset > 14 ? 8 : 7;
    model.producer_name = producer;
    model.producer_version = version;
    model.n_opset_import = 1;
    model.opset_import = &opsets;
    model.graph = graph;
    model.n_metadata_props = n_texts;
    model.metadata_props = props;
    size_t size = onnx__model_proto__get_packed_size(&model);
    uint8_t *bytes = fk_writer_take(w, size, 1);
    if (!bytes)
        return w->st;
    (void)onnx__model_proto__pack(&model, bytes);
    return fk_file_replace(w->path, bytes, size);
}

static int64_t choose_opset(const fk_graph *g, const int *uses)
{
    for (size_t i = 0; uses && i < g->n_nodes; i++) {
        if (uses[i] && g->nodes[i].op == FK_LAYERNORM)
            return 17;
    }
    return 13;
}

ferkd_status fk_onnx_write(const char *path, const fk_graph *g, const fk_onnx_form *form,
                           const fk_onnx_text *texts, size_t n_texts)
{
    fk_onnx_form f = form ? *form : (fk_onnx_form){0};
    fk_writer w = {
        .g = g, .path = path, .half = f.half, .for_opencv4 = f.for_opencv4, .ranges = f.ranges};
    Onnx__GraphProto graph;
    int *uses = fk_writer_take(&w, g->n_nodes, sizeof *uses);

    onnx__graph_proto__init(&graph);
    w.same = find_equals(&w);
    if (uses)
        fk_graph_uses(g, uses);
    w.opset = f.opset ? f.opset : choose_opset(g, uses);
    if (w.half)
        cast(&w, "input", "input16", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16);
    for (size_t i = 0; i < g->n_nodes && w.st == FERKD_OK; i++) {
        if (uses[i])
            fk_writer_op(&w, (int)i);
        if (uses[i] && fk_writer_in_bytes(&w, (int)i))
            fk_writer_quantise_value(&w, (int)i);
    }
    if (w.half)
        cast(&w, "logits16", "logits", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    write_weights(&w, uses);
    if (w.half)
        halve_tensors(&w);
    Onnx__ValueInfoProto *in = value_info(&w, "input", &g->nodes[g->input].shape);
    Onnx__ValueInfoProto *out = value_info(&w, "logits", &g->nodes[g->output].shape);
    graph.name = fk_writer_text(&w, "%s", g->name);
    if (w.st == FERKD_OK) {
        graph.n_node = w.n_nodes;
        graph.node = w.nodes;
        graph.n_initializer = w.n_tensors;
        graph.initializer = w.tensors;
        graph.n_input = graph.n_output = 1;
        graph.input = &in;
        graph.output = &out;
        w.st = pack(&w, &graph, texts, n_texts);
    }
    for (size_t i = 0; i < w.n_pool; i++)
        free(w.pool[i]);
    free(w.pool);
    free(w.nodes);
    free(w.tensors);
    return w.st;
}
