/* The gradient of the input of a 3x3 convolution with stride 2, in f32: tiles of 8x8 of its numbers, of which those at odd places come from
 * two of the output's, those at even ones from one. */
#define MAKES    8
#define READS    5
#define MOVES    4
#define EDGE     0
#define SIDE     9
#define DISTINCT 6
#include "kernel/winograd.h"

#include "kernel/winograd_halves.h"

FK_INLINE void down(const fk_v *d, fk_v *to)
{
    halves_down(d, to);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        to[5 + i] = d[i];
}

FK_INLINE void up(const fk_v *u, fk_v *to)
{
    fk_v odd[4];

    halves_up(u, odd);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        to[2 * i] = u[5 + i];
        to[2 * i + 1] = odd[i];
    }
}

#include "kernel/winograd_inside.h"

const fk_winograd_kernels FK_TABLE(fk_winograd_return) = {
    .lanes = FK_LANES, .kind = FK_WINOGRAD_RETURN, .pack = pack, .forward = forward};
