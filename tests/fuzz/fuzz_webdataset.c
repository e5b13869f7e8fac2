/* Reading WebDataset's tar files of strangers. */
#include "base/compat.h"

#include <unistd.h>

#include "ferkd/train.h"
#include "replay.h"

const char *const fuzz_seeds = "data/webdataset";
const char *const fuzz_suffix = ".tar";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char tar[64];
    char store[64];
    char part[80];
    const char *paths[] = {tar};

    (void)snprintf(tar, sizeof tar, "/tmp/ferkd-fuzz-%d.tar", (int)getpid());
    (void)snprintf(store, sizeof store, "/tmp/ferkd-fuzz-%d", (int)getpid());
    (void)snprintf(part, sizeof part, "%s.part", store);
    FILE *f = fopen(tar, "wb");
    if (!f)
        return 0;
    (void)fwrite(bytes, 1, n, f);
    (void)fclose(f);
    FUZZ(ferkd_webdataset_import(paths, 1, NULL, store, NULL));
    (void)unlink(tar);
    (void)unlink(store);
    (void)unlink(part);
    return 0;
}
