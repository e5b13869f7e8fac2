/* Between the files of the ONNX writer. The protobuf is put together in a pool that is freed in one go; after a failure
 * every call does nothing. */
#ifndef FK_ONNX_WRITER_H
#define FK_ONNX_WRITER_H

#include "exchange/onnx.h"

#include "onnx.pb-c.h"

typedef struct fk_writer {
    const fk_graph *g;
    const char *path;
    int64_t opset;
    bool half, for_opencv4;
    const int *same;        /* [parameters]: the first with the same shape and values */
    const fk_range *ranges; /* of values in 8 bits, or NULL */
    void **pool;            /* everything allocated */
    size_t n_pool, cap_pool;
    ferkd_status st; /* the first failure; later calls do nothing */
    Onnx__NodeProto **nodes;
    size_t n_nodes, cap_nodes;
    Onnx__TensorProto **tensors;
    size_t n_tensors, cap_tensors;
} fk_writer;

/* n zeroed elements from the pool; NULL after a failure. */
void *fk_writer_take(fk_writer *w, size_t n, size_t size);
char *fk_writer_text(fk_writer *w, const char *format, ...) FK_PRINTF(2, 3);

void fk_writer_int(fk_writer *w, Onnx__NodeProto *n, const char *name, int64_t v);
void fk_writer_float(fk_writer *w, Onnx__NodeProto *n, const char *name, double v);
void fk_writer_ints(fk_writer *w, Onnx__NodeProto *n, const char *name, const int64_t *v, size_t k);

/* The name of a node's value for those who read it; dropout is left out, so its name is its input's. */
char *fk_writer_value(fk_writer *w, int id);
/* The same for who makes it: what is read may have gone through 8 bits in between. */
char *fk_writer_result(fk_writer *w, int id);
/* A node for graph node id with room for n_in inputs, of which the graph's own are filled in. */
Onnx__NodeProto *fk_writer_node(fk_writer *w, const char *op, int id, size_t n_in);
/* One of several for graph node id, on values by name; the last of them has last set and makes the value of id.
 * Names that are NULL end the list. Gives the node; its output's name is output[0]. */
Onnx__NodeProto *fk_writer_step(fk_writer *w, const char *op, int id, bool last, char *const *in,
                                size_t n_in);
Onnx__TensorProto *fk_writer_tensor(fk_writer *w, const char *name, size_t n_dims,
                                    const int64_t *dims);
/* What parameter `param` is called in the file: equals are written once. */
char *fk_writer_param(fk_writer *w, int param);
/* Initialisers; their names. */
char *fk_writer_integers(fk_writer *w, const char *name, const int64_t *v, size_t n);
char *fk_writer_number(fk_writer *w, const char *name, float v);

/* One of several nodes for graph node id, on one or two values (b or NULL); its output's name. */
char *fk_writer_apply(fk_writer *w, const char *op, int id, bool last, char *a, char *b);
/* A number, as an initialiser of node id. */
char *fk_writer_setting(fk_writer *w, int id, const char *tail, double v);
/* x under the shape of dims, of which the first, the batch, is left open. */
char *fk_writer_reshape(fk_writer *w, int id, bool last, char *x, const char *tail, int n,
                        const int64_t *dims);
char *fk_writer_permute(fk_writer *w, int id, bool last, char *x, int n, const int64_t *perm);

/* The nodes of an FK_LAYERNORM and of an FK_ATTENTION (onnx_write_tokens.c). */
void fk_writer_layernorm(fk_writer *w, int id);
void fk_writer_attention(fk_writer *w, int id);

/* 8 bits (onnx_write_int8.c): does a value go through them, and does a node have its weights in them? */
bool fk_writer_in_bytes(const fk_writer *w, int id);
bool fk_writer_has_bytes(const fk_writer *w, const fk_node *n);
/* The nodes that take value id through them. */
void fk_writer_quantise_value(fk_writer *w, int id);
/* Weight and bias of node id, written so; names of what stands for them. */
void fk_writer_quantised_params(fk_writer *w, int id, char *names[2]);

/* The nodes for graph node id (onnx_write_ops.c). */
void fk_writer_op(fk_writer *w, int id);

#endif
