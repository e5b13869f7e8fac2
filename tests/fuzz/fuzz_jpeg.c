/* Decoding jpeg files of strangers. */
#include "base/compat.h"

#include "ferkd/image.h"
#include "replay.h"

const char *const fuzz_seeds = "data/images";
const char *const fuzz_suffix = ".jpg";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    ferkd_image image = {0};

    FUZZ(ferkd_image_decode(&image, bytes, n, "fuzz", NULL));
    ferkd_image_fini(&image);
    return 0;
}
