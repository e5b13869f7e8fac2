/* PNG out, by libpng's simplified interface. */
#include "base/compat.h"

#include "ferkd/image.h"

#include <png.h>

ferkd_status ferkd_image_encode_png(const ferkd_image *image, uint8_t **bytes, size_t *n)
{
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = image->width,
                     .height = image->height,
                     .format = image->channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    png_alloc_size_t size = 0;

    *bytes = NULL;
    if (!png_image_write_to_memory(&png, NULL, &size, 0, image->px, 0, NULL))
        return fk_fail(FERKD_LIMIT, "an image of %u x %u becomes no PNG: %s", image->width,
                       image->height, png.message);
    *bytes = malloc(size);
    if (!*bytes)
        return fk_fail(FERKD_MEMORY, "no memory for a PNG");
    if (!png_image_write_to_memory(&png, *bytes, &size, 0, image->px, 0, NULL)) {
        free(*bytes);
        *bytes = NULL;
        return fk_fail(FERKD_BUG, "a PNG was not written: %s", png.message);
    }
    *n = size;
    return FERKD_OK;
}
