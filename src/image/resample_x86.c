/* Which resampling code this processor runs best. */
#include "image/resample.h"

const fk_resample_fns *fk_resample_best(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return &fk_resample_avx512;
    if (__builtin_cpu_supports("avx2"))
        return &fk_resample_avx2;
    return &fk_resample_plain;
}
