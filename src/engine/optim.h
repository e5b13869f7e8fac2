/* Optimisers: one pass over all trained parameters, or one parameter at a time as backward finishes its gradient. */
#ifndef FK_OPTIM_H
#define FK_OPTIM_H

#include "net/graph.h"

typedef enum fk_optim_kind { FK_SGD, FK_ADAMW } fk_optim_kind;

typedef struct fk_optim_options {
    fk_optim_kind kind;
    double momentum; /* SGD */
    bool nesterov;
    double beta1, beta2, eps; /* AdamW (Loshchilov and Hutter, 2019) */
    double decay;             /* weight decay; SGD: added to the gradient, AdamW: decoupled */
    bool decay_all;           /* biases and norms too */
    double clip;              /* largest norm of the whole gradient, 0: no limit */
    double ema;               /* decay of the average of weights, 0: none */
    bool
        half_states; /* momentum and moments in bf16, rounded at random so that small steps count on average */
    double layer_decay; /* of the learning rate, a layer from the head down (net/layers.h); 0: 1 */
    double head_rate;   /* factor of the learning rate for the head; 0: 1 */
} fk_optim_options;

/* One step's. */
typedef struct fk_rates {
    float lr, scale, decay;
    float first, second; /* AdamW: 1 / (1 - beta^t) */
    bool start;          /* first step: momentum is the gradient itself */
    float *average;      /* of these values, or NULL */
    float keep;          /* average = keep average + (1 - keep) value */
} fk_rates;

typedef struct fk_optim {
    fk_optim_options o;
    size_t n;
    float *m;                  /* momentum or first moment; [n] */
    float *v;                  /* AdamW: second moment; [n] */
    uint16_t *half_m, *half_v; /* in their place: half_states */
    fk_rates rates;            /* of the step at hand */
    float *ema;                /* [n_values], buffers included; NULL: none */
    float *rate;               /* [n_params]: of the learning rate, or NULL: 1 */
    uint64_t step;             /* steps done */
    bool head_only;            /* only the head's parameters move (linear probe) */
} fk_optim;

FERKD_CHECK ferkd_status fk_optim_init(fk_optim *s, const fk_graph *g, const fk_optim_options *o);
/* The learning rates of the parameters, by layer_decay and by another factor for the head (0: 1). */
FERKD_CHECK ferkd_status fk_optim_rates(fk_optim *s, const fk_graph *g, double head_rate);
void fk_optim_fini(fk_optim *s);

/* One step with learning rate lr; grads (laid out as g->values) are scaled by `scale` first. Gives
 * the norm of the scaled gradient before clipping. */
double fk_optim_step(fk_optim *s, fk_graph *g, float *grads, double lr, double scale);

/* The same in parts, without clipping: begin, then every parameter once, each with its own gradient. */
void fk_optim_begin(fk_optim *s, double lr, double scale);
void fk_optim_param(fk_optim *s, fk_graph *g, size_t param, const float *grad);

#endif
