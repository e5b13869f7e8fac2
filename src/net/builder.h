/* Short words for writing an architecture down. Layers and values of one name share their parameters. After a failure every call does nothing and the
 * status is kept, so a network reads as a network. */
#ifndef FK_BUILDER_H
#define FK_BUILDER_H

#include "net/graph.h"

typedef struct fk_builder {
    fk_graph *g;
    ferkd_status st;
    char prefix[96];        /* of names, with its dot */
    const fk_act *for_relu; /* what every ReLU and ReLU6 becomes; NULL: they stay */
    size_t relus;           /* how many there are */
} fk_builder;

/* kernel k, stride s, padding p; weights drawn as Kaiming's normal of the fan out (torchvision). */
int fk_build_conv(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                  int64_t p, int64_t groups);
/* Padded as TensorFlow's SAME: the output has ceil(size / s) pixels, the odd one of the padding is behind. */
int fk_build_conv_same(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                       int64_t groups);
int fk_build_norm(fk_builder *b, int x, const char *name);
/* The weight of the BatchNorm x starts as 0: a block that ends in it, as its shortcut (Goyal et al. 2017, section 5.1). */
void fk_build_norm_from_zero(fk_builder *b, int x);
/* clip is ReLU6 for 0 and 6. */
int fk_build_act(fk_builder *b, int x, fk_act kind, float a, float c);
int fk_build_add(fk_builder *b, int x, int y);
int fk_build_pool(fk_builder *b, int x, bool max, int64_t k, int64_t s, int64_t p);
/* Means of k x k pixels; of those that are left at the end, too (torch's ceil_mode without count_include_pad). */
int fk_build_mean_pool(fk_builder *b, int x, int64_t k);
int fk_build_global_pool(fk_builder *b, int x); /* to [N, C] */
int fk_build_dropout(fk_builder *b, int x, double ratio);
/* As torch.nn.Linear starts: uniform within 1/sqrt(in); std > 0: normal, bias 0. */
int fk_build_dense(fk_builder *b, int x, const char *name, int64_t out, double std);
/* The same, its weight's last dimension that of x; bias as stated. std > 0: normal, bias 0. */
int fk_build_linear(fk_builder *b, int x, const char *name, int64_t out, double std, bool bias);
/* Uniform within bound, bias 0. */
int fk_build_linear_uniform(fk_builder *b, int x, const char *name, int64_t out, double bound);
/* Over the last dimension. */
int fk_build_layernorm(fk_builder *b, int x, const char *name, double eps);
/* [B, T, 3 D] to [B, T, D]. */
int fk_build_attention(fk_builder *b, int qkv, int64_t heads);
/* The same with what is added to the scores: [W, heads or 1, T, T], of batch entry b that of b % W. */
int fk_build_attention_biased(fk_builder *b, int qkv, int bias, int64_t heads);
/* Given values, which are not trained. */
int fk_build_constant(fk_builder *b, const char *name, fk_shape shape, const float *values);
/* Rows `index` of an axis, which becomes dimensions of `shape`; they are kept under the name. */
int fk_build_gather(fk_builder *b, int x, const char *name, int axis, fk_shape shape,
                    const float *index);
/* Zeros behind what an axis has. */
int fk_build_pad(fk_builder *b, int x, int axis, int64_t behind);
/* A trained value; it does not decay. */
int fk_build_value(fk_builder *b, const char *name, fk_shape shape, fk_init init, double scale);
int fk_build_binary(fk_builder *b, fk_binary kind, int x, int y);
/* x times a number. */
int fk_build_times(fk_builder *b, int x, float v);
int fk_build_reshape(fk_builder *b, int x, fk_shape to);
int fk_build_transpose(fk_builder *b, int x, int n, const int *perm);
int fk_build_expand(fk_builder *b, int x, fk_shape to);
int fk_build_concat(fk_builder *b, int n, const int *in, int axis);
int fk_build_slice(fk_builder *b, int x, int axis, int64_t start, int64_t count);
int fk_build_mean(fk_builder *b, int x, unsigned axes, bool keep);
/* A bias for the convolution x, [out]; uniform within bound. */
void fk_build_conv_bias(fk_builder *b, int x, const char *name, double bound);
/* The convolution x starts as torch.nn.Conv2d does: uniform within 1/sqrt(fan in). */
void fk_build_conv_as_torch(fk_builder *b, int x);
fk_shape fk_build_shape(const fk_builder *b, int x);
/* Channels of a node's output. */
int64_t fk_build_channels(const fk_builder *b, int x);

#endif
