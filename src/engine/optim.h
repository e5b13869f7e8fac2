/* Optimisers: one pass over all trained parameters. */
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
    double layer_decay; /* of the learning rate, a layer from the head down (net/layers.h); 0: 1 */
} fk_optim_options;

typedef struct fk_optim {
    fk_optim_options o;
    size_t n;
    float *m;       /* momentum or first moment; [n] */
    float *v;       /* AdamW: second moment; [n] */
    float *ema;     /* [n_values], buffers included; NULL: none */
    float *rate;    /* [n_params]: of the learning rate, or NULL: 1 */
    uint64_t step;  /* steps done */
    bool head_only; /* only the head's parameters move (linear probe) */
} fk_optim;

FERKD_CHECK ferkd_status fk_optim_init(fk_optim *s, const fk_graph *g, const fk_optim_options *o);
void fk_optim_fini(fk_optim *s);

/* One step with learning rate lr; grads (laid out as g->values) are scaled by `scale` first. Gives
 * the norm of the scaled gradient before clipping. */
double fk_optim_step(fk_optim *s, fk_graph *g, float *grads, double lr, double scale);

#endif
