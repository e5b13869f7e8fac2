/* Between the files of the ONNX importer: what adds nodes, and one function for each family of operators. */
#ifndef FK_ONNX_IMPORT_H
#define FK_ONNX_IMPORT_H

#include "exchange/onnx_graph.h"

/* A node proto without parameters. */
#define FK_NODE(...) ((fk_node){.param = {-1, -1, -1, -1}, __VA_ARGS__})

/* The name of output 0. */
const char *fk_import_name(const fk_reader *r);
/* Add n and call output 0 by its name. */
FERKD_CHECK ferkd_status fk_import_emit(fk_reader *r, fk_node *n);
/* Output 0 is the value of node id. */
FERKD_CHECK ferkd_status fk_import_alias(fk_reader *r, int id);
/* A constant as a parameter of the graph. */
FERKD_CHECK ferkd_status fk_import_param_of(fk_reader *r, const fk_constant *c, const char *name,
                                            fk_param_kind kind, int *id);
/* Input i as a node: constants become FK_CONST nodes. */
FERKD_CHECK ferkd_status fk_import_input(fk_reader *r, size_t i, int *id);
/* The one constant input i, as a parameter; -1 if it is left out. */
FERKD_CHECK ferkd_status fk_import_param(fk_reader *r, size_t i, fk_param_kind kind, int *id);
/* A scalar from an attribute (old opsets) or a constant input (new ones). */
FERKD_CHECK ferkd_status fk_import_scalar(fk_reader *r, const char *name, size_t i, float initial,
                                          float *out);
fk_shape fk_import_shape(const fk_reader *r, int id);
/* Is the attribute this word? */
bool fk_import_word(const fk_reader *r, const char *name, const char *word);
/* Does the operator's name equal this one? */
bool fk_import_is(const fk_reader *r, const char *op);

/* Nodes in the middle of what one operator becomes; *x is the value before and after. */
FERKD_CHECK ferkd_status fk_import_reshape_to(fk_reader *r, int *x, fk_shape to);
FERKD_CHECK ferkd_status fk_import_permute(fk_reader *r, int *x, const int *perm);
FERKD_CHECK ferkd_status fk_import_act_of(fk_reader *r, int *x, fk_act kind, float a, float b);
FERKD_CHECK ferkd_status fk_import_binary_of(fk_reader *r, int *x, fk_binary kind, int y);
/* x combined with a number. */
FERKD_CHECK ferkd_status fk_import_number(fk_reader *r, int *x, fk_binary kind, float v);
/* Broadcast to a shape. */
FERKD_CHECK ferkd_status fk_import_expand_to(fk_reader *r, int *x, fk_shape to);
/* NumPy's broadcast of both, or *n of -1. */
fk_shape fk_import_broadcast(const fk_shape *a, const fk_shape *b);

/* Does node id, reshaped to this, end an attention (onnx_fuse.c)? Then *out is that as one node, on node *qkv. */
bool fk_import_attention_at(const fk_reader *r, int id, const fk_shape *to, fk_node *out, int *qkv);

typedef ferkd_status fk_import_fn(fk_reader *r);

/* onnx_math.c */
fk_import_fn fk_import_act, fk_import_binary, fk_import_many, fk_import_compare, fk_import_reduce,
    fk_import_softmax, fk_import_where, fk_import_prelu, fk_import_bias_gelu;
/* onnx_quantise.c */
fk_import_fn fk_import_quantize, fk_import_dequantize;
/* onnx_matrix.c */
fk_import_fn fk_import_gemm, fk_import_matmul, fk_import_einsum, fk_import_layernorm,
    fk_import_skip_layernorm, fk_import_groupnorm, fk_import_rmsnorm, fk_import_ort_attention,
    fk_import_attention, fk_import_resize;
/* onnx_move.c */
fk_import_fn fk_import_flatten, fk_import_reshape, fk_import_squeeze, fk_import_transpose,
    fk_import_concat, fk_import_slice, fk_import_split, fk_import_pad, fk_import_identity,
    fk_import_expand, fk_import_tile, fk_import_gather, fk_import_depth_space;

#endif
