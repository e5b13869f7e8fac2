/* Processors other than x86-64: the plain twin is the fast path. */
#include "image/resample.h"

const fk_resample_fns *fk_resample_best(void)
{
    return &fk_resample_plain;
}
