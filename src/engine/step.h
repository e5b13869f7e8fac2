/* What the ops share with the plan: tensors, buffers, steps. */
#ifndef FK_STEP_H
#define FK_STEP_H

#include "engine/dnnl_glue.h"
#include "engine/plan.h"
#include "kernel/kernel.h"

/* A stretch of the arena, needed from time `first` to time `last`. With S steps, step s runs forward
 * at time s and backward at time 2S - 1 - s. */
typedef struct fk_buffer {
    size_t bytes;
    fk_memory_kind kind;
    int first, last; /* first > last: not used */
    int again,
        until; /* a second time of use, where its values are worked out anew; again > until: none */
    bool shared; /* a gradient of more than one tensor: not to be added to */
    size_t offset;
} fk_buffer;

/* A value in one layout. A node's output may have several, joined by reorder steps. */
typedef struct fk_tensor {
    fk_md *md;
    fk_shape shape;
    int node;
    int step;   /* that makes it */
    int data;   /* buffer, or -1: param */
    int param;  /* a constant's values */
    bool plain; /* row-major without gaps */
    fk_lay lay; /* as vectors of channels */
    bool needs_grad;
    int lazy; /* step of the BatchNorm that this is worked out from while reading, -1: it is stored */
    int grad, grad2; /* buffers whose sum is its gradient, -1: none */
} fk_tensor;

/* What a pointer in a step refers to; it is looked up when the arena has its place. */
typedef enum fk_ref_kind {
    FK_REF_BUFFER, /* of the step */
    FK_REF_DATA,   /* of a tensor */
    FK_REF_GRAD,   /* of a tensor */
    FK_REF_VALUES, /* of a parameter */
    FK_REF_GRADS,  /* of a parameter */
    FK_REF_DIN,    /* gradient of an input of the step */
    FK_REF_SCRATCH /* the plan's, for weights on their way */
} fk_ref_kind;

typedef struct fk_ref {
    fk_ref_kind kind;
    int i;
} fk_ref;

/* Channel `channel` of input `in` of a step; in -1: none. */
typedef struct fk_channel {
    int in, channel;
} fk_channel;

typedef struct fk_step fk_step;
typedef ferkd_status fk_step_fn(fk_plan *p, fk_step *s);

typedef struct fk_arg {
    fk_slot slot;
    fk_ref ref;
} fk_arg;

/* dst = a + b, all buffers; dst -1: none. */
typedef struct fk_sum {
    int dst, a, b;
} fk_sum;

#define FK_MAX_ARGS  10
#define FK_MAX_PRIMS 8

#define FK_MAX_PRODUCTS 12

typedef struct fk_bound_prim {
    fk_prim *prim;
    fk_arg args[FK_MAX_ARGS];
    int n_args;
} fk_bound_prim;

struct fk_step {
    const fk_node *node; /* NULL: a reorder */
    int number;
    int *in; /* tensors */
    int n_in;
    int out;
    int *din;          /* buffers of the gradients by input, -1: none wanted */
    fk_sum *sums;      /* additions that follow, by input: where a value is used more than once */
    bool takes_two;    /* backward reads both buffers of the output's gradient */
    int passes;        /* input whose gradient may be the output's own, -1: none */
    bool is_view;      /* the output is the input under another shape */
    fk_kind kind;      /* for profiles */
    double seconds[2]; /* forward and backward, when profiled */
    double inner_s;    /* of them in the primitives of a convolution */
    fk_step_fn *forward, *backward, *refresh;
    fk_step_fn *bind;                  /* in place of binding by reference */
    fk_bound_prim prims[FK_MAX_PRIMS]; /* their roles are each op's own */
    int buffers[12];                   /* the op's own: statistics, masks, weights */
    const fk_node *folded;             /* inference: the BatchNorm inside this convolution */
    int residual;                      /* tensor that is added inside this step, -1: none */
    int norm_behind;       /* training: the BatchNorm step whose moments, and whose gradient, this
                        depthwise convolution works out on its way; -1: none */
    uint32_t slice_images; /* of a convolution in training: images at a time */
    size_t gradient_bytes; /* its output's gradient of one slice */
    size_t
        rows_at_once; /* of such a one by each thread alone (conv_rows.c, conv_pointwise.c): pixels; 0: it is not */
    int moments_by, sums_by,
        spread_by;         /* of a BatchNorm: the steps that do these for it, -1: none */
    fk_channel *map;       /* what moves channels: for each of its output where it comes from */
    fk_post post;          /* activation inside this step */
    const fk_node *before; /* of a linear step: the LayerNorm or activation that it does first */
    const fk_node *drop;   /* the stochastic depth inside it */
    fk_step *feeder; /* inference: the linear step whose rows this one makes as it reads them */
    fk_product *products[FK_MAX_PRODUCTS]; /* by one thread each, in roles of the op's own */
    int scale_param; /* the parameter that scales each channel of its product, -1: none */
};

