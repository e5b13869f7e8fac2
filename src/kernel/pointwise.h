/* 1x1 convolutions in f32 of feature maps in vectors of channels: some pixels at a time, as products with what a pixel's channels are made
 * into in registers; forward, the gradient of the input (the same with the weights turned) and that of the weights. */
#ifndef FK_POINTWISE_H
#define FK_POINTWISE_H

#include "kernel/kernel.h"

enum { FK_POINTWISE_BLOCK = 4 }; /* vectors of channels that are made side by side */

/* A feature map: element 0 is the first vector of the first pixel; from one image, from one vector to the next. Pixels lie a vector apart.
 * Lanes of channels that are not there are 0. */
typedef struct fk_pointwise_map {
    float *data;
    size_t image, vector;
} fk_pointwise_map;

/* So many pixels of so many images of both maps. */
typedef struct fk_pointwise {
    size_t images, pixels;
    size_t in, out; /* vectors of channels */
    fk_pointwise_map x, y;
} fk_pointwise;

/* Weights [outputs][inputs]; packed `turned` they lead from outputs to inputs. */
typedef struct fk_pointwise_pack {
    const float *weights;
    size_t outputs, inputs;
    bool turned;
    float *to; /* fk_pointwise_packed() floats at 64 bytes */
} fk_pointwise_pack;

typedef struct fk_pointwise_kernels {
    int lanes;
    /* Vector `vector` of what the product makes. */
    void (*pack)(const fk_pointwise_pack *k, size_t vector);
    /* Block `block` of y's vectors, from x and all packed weights. */
    void (*multiply)(const fk_pointwise *k, const float *packed, size_t block);
    /* sums [channels of y][channels of x], whole vectors, of the products of both at each pixel; or += */
    void (*outer)(const fk_pointwise *k, float *sums, bool add);
} fk_pointwise_kernels;

extern const fk_pointwise_kernels fk_pointwise_plain16;

/* With AVX-512; with FERKD_KERNELS=plain the plain ones; NULL: there are none that pay. */
const fk_pointwise_kernels *fk_pointwise_best(void);

/* Floats of packed weights between so many vectors of 16, and of the sums of outer(). */
static inline size_t fk_pointwise_packed(size_t in, size_t out)
{
    return in * out * 16 * 16;
}

#endif
