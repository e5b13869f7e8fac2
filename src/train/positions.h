/* Position embeddings for another size of the image. */
#ifndef FK_POSITIONS_H
#define FK_POSITIONS_H

#include "ferkd/status.h"

/* from, float[extra + side^2][width], becomes to, float[extra + new_side^2][width]: the first `extra` rows (class tokens) stay, the others,
 * a square image of rows, are resized bicubically with antialiasing, as timm's resample_abs_pos_embed() does by
 * torch.nn.functional.interpolate(). */
FERKD_CHECK ferkd_status fk_resize_positions(const float *from, size_t side, float *to,
                                             size_t new_side, size_t extra, size_t width);

#endif
