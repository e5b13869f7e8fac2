/* Writing a graph as ONNX: opset 13, batch open, weights under their torchvision names. The protobuf
 * is put together in a pool that is freed in one go. */
#include "base/compat.h"

#include "exchange/onnx.h"

#include "base/file.h"
#include "base/mem.h"

#include "onnx.pb-c.h"

#define OPSET 13

typedef struct writer {
    const fk_graph *g;
    const char *path;
    void **pool; /* everything allocated */
    size_t n_pool, cap_pool;
    ferkd_status st; /* the first failure; later calls do nothing */
    Onnx__NodeProto **nodes;
    size_t n_nodes, cap_nodes;
    Onnx__TensorProto **tensors;
    size_t n_tensors, cap_tensors;
} writer;

/* --- the pool -------------------------------------------------------------------------------- */

static void *take(writer *w, size_t n, size_t size)
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

static char *text(writer *w, const char *format, ...) FK_PRINTF(2, 3);

static char *text(writer *w, const char *format, ...)
{
    char buffer[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    char *p = take(w, strlen(buffer) + 1, 1);
    if (p)
        memcpy(p, buffer, strlen(buffer) + 1);
    return p;
}

/* --- attributes ------------------------------------------------------------------------------ */

static Onnx__AttributeProto *attr(writer *w, Onnx__NodeProto *n, const char *name)
{
    Onnx__AttributeProto *a = take(w, 1, sizeof *a);
    Onnx__AttributeProto **list = take(w, n->n_attribute + 1, sizeof(Onnx__AttributeProto *));

    if (!a || !list)
        return NULL;
    onnx__attribute_proto__init(a);
    a->name = text(w, "%s", name);
    a->has_type = 1;
    if (n->n_attribute)
        memcpy(list, n->attribute, n->n_attribute * sizeof *list);
    list[n->n_attribute++] = a;
    n->attribute = list;
    return a;
}

static void attr_int(writer *w, Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = attr(w, n, name);

    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = 1;
    a->i = v;
}

static void attr_float(writer *w, Onnx__NodeProto *n, const char *name, double v)
{
    Onnx__AttributeProto *a = attr(w, n, name);

    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    a->has_f = 1;
    a->f = (float)v;
}

static void attr_ints(writer *w, Onnx__NodeProto *n, const char *name, const int64_t *v, size_t k)
{
    Onnx__AttributeProto *a = attr(w, n, name);
    int64_t *copy = take(w, k, sizeof *copy);

    if (!a || !copy)
        return;
    memcpy(copy, v, k * sizeof *v);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    a->n_ints = k;
    a->ints = copy;
}

/* --- nodes and tensors ----------------------------------------------------------------------- */

/* The name of a node's value; dropout is left out, so its name is its input's. */
static char *value_name(writer *w, int id)
{
    while (w->g->nodes[id].op == FK_DROPOUT)
        id = w->g->nodes[id].in[0];
    if (id == w->g->output)
        return text(w, "logits");
    if (id == w->g->input)
        return text(w, "input");
    if (w->g->nodes[id].op == FK_CONST)
        return text(w, "%s", w->g->params[w->g->nodes[id].param[0]].name);
    return text(w, "v%d_%s", id, w->g->nodes[id].name);
}

/* A node with room for n_in inputs, of which the graph's own are filled in. */
static Onnx__NodeProto *node(writer *w, const char *op, int id, size_t n_in)
{
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = take(w, 1, sizeof *n);
    char **in = take(w, n_in, sizeof *in);
    char **out = take(w, 1, sizeof *out);

    if (w->st == FERKD_OK)
        w->st = fk_grow(&w->nodes, &w->cap_nodes, w->n_nodes + 1, sizeof(Onnx__NodeProto *));
    if (w->st != FERKD_OK)
        return NULL;
    onnx__node_proto__init(n);
    n->op_type = text(w, "%s", op);
    n->name = text(w, "%d_%s", id, from->name);
    n->input = in;
    n->n_input = n_in;
    n->output = out;
    n->n_output = 1;
    out[0] = value_name(w, id);
    for (int i = 0; i < from->n_in && (size_t)i < n_in; i++)
        in[i] = value_name(w, from->in[i]);
    w->nodes[w->n_nodes++] = n;
    return n;
}

static Onnx__TensorProto *tensor(writer *w, const char *name, size_t n_dims, const int64_t *dims)
{
    Onnx__TensorProto *t = take(w, 1, sizeof *t);
    int64_t *copy = take(w, n_dims, sizeof *copy);

    if (w->st == FERKD_OK)
        w->st =
            fk_grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof(Onnx__TensorProto *));
    if (w->st != FERKD_OK)
        return NULL;
    onnx__tensor_proto__init(t);
    for (size_t i = 0; i < n_dims; i++) /* a scalar has none */
        copy[i] = dims[i];
    t->name = text(w, "%s", name);
    t->n_dims = n_dims;
    t->dims = copy;
    t->has_data_type = t->has_raw_data = 1;
    w->tensors[w->n_tensors++] = t;
    return t;
}

