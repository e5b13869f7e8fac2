/* F(4x4, 3x3) in f32: Winograd's transforms of one dimension, from the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2016,
 * section 4.3). */
#define MAKES    4
#define READS    6
#define MOVES    4
#define EDGE     1
#define SIDE     6
#define DISTINCT 6
#include "kernel/winograd.h"

#include "kernel/lanes.h"

/* B^T d */
FK_INLINE void down(const fk_v *d, fk_v *to)
{
    fk_v a = d[4] - 4.0f * d[2];
    fk_v b = d[3] - 4.0f * d[1];
    fk_v c = d[4] - d[2];
    fk_v e = 2.0f * (d[3] - d[1]);

    to[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    to[1] = a + b;
    to[2] = a - b;
    to[3] = c + e;
    to[4] = c - e;
    to[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* A^T u */
FK_INLINE void up(const fk_v *u, fk_v *to)
{
    fk_v a = u[1] + u[2];
    fk_v b = u[1] - u[2];
    fk_v c = u[3] + u[4];
    fk_v d = u[3] - u[4];

    to[0] = u[0] + a + c;
    to[1] = b + 2.0f * d;
    to[2] = a + 4.0f * c;
    to[3] = b + 8.0f * d + u[5];
}

/* A g */
FK_INLINE void widen(const fk_v *g, fk_v *to)
{
    fk_v a = g[0] + g[2];
    fk_v b = g[1] + g[3];
    fk_v c = g[0] + 4.0f * g[2];
    fk_v d = 2.0f * g[1] + 8.0f * g[3];

    to[0] = g[0];
    to[1] = a + b;
    to[2] = a - b;
    to[3] = c + d;
    to[4] = c - d;
    to[5] = g[3];
}

/* G w */
FK_INLINE void raise(const fk_v *w, fk_v *to)
{
    fk_v a = (-1.0f / 6.0f) * (w[0] + w[2]);
    fk_v b = (-1.0f / 6.0f) * w[1];
    fk_v c = (1.0f / 24.0f) * w[0] + (1.0f / 6.0f) * w[2];
    fk_v d = (1.0f / 12.0f) * w[1];

    to[0] = 0.25f * w[0];
    to[1] = a + b;
    to[2] = a - b;
    to[3] = c + d;
    to[4] = c - d;
    to[5] = w[2];
}

/* G^T u */
FK_INLINE void lower(const fk_v *u, fk_v *to)
{
    fk_v a = (-1.0f / 6.0f) * (u[1] + u[2]);
    fk_v b = u[3] + u[4];

    to[0] = 0.25f * u[0] + a + (1.0f / 24.0f) * b;
    to[1] = (1.0f / 6.0f) * (u[2] - u[1]) + (1.0f / 12.0f) * (u[3] - u[4]);
    to[2] = a + (1.0f / 6.0f) * b + u[5];
}

#include "kernel/winograd_inside.h"
#include "kernel/winograd_weights.h"

const fk_winograd_kernels FK_TABLE(fk_winograd4) = {.lanes = FK_LANES,
                                                    .kind = FK_WINOGRAD_4,
                                                    .pack = pack,
                                                    .forward = forward,
                                                    .spread = spread,
                                                    .multiply = multiply,
                                                    .collect = collect};
