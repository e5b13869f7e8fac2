/* 3x3 convolutions in bf16 with channels last by Winograd's F(2x2, 3x3), for processors that multiply pairs of bf16 but have no matrix
 * tiles: each tile of 2x2 outputs, of 4x4 inputs, takes 16 products for every pair of channels in place of 36 (Lavin and Gray
 * 2016, "Fast algorithms for convolutional neural networks", section 4). Stride 1, padding 1, no groups. The transforms are sums in
 * f32; what is multiplied is rounded to bf16 and added up in f32.
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

/* Weights [outputs][inputs][3][3], as the parameter has them. Packed `back`, for the gradient of the input, outputs become inputs
 * and all turns around. */
typedef struct fk_winograd_pack {
    const float *weights;
    size_t outputs, inputs;
    bool back;
    uint16_t *to; /* fk_winograd_packed() of them, at 64 bytes */
} fk_winograd_pack;

/* The gradient of the weights, some rows at a time: first all threads spread their parts of x and the gradient dy (in y's place) out,
 * as pairs of tiles, then they multiply. */
typedef struct fk_winograd_weights {
    fk_winograd_maps maps;
    size_t rows;         /* at this time */
    uint16_t *inputs;    /* fk_winograd_spread() of `in` channels, at 64 bytes */
    uint16_t *gradients; /* the same of `out` channels */
    float *sums;         /* [SPOTS][out][in] */
    float *dw;           /* [out][in][3][3] */
} fk_winograd_weights;

typedef struct fk_winograd_kernels {
    int lanes;
    /* Block `block` of fk_winograd_blocks(outputs, or inputs if back). */
    void (*pack)(const fk_winograd_pack *k, size_t block);
    /* Rows first .. first + rows; room: fk_winograd_room() floats at 64 bytes. */
    void (*forward)(const fk_winograd_forward *k, size_t first, size_t rows, float *room);
    /* Row `row` of all, as row `as` of k->rows. */
    void (*spread)(const fk_winograd_weights *k, size_t row, size_t as);
    /* Part `part` of fk_winograd_parts(); add: to the sums of the rows before. */
    void (*multiply)(const fk_winograd_weights *k, size_t part, bool add);
    /* The sums of output `output` become dw. */
    void (*collect)(const fk_winograd_weights *k, size_t output);
} fk_winograd_kernels;

extern const fk_winograd_kernels fk_winograd_plain16;

/* Those for processors with instructions for bf16, or with FERKD_KERNELS=plain the plain ones; NULL: there are none that pay. */
const fk_winograd_kernels *fk_winograd_best(void);

/* How many: rows in all images; blocks of four vectors of channels, the last maybe less; parts of the product that gives the gradient of
 * the weights. */
size_t fk_winograd_rows(const fk_winograd_maps *m);
size_t fk_winograd_blocks(size_t channels, int lanes);
size_t fk_winograd_parts(const fk_winograd_maps *m, int lanes);

/* bf16 numbers of packed weights, and of `rows` rows of tiles spread out. */
size_t fk_winograd_packed(const fk_winograd_maps *m);
size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows);
/* Rows that are done at a time: forward (as many as stay in a second-level cache with what they become), for the gradient of the
 * weights (so many that adding to its sums costs little). And floats of scratch for the former. */
size_t fk_winograd_rows_forward(const fk_winograd_maps *m);
size_t fk_winograd_rows_weights(const fk_winograd_maps *m);
size_t fk_winograd_room(const fk_winograd_maps *m);

/* Pairs of tiles in a row that is spread out. */
static inline size_t fk_winograd_pairs(const fk_winograd_maps *m)
{
    return (m->width + 3) / 4;
}

#endif
