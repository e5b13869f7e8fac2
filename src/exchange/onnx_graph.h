/* Inside the ONNX importer: constants, the table of values, and the reader's state. */
#ifndef FK_ONNX_GRAPH_H
#define FK_ONNX_GRAPH_H

#include "net/graph.h"

#include "onnx.pb-c.h"

/* A constant tensor. Floats and integers are kept as such; folding computes in double. */
typedef struct fk_constant {
    fk_shape shape;
    bool real; /* f, or i */
    int type;  /* ONNX's, of one from the file; else 0 */
    float *f;
    int64_t *i;
} fk_constant;

FERKD_CHECK ferkd_status fk_constant_new(fk_constant **out, bool real, const fk_shape *shape);
void fk_constant_free(fk_constant *c);
double fk_constant_get(const fk_constant *c, int64_t i);
void fk_constant_set(fk_constant *c, int64_t i, double v);

/* Decode an initialiser; what names it in messages. */
FERKD_CHECK ferkd_status fk_constant_decode(fk_constant **out, const Onnx__TensorProto *t,
                                            const char *what);

/* What a name stands for: a constant (owned), or a node of the graph. */
typedef struct fk_value {
    const char *name;
    fk_constant *constant;
    int node;
    bool given;  /* an initialiser of the file */
    int as_node; /* of a constant: 1 + the FK_CONST node that stands for it, 0: none yet */
} fk_value;

/* A value that was quantised to 8 bits with one scale: the node of its integers, and of the numbers that they stand for. */
typedef struct fk_quantised {
    int integers, levels;
    double scale, zero;
} fk_quantised;

typedef struct fk_reader {
    const char *path;
    fk_graph *g;
    const Onnx__ModelProto *model;
    const Onnx__NodeProto *node; /* the one at hand */
    int64_t opset;
    fk_value *table; /* open addressing, a power of two */
    size_t table_size;
    size_t table_used;
    fk_quantised *quantised;
    size_t n_quantised, cap_quantised;
} fk_reader;

FERKD_CHECK ferkd_status fk_reader_set(fk_reader *r, const char *name, fk_constant *constant,
                                       int node);
/* The FK_CONST node of constant v, made before. */
void fk_reader_set_node(fk_reader *r, const fk_value *v, int node);
/* NULL if unknown. */
const fk_value *fk_reader_find(const fk_reader *r, const char *name);

/* The message for a node: path, node, op, opset and why. */
ferkd_status fk_reader_refuse(const fk_reader *r, const char *why);

/* Attributes of the node at hand, or the default. */
const Onnx__AttributeProto *fk_attr(const fk_reader *r, const char *name);
int64_t fk_attr_int(const fk_reader *r, const char *name, int64_t initial);
float fk_attr_float(const fk_reader *r, const char *name, float initial);
/* Input i of the node at hand: NULL if left out. */
const fk_value *fk_input(const fk_reader *r, size_t i);
/* It as a constant; NULL if left out; *bad is set if it is there but not constant. */
const fk_constant *fk_input_constant(const fk_reader *r, size_t i, bool *bad);
/* Integers from attribute `name` or from input i; *n is 0 if neither is there. */
FERKD_CHECK ferkd_status fk_ints(const fk_reader *r, const char *name, size_t i, int64_t *out,
                                 int max, int *n);
/* An axis from -rank..rank-1. */
FERKD_CHECK ferkd_status fk_axis(const fk_reader *r, int64_t axis, int rank, int *out);
/* The target of a Reshape (0: copy, -1: the rest). */
FERKD_CHECK ferkd_status fk_reshape_target(const fk_reader *r, const fk_shape *in, fk_shape *out);
/* The target of a Squeeze or Unsqueeze, whichever the node at hand is. */
FERKD_CHECK ferkd_status fk_squeeze_target(const fk_reader *r, const fk_shape *in, fk_shape *out);
/* Start, count and step of one axis of a Slice. */
FERKD_CHECK ferkd_status fk_slice_range(const fk_reader *r, int64_t start, int64_t end,
                                        int64_t step, int64_t dim, int64_t *first, int64_t *count);

/* Fold the node at hand if all it needs is constant: *done says whether. */
FERKD_CHECK ferkd_status fk_fold_node(fk_reader *r, bool *done);
/* A DequantizeLinear of constants (onnx_quantise.c). */
FERKD_CHECK ferkd_status fk_fold_dequantize(fk_reader *r, const fk_constant *const *in, size_t n,
                                            fk_constant **out);
/* Add the node at hand to the graph. */
FERKD_CHECK ferkd_status fk_import_node(fk_reader *r);

#endif
