/* What the readers of the formats fill in, and dataset.c serves. */
#ifndef FK_DATASET_H
#define FK_DATASET_H

#include "ferkd/data.h"

typedef struct fk_item {
    char *name;    /* below the root; NULL for raw pixels */
    uint64_t size; /* bytes of the file */
} fk_item;

struct ferkd_dataset {
    const char *kind;
    char *path;
    uint32_t images, classes, channels;
    char **class_names; /* [classes] */
    uint16_t *labels;   /* [images] */
    bool ignore_exif;

    fk_item *items; /* [images]: folder */

    uint8_t *pixels; /* [images][channels][height][width]: idx, cifar */
    uint32_t width, height;
    bool planar;      /* channel planes (cifar) */
    char (*tags)[24]; /* [images]: names of raw images */
};

FERKD_CHECK ferkd_status fk_folder_read(ferkd_dataset *d);
FERKD_CHECK ferkd_status fk_idx_read(ferkd_dataset *d, const char *images_path);
FERKD_CHECK ferkd_status fk_cifar_read(ferkd_dataset *d, char *const *files, int n_files);

/* One name a line; blank lines at the end are dropped. */
FERKD_CHECK ferkd_status fk_names_read(char ***names, uint32_t *n, const char *path);
void fk_names_free(char **names, uint32_t n);

#endif
