/* The classifier at the end of a network: found, marked, and replaced for other classes. */
#ifndef FK_HEAD_H
#define FK_HEAD_H

#include "net/graph.h"

/* The node of the last dense layer or convolution before the output, through which every output comes; -1: none. */
int fk_graph_head(const fk_graph *g);

/* The head of a graph becomes that of another of the same network: output c is the other's output rows[c]. */
void fk_graph_take_head(fk_graph *to, const fk_graph *from, const uint32_t *rows);

/* Draw the head anew; of a network from a file, zeros. */
void fk_graph_init_head(fk_graph *g, uint64_t seed);

/* Mark the parameters of the head (fk_param.head). */
void fk_graph_mark_head(fk_graph *g);

/* Make a graph from a file fit for training on `classes` classes: a softmax at the end goes, a bias that is added
 * behind the head becomes its own, dead nodes go, names of parameters become unique, and where the number of classes
 * differs the head starts anew (drawn from seed, as torch's Linear). *anew: did it? FERKD_UNSUPPORTED: no head
 * was found, or what stands behind it cannot be widened. */
FERKD_CHECK ferkd_status fk_graph_rehead(fk_graph **graph, int64_t classes, uint64_t seed,
                                         bool *anew);

#endif