struct fk_plan {
    fk_graph *g;
    fk_plan_options o;
    fk_dn *dn;
    fk_tensor *tensors;
    size_t n_tensors, cap_tensors;
    fk_buffer *buffers;
    size_t n_buffers, cap_buffers;
    fk_step **steps;
    size_t n_steps, cap_steps;
    size_t backward_from; /* the last step that backward does */
    int *tensor_of;       /* [nodes]: the first tensor of each node's output, -1: none yet */
    int *uses;            /* [nodes] */
    int8_t *sliced;       /* [nodes]: can a convolution be done in slices? 0: not known yet */
    bool *absorbed;       /* [nodes]: done by another node's step */
    int output;           /* tensor, plain */
    float *grads;
    int *writers;   /* [params], in training: steps that write its gradient */
    int *written;   /* [params]: how many of them have in the backward pass at hand */
    float *others;  /* what the others have written, while one more does */
    float *scratch; /* folded weights on their way to a step */
    float *room;    /* for measuring */
    size_t room_bytes;
    float *whole_in, *whole_out; /* of all slices, if there are several */
    float *slice_in;             /* of the slice at hand */
    uint8_t *arena;
    size_t arena_bytes;
    size_t threads; /* that run it */
    bool half_conv; /* convolutions and what stands between them in bf16 */
    int *
        redo; /* [steps]: before backward of this step, steps redo[i] to i run forward again; -1: none */
    bool redoing;  /* that is going on: statistics are there already */
    uint64_t step; /* of training, for dropout */
};

/* --- used while compiling ------------------------------------------------------------------- */

#define FK_ALWAYS INT_MAX

/* A new step for a node, appended when fk_step_done() is called. */
FERKD_CHECK ferkd_status fk_step_new(fk_plan *p, fk_step **out, const fk_node *node, int n_in);
/* Its output tensor; md is taken over (also on failure). */
FERKD_CHECK ferkd_status fk_step_output(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape,
                                        int node);

/* A new tensor from t, whose md is taken over (also on failure). */
FERKD_CHECK ferkd_status fk_new_tensor(fk_plan *p, fk_tensor t, int *out);
/* Backward of step s, as a mark that is turned into a time when the number of steps is known. */
int fk_backward_mark(int step);
/* Space for `bytes` more; gives the buffer. */
FERKD_CHECK ferkd_status fk_plan_buffer(fk_plan *p, size_t bytes, int first, int last, int *out);
/* As fk_step_output(), in the place of a tensor that nobody reads any more. */
FERKD_CHECK ferkd_status fk_step_output_in(fk_plan *p, fk_step *s, fk_md *md, const fk_shape *shape,
                                           int node, int tensor);

/* A buffer of its own: live while the step runs forward (fk_step_forward_only), from forward to
 * backward, or always. */
typedef enum fk_life { FK_LIFE_FORWARD, FK_LIFE_BOTH, FK_LIFE_BACKWARD, FK_LIFE_ALWAYS } fk_life;

FERKD_CHECK ferkd_status fk_step_buffer(fk_plan *p, fk_step *s, int slot, size_t bytes,
                                        fk_life life);
/* In training, input i (or the output) is read again by backward. */
void fk_step_keep(fk_plan *p, int tensor, const fk_step *s);

/* Of products first to first + n: the bytes of scratch that a thread needs; and away with them all. */
size_t fk_step_product_room(const fk_step *s, int first, int n);
void fk_step_drop_products(fk_step *s);

