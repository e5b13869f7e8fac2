/* Decode once, cut many times. */
#include "base/compat.h"

#include "train/cutter.h"

ferkd_status fk_cutter_load(fk_cutter *c, const ferkd_dataset *data, uint32_t image)
{
    return ferkd_dataset_image(data, image, &c->image, &c->file, &c->file_cap, NULL);
}

ferkd_status fk_cutter_regions(fk_cutter *c, const ferkd_dataset *data, uint32_t image,
                               const ferkd_sampler *sampler, uint32_t regions, const fk_cut *views,
                               uint32_t n_views, size_t stride, uint8_t *crops)
{
    TRY(fk_cutter_load(c, data, image));
    for (uint32_t r = 0; r < regions; r++) {
        ferkd_region at = ferkd_region_at(sampler, image, r, c->image.width, c->image.height);
        for (uint32_t v = 0; v < n_views; v++) {
            uint32_t side = views[v].size_px;
            TRY(ferkd_image_crop_resize(&c->crop, &c->image, at.box, side, side, views[v].filter,
                                        at.flip));
            memcpy(crops + r * stride + views[v].at, c->crop.px,
                   (size_t)side * side * ferkd_dataset_channels(data));
        }
    }
    return FERKD_OK;
}

void fk_cutter_fini(fk_cutter *c)
{
    ferkd_image_fini(&c->image);
    ferkd_image_fini(&c->crop);
    free(c->file);
    *c = (fk_cutter){0};
}

void fk_cutters_free(fk_cutter *cutters, uint32_t n)
{
    for (uint32_t i = 0; cutters && i < n; i++)
        fk_cutter_fini(&cutters[i]);
    free(cutters);
}
