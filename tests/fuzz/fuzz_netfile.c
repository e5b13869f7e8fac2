/* Networks in JSON by strangers. */
#include "base/compat.h"

#include <unistd.h>

#include "net/netfile.h"
#include "replay.h"

const char *const fuzz_seeds = "../examples/networks";
const char *const fuzz_suffix = ".json";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    fk_zoo_options o = {.batch = 2, .channels = 3, .size = 32, .classes = 10};
    char path[64];
    fk_graph *g = NULL;

    (void)snprintf(path, sizeof path, "/tmp/ferkd-fuzz-%d.json", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f)
        return 0;
    (void)fwrite(bytes, 1, n, f);
    (void)fclose(f);
    FUZZ(fk_netfile_build(&g, path, &o));
    fk_graph_free(&g);
    (void)unlink(path);
    return 0;
}