/* Make the primitive and note what its arguments are. role: index into s->prims; pd is taken over
 * (also on failure). */
FERKD_CHECK ferkd_status fk_step_prim(fk_plan *p, fk_step *s, int role, fk_pd *pd, const char *what,
                                      const fk_arg *args, int n_args);

/* The tensor of a node in the layout md, or row-major; a reorder step is added where needed. */
FERKD_CHECK ferkd_status fk_want(fk_plan *p, int tensor, const fk_md *md, int *out);
FERKD_CHECK ferkd_status fk_want_plain(fk_plan *p, int tensor, int *out);

/* As vectors of channels, in the type that it has. */
FERKD_CHECK ferkd_status fk_want_lanes(fk_plan *p, int tensor, int *out);

/* The tensor in f32, in the layout that it has. */
FERKD_CHECK ferkd_status fk_want_f32(fk_plan *p, int tensor, int *out);
/* Is a gradient wanted for this input? */
bool fk_wants_din(const fk_plan *p, const fk_step *s, int i);

/* Is it 3x3, without groups or dilation, of whole vectors of 16 channels? With stride 1 Winograd's algorithm can do it. */
bool fk_is_3x3(const fk_conv_args *a);
/* Convolution n of the graph in training, in no layout yet. */
fk_conv_args fk_training_conv(const fk_plan *p, const fk_node *n);
/* The fastest convolution for these arguments, measured or by rule (tune_conv.c); sets a->winograd. */
FERKD_CHECK ferkd_status fk_choose_conv(fk_plan *p, fk_pd **pd, fk_conv_args *a);

/* How values lie for kernels of our own: channels last, or as vectors of channels. */
FERKD_CHECK ferkd_status fk_md_own(const fk_plan *p, const fk_shape *shape, fk_md **md);

/* Is another way of doing this convolution, called `word` in the tuner's notes, faster than oneDNN's in that layout, in training with both
 * gradients? Each is timed once. */
typedef ferkd_status fk_time_conv_fn(fk_plan *p, const fk_conv_args *a, double *seconds);
FERKD_CHECK ferkd_status fk_conv_against(fk_plan *p, const fk_conv_args *a, const char *word,
                                         fk_time_conv_fn *other, bool *wins);
/* The same for the gradient of the weights alone, where oneDNN's is a product. */
FERKD_CHECK ferkd_status fk_weights_against(fk_plan *p, const fk_conv_args *a, const char *word,
                                            fk_time_conv_fn *other, bool *wins);

/* --- used while running --------------------------------------------------------------------- */

void *fk_ref_pointer(const fk_plan *p, const fk_step *s, fk_ref r);
float *fk_data(const fk_plan *p, int tensor);
float *fk_grad(const fk_plan *p, int tensor);
float *fk_din(const fk_plan *p, const fk_step *s, int i);
/* The same as operands of the kernels; absent where there is none. */
fk_operand fk_data_operand(const fk_plan *p, int tensor);
fk_operand fk_buffer_operand(const fk_plan *p, int buffer, bool half);
void *fk_buffer_at(const fk_plan *p, int buffer);
/* dst = a + b (b absent: a copy), n values, by all threads. */
void fk_add(fk_operand dst, fk_operand a, fk_operand b, size_t n);
FERKD_CHECK ferkd_status fk_run(fk_plan *p, const fk_step *s, int role);
/* Floats in a tensor, padding of its layout included. */
size_t fk_floats(const fk_plan *p, int tensor);

/* One direction of a step, timed for profiles. */
ferkd_status fk_run_step(fk_plan *p, fk_step *s, bool back);

/* The gradients of parameters (gradients.c): their memory; who writes them, once the steps are all there; backward of a
 * step, whose part of shared ones is added; and those that it was the last to write, for fk_plan_backward_each(). */
FERKD_CHECK ferkd_status fk_new_gradients(fk_plan *p);
void fk_free_gradients(fk_plan *p);
FERKD_CHECK ferkd_status fk_plan_sharing(fk_plan *p);
FERKD_CHECK ferkd_status fk_run_backward(fk_plan *p, fk_step *s);
/* Does its backward write a gradient of the head's? */
bool fk_writes_head(const fk_plan *p, const fk_step *s);
void fk_hand_over(fk_plan *p, const fk_step *s, fk_gradient_fn *take, void *ctx);

