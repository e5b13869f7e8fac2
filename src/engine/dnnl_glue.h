/* oneDNN as the engine sees it. This header and the one file behind it (dnnl_v2.c for oneDNN 2.x)
 * are all that knows oneDNN, so that another major version is another file. */
#ifndef FK_DNNL_GLUE_H
#define FK_DNNL_GLUE_H

#include "kernel/tiles.h"
#include "net/graph.h"

typedef struct fk_dn fk_dn;     /* engine and stream */
typedef struct fk_md fk_md;     /* a shape and how it lies in memory */
typedef struct fk_pd fk_pd;     /* a primitive, chosen but not made */
typedef struct fk_prim fk_prim; /* a primitive and the memory of its arguments */

/* A feature map as vectors of channels: lanes of them lie side by side. lanes 0: it is none. Strides in
 * elements; the last vector is filled up with zeros. */
typedef struct fk_lay {
    int lanes;
    size_t images, vectors, pixels;
    size_t image, vector, pixel;
} fk_lay;

/* Do the vectors of a pixel lie side by side (channels last)? */
static inline bool fk_lay_is_last(const fk_lay *lay)
{
    return lay->pixel > (size_t)lay->lanes;
}

/* What an argument is to a primitive. */
typedef enum fk_slot {
    FK_SRC,
    FK_SRC_1,
    FK_WEIGHTS,
    FK_BIASES,
    FK_DST,
    FK_MEAN_STAT,
    FK_VARIANCE_STAT,
    FK_SCALE,
    FK_SHIFT,
    FK_WORKSPACE,
    FK_DIFF_SRC,
    FK_DIFF_WEIGHTS,
    FK_DIFF_BIASES,
    FK_DIFF_DST,
    FK_DIFF_SCALE,
    FK_DIFF_SHIFT,
    FK_SLOT_COUNT
} fk_slot;

typedef enum fk_prop { FK_INFERENCE, FK_TRAINING, FK_BACKWARD_DATA, FK_BACKWARD_WEIGHTS } fk_prop;

FERKD_CHECK ferkd_status fk_dn_new(fk_dn **out);
void fk_dn_free(fk_dn **dn);
const char *fk_dn_version(void);
/* Row-major; for convolution weights with groups > 1, [O, I/g, h, w] seen as [g, O/g, I/g, h, w]. */
FERKD_CHECK ferkd_status fk_md_plain(fk_md **out, const fk_shape *shape);
FERKD_CHECK ferkd_status fk_md_weights(fk_md **out, const fk_shape *shape, int64_t groups);
/* f32, with these strides. */
FERKD_CHECK ferkd_status fk_md_strided(fk_md **out, int n, const int64_t *dims,
                                       const int64_t *strides);
/* The last two dimensions swapped in memory. */
FERKD_CHECK ferkd_status fk_md_transposed(fk_md **out, const fk_shape *shape);
FERKD_CHECK ferkd_status fk_md_copy(fk_md **out, const fk_md *md);
/* The same layout with other elements. */
FERKD_CHECK ferkd_status fk_md_as(fk_md **out, const fk_md *md, bool half);
/* N C H W in vectors of `lanes` channels. */
FERKD_CHECK ferkd_status fk_md_lanes(fk_md **out, const fk_shape *shape, int lanes, bool half);
/* Channels last: N H W C in memory. */
FERKD_CHECK ferkd_status fk_md_last(fk_md **out, const fk_shape *shape, bool half);
bool fk_md_is_last(const fk_md *md, const fk_shape *shape); /* md NULL: no */
/* Channels a vector in the layouts that convolutions like here. */
int fk_dn_lanes(void);
/* Channels a vector where all channels of a pixel lie side by side: as many, or 8 where only these divide them; 0: neither does. */
int64_t fk_last_lanes(int64_t channels);
fk_lay fk_md_lay(const fk_md *md);
bool fk_md_half(const fk_md *md);
void fk_md_free(fk_md *md);
bool fk_md_equal(const fk_md *a, const fk_md *b);
size_t fk_md_bytes(const fk_md *md);

/* Convolution. src, dst: a layout, or NULL to let oneDNN choose; shapes always. */
typedef struct fk_conv_args {
    fk_prop prop;
    fk_shape src, weights, dst;
    const fk_md *src_md, *dst_md;
    bool bias;
    int64_t groups;
    fk_window window;
    bool sum; /* what is in dst already is added, before the activation */
    fk_post post;
    bool half; /* bf16 in and out; gradients of weights and biases are f32 */
    bool winograd;
    fk_pd *forward; /* hint for a backward one */
} fk_conv_args;

FERKD_CHECK ferkd_status fk_pd_conv(fk_dn *dn, fk_pd **out, const fk_conv_args *a);

/* [M, in] by [out, in]; prop as with convolutions. */
typedef struct fk_dense_args {
    fk_prop prop;
    fk_shape src, weights, dst;
    bool bias;
    fk_pd *forward;
} fk_dense_args;

FERKD_CHECK ferkd_status fk_pd_dense(fk_dn *dn, fk_pd **out, const fk_dense_args *a);

