/* The network as a graph: nodes in topological order, each with one output of known shape, and the
 * parameters they use. The zoo, ONNX and run folders all become this; the engine compiles it. */
#ifndef FK_GRAPH_H
#define FK_GRAPH_H

#include "base/compat.h"
#include "base/limits.h"

typedef struct fk_shape {
    int n;
    int64_t d[FK_MAX_DIMS]; /* row-major; 4 dimensions are N C H W */
} fk_shape;

typedef enum fk_op {
    FK_INPUT,
    FK_CONST, /* a parameter as a value */
    FK_CONV,
    FK_BATCHNORM,
    FK_ACT,
    FK_BINARY, /* with broadcasting */
    FK_POOL,
    FK_REDUCE, /* over some axes */
    FK_DENSE,  /* x[..., in] w[out, in] + b */
    FK_MATMUL, /* of two values */
    FK_RESHAPE,
    FK_TRANSPOSE,
    FK_CONCAT,
    FK_SLICE,
    FK_PAD,
    FK_SOFTMAX,
    FK_DROPOUT,
    FK_LAYERNORM, /* over the last dimension */
    FK_ATTENTION, /* [B, T, 3 D], queries, keys, values of all heads side by side, to [B, T, D] */
    FK_EXPAND,    /* dimensions of 1 repeated, and new ones before */
    FK_GATHER,    /* indices of one axis */
    FK_SELECT,    /* condition ? a : b, of one shape */
    FK_OP_COUNT
} fk_op;

typedef enum fk_act {
    FK_RELU,
    FK_CLIP, /* a = low, b = high */
    FK_SIGMOID,
    FK_SILU,
    FK_HARDSWISH,
    FK_HARDSIGMOID, /* clip(a x + b, 0, 1) */
    FK_LEAKY,       /* a = slope */
    FK_ELU,         /* a = alpha */
    FK_GELU,        /* erf */
    FK_GELU_TANH,
    FK_TANH,
    FK_ERF,
    FK_EXP,
    FK_LOG,
    FK_SQRT,
    FK_ABS,
    FK_SIGN,
    FK_RECIPROCAL,
    FK_SOFTPLUS,
    FK_SOFTSIGN,
    FK_MISH,
    FK_ROUND, /* to even */
    FK_FLOOR,
    FK_CEIL,
    FK_NOT,    /* 1 for 0, else 0 */
    FK_LEVELS, /* the nearest of the 256 multiples of a from a b on: what 8 bits keep of x */
    FK_ACT_COUNT
} fk_act;

/* An activation fused behind a primitive; n is 0 or 1. */
typedef struct fk_post {
    int n;
    fk_act kind;
    float a, b;
} fk_post;

typedef enum fk_binary {
    FK_ADD,
    FK_SUB,
    FK_MUL,
    FK_DIV,
    FK_POW,
    FK_MAX,
    FK_MIN,
    FK_EQUAL, /* 1 or 0 */
    FK_GREATER,
    FK_LESS,
    FK_BINARY_COUNT
} fk_binary;

typedef enum fk_reduce { FK_BY_MEAN, FK_BY_SUM, FK_BY_MAX, FK_BY_MIN, FK_BY_L2 } fk_reduce;

#define FK_MAX_PARAMS 4 /* of one node */

typedef struct fk_window {
    int64_t kernel[2], stride[2], dilation[2], begin[2], end[2]; /* H, W; padding before, after */
} fk_window;

typedef struct fk_node {
    fk_op op;
    const char *name;
    int *in; /* numbers of nodes before this one */
    int n_in;
    int param[FK_MAX_PARAMS]; /* numbers of parameters, -1: none */
    fk_shape shape;           /* of the output */

    union {
        struct {
            fk_window window;
            int64_t groups;
        } conv; /* param: weight [O, I/groups, kh, kw], bias [O] or none */

        struct {
            double eps, momentum; /* running = (1 - momentum) running + momentum batch */
        } norm; /* param: weight, bias, running_mean, running_var; LayerNorm: weight or
                                   * none, bias or none */

        struct {
            fk_act kind;
            float a, b;
        } act;

        struct {
            fk_binary kind;
        } binary;

        struct {
            fk_window window;
            bool max;         /* or average */
            bool include_pad; /* average: padding counts */
        } pool;

        struct {
            unsigned axes; /* bit i: dimension i */
            bool keep;
            fk_reduce kind;
        } reduce;

        struct {
            int perm[FK_MAX_DIMS];
        } transpose;

        struct {
            int axis;
            int64_t start, step; /* of a slice: element i is start + i step */
        } axis;                  /* concat, slice, softmax, gather (param: the indices) */

        struct {
            int64_t begin[FK_MAX_DIMS], end[FK_MAX_DIMS];
            float value;
        } pad;

        struct {
            double ratio;
            bool whole; /* images as a whole are dropped: stochastic depth (Huang et al. 2016) */
        } dropout;

        struct {
            int64_t heads;
            double scale; /* of the products of queries and keys */
        } attention; /* in: qkv, and optionally what is added to the scores: [W, heads or 1, T, T], of batch
                           * entry b that of b % W */
    } u;
} fk_node;

