/* F(2x2, 3x3) in bf16: Winograd's transforms of one dimension, from the points 0, 1, -1 and infinity (Lavin and Gray 2016, section
 * 4.1). */
#define MAKES    2
#define READS    4
#define MOVES    2
#define EDGE     1
#define SIDE     4
#define DISTINCT 4
#include "kernel/winograd.h"

#include "kernel/lanes.h"

/* B^T d */
FK_INLINE void down(const fk_v *d, fk_v *to)
{
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[1] - d[3];
}

/* A^T u */
FK_INLINE void up(const fk_v *u, fk_v *to)
{
    to[0] = u[0] + u[1] + u[2];
    to[1] = u[1] - u[2] - u[3];
}

/* A g */
FK_INLINE void widen(const fk_v *g, fk_v *to)
{
    to[0] = g[0];
    to[1] = g[0] + g[1];
    to[2] = g[0] - g[1];
    to[3] = -g[1];
}

/* G w */
FK_INLINE void raise(const fk_v *w, fk_v *to)
{
    fk_v even = 0.5f * (w[0] + w[2]);

    to[0] = w[0];
    to[1] = even + 0.5f * w[1];
    to[2] = even - 0.5f * w[1];
    to[3] = w[2];
}

/* G^T u */
FK_INLINE void lower(const fk_v *u, fk_v *to)
{
    fk_v sum = 0.5f * (u[1] + u[2]);

    to[0] = u[0] + sum;
    to[1] = 0.5f * (u[1] - u[2]);
    to[2] = sum + u[3];
}

#include "kernel/winograd_inside.h"
#include "kernel/winograd_weights.h"

const fk_winograd_kernels FK_TABLE(fk_winograd2) = {.lanes = FK_LANES,
                                                    .kind = FK_WINOGRAD_2,
                                                    .pack = pack,
                                                    .forward = forward,
                                                    .spread = spread,
                                                    .multiply = multiply,
                                                    .collect = collect};
