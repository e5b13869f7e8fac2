/* 3x3 convolutions by Winograd's algorithm (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4):
 * F(2x2, 3x3) in bf16, for processors that multiply pairs of bf16 but have no matrix tiles, and F(4x4, 3x3) in f32. Each tile of 2x2
 * outputs, of 4x4 inputs, takes 16 products for every pair of channels in place of 36; of 4x4, of 6x6 inputs, 36 in place of 144.
 * With stride 2 an output is two taps over every second input and one over the others: F(4, 2) and 4 products along each side, so that
 * a tile of 4x4 outputs, of 9x9 inputs, takes 81 in place of 144, with 36 different matrices of weights; f32 alone.
 * Padding 1, no groups. The transforms are sums in f32; in bf16 what is multiplied is rounded to it, and added up in f32.
 *
 * The work comes in rows of tiles: fk_winograd_rows() of them in all images. A word is a float, or a pair of bf16. */
#ifndef FK_WINOGRAD_H
#define FK_WINOGRAD_H

#include "kernel/kernel.h"

enum { FK_WINOGRAD_BLOCK = 4 }; /* vectors of channels in a block */

typedef enum fk_winograd_kind {
    FK_WINOGRAD_2, /* F(2x2, 3x3) in bf16 */
    FK_WINOGRAD_4, /* F(4x4, 3x3) in f32 */
    FK_WINOGRAD_STRIDED, /* with stride 2, f32: the output has half the input's rows and columns, rounded up */
    FK_WINOGRAD_RETURN, /* the way back from there: the gradient of the input, as a convolution of the output's */
} fk_winograd_kind;

/* A feature map as vectors of channels: element of the first image's first pixel is 0; from one image, vector, pixel to the next. A row is
 * `width` pixels, an image `height` rows. f32 or bf16, as the table of kernels is, at whole vectors. */
typedef struct fk_winograd_map {
    void *data;
    size_t height, width;
    size_t image, vector, pixel;
} fk_winograd_map;

/* What x is worked out by while it is read: a BatchNorm and its ReLU or ReLU6 (or none: low and high are infinite), (v - mean) scale + shift
 * within low..high. Padding is 0 all the same. */
typedef struct fk_winograd_norm {
    const float *mean, *scale, *shift; /* [in], at whole vectors */
    float low, high;
} fk_winograd_norm;

/* From which feature map to which. */
typedef struct fk_winograd_maps {
    fk_winograd_kind kind;
    size_t images;
    size_t in, out; /* channels of x and of y, multiples of the table's lanes */
    fk_winograd_map x, y;
    const fk_winograd_norm *norm; /* of x; NULL: it is as it is */
} fk_winograd_maps;

/* Some channels of y = act(conv(x) + bias), or of act(y + conv(x) + bias). */
typedef struct fk_winograd_forward {
    fk_winograd_maps maps;
    size_t block, blocks; /* the first one of y's blocks of channels, and how many */
    const void *weights;  /* theirs, packed */
    const float *bias;    /* [out], or NULL */
    bool add;
    fk_post act; /* n 0: none */
} fk_winograd_forward;

/* Weights [outputs][inputs][3][3], as the parameter has them. Packed `back`, for the gradient of the input, outputs become inputs
 * and all turns around. */
typedef struct fk_winograd_pack {
    const float *weights;
    size_t outputs, inputs;
    bool back;
    size_t block; /* of outputs, with which `to` begins */
    void *to;     /* fk_winograd_packed() words, at 64 bytes */
} fk_winograd_pack;

/* The gradient of the weights of some outputs, some rows at a time: x and the gradient dy (in y's place) are spread out, step by step, then
 * multiplied. */
typedef struct fk_winograd_weights {
    fk_winograd_maps maps;
    size_t from, outputs; /* which, whole vectors */
    size_t rows;          /* at this time */
    size_t first, count;  /* of them, multiplied at this time */
    uint32_t *inputs;     /* fk_winograd_spread() of `in` channels, at 64 bytes */
    uint32_t *gradients;  /* the same of `outputs` channels */
    float *sums;          /* fk_winograd_sums() of `count` outputs */
    float *dw;            /* [out][in][3][3] */
} fk_winograd_weights;

typedef struct fk_winograd_kernels {
    int lanes;
    fk_winograd_kind kind;
    /* Vector `vector` of the outputs, or of the inputs if back. */
    void (*pack)(const fk_winograd_pack *k, size_t vector);
    /* Rows first .. first + rows; room: fk_winograd_room() floats at 64 bytes. */
    void (*forward)(const fk_winograd_forward *k, size_t first, size_t rows, float *room);
    /* Row `row` of all, as row `as` of k->rows: all of x, and `outputs` of dy. */
    void (*spread)(const fk_winograd_weights *k, size_t row, size_t as);
    /* Outputs first .. first + count; add: to the sums of the rows before. */
    void (*multiply)(const fk_winograd_weights *k, bool add);
    /* The sums of output `output` of all become dw. */
    void (*collect)(const fk_winograd_weights *k, size_t output);
} fk_winograd_kernels; /* FK_WINOGRAD_RETURN: pack and forward alone */

extern const fk_winograd_kernels fk_winograd2_plain16, fk_winograd4_plain16,
    fk_winograd_strided_plain16, fk_winograd_return_plain16;

/* Those in bf16, for processors with instructions for it, or in f32, with AVX-512; with FERKD_KERNELS=plain the plain ones. NULL: there
 * are none that pay. */
const fk_winograd_kernels *fk_winograd_best(fk_winograd_kind kind);

/* How many: rows in all images; blocks of y's channels, the last maybe not full. */
size_t fk_winograd_rows(const fk_winograd_maps *m);
size_t fk_winograd_blocks(const fk_winograd_maps *m);

/* Words from one spot's matrix to the next: a line of the cache more than the matrix has, since all spots are written side by side, and
 * with a power of two between them would all go to the same few places of the cache. */
static inline size_t fk_winograd_stride(size_t words)
{
    return words + 16;
}

/* Words of `blocks` blocks of packed weights, of `rows` rows of tiles spread out, and of the sums of `outputs` outputs for the gradient of
 * weights. */
size_t fk_winograd_packed(const fk_winograd_maps *m, size_t blocks);
size_t fk_winograd_spread(const fk_winograd_maps *m, size_t channels, size_t rows);
size_t fk_winograd_sums(const fk_winograd_maps *m, size_t outputs);
/* Blocks of packed weights that stay in a thread's part of a third-level cache until they are used, and outputs whose sums do. */
size_t fk_winograd_blocks_at_once(const fk_winograd_maps *m);
size_t fk_winograd_outputs_at_once(const fk_winograd_maps *m);
/* Rows that are done at a time: forward (as many as stay in a second-level cache with what they become), for the gradient of the
 * weights of `outputs` outputs (so many that adding to its sums costs little). And floats of scratch for the former. */
size_t fk_winograd_rows_forward(const fk_winograd_maps *m);
size_t fk_winograd_rows_weights(const fk_winograd_maps *m, size_t outputs);
size_t fk_winograd_room(const fk_winograd_maps *m);

/* Steps in a row that is spread out: two tiles of 2x2 outputs, or one of 4x4. */
static inline size_t fk_winograd_steps(const fk_winograd_maps *m)
{
    return (m->y.width + 3) / 4;
}

#endif