/* --- the ops: each makes the steps of one node ---------------------------------------------- */

typedef ferkd_status fk_compile_fn(fk_plan *p, const fk_node *n, int id);
fk_compile_fn fk_compile_conv, fk_compile_norm, fk_compile_act, fk_compile_binary, fk_compile_pool,
    fk_compile_reduce, fk_compile_dense, fk_compile_matmul, fk_compile_reshape,
    fk_compile_transpose, fk_compile_concat, fk_compile_slice, fk_compile_pad, fk_compile_softmax,
    fk_compile_dropout, fk_compile_const, fk_compile_layernorm, fk_compile_attention,
    fk_compile_expand, fk_compile_gather, fk_compile_select;

/* The mean of each channel of a feature map (op_pool.c). */
ferkd_status fk_compile_global_pool(fk_plan *p, const fk_node *n, int id);
/* The same from tensor `in`, which has vectors of channels, in its layout as the output of node id; -1: row-major, of no node
 * (op_means.c). */
FERKD_CHECK ferkd_status fk_compile_means(fk_plan *p, const fk_node *n, int in, int id, int *out);
/* The elements of tensor `in`, row-major, under the node's shape (op_shape.c). */
FERKD_CHECK ferkd_status fk_view_step(fk_plan *p, const fk_node *n, int in, int id);

ferkd_status fk_compile_norm_dnnl(fk_plan *p, const fk_node *n, int id);
ferkd_status fk_compile_depthwise(fk_plan *p, const fk_node *n, int id);
/* Can our own depthwise convolution do this node? */
bool fk_is_depthwise(const fk_plan *p, const fk_node *n);

/* In inference: the BatchNorm that alone uses *id, to be folded into the weights; NULL if there is none. Marks
 * it absorbed and sets *id to it. */
const fk_node *fk_absorb_norm(fk_plan *p, int *id);

/* How the work on a feature map is divided: by channel vector, and each of them in parts of whole images where
 * the vectors alone would leave threads idle. With channels last a part is one image, or some small ones, whose vectors are done one after
 * the other while they are in the cache: so many of a batch's images, of so many elements each. */
size_t fk_images_a_part(size_t batch, size_t elements);
size_t fk_parts_of(const fk_lay *lay);

/* The work of a BatchNorm on some images (with channels last: whole parts), n jobs: a vector of channels of a part each or, with channels
 * last, all vectors of a part, pixel by pixel. Parts are the outer loop. */
typedef struct fk_norm_jobs {
    const fk_norm_kernels *k;
    const fk_lay *lay;
    size_t first, images; /* images */
    size_t parts;         /* of these images */
    size_t n, vectors;    /* jobs; vectors a job */
} fk_norm_jobs;

typedef struct fk_norm_job {
    size_t v, part; /* its first vector, and its part of the tensor's sums */
    fk_planes at;   /* counted from the first image of all jobs */
} fk_norm_job;

/* The kernels that work so. */
const fk_norm_kernels *fk_norm_kernels_of(const fk_lay *lay);
fk_norm_jobs fk_norm_jobs_of(const fk_lay *lay, size_t first, size_t images);
fk_norm_job fk_norm_job_at(const fk_norm_jobs *all, size_t j);

/* What a BatchNorm step works out for each channel. */
typedef enum fk_norm_vector {
    FK_NORM_MEAN,
    FK_NORM_RSTD,
    FK_NORM_SCALE,
    FK_NORM_SHIFT,
    FK_NORM_TO_Y,
    FK_NORM_TO_1,
    FK_NORM_VECTORS
} fk_norm_vector;

float *fk_norm_vector_of(const fk_plan *p, const fk_step *s, fk_norm_vector which, size_t v);
/* What the kernels need to know of channel vector v of a BatchNorm step; the planes are the caller's. */
fk_norm_args fk_norm_args_of(const fk_plan *p, const fk_step *s, size_t v);
/* Its sums over part `part` of vector v: [2][lanes]; and how far those of the next vector are. */
double *fk_norm_part_of(const fk_plan *p, const fk_step *s, size_t v, size_t part);
size_t fk_norm_sums_step(const fk_lay *lay);
/* The buffer is needed until backward of step number `step`, too. */
void fk_keep_until_backward(fk_plan *p, int buffer, int step);

