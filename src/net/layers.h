/* Which layer a parameter belongs to, counted from the input: for learning rates that fall with depth. */
#ifndef FK_LAYERS_H
#define FK_LAYERS_H

#include "net/graph.h"

/* layer: int[n_params], from 0 (the stem) to the number that is returned (the head). Blocks are told by the numbers in
 * parameters' names, as timm's group_matcher does: "blocks.3.", "layers.1.blocks.0.", "layer2.1.". Where names say
 * nothing, each weight is a layer of its own, in order. */
int fk_graph_layers(const fk_graph *g, int *layer);

#endif
