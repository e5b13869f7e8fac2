/* Loops over feature maps that oneDNN has not, or has slower: BatchNorm with all that stands around it, and
 * depthwise convolution. They work on vectors of channels: a feature map is images x channel vectors x
 * pixels, and one call does one channel vector of some images. f32 or bf16 in memory, f32 in registers.
 *
 * Each table below is one file set compiled for one instruction set; they differ in speed, and in the
 * last bits where multiply and add are fused. */
#ifndef FK_KERNEL_H
#define FK_KERNEL_H

#include "net/graph.h"

#define FK_MAX_LANES 16

/* Where values are, and whether they are bf16. */
typedef struct fk_operand {
    void *data; /* NULL: absent */
    bool half;
} fk_operand;

/* The operand from its element i on; an absent one stays absent. */
static inline fk_operand fk_operand_at(fk_operand o, size_t i)
{
    size_t size = o.half ? sizeof(uint16_t) : sizeof(float);

    return o.data ? (fk_operand){(char *)o.data + i * size, o.half} : o;
}

/* One channel vector of some images, or several that lie side by side (channels last); strides in elements, equal for
 * all operands of a call. */
typedef struct fk_planes {
    size_t first; /* element at which the first plane starts */
    size_t images, image;
    size_t pixels, pixel;
    size_t vectors; /* side by side: for rows, else 1 */
} fk_planes;

/* BatchNorm, z = scale (y - mean) + shift, a = act(z + residual), and back. Vectors are [lanes], of rows
 * [vectors][lanes]. */
typedef struct fk_norm_args {
    fk_planes at;
    fk_operand y, residual, a; /* [planes] */
    fk_operand g, g2;          /* gradient of a: one, or the sum of two */
    fk_operand dz, dy;         /* gradient of z (optional), of y */
    const float *mean, *scale, *shift;
    const float *to_dz, *to_y, *to_1; /* dy = to_dz dz + to_y (y - mean) + to_1 */
    fk_post act;
    size_t sums_step; /* of rows: from the sums of one vector to those of the next */
} fk_norm_args;

typedef struct fk_norm_kernels {
    int lanes;
    /* sum += (y - mean), squares += (y - mean)^2: mean is any value near the true one. */
    void (*moments)(const fk_norm_args *k, double *sum, double *squares);
    /* a from y */
    void (*forward)(const fk_norm_args *k);
    /* sum += dz, product += dz (y - mean); writes dz where there is a place for it */
    void (*sums)(const fk_norm_args *k, double *sum, double *product);
    /* dy; reads dz where it was written, else works it out anew */
    void (*backward)(const fk_norm_args *k);
    /* dst = a + b, or a copy of a if b is absent; n is a multiple of lanes */
    void (*add)(fk_operand dst, fk_operand a, fk_operand b, size_t n);
    /* The first four for several vectors side by side, pixel by pixel; NULL for those of rows themselves. */
    const struct fk_norm_kernels *rows;
} fk_norm_kernels;

/* Depthwise convolution of one channel vector. */
typedef struct fk_depthwise_args {
    size_t images;
    fk_planes in, out; /* images and pixels of `in` and `out`; their number of images is `images` */
    int64_t height, width, out_height, out_width;
    int kernel[2], stride[2], pad[2]; /* H, W; padding before */
    fk_operand x, y, dy, dx;
    /* If not NULL, the input is what this BatchNorm makes of x, worked out while reading; dx is then the gradient
     * before its activation, of z, and its two sums are added up. */
    const fk_norm_args *before;
    double *sum_dz, *product_dz;
    /* If not NULL, this BatchNorm comes behind: dy is worked out from its gradients while reading. */
    const fk_norm_args *behind;
    const float *weights; /* [kh kw][lanes] */
    const float *bias;    /* [lanes], or NULL */
    fk_post post;         /* of the output */
    double *dweights;     /* [kh kw][lanes], added to */
    const float *origin;  /* [lanes]: with it, sum and squares of y - origin are added up */
    double *sum, *squares;
    float *room; /* fk_depthwise_room() floats */
} fk_depthwise_args;

typedef struct fk_depthwise_kernels {
    int lanes;
    void (*forward)(const fk_depthwise_args *k);
    /* dx (if it has a place) and dweights, in one pass */
    void (*backward)(const fk_depthwise_args *k);
} fk_depthwise_kernels;

/* LayerNorm of rows of n values, y = weight (x - mean) rstd + bias, and back. Its statistics are worked out anew in
 * backward. */
