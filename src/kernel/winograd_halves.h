/* With stride 2, in f32: along a dimension an output is two taps over the even inputs, by F(4, 2) from the points 0, 1, -1, 2 and infinity
 * (Lavin and Gray 2016, section 4.1, of another size), and one over the odd ones, as it is. */
#ifndef FK_WINOGRAD_HALVES_H
#define FK_WINOGRAD_HALVES_H

#include "kernel/lanes.h"

/* B^T d of five inputs. */
FK_INLINE void halves_down(const fk_v *d, fk_v *to)
{
    fk_v a = d[3] - d[1];

    to[0] = 2.0f * (d[0] - d[2]) + a;
    to[1] = d[3] - d[2] - 2.0f * d[1];
    to[2] = 2.0f * d[1] - 3.0f * d[2] + d[3];
    to[3] = a;
    to[4] = d[4] - d[2] - 2.0f * a;
}

/* A^T u, to four outputs. */
FK_INLINE void halves_up(const fk_v *u, fk_v *to)
{
    fk_v a = u[1] + u[2];
    fk_v b = u[1] - u[2];

    to[0] = u[0] + a + u[3];
    to[1] = b + 2.0f * u[3];
    to[2] = a + 4.0f * u[3];
    to[3] = b + 8.0f * u[3] + u[4];
}

/* G w of the outer two taps, and the one between. */
FK_INLINE void raise(const fk_v *w, fk_v *to)
{
    to[0] = 0.5f * w[0];
    to[1] = -0.5f * (w[0] + w[2]);
    to[2] = (1.0f / 6.0f) * (w[2] - w[0]);
    to[3] = (1.0f / 6.0f) * w[0] + (1.0f / 3.0f) * w[2];
    to[4] = w[2];
    to[5] = w[1];
}

#endif
