/* Which table: by processor and by channels a vector. */
#include "kernel/outer.h"
#include "kernel/pointwise.h"
#include "kernel/winograd.h"

#include "base/switches.h"

int64_t fk_depthwise_band(const fk_depthwise_args *k)
{
    int64_t pixels = 64 / k->out_width;
    int64_t ring = 1 + (FK_DEPTHWISE_ROWS - FK_MAX_DEPTHWISE - 1) / k->stride[0];
    int64_t rows = pixels < ring ? pixels : ring;

    rows = rows < k->out_height ? rows : k->out_height;
    return rows > 1 ? rows : 1;
}

size_t fk_depthwise_room(const fk_depthwise_args *k)
{
    size_t in = (size_t)(k->width + k->pad[1] + 2 * k->kernel[1] +
                         k->out_width * k->stride[1]); /* not less than any row takes */
    size_t out = (size_t)(k->out_width + 2 * k->kernel[1]);
    size_t band = (size_t)(fk_depthwise_band(k) * k->stride[0]);

    return ((in + out) * ((size_t)k->kernel[0] + band) + in * band) * FK_MAX_LANES;
}

bool fk_kernel_has_act(fk_act kind)
{
    return kind == FK_RELU || kind == FK_CLIP || kind == FK_LEAKY || kind == FK_HARDSWISH ||
           kind == FK_SILU || kind == FK_MISH;
}

bool fk_rows_have_act(fk_act kind)
{
    return fk_kernel_has_act(kind) || kind == FK_GELU || kind == FK_GELU_TANH || kind == FK_TANH ||
           kind == FK_SIGMOID;
}

bool fk_act_from_output(fk_act kind)
{
    return kind == FK_RELU || kind == FK_CLIP || kind == FK_LEAKY;
}

static bool wants_plain(void)
{
    static _Atomic int8_t wants = -1; /* each thread would find the same */

    if (wants < 0)
        wants = fk_switch_is("FERKD_KERNELS", "plain");
    return wants;
}

static const fk_winograd_kernels *const PLAIN_WINOGRADS[] = {
    [FK_WINOGRAD_2] = &fk_winograd2_plain16,
    [FK_WINOGRAD_4] = &fk_winograd4_plain16,
    [FK_WINOGRAD_STRIDED] = &fk_winograd_strided_plain16,
    [FK_WINOGRAD_RETURN] = &fk_winograd_return_plain16};

#ifdef __x86_64__
#include <cpuid.h>

extern const fk_norm_kernels fk_norm_avx512bf16, fk_norm_avx512, fk_norm_avx2, fk_norm_half8;
extern const fk_depthwise_kernels fk_depthwise_avx512bf16, fk_depthwise_avx512, fk_depthwise_avx2,
    fk_depthwise_half8;
extern const fk_gather_kernel fk_gather_avx512bf16, fk_gather_avx512, fk_gather_avx2,
    fk_gather_half8;
extern const fk_winograd_kernels fk_winograd2_avx512bf16, fk_winograd4_avx512,
    fk_winograd_strided_avx512, fk_winograd_return_avx512;
extern fk_outer_kernel fk_outer_avx512bf16;
extern const fk_pointwise_kernels fk_pointwise_avx512;
extern const fk_row_kernels fk_rows_avx512bf16, fk_rows_avx512, fk_rows_avx2;

bool fk_has_avx512(void)
{
    return !wants_plain() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

bool fk_has_tiles(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1U); /* AMX-BF16 */
}

static bool has_avx512bf16(void)
{
    return fk_has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool has_avx2(void)
{
    return !wants_plain() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const fk_norm_kernels *fk_norm_for(int lanes)
{
    if (lanes == 16)
        return has_avx512bf16()  ? &fk_norm_avx512bf16
               : fk_has_avx512() ? &fk_norm_avx512
                                 : &fk_norm_plain16;
    return lanes != 8         ? NULL
           : has_avx512bf16() ? &fk_norm_half8
           : has_avx2()       ? &fk_norm_avx2
                              : &fk_norm_plain8;
}

const fk_depthwise_kernels *fk_depthwise_for(int lanes)
{
    if (lanes == 16)
        return has_avx512bf16()  ? &fk_depthwise_avx512bf16
               : fk_has_avx512() ? &fk_depthwise_avx512
                                 : &fk_depthwise_plain16;
    return lanes != 8         ? NULL
           : has_avx512bf16() ? &fk_depthwise_half8
           : has_avx2()       ? &fk_depthwise_avx2
                              : &fk_depthwise_plain8;
}

const fk_gather_kernel *fk_gather_for(int lanes)
{
    if (lanes == 16)
        return has_avx512bf16()  ? &fk_gather_avx512bf16
               : fk_has_avx512() ? &fk_gather_avx512
                                 : &fk_gather_plain16;
    return lanes != 8         ? NULL
           : has_avx512bf16() ? &fk_gather_half8
           : has_avx2()       ? &fk_gather_avx2
                              : &fk_gather_plain8;
}

const fk_winograd_kernels *fk_winograd_best(fk_winograd_kind kind)
{
    static const fk_winograd_kernels *const WHOLE[] = {
        [FK_WINOGRAD_4] = &fk_winograd4_avx512,
        [FK_WINOGRAD_STRIDED] = &fk_winograd_strided_avx512,
        [FK_WINOGRAD_RETURN] = &fk_winograd_return_avx512};

    if (wants_plain())
        return PLAIN_WINOGRADS[kind];
    if (kind == FK_WINOGRAD_2)
        return has_avx512bf16() ? &fk_winograd2_avx512bf16 : NULL;
    return fk_has_avx512() ? WHOLE[kind] : NULL;
}

fk_outer_kernel *fk_outer_best(void)
{
    return has_avx512bf16() ? fk_outer_avx512bf16 : wants_plain() ? fk_outer_plain16 : NULL;
}

const fk_pointwise_kernels *fk_pointwise_best(void)
{
    return wants_plain() ? &fk_pointwise_plain16 : fk_has_avx512() ? &fk_pointwise_avx512 : NULL;
}

const fk_row_kernels *fk_rows_best(void)
{
    return has_avx512bf16()  ? &fk_rows_avx512bf16
           : fk_has_avx512() ? &fk_rows_avx512
           : has_avx2()      ? &fk_rows_avx2
                             : &fk_rows_plain8;
}
#else
bool fk_has_avx512(void)
{
    return false;
}

bool fk_has_tiles(void)
{
    return false;
}

const fk_winograd_kernels *fk_winograd_best(fk_winograd_kind kind)
{
    return wants_plain() ? PLAIN_WINOGRADS[kind] : NULL;
}

fk_outer_kernel *fk_outer_best(void)
{
    return wants_plain() ? fk_outer_plain16 : NULL;
}

const fk_pointwise_kernels *fk_pointwise_best(void)
{
    return wants_plain() ? &fk_pointwise_plain16 : NULL;
}

const fk_row_kernels *fk_rows_best(void)
{
    return &fk_rows_plain8;
}

const fk_norm_kernels *fk_norm_for(int lanes)
{
    return lanes == 16 ? &fk_norm_plain16 : lanes == 8 ? &fk_norm_plain8 : NULL;
}

const fk_gather_kernel *fk_gather_for(int lanes)
{
    return lanes == 16 ? &fk_gather_plain16 : lanes == 8 ? &fk_gather_plain8 : NULL;
}

const fk_depthwise_kernels *fk_depthwise_for(int lanes)
{
    return lanes == 16 ? &fk_depthwise_plain16 : lanes == 8 ? &fk_depthwise_plain8 : NULL;
}
#endif
