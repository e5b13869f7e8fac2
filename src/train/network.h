/* Where a run's network comes from: the zoo, or an ONNX file, whose head is replaced for other classes. */
#ifndef FK_NETWORK_H
#define FK_NETWORK_H

#include "exchange/onnx.h"
#include "net/graph.h"

#define FK_NETWORK_FILE "network.onnx" /* in the run folder; also the model's name in checkpoints */
#define FK_NETWORK_CARD "network.json"
#define FK_NETWORK_TEXT "model.json" /* the copy of a network file (net/netfile.h); likewise */

typedef struct fk_network {
    const char *zoo_name;     /* or */
    const fk_onnx_file *onnx; /* a file */
    uint64_t seed;            /* of a head that starts anew */
    bool heads_apart;         /* see fk_zoo_options */
} fk_network;

/* The graph for batch images of channels x size x size (a file whose batch is fixed keeps its own). Weights: the zoo's are zero, a file's its own. anew (or
 * NULL): did the head start anew? */
FERKD_CHECK ferkd_status fk_network_build(const fk_network *net, uint32_t batch, uint32_t channels,
                                          uint32_t size_px, uint32_t classes, fk_graph **out,
                                          bool *anew);

#endif
