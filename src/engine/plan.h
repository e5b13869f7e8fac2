/* A graph compiled for this processor: a flat list of steps over one arena. Forward runs the steps in
 * order, backward in reverse. Everything is created once; running allocates nothing. */
#ifndef FK_PLAN_H
#define FK_PLAN_H

#include "net/graph.h"

typedef struct fk_plan fk_plan;

struct fk_tuner;

/* How convolutions are given their values. */
typedef enum fk_layout {
    FK_LAYOUT_ANY,   /* as oneDNN likes it best, each for itself */
    FK_LAYOUT_LANES, /* in vectors of channels */
    FK_LAYOUT_LAST   /* channels last */
} fk_layout;

typedef struct fk_plan_options {
    bool train;    /* keep what backward needs; BatchNorm by batch statistics; dropout */
    uint64_t seed; /* of dropout */
    bool half;     /* bf16: values between the steps are stored in it where that is faster */
    bool
        stored; /* training with half: bf16 in memory alone, products in f32 whatever the processor has */
    fk_layout layout;
    uint32_t slices;  /* inference: batches of the graph's size that make one of the plan's; 0: 1 */
    size_t max_bytes; /* training: of the arena; values are worked out anew where needed. 0: any */
    struct fk_tuner *tuner; /* borrowed while the plan is made; NULL: rules */
    bool profile;           /* note what each step takes */
    bool lean; /* training: gradients of parameters have no memory of their own for longer than
                             * fk_plan_backward_each() needs them */
    /* training: of input and output of a 1x1 convolution at a time, for each thread; 0: what the caches hold */
    size_t slice_bytes;
    bool direct; /* no Winograd convolutions: slower, rounding errors a few times smaller */
} fk_plan_options;

/* g is borrowed: its values are read, and in training its running statistics written. */
FERKD_CHECK ferkd_status fk_plan_new(fk_plan **out, fk_graph *g, const fk_plan_options *o);
void fk_plan_free(fk_plan **plan);

/* Row-major float of the graph's input and output shape (times slices); the plan's memory. */
float *fk_plan_input(fk_plan *p);
const float *fk_plan_output(const fk_plan *p);
float *fk_plan_output_grad(fk_plan *p);

/* Gradients of the trained parameters, laid out as fk_graph.values. */
float *fk_plan_grads(fk_plan *p);

/* To be called when the graph's values have changed since the plan was made. */
FERKD_CHECK ferkd_status fk_plan_refresh(fk_plan *p);

/* step: number of the training step, for dropout; with 0 in inference. */
FERKD_CHECK ferkd_status fk_plan_forward(fk_plan *p, uint64_t step);
/* From the output's gradient to the parameters' (written, not added). */
FERKD_CHECK ferkd_status fk_plan_backward(fk_plan *p);

/* The same, and each parameter's gradient is given away when it is complete: the parameter may be changed at once.
 * With `lean` its memory is given back then. */
typedef void fk_gradient_fn(void *ctx, size_t param, const float *grad);
FERKD_CHECK ferkd_status fk_plan_backward_each(fk_plan *p, fk_gradient_fn *take, void *ctx);

/* head: backward goes no further than the parameters of the head (fk_param.head); the other gradients stay as they are. */
void fk_plan_backward_of_head(fk_plan *p, bool head);

/* What steps spend their time on. */
typedef enum fk_kind {
    FK_KIND_OTHER,
    FK_KIND_CONV,
    FK_KIND_DEPTHWISE,
    FK_KIND_NORM,
    FK_KIND_REORDER,
    FK_KIND_DENSE,
    FK_KIND_ATTENTION,
    FK_KIND_COUNT
} fk_kind;

typedef struct fk_plan_time {
    const char *what;
    double forward_s, backward_s;
} fk_plan_time;

/* Seconds in all runs so far, by kind: fk_plan_time[FK_KIND_COUNT]. For plans made with profile. */
void fk_plan_profile(const fk_plan *p, fk_plan_time *to);

/* What values are stored and multiplied in, as a short text. */
const char *fk_plan_precision(const fk_plan *p);

/* What the arena holds. */
typedef enum fk_memory_kind {
    FK_MEMORY_VALUES,    /* what the steps work out */
    FK_MEMORY_GRADIENTS, /* of those values */
    FK_MEMORY_SCRATCH,   /* of single steps: slices, statistics, masks */
    FK_MEMORY_WEIGHTS,   /* copies of the weights, as the kernels want them */
    FK_MEMORY_COUNT
} fk_memory_kind;

/* Bytes by kind, size_t[FK_MEMORY_COUNT], at the moment when most is alive. */
void fk_plan_memory(const fk_plan *p, size_t *bytes);

/* Bytes of the arena: activations, gradients and workspaces. */
size_t fk_plan_bytes(const fk_plan *p);

#endif
