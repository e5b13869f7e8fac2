/* 3x3 convolutions (stride 1, padding 1) in bf16 with channels last by Winograd's F(2x2, 3x3): each tile of 2x2 outputs, of
 * 4x4 inputs, takes 16 products for every pair of channels in place of 36 (Lavin and Gray 2016, "Fast algorithms for
 * convolutional neural networks", section 4). The transforms are sums in f32, what is multiplied is rounded to bf16 and added up in
 * f32. Oneself one does not see it: weights are packed once, forward and both gradients are as those of any convolution.
 *
 * The work comes in rows of tiles: fk_winograd_rows() of them in all images. */
#ifndef FK_WINOGRAD_H
#define FK_WINOGRAD_H

#include "kernel/kernel.h"

enum { FK_WINOGRAD_SPOTS = 16 }; /* numbers in a transformed tile */

/* Two feature maps of one size. */
typedef struct fk_winograd_maps {
    size_t images, height, width;
    size_t in, out; /* channels, multiples of the table's lanes */
    uint16_t *x;    /* [images][height][width][in] */
    uint16_t *y;    /* [images][height][width][out] */
} fk_winograd_maps;

/* y = act(conv(x) + bias), or act(y + conv(x) + bias). */
typedef struct fk_winograd_forward {
    fk_winograd_maps maps;
    const uint16_t *weights; /* packed */
    const float *bias;       /* [out], or NULL */
    bool add;
    fk_post act; /* n 0: none */
} fk_winograd_forward;

/* Weights [outputs][inputs][3][3], as the parameter has them; packed for the gradient of the input, outputs become inputs and all
 * turns around. */
typedef struct fk_winograd_pack {
    const float *weights;
    size_t outputs, inputs;
    bool back;
    uint16_t *to; /* fk_winograd_packed() of them, at 64 bytes */
} fk_winograd_pack;

/* dw += for all rows of tiles, a block of at most `rows` at a time: first all threads spread their parts of x and the gradient dy
 * (in y's place) out, then they multiply. */
typedef struct fk_winograd_weights {
    fk_winograd_maps maps;
    size_t rows; /* of a block, and of this one */
    uint16_t *inputs,
        *gradients; /* fk_winograd_spread() of `in` and of `out` channels, at 64 bytes */
    float *sums;    /* [SPOTS][in][out], of all blocks */
    float *dw;      /* [out][in][3][3] */
} fk_winograd_weights;

typedef struct fk_winograd_kernels {
    int lanes;
    /* Block `block` of fk_winograd_blocks(outputs, or inputs if back). */
    void (*pack)(const fk_winograd_pack *k, size_t block);
    /* Rows first .. first + rows; room: fk_winograd_room() floats at 64 bytes. */
    void (*forward)(const fk_winograd_forward *k, size_t first, size_t rows, float *room);
    /* Row `row` of all, as row `as` of the block. */
    void (*spread)(const fk_winograd_weights *k, size_t row, size_t as);
    /* Part `part` of SPOTS x fk_winograd_blocks(out), of the first (add: no) or a further block. */
    void (*multiply)(const fk_winograd_weights *k, size_t part, bool add);
    /* The sums of block `block` of fk_winograd_blocks(out) become dw. */
    void (*collect)(const fk_winograd_weights *k, size_t block);
} fk_winograd_kernels;

extern const fk_winograd_kernels fk_winograd_plain16, fk_winograd_plain8;

/* For processors with instructions for bf16, or with FERKD_KERNELS=plain the plain one; NULL: there is none that pays. */
const fk_winograd_kernels *fk_winograd_best(void);

/* Rows of tiles in all images. */
size_t fk_winograd_rows(const fk_winograd_maps *m);
/* Blocks of four vectors of channels, the last maybe less. */
size_t fk_winograd_blocks(size_t channels, int lanes);
/* bf16 numbers of packed weights. */
size_t fk_winograd_packed(size_t outputs, size_t inputs);
/* Forward: rows of tiles that are done at a time, as many as stay in a second-level cache with what they become; and floats of
 * scratch for it. */
size_t fk_winograd_rows_at_once(const fk_winograd_maps *m);
size_t fk_winograd_room(const fk_winograd_maps *m);
/* bf16 numbers of `rows` rows of tiles spread out. */
size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows);

#endif
