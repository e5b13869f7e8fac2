/* What a network needs before it is written in 8 bits: BatchNorms folded, and which values are stored so. */
#ifndef FK_QUANTISE_H
#define FK_QUANTISE_H

#include "net/graph.h"

/* The values that a tensor takes. */
typedef struct fk_range {
    float low, high;
} fk_range;

/* For good: every BatchNorm that alone follows a convolution goes into its weights; its bias becomes the
 * convolution's. In evaluation the graph computes what it did. */
void fk_graph_fold_norms(fk_graph *g);

/* bool[n_nodes]: the values that go through 8 bits where convolutions and matrix products do. They are what those read,
 * what convolutions make (behind a ReLU or ReLU6, which then comes for free), and the feature maps that additions, gates,
 * means and concatenations read; not the logits, not constants. */
void fk_quantise_points(const fk_graph *g, bool *on);

/* The node whose value this one has: dropout does nothing in evaluation. */
int fk_value_of(const fk_graph *g, int id);

#endif
