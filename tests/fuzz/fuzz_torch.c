/* Reading torch.save's files of strangers. */
#include "base/compat.h"

#include "exchange/torch_file.h"
#include "replay.h"

const char *const fuzz_seeds = "golden/torch";
const char *const fuzz_suffix = ".pth";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    fk_torch_file *f = NULL;
    static float values[1 << 16];

    if (fk_torch_parse(&f, bytes, n, "fuzz") == FERKD_OK) {
        for (size_t i = 0; i < fk_torch_count(f); i++) {
            if (fk_torch_at(f, i)->count <= FK_COUNT(values))
                fk_torch_values(fk_torch_at(f, i), values);
        }
    }
    fk_torch_close(&f);
    return 0;
}