/* An initialiser of integers; its name. */
static char *integers(writer *w, const char *name, const int64_t *v, size_t n)
{
    int64_t dims = (int64_t)n;
    Onnx__TensorProto *t = tensor(w, name, 1, &dims);
    int64_t *copy = take(w, n, sizeof *copy);

    if (!t || !copy)
        return NULL;
    memcpy(copy, v, n * sizeof *v);
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    t->raw_data.data = (uint8_t *)copy;
    t->raw_data.len = n * sizeof *copy;
    return t->name;
}

static char *number(writer *w, const char *name, float v)
{
    Onnx__TensorProto *t = tensor(w, name, 0, NULL);
    float *copy = take(w, 1, sizeof *copy);

    if (!t || !copy)
        return NULL;
    *copy = v;
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->raw_data.data = (uint8_t *)copy;
    t->raw_data.len = sizeof *copy;
    return t->name;
}

/* --- the ops --------------------------------------------------------------------------------- */

static void set_params(writer *w, Onnx__NodeProto *n, const fk_node *from, size_t first, int count)
{
    for (int i = 0; n && i < count; i++)
        n->input[first + (size_t)i] = text(w, "%s", w->g->params[from->param[i]].name);
}

static void write_window(writer *w, Onnx__NodeProto *n, const fk_window *v)
{
    int64_t pads[4] = {v->begin[0], v->begin[1], v->end[0], v->end[1]};

    attr_ints(w, n, "kernel_shape", v->kernel, 2);
    attr_ints(w, n, "strides", v->stride, 2);
    attr_ints(w, n, "pads", pads, 4);
}

static void write_conv(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int params = from->param[1] >= 0 ? 2 : 1;
    Onnx__NodeProto *n = node(w, "Conv", id, 1 + (size_t)params);

    if (!n)
        return;
    set_params(w, n, from, 1, params);
    write_window(w, n, &from->u.conv.window);
    attr_ints(w, n, "dilations", from->u.conv.window.dilation, 2);
    attr_int(w, n, "group", from->u.conv.groups);
}

static void write_act(writer *w, int id)
{
    static const char *const NAMES[FK_ACT_COUNT] = {
        [FK_RELU] = "Relu",       [FK_CLIP] = "Clip", [FK_SIGMOID] = "Sigmoid",
        [FK_LEAKY] = "LeakyRelu", [FK_ELU] = "Elu",   [FK_HARDSIGMOID] = "HardSigmoid",
        [FK_TANH] = "Tanh",       [FK_ERF] = "Erf"};
    const fk_node *from = &w->g->nodes[id];
    const char *op = NAMES[from->u.act.kind];
    char name[64];

    if (!op) {
        w->st = fk_fail(FERKD_UNSUPPORTED, "%s: no ONNX form of the activation %s", w->path,
                        fk_act_name(from->u.act.kind));
        return;
    }
    bool clip = from->u.act.kind == FK_CLIP;
    Onnx__NodeProto *n = node(w, op, id, clip ? 3 : 1);
    if (!n)
        return;
    if (clip) {
        (void)snprintf(name, sizeof name, "v%d_min", id);
        n->input[1] = number(w, name, from->u.act.a);
        (void)snprintf(name, sizeof name, "v%d_max", id);
        n->input[2] = number(w, name, from->u.act.b);
    } else if (from->u.act.kind == FK_LEAKY || from->u.act.kind == FK_ELU) {
        attr_float(w, n, "alpha", (double)from->u.act.a);
    } else if (from->u.act.kind == FK_HARDSIGMOID) {
        attr_float(w, n, "alpha", (double)from->u.act.a);
        attr_float(w, n, "beta", (double)from->u.act.b);
    }
}

