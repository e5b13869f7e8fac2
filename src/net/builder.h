/* Short words for writing an architecture down. After a failure every call does nothing and the
 * status is kept, so a network reads as a network. */
#ifndef FK_BUILDER_H
#define FK_BUILDER_H

#include "net/graph.h"

typedef struct fk_builder {
    fk_graph *g;
    ferkd_status st;
    char prefix[96]; /* of names, with its dot */
} fk_builder;

/* kernel k, stride s, padding p; weights drawn as Kaiming's normal of the fan out (torchvision). */
int fk_build_conv(fk_builder *b, int x, const char *name, int64_t out, int64_t k, int64_t s,
                  int64_t p, int64_t groups);
int fk_build_norm(fk_builder *b, int x, const char *name);
int fk_build_act(fk_builder *b, int x, fk_act kind, float a, float c);
int fk_build_add(fk_builder *b, int x, int y);
int fk_build_pool(fk_builder *b, int x, bool max, int64_t k, int64_t s, int64_t p);
int fk_build_global_pool(fk_builder *b, int x); /* to [N, C] */
int fk_build_dropout(fk_builder *b, int x, double ratio);
/* As torch.nn.Linear starts: uniform within 1/sqrt(in); std > 0: normal, bias 0. */
int fk_build_dense(fk_builder *b, int x, const char *name, int64_t out, double std);
/* Channels of a node's output. */
int64_t fk_build_channels(const fk_builder *b, int x);

#endif