/* A convolution in training by slices of the batch (op_conv_train.c), and whether this one can be. */
bool fk_is_sliced_conv(fk_plan *p, const fk_node *n);
ferkd_status fk_compile_sliced_conv(fk_plan *p, const fk_node *n, int id);
/* The BatchNorm behind it works its gradient out in slices: scratch for it. */
FERKD_CHECK ferkd_status fk_conv_gradient_scratch(fk_plan *p, fk_step *s);
bool fk_data_type_half(const fk_plan *p, int tensor);

/* Floats of the weights of a convolution on their way to its kernel: more than there are where small groups are put together. */
size_t fk_conv_scratch(const fk_plan *p, const fk_node *n);

/* The gradient of a convolution's weights as a matrix product (conv_product.c): is it one in these layouts? The
 * primitive (FK_SRC: the output's gradient; FK_WEIGHTS: the patches; FK_DST) and the layout of what it writes. The patches are
 * the input itself where fk_patches_bytes() is 0, else they are taken from it. */
bool fk_is_weights_product(const fk_conv_args *a);
/* Such a product in so many parts, each of some pixels, whose sum is the gradient: 1, or one for each thread where the weights are
 * few. */
size_t fk_weights_parts(const fk_conv_args *a, size_t threads);
size_t fk_patches_bytes(const fk_conv_args *a);
FERKD_CHECK ferkd_status fk_pd_weights_product(fk_dn *dn, const fk_conv_args *a, size_t parts,
                                               fk_pd **pd, fk_md **gradient);
void fk_take_patches(const fk_plan *p, const fk_step *s, void *to);

/* The same for 1x1 by our own sums of outer products (conv_outer.c): can it be, and is that faster? The bytes that it takes, of values
 * between these shapes; and the gradient itself. */
FERKD_CHECK ferkd_status fk_outer_wins(fk_plan *p, const fk_conv_args *a, bool *wins);
size_t fk_outer_bytes(const fk_plan *p, const fk_shape *src, const fk_shape *dst);
void fk_run_outer(const fk_plan *p, const fk_step *s, void *room);

/* Some images at a time: their sums become, or are added to, those in `room`; and the gradient from the sums. */
typedef struct fk_outer_values {
    const fk_shape *src, *dst; /* of so many images */
    const uint16_t *x, *dy;
} fk_outer_values;

void fk_outer_sums(const fk_plan *p, const fk_outer_values *z, bool add, void *room);
/* Those of one thread, of some pixels of its own. */
void fk_outer_sums_by(const fk_outer_values *z, size_t pixels, bool add, size_t t, void *room);
void fk_outer_collect(const fk_plan *p, const fk_outer_values *z, const void *room, float *dw);

/* Concatenations and slices of channels where the input is in vectors of them (op_channels.c). */
#define FK_MAX_MOVED 64 /* inputs of such a step */
bool fk_is_channel_concat(const fk_plan *p, const fk_node *n);
bool fk_is_channel_slice(const fk_plan *p, const fk_node *n);
ferkd_status fk_compile_channel_concat(fk_plan *p, const fk_node *n, int id);
ferkd_status fk_compile_channel_slice(fk_plan *p, const fk_node *n, int id);

/* x times a number for each image and channel (op_gate.c), and whether these two are that. */
bool fk_is_gate(const fk_plan *p, int x, int gate);
ferkd_status fk_compile_gate(fk_plan *p, const fk_node *n, int id, int x, int gate);

/* For the steps that take a BatchNorm's moments, or sums, for it: set them to nothing. */
void fk_norm_begin_moments(const fk_plan *p, const fk_step *s);
void fk_norm_begin_sums(const fk_plan *p, const fk_step *s);
/* As fk_norm_args_of(), with the gradients. */
fk_norm_args fk_norm_backward_args(const fk_plan *p, const fk_step *s, size_t v);

/* What follows node `id`, its alone user each time, and can be done in the same step: the addition of a value
 * that is there already, an activation. Marks them absorbed; gives the last of them. */
