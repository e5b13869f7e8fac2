/* Between op_conv_train.c, which runs convolutions slice by slice, and conv_slice.c. */
#ifndef FK_CONV_SLICE_H
#define FK_CONV_SLICE_H

#include "engine/step.h"

/* Buffers of the step; those of values (FK_CONV_X on) are scratch for one slice, and -1 where the tensor itself is used. */
enum {
    FK_CONV_WEIGHTS,
    FK_CONV_DATA_WEIGHTS,
    FK_CONV_DIFF_WEIGHTS,
    FK_CONV_DIFF_SLICE,
    FK_CONV_X,
    FK_CONV_Y,
    FK_CONV_X_BACK,
    FK_CONV_DY,
    FK_CONV_DX,
    FK_CONV_ROOM, /* of products on tiles, for each thread */
    FK_CONV_ROOM_BACK,
    FK_CONV_SUMS /* of outer products, for each thread */
};

/* How many slices there are. */
uint32_t fk_slices(const fk_plan *p, const fk_step *s);
/* The BatchNorm that left its work to this convolution's input, or takes the moments of its output; or NULL. */
const fk_step *fk_slice_norm_before(const fk_plan *p, const fk_step *s);
const fk_step *fk_slice_norm_behind(const fk_plan *p, const fk_step *s);

/* What a primitive reads or writes for slice k: input (scratch: FK_CONV_X or FK_CONV_X_BACK), output, their gradients. */
fk_operand fk_slice_input(const fk_plan *p, const fk_step *s, int scratch, uint32_t k);
fk_operand fk_slice_output(const fk_plan *p, const fk_step *s, uint32_t k);
fk_operand fk_slice_gradient(const fk_plan *p, const fk_step *s, uint32_t k);
fk_operand fk_slice_din(const fk_plan *p, const fk_step *s, uint32_t k);

/* Around what thread t multiplies: the first one's time counts for profiles. */
double fk_slice_begin(const fk_plan *p, size_t t);
void fk_slice_end(const fk_plan *p, fk_step *s, size_t t, double start);

/* Before and after the primitive: the work of the BatchNorms around it, and conversions. */
void fk_slice_load_input(const fk_plan *p, const fk_step *s, int scratch, uint32_t k);
void fk_slice_store_output(const fk_plan *p, const fk_step *s, uint32_t k);
void fk_slice_load_gradient(const fk_plan *p, const fk_step *s, uint32_t k);
void fk_slice_store_din(const fk_plan *p, const fk_step *s, uint32_t k);

/* By products on matrix tiles (conv_tiles.c) in all directions: does that suit and pay; is it how this step works? */
bool fk_conv_is_pointwise(const fk_conv_args *a); /* 1x1, one pixel for each, no groups */
bool fk_conv_suits_tiles(const fk_plan *p, const fk_conv_args *a);
bool fk_conv_on_tiles(const fk_step *s);
FERKD_CHECK ferkd_status fk_compile_conv_tiles(fk_plan *p, fk_step *s, const fk_conv_args *a);
void fk_conv_tiles_refresh(const fk_plan *p, const fk_step *s);
/* Of slice k. The gradient of the weights is added up over slices where the parameter's is. */
void fk_conv_tiles_forward(const fk_plan *p, const fk_step *s, uint32_t k);
void fk_conv_tiles_weights(const fk_plan *p, const fk_step *s, uint32_t k);
void fk_conv_tiles_data(const fk_plan *p, const fk_step *s, uint32_t k);

/* The operands of a BatchNorm, moved by so many elements, for its vectors from v on. */
fk_norm_args fk_norm_moved_args(const fk_plan *p, const fk_step *norm, size_t v, size_t by);

/* With channels last by each thread alone (conv_rows.c): pixels at a time, 0 if that does not suit. Compiling is FERKD_UNSUPPORTED where
 * oneDNN has no products for it; the roles are those of loading the weights. */
size_t fk_conv_rows_at_once(const fk_plan *p, const fk_step *s, const fk_conv_args *a);
FERKD_CHECK ferkd_status fk_compile_conv_rows(fk_plan *p, fk_step *s, fk_conv_args *a,
                                              const int roles[2]);
FERKD_CHECK ferkd_status fk_conv_rows_forward(fk_plan *p, fk_step *s);
FERKD_CHECK ferkd_status fk_conv_rows_backward(fk_plan *p, fk_step *s);

/* The same in f32 in vectors of channels by our own kernels (conv_pointwise.c), where that is faster than oneDNN's. */
FERKD_CHECK ferkd_status fk_conv_pointwise_at_once(fk_plan *p, const fk_step *s,
                                                   const fk_conv_args *slice, size_t *pixels);
FERKD_CHECK ferkd_status fk_compile_conv_pointwise(fk_plan *p, fk_step *s);
FERKD_CHECK ferkd_status fk_conv_pointwise_forward(fk_plan *p, fk_step *s);
FERKD_CHECK ferkd_status fk_conv_pointwise_backward(fk_plan *p, fk_step *s);
void fk_conv_pointwise_refresh(const fk_plan *p, const fk_step *s);

/* The gradient of the weights with channels last (conv_last.c), a product or our own sums: slice k's is added to those before it, and
 * ends up in the parameter's. `product`: role of the primitive. */
FERKD_CHECK ferkd_status fk_compile_last_weights(fk_plan *p, fk_step *s, fk_conv_args *a,
                                                 int product);
FERKD_CHECK ferkd_status fk_bind_last_weights(fk_plan *p, fk_step *s, int product);
FERKD_CHECK ferkd_status fk_last_weights(fk_plan *p, fk_step *s, int product, uint32_t k);
void fk_finish_last_weights(fk_plan *p, const fk_step *s);

#endif
