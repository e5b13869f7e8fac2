/* What the two files about products of tokens share: op_linear.c makes their steps, linear_run.c runs them. */
#ifndef FK_LINEAR_H
#define FK_LINEAR_H

#include "engine/step.h"

/* Buffers of a step. */
enum {
    FK_LINEAR_SCRATCH,
    FK_LINEAR_SCRATCH_BACK,
    FK_LINEAR_PARTS,       /* each thread's sums of gradients */
    FK_LINEAR_FACTORS,     /* of stochastic depth */
    FK_LINEAR_SCALED,      /* weights and bias times the scale of their channel */
    FK_LINEAR_PACKED,      /* weights as the products want them */
    FK_LINEAR_PACKED_BACK, /* the same for backward */
    FK_LINEAR_ROOM,        /* scratch of the products */
    FK_LINEAR_ROOM_BACK
};

/* Primitives: weights to bf16. */
enum { FK_LINEAR_PACK, FK_LINEAR_PACK_BACK };

/* Products: of whole slices, and, one further on, of the last one. */
enum { FK_LINEAR_FORWARD = 0, FK_LINEAR_WEIGHT = 2, FK_LINEAR_DATA = 4 };

typedef struct fk_linear {
    size_t rows, in, out; /* of the product */
    size_t slice;         /* rows at a time */
    size_t rows_each;     /* rows an image, for stochastic depth */
} fk_linear;

fk_linear fk_linear_of(const fk_plan *p, const fk_step *s);
/* As the product has them, the scale of their channels included. */
const float *fk_linear_weights(const fk_plan *p, const fk_step *s);
/* Are its weights too many for the caches? */
bool fk_linear_is_large(const fk_linear *z);
/* Are the products of the step in bf16? */
bool fk_linear_is_half(const fk_step *s);
/* Is the product's result what the step makes, its bias and the residual added to before? */
bool fk_linear_is_direct(const fk_plan *p, const fk_step *s);
/* Floats of scratch a thread, and of its sums. */
size_t fk_linear_scratch(const fk_linear *z);
size_t fk_linear_part(const fk_linear *z);
ferkd_status fk_linear_forward(fk_plan *p, fk_step *s);
ferkd_status fk_linear_backward(fk_plan *p, fk_step *s);

#endif