/* A product by the calling thread alone where it is one of a team's. room: fk_tiles_room() bytes of its own at 64 bytes, with which
 * it goes by tiles where that pays, or NULL. False if oneDNN failed. */
bool fk_gemm(const fk_gemm_args *g, void *room);

/* dst = a b. */
typedef struct fk_matmul_args {
    const fk_md *a, *b, *dst;
    const fk_md *bias;   /* [1, n]; NULL: none */
    const fk_post *post; /* behind the bias; NULL: none */
    bool add;            /* to what dst holds */
    bool own_scratch;    /* comes with each run: several threads may run it at once */
} fk_matmul_args;

FERKD_CHECK ferkd_status fk_pd_matmul(fk_dn *dn, fk_pd **out, const fk_matmul_args *a);

/* C = A B or C += A B, by the calling thread alone: one of a team whose threads each have their own operands. A is m x k,
 * B k x n, without gaps between rows; where they are to be turned, k x m and n x k. A and B are f32 or bf16, C f32, or
 * finished: C = act(A B + row) in bf16. */
typedef struct fk_product fk_product;

typedef struct fk_product_args {
    size_t m, n, k;
    bool turn_a, turn_b, add;
    bool half;    /* A and B are bf16 */
    bool finish;  /* C, too, and complete: with half alone, without add */
    bool row;     /* finish: a row is added to each of C's */
    fk_post post; /* finish: behind that */
    bool packed;  /* B lies as fk_product_b() says, in f32 as fk_product_pack() made it */
    bool tiles;   /* f32: by tiles; only where fk_tiles_here() */
} fk_product_args;

/* For threads 0 to `threads` - 1. FERKD_UNSUPPORTED where oneDNN has nothing fast for bf16. */
FERKD_CHECK ferkd_status fk_product_new(fk_dn *dn, fk_product **out, const fk_product_args *args,
                                        size_t threads);
void fk_product_free(fk_product *p);
/* Bytes of scratch for each thread, a multiple of 64. */
size_t fk_product_room(const fk_product *p);
bool fk_product_half(const fk_product *p);
bool fk_product_packed(const fk_product *p);
bool fk_product_adds(const fk_product *p);
bool fk_product_finishes(const fk_product *p);
const fk_md *fk_product_b(const fk_product *p);
/* B for products by tiles, of fk_tiles_packed_bytes(). */
void fk_product_pack(const fk_product *p, const float *b, void *to);
/* False if oneDNN failed, which only a defect makes it do. row: of products by tiles that do not add, n numbers with which each row
 * of C begins, or NULL; of those that finish what they add, where they do. */
bool fk_product_run(const fk_product *p, size_t thread, const void *a, const void *b, void *c,
                    const float *row, void *room);

/* Version 2 counts the shift among the inputs of BatchNorm's gradient, version 3 refuses it. */
bool fk_norm_gradient_wants_shift(void);
FERKD_CHECK ferkd_status fk_pd_norm(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md,
                                    float eps, bool relu, fk_pd *forward);

typedef struct fk_pool_args {
    fk_prop prop;
    bool max, include_pad;
    fk_window window;
    fk_shape dst;
    const fk_md *src_md;
    const fk_md *dst_md; /* NULL: as src */
    fk_pd *forward;
} fk_pool_args;

FERKD_CHECK ferkd_status fk_pd_pool(fk_dn *dn, fk_pd **out, const fk_pool_args *a);

FERKD_CHECK ferkd_status fk_pd_act(fk_dn *dn, fk_pd **out, fk_prop prop, const fk_md *md,
                                   const fk_post *act, fk_pd *forward);
FERKD_CHECK ferkd_status fk_pd_reorder(fk_dn *dn, fk_pd **out, const fk_md *src, const fk_md *dst);

/* The layout that the primitive wants for an argument; *out is new. */
FERKD_CHECK ferkd_status fk_pd_md(const fk_pd *pd, fk_slot slot, fk_md **out);
size_t fk_pd_workspace_bytes(const fk_pd *pd);
/* oneDNN's name of the implementation; one that contains "ref" is a defect. */
const char *fk_pd_impl(const fk_pd *pd);
void fk_pd_free(fk_pd *pd);

/* Make the primitive; pd stays the caller's. what is for traces and messages. */
FERKD_CHECK ferkd_status fk_prim_new(fk_dn *dn, fk_prim **out, const fk_pd *pd, const char *what);
void fk_prim_free(fk_prim *p);
/* Give an argument its memory. */
FERKD_CHECK ferkd_status fk_prim_bind(fk_dn *dn, fk_prim *p, fk_slot slot, void *bytes);
/* Another memory for an argument that is bound already. */
FERKD_CHECK ferkd_status fk_prim_rebind(fk_prim *p, fk_slot slot, void *bytes);
/* The same primitive on several sets of memory, numbered from 0. */
FERKD_CHECK ferkd_status fk_prim_bind_set(fk_dn *dn, fk_prim *p, int set, fk_slot slot,
                                          void *bytes);
FERKD_CHECK ferkd_status fk_prim_run_set(fk_dn *dn, const fk_prim *p, int set);
FERKD_CHECK ferkd_status fk_prim_run(fk_dn *dn, const fk_prim *p);

#endif
