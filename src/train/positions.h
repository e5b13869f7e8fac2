/* Position embeddings for another size of the image. */
#ifndef FK_POSITIONS_H
#define FK_POSITIONS_H

#include "net/graph.h"

/* How a position embedding fits another size of image: [tokens][width], of which `extra` (class token, registers) are no
 * places, or, channels first, `planes` times [side][side] (width 1). `more`: so many tokens come first there that the
 * network has no positions for (it has registers, and the file the class token's). */
typedef struct fk_position_fit {
    size_t side, new_side, extra, more, width, planes;
} fk_position_fit;

/* Is p one, and are `there` values it at another size? */
bool fk_positions_fit(const fk_param *p, size_t there, fk_position_fit *fit);

/* Those values for p: float[p->count]. */
FERKD_CHECK ferkd_status fk_fit_positions(const fk_position_fit *fit, const float *there,
                                          float *here);

/* from, float[extra + side^2][width], becomes to, float[extra + new_side^2][width]: the first `extra` rows (class tokens) stay, the others,
 * a square image of rows, are resized bicubically with antialiasing, as timm's resample_abs_pos_embed() does by
 * torch.nn.functional.interpolate(). */
FERKD_CHECK ferkd_status fk_resize_positions(const float *from, size_t side, float *to,
                                             size_t new_side, size_t extra, size_t width);

#endif
