/* 3x3 with stride 2 in f32: tiles of 4x4 outputs. */
#define MAKES    4
#define READS    9
#define MOVES    8
#define EDGE     1
#define SIDE     9
#define DISTINCT 6
#include "kernel/winograd.h"

#include "kernel/winograd_halves.h"

FK_INLINE void down(const fk_v *d, fk_v *to)
{
    halves_down((fk_v[]){d[0], d[2], d[4], d[6], d[8]}, to);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        to[5 + i] = d[2 * i + 1];
}

FK_INLINE void up(const fk_v *u, fk_v *to)
{
    halves_up(u, to);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        to[i] += u[5 + i];
}

/* A g */
FK_INLINE void widen(const fk_v *g, fk_v *to)
{
    fk_v a = g[0] + g[2];
    fk_v b = g[1] + g[3];

    to[0] = g[0];
    to[1] = a + b;
    to[2] = a - b;
    to[3] = g[0] + 2.0f * g[1] + 4.0f * g[2] + 8.0f * g[3];
    to[4] = g[3];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        to[5 + i] = g[i];
}

/* G^T u */
FK_INLINE void lower(const fk_v *u, fk_v *to)
{
    to[0] = 0.5f * (u[0] - u[1]) + (1.0f / 6.0f) * (u[3] - u[2]);
    to[1] = u[5];
    to[2] = (1.0f / 6.0f) * u[2] - 0.5f * u[1] + (1.0f / 3.0f) * u[3] + u[4];
}

#include "kernel/winograd_inside.h"
#include "kernel/winograd_weights.h"

const fk_winograd_kernels FK_TABLE(fk_winograd_strided) = {.lanes = FK_LANES,
                                                           .kind = FK_WINOGRAD_STRIDED,
                                                           .pack = pack,
                                                           .forward = forward,
                                                           .spread = spread,
                                                           .multiply = multiply,
                                                           .collect = collect};
