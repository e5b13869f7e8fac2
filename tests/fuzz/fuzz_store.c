/* Opening and reading label stores of strangers. */
#include "base/compat.h"

#include <unistd.h>

#include "base/file.h"
#include "ferkd/label.h"
#include "replay.h"

const char *const fuzz_seeds = "data/stores";
const char *const fuzz_suffix = ".ferkd";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char path[64];
    ferkd_store *s = NULL;
    ferkd_store_stats stats;
    uint32_t *bad = NULL;
    uint32_t n_bad;

    (void)snprintf(path, sizeof path, "/tmp/ferkd-fuzz-%d", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f)
        return 0;
    (void)fwrite(bytes, 1, n, f);
    (void)fclose(f);
    if (ferkd_store_open(&s, path) == FERKD_OK) {
        FUZZ(ferkd_store_verify(s, &bad, &n_bad));
        FUZZ(ferkd_store_statistics(s, &stats));
    }
    free(bad);
    ferkd_store_close(&s);
    (void)unlink(path);
    return 0;
}
