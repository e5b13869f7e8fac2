/* Reading ONNX models of strangers, as far as the graph. */
#include "base/compat.h"

#include "exchange/onnx.h"
#include "replay.h"

const char *const fuzz_seeds = "data/onnx";
const char *const fuzz_suffix = ".onnx";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    fk_onnx_file *f = NULL;
    fk_graph *g = NULL;

    if (fk_onnx_parse(&f, bytes, n, "fuzz") == FERKD_OK)
        FUZZ(fk_onnx_graph(f, 2, 0, &g));
    fk_graph_free(&g);
    fk_onnx_close(&f);
    return 0;
}