static void write_pool(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = node(w, from->u.pool.max ? "MaxPool" : "AveragePool", id, 1);

    if (!n)
        return;
    write_window(w, n, &from->u.pool.window);
    if (!from->u.pool.max)
        attr_int(w, n, "count_include_pad", from->u.pool.include_pad);
}

static void write_mean(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t axes[FK_MAX_DIMS];
    size_t count = 0;
    Onnx__NodeProto *n = node(w, "ReduceMean", id, 1);

    if (!n)
        return;
    for (int i = 0; i < FK_MAX_DIMS; i++) {
        if (from->u.reduce.axes >> i & 1u)
            axes[count++] = i;
    }
    attr_ints(w, n, "axes", axes, count);
    attr_int(w, n, "keepdims", from->u.reduce.keep);
}

static void write_dense(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int params = from->param[1] >= 0 ? 2 : 1;
    Onnx__NodeProto *n = node(w, "Gemm", id, 1 + (size_t)params);

    if (!n)
        return;
    set_params(w, n, from, 1, params);
    attr_int(w, n, "transB", 1);
}

static void write_slice(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    static const char *const TAILS[] = {"starts", "ends", "axes", "steps"};
    int64_t count = from->shape.d[from->u.axis.axis];
    int64_t v[4] = {from->u.axis.start, from->u.axis.start + count * from->u.axis.step,
                    from->u.axis.axis, from->u.axis.step};
    Onnx__NodeProto *n = node(w, "Slice", id, 5);

    for (int i = 0; n && i < 4; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "v%d_%s", id, TAILS[i]);
        n->input[1 + i] = integers(w, name, &v[i], 1);
    }
}

static void write_pad(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t pads[2 * FK_MAX_DIMS];
    size_t rank = (size_t)from->shape.n;
    char name[64];
    Onnx__NodeProto *n = node(w, "Pad", id, 3);

    if (!n)
        return;
    memcpy(pads, from->u.pad.begin, rank * sizeof *pads);
    memcpy(pads + rank, from->u.pad.end, rank * sizeof *pads);
    (void)snprintf(name, sizeof name, "v%d_pads", id);
    n->input[1] = integers(w, name, pads, 2 * rank);
    (void)snprintf(name, sizeof name, "v%d_value", id);
    n->input[2] = number(w, name, from->u.pad.value);
}

static void write_reshape(writer *w, int id)
{
    const fk_node *from = &w->g->nodes[id];
    int64_t dims[FK_MAX_DIMS];
    char name[64];
    Onnx__NodeProto *n = node(w, "Reshape", id, 2);

    memcpy(dims, from->shape.d, sizeof dims);
    dims[0] = -1; /* the batch */
    (void)snprintf(name, sizeof name, "v%d_shape", id);
    if (n)
        n->input[1] = integers(w, name, dims, (size_t)from->shape.n);
}

static void write_node(writer *w, int id)
{
    static const char *const BINARY[] = {"Add", "Sub", "Mul", "Div"};
    const fk_node *from = &w->g->nodes[id];
    Onnx__NodeProto *n = NULL;

    switch (from->op) {
    case FK_CONV:
        write_conv(w, id);
        return;
    case FK_BATCHNORM:
        n = node(w, "BatchNormalization", id, 5);
        set_params(w, n, from, 1, 4);
        if (n)
            attr_float(w, n, "epsilon", from->u.norm.eps);
        return;
    case FK_ACT:
        write_act(w, id);
        return;
    case FK_BINARY:
        (void)node(w, BINARY[from->u.binary.kind], id, 2);
        return;
    case FK_POOL:
        write_pool(w, id);
        return;
    case FK_REDUCE:
        write_mean(w, id);
        return;
    case FK_DENSE:
        write_dense(w, id);
        return;
    case FK_CONCAT:
        n = node(w, "Concat", id, (size_t)from->n_in);
        if (n)
            attr_int(w, n, "axis", from->u.axis.axis);
        return;
    case FK_SOFTMAX:
        n = node(w, "Softmax", id, 1);
        if (n)
            attr_int(w, n, "axis", from->u.axis.axis);
        return;
    case FK_SLICE:
        write_slice(w, id);
        return;
    case FK_PAD:
        write_pad(w, id);
        return;
    case FK_RESHAPE:
        write_reshape(w, id);
        return;
    case FK_INPUT:
    case FK_CONST:
    case FK_DROPOUT:
        return;
    default:
        break;
    }
    w->st =
        fk_fail(FERKD_UNSUPPORTED, "%s: no ONNX form of the op %s", w->path, fk_op_name(from->op));
}