typedef enum fk_param_kind {
    FK_WEIGHT,      /* trained, decays */
    FK_BIAS,        /* trained */
    FK_NORM_WEIGHT, /* trained */
    FK_BUFFER       /* running statistics, constants: not trained */
} fk_param_kind;

typedef enum fk_init {
    FK_INIT_ZERO,
    FK_INIT_ONE,
    FK_INIT_NORMAL,
    FK_INIT_UNIFORM,
    FK_INIT_CONST,
    FK_INIT_GIVEN /* stays: not drawn, not taken from a checkpoint */
} fk_init;

typedef struct fk_param {
    char *name;
    fk_shape shape;
    fk_param_kind kind;
    fk_init init;
    double scale;  /* standard deviation, or bound, or the constant */
    size_t offset; /* of its first value in fk_graph.values */
    size_t count;
    bool head;    /* of the classifier at the end (net/head.h) */
    float *given; /* values from a file, until fk_graph_finish() */
} fk_param;

typedef struct fk_graph {
    char *name;
    fk_node *nodes;
    size_t n_nodes, cap_nodes;
    fk_param *params;
    size_t n_params, cap_params;
    void *names; /* of the parameters, for tfind(3) */
    int input, output;
    float *values;   /* all parameters: the trained ones first */
    size_t n_values; /* including padding between parameters */
    size_t n_trained;
} fk_graph;

FERKD_CHECK ferkd_status fk_graph_new(fk_graph **out, const char *name);
void fk_graph_free(fk_graph **g);
FERKD_CHECK ferkd_status fk_graph_rename(fk_graph *g, const char *name);

/* Add a copy of proto (name, in are copied); its output shape is worked out and checked here, but
 * for FK_INPUT, FK_RESHAPE and FK_EXPAND, which state theirs. */
FERKD_CHECK ferkd_status fk_graph_add(fk_graph *g, const fk_node *proto, int *id);

/* Add a parameter; given (or NULL) is copied. A name that is taken gets a number behind it: checkpoints go by names. */
FERKD_CHECK ferkd_status fk_graph_param(fk_graph *g, const char *name, fk_shape shape,
                                        fk_param_kind kind, const float *given, int *id);

/* The graph is complete: lay the parameters out in one array. */
FERKD_CHECK ferkd_status fk_graph_finish(fk_graph *g, int output);

/* Draw all parameters that were not given (seed, number of the parameter). */
void fk_graph_init(fk_graph *g, uint64_t seed);
void fk_graph_init_param(fk_graph *g, int param, uint64_t seed);

float *fk_graph_values(const fk_graph *g, int param);
int fk_graph_find_param(const fk_graph *g, const char *name); /* -1: none */

/* How many living nodes use each node's output; out: int[n_nodes]. A node without a way to the
 * graph's output is dead and has 0. */
void fk_graph_uses(const fk_graph *g, int *out);

/* Multiply-adds of one node, for the whole batch. */
double fk_node_macs(const fk_graph *g, const fk_node *n);

/* Parameters that are trained. */
size_t fk_graph_trained(const fk_graph *g);

int64_t fk_shape_count(const fk_shape *s);
bool fk_shape_equal(const fk_shape *a, const fk_shape *b);
fk_shape fk_shape_of(int n, ...); /* int64_t each */
/* "2x3x224x224" in text. */
void fk_shape_text(const fk_shape *s, char *text, size_t size);
const char *fk_op_name(fk_op op);
const char *fk_act_name(fk_act act);

/* The output shape of a node (shape.c). */
FERKD_CHECK ferkd_status fk_shape_infer(const fk_graph *g, fk_node *n);

#endif
