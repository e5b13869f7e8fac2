/* One door to both kinds of network. */
#include "base/compat.h"

#include "train/network.h"

#include "net/head.h"
#include "net/zoo/zoo.h"

ferkd_status fk_network_build(const fk_network *net, uint32_t batch, uint32_t channels,
                              uint32_t size_px, uint32_t classes, fk_graph **out, bool *anew)
{
    fk_zoo_options o = {batch, channels, size_px, classes, net->heads_apart};
    fk_graph *g = NULL;
    bool fresh = true;

    if (!net->onnx) {
        TRY(fk_zoo_build(out, net->zoo_name, &o));
        fk_graph_mark_head(*out);
        return FERKD_OK;
    }
    TRY(fk_onnx_graph(net->onnx, batch, size_px, &g));
    ferkd_status st =
        fk_graph_rename(g, "network"); /* the tuner must know it wherever the file lies */
    if (st == FERKD_OK)
        st = fk_graph_rehead(&g, classes, net->seed, &fresh);
    if (st != FERKD_OK) {
        fk_graph_free(&g);
        return st;
    }
    if (anew)
        *anew = fresh;
    *out = g;
    return FERKD_OK;
}
