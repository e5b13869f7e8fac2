/* Reading safetensors files of strangers. */
#include "base/compat.h"

#include "exchange/safetensors.h"
#include "replay.h"

const char *const fuzz_seeds = "golden";
const char *const fuzz_suffix = ".safetensors";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    fk_safetensors *f = NULL;
    float v[64];

    if (fk_safetensors_parse(&f, bytes, n, "fuzz") == FERKD_OK)
        FUZZ(fk_safetensors_copy(f, "norm.d1", v, 16));
    fk_safetensors_close(&f);
    return 0;
}