typedef struct fk_tail {
    int id;       /* the node whose output the step makes */
    int residual; /* tensor, -1: none */
    fk_post post;
} fk_tail;

typedef struct fk_tail_rules {
    bool (*has_act)(fk_act kind);
    bool (*act_with_residual)(fk_act kind);
    bool (*may_add)(const fk_plan *p, int tensor, int adder); /* this value, at node `adder`? */
    int reads; /* tensor that the step reads while it writes in the residual's place; -1: it does not */
} fk_tail_rules;

/* A 1x1 convolution in inference on matrix tiles (op_conv_tiles.c): does that suit, with this tensor for its input, and pay? Weights, with
 * a BatchNorm's folded into them, go to the plan's scratch; its bias (NULL: there is none). */
bool fk_conv_suits_tiles_forward(const fk_plan *p, const fk_conv_args *a, int in);
ferkd_status fk_compile_tiles_conv(fk_plan *p, const fk_node *n, int in, const fk_tail *tail,
                                   const fk_node *norm);
void fk_load_conv_weights(fk_plan *p, const fk_step *s, float *bias);
/* The bias it runs with: its own, or that of the folded BatchNorm in its buffer `buffer`; NULL: none. */
const float *fk_conv_bias(const fk_plan *p, const fk_step *s, int buffer);

/* A 3x3 convolution by our own Winograd kernels (op_conv_winograd.c): can it be, and is that faster than oneDNN's in the same layout,
 * measured or by rule? */
bool fk_conv_suits_winograd(const fk_plan *p, const fk_conv_args *a);
FERKD_CHECK ferkd_status fk_conv_winograd_wins(fk_plan *p, const fk_conv_args *a, bool *wins);
/* Will convolution n, in training, be one of them, and work out for itself what a BatchNorm with this activation makes of values in
 * layout md? */
bool fk_winograd_normalises(fk_plan *p, const fk_node *n, const fk_md *md, fk_post act);
ferkd_status fk_compile_winograd(fk_plan *p, const fk_node *n, int in, const fk_tail *tail,
                                 const fk_node *norm);

fk_tail fk_absorb_tail(fk_plan *p, int id, const fk_tail_rules *r);

/* The node that alone uses node id's output, or NULL. */
const fk_node *fk_only_user(const fk_plan *p, int id, int *user);

/* A matrix product of tokens, with what stands around it (op_linear.c): is this one, and does a product take this
 * LayerNorm or activation into its own step? That node then has no tensor. */
bool fk_is_linear(const fk_node *n);
bool fk_linear_takes(const fk_plan *p, int id);
ferkd_status fk_compile_linear(fk_plan *p, const fk_node *n, int id);

/* In training: a convolution whose windows stand side by side is such a product of patches. */
bool fk_is_patches(const fk_plan *p, const fk_node *n);
ferkd_status fk_compile_patches(fk_plan *p, const fk_node *n, int id);

/* The sum of all threads' parts, `stride` floats apart, becomes the parameter's gradient; param -1: nothing. */
void fk_add_parts(fk_plan *p, int param, const float *from, size_t stride, size_t threads);

/* The tensor row-major, f32 or bf16; and the layout of what the steps of tokens make: node `id`, or (-1) one that is added to others. */
FERKD_CHECK ferkd_status fk_want_rows(fk_plan *p, int tensor, int *out);
FERKD_CHECK ferkd_status fk_rows_md(const fk_plan *p, const fk_shape *shape, int id, fk_md **out);

/* Does oneDNN have this activation? */
bool fk_act_is_dnnl(fk_act kind);

/* Place the buffers in the arena (memory.c). */
void fk_place_buffers(fk_buffer *buffers, size_t n, size_t *arena_bytes);

/* Place them so that the arena has at most p->o.max_bytes, by working values out anew in backward where it must be
 * (recompute.c). All lives are times by now. FERKD_LIMIT, with the least that is possible, if it cannot be done. */
FERKD_CHECK ferkd_status fk_place_within(fk_plan *p);

/* What is alive at the fullest moment: bytes[FK_MEMORY_COUNT]. */
void fk_memory_by_kind(const fk_buffer *buffers, size_t n, size_t *bytes);

#endif
