/* Products of f32 matrices on a processor's matrix tiles (AMX), which multiply bf16 only: each number is the sum of three
 * bf16 numbers, exactly, and the six largest of the nine products of such parts make the product as precise as f32 is (Henry, Tang
 * and Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"). */
#ifndef FK_TILES_H
#define FK_TILES_H

#include "base/compat.h"

/* C = alpha A B + beta C. A is m x k, B k x n, C m x n, rows lda, ldb, ldc elements apart; turned: the transpose lies in memory. */
typedef struct fk_gemm_args {
    bool turn_a, turn_b;
    size_t m, n, k;
    float alpha;
    const float *a;
    size_t lda;
    const float *b;
    size_t ldb;
    float beta; /* 0 or 1 */
    float *c;
    size_t ldc;
    const void *packed_b; /* what fk_tiles_pack() made of B, which is not read then, or NULL */
    const float *row; /* fk_tiles_gemm(), with beta 0: n numbers added to each row of C, or NULL */
} fk_gemm_args;

/* Does the processor have tiles, and does the system let this process use them? Always the same answer. */
bool fk_tiles_here(void);
/* Is such a product faster so than by f32 instructions? Never without tiles. */
bool fk_tiles_pay(size_t m, size_t n, size_t k);
/* Bytes of scratch that such a product, or one of fewer rows, needs, a multiple of 64; 0 without tiles. */
size_t fk_tiles_room(size_t m, size_t n, size_t k);
/* B for many products: of fk_tiles_packed_bytes() at 64 bytes. */
size_t fk_tiles_packed_bytes(size_t n, size_t k);
void fk_tiles_pack(const fk_gemm_args *g, void *to);
/* By the calling thread alone; room is its own, at 64 bytes. An infinite element of A or B makes its row or column NaN, and numbers
 * below the normal range count as 0. Only where fk_tiles_here(). */
void fk_tiles_gemm(const fk_gemm_args *g, void *room);

/* Values of images as vectors of 16 channels (oneDNN's nChw16c), or with channels last. Channels are a multiple of 16. */
typedef struct fk_tiles_images {
    float *at;
    size_t images, channels, pixels;
    bool last;
} fk_tiles_images;

typedef struct fk_tiles_range {
    size_t first, count; /* multiples of 16 */
} fk_tiles_range;

/* Rows of such a matrix: all pixels of all images, in vectors as many as make 16s of each image. */
size_t fk_tiles_rows(const fk_tiles_images *x);

/* y = x B, y += x B, or each row of x B plus a row, for some of these rows: each pixel's channels are one, B is packed, [x's
 * channels, y's]. */
typedef struct fk_tiles_product {
    const fk_tiles_images *x;
    const void *packed;
    const fk_tiles_images *y;
    const float *row; /* or NULL; not with add */
    bool add;
    fk_tiles_range rows;
} fk_tiles_product;

/* Room as a product of so many rows needs. */
void fk_tiles_pixels(const fk_tiles_product *g, void *room);
/* dw = dy^T x, or dw +=, [dy's channels, x's], over all pixels: rows `out` and columns `in` of it. Room as a product of
 * these needs, with fk_tiles_rows() for k. */
void fk_tiles_weights(const fk_tiles_images *dy, const fk_tiles_images *x, float *dw, bool add,
                      fk_tiles_range out, fk_tiles_range in, void *room);

#endif