/* --- the model ------------------------------------------------------------------------------- */

static Onnx__ValueInfoProto *value_info(writer *w, const char *name, const fk_shape *s)
{
    Onnx__ValueInfoProto *v = take(w, 1, sizeof *v);
    Onnx__TypeProto *type = take(w, 1, sizeof *type);
    Onnx__TypeProto__Tensor *t = take(w, 1, sizeof *t);
    Onnx__TensorShapeProto *shape = take(w, 1, sizeof *shape);
    Onnx__TensorShapeProto__Dimension **dims =
        take(w, (size_t)s->n, sizeof(Onnx__TensorShapeProto__Dimension *));

    for (int i = 0; dims && i < s->n; i++) {
        dims[i] = take(w, 1, sizeof **dims);
        if (!dims[i])
            break;
        onnx__tensor_shape_proto__dimension__init(dims[i]);
        dims[i]->value_case = i ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
                                : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (i)
            dims[i]->dim_value = s->d[i];
        else
            dims[i]->dim_param = text(w, "N");
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
    v->name = text(w, "%s", name);
    v->type = type;
    return v;
}

static void write_weights(writer *w)
{
    for (size_t i = 0; i < w->g->n_params && w->st == FERKD_OK; i++) {
        const fk_param *p = &w->g->params[i];
        Onnx__TensorProto *t = tensor(w, p->name, (size_t)p->shape.n, p->shape.d);
        if (!t)
            return;
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
        t->raw_data.data = (uint8_t *)(w->g->values + p->offset);
        t->raw_data.len = p->count * sizeof(float);
    }
}

static ferkd_status pack(writer *w, Onnx__GraphProto *graph, const fk_onnx_text *texts,
                         size_t n_texts)
{
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset;
    Onnx__OperatorSetIdProto *opsets = &opset;
    Onnx__StringStringEntryProto **props = take(w, n_texts, sizeof(Onnx__StringStringEntryProto *));
    char producer[] = "ferkd";
    char version[32];
    char domain[] = "";

    onnx__model_proto__init(&model);
    onnx__operator_set_id_proto__init(&opset);
    opset.has_version = 1;
    opset.version = OPSET;
    opset.domain = domain;
    for (size_t i = 0; props && i < n_texts; i++) {
        props[i] = take(w, 1, sizeof **props);
        if (!props[i])
            break;
        onnx__string_string_entry_proto__init(props[i]);
        props[i]->key = take(w, strlen(texts[i].key) + 1, 1);
        props[i]->value = take(w, strlen(texts[i].value) + 1, 1);
        if (w->st != FERKD_OK)
            break;
        memcpy(props[i]->key, texts[i].key, strlen(texts[i].key) + 1);
        memcpy(props[i]->value, texts[i].value, strlen(texts[i].value) + 1);
    }
    TRY(w->st);
    (void)snprintf(version, sizeof version, "%s", ferkd_version());
    model.has_ir_version = 1;
    model.ir_version = 7;
    model.producer_name = producer;
    model.producer_version = version;
    model.n_opset_import = 1;
    model.opset_import = &opsets;
    model.graph = graph;
    model.n_metadata_props = n_texts;
    model.metadata_props = props;
    size_t size = onnx__model_proto__get_packed_size(&model);
    uint8_t *bytes = take(w, size, 1);
    if (!bytes)
        return w->st;
    (void)onnx__model_proto__pack(&model, bytes);
    return fk_file_replace(w->path, bytes, size);
}

ferkd_status fk_onnx_write(const char *path, const fk_graph *g, const fk_onnx_text *texts,
                           size_t n_texts)
{
    writer w = {.g = g, .path = path};
    Onnx__GraphProto graph;

    onnx__graph_proto__init(&graph);
    for (size_t i = 0; i < g->n_nodes && w.st == FERKD_OK; i++)
        write_node(&w, (int)i);
    write_weights(&w);
    Onnx__ValueInfoProto *in = value_info(&w, "input", &g->nodes[g->input].shape);
    Onnx__ValueInfoProto *out = value_info(&w, "logits", &g->nodes[g->output].shape);
    graph.name = text(&w, "%s", g->name);
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