typedef struct fk_row_norm {
    size_t rows, n;
    float eps;
    fk_operand x, y;            /* [rows][n] */
    fk_operand dy, dx;          /* likewise; dx may be absent */
    const float *weight, *bias; /* [n], or NULL */
    float *dweight, *dbias;     /* [n], added to; or NULL */
} fk_row_norm;

typedef struct fk_row_softmax {
    size_t rows, n, stride;
    float *x;          /* forward in place; backward: the softmax */
    float *dy;         /* backward, in place */
    const float *bias; /* forward: added first; NULL: none */
    size_t bias_stride;
    float scale;     /* forward: of x, before the bias; backward: of the copy */
    fk_operand copy; /* [rows][n] of the result, without gaps; may be absent */
} fk_row_softmax;

/* y = factor a + b + row, or act(a + row). a, b and row may be absent. */
typedef struct fk_row_sum {
    size_t rows, n;
    size_t from_row, to_row; /* from one row of a, of b and y, to the next; 0: n */
    fk_operand a, b, y;      /* [rows][n] */
    const float *row;        /* [n] */
    const float *factors;    /* of row r: factors[(first + r) / rows_each]; NULL: 1 */
    size_t first, rows_each;
    fk_post
        act; /* n 0: none; with one, a and y lie without gaps, and there are neither b nor factors */
} fk_row_sum;

typedef struct fk_row_kernels {
    int lanes;
    void (*norm)(const fk_row_norm *k);
    void (*norm_back)(const fk_row_norm *k);
    void (*act)(fk_post act, fk_operand x, fk_operand y, size_t n);
    /* y = act(x), and how steep it is there: backward needs both, and they share most of the work */
    void (*act_slope)(fk_post act, fk_operand x, fk_operand y, fk_operand slope, size_t n);
    void (*times)(fk_operand a, fk_operand b, fk_operand y, size_t n); /* y = a b, one by one */
    void (*softmax)(const fk_row_softmax *k);
    void (*softmax_back)(const fk_row_softmax *k);
    void (*column_sums)(fk_operand x, size_t rows, size_t n, float *sum); /* sum += */
    void (*combine)(const fk_row_sum *k);
} fk_row_kernels;

/* One channel vector of some images, each lane of it from a lane of some other vector; lanes from nowhere are 0.
 * Pixels lie one vector apart. */
typedef struct fk_gather_source {
    fk_operand from;
    size_t first, image; /* element of the first image's first pixel; from one image to the next */
    int32_t lane[FK_MAX_LANES]; /* of the source, for each of ours; -1: not from here */
} fk_gather_source;

typedef struct fk_gather {
    fk_operand to;
    fk_planes at;
    const fk_gather_source *sources;
    size_t n_sources;
} fk_gather;

typedef struct fk_gather_kernel {
    int lanes;
    void (*gather)(const fk_gather *k);
} fk_gather_kernel;

/* Does the table of rows have this activation? */
bool fk_rows_have_act(fk_act kind);

/* Rows of the output that are worked out together: of small planes many. */
int64_t fk_depthwise_band(const fk_depthwise_args *k);

/* Floats of scratch that one thread needs for a depthwise convolution. */
size_t fk_depthwise_room(const fk_depthwise_args *k);

/* Largest kernel side of a depthwise convolution. */
#define FK_MAX_DEPTHWISE 7

/* Rows of a plane that are kept at hand, at most. */
#define FK_DEPTHWISE_ROWS 24

extern const fk_norm_kernels fk_norm_plain16, fk_norm_plain8;
extern const fk_depthwise_kernels fk_depthwise_plain16, fk_depthwise_plain8;
extern const fk_row_kernels fk_rows_plain16, fk_rows_plain8;
extern const fk_gather_kernel fk_gather_plain16, fk_gather_plain8;

/* The fastest that this processor runs, for vectors of `lanes` channels; NULL if there is none. With
 * FERKD_KERNELS=plain in the environment the plain ones. */
const fk_norm_kernels *fk_norm_for(int lanes);
const fk_depthwise_kernels *fk_depthwise_for(int lanes);
const fk_gather_kernel *fk_gather_for(int lanes);
/* What the processor has; AVX-512 not where FERKD_KERNELS=plain says to go without. */
bool fk_has_avx512(void);
bool fk_has_tiles(void);                  /* matrix tiles for bf16 (AMX) */
const fk_row_kernels *fk_rows_best(void); /* rows need no layout: the fastest there is */

/* Is act(0) = 0, and does the kernel code have it? Lanes that only pad must stay 0. */
bool fk_kernel_has_act(fk_act kind);
/* Can its derivative be told from its output alone? */
bool fk_act_from_output(fk_act kind);

#endif
