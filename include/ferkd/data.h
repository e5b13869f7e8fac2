/* Data sets of labelled images, and the random regions that are cut from them. */
#ifndef FERKD_DATA_H
#define FERKD_DATA_H

#include "ferkd/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ferkd_dataset ferkd_dataset;

typedef struct ferkd_dataset_options {
    const char
        *class_names; /**< a file with one name a line, for formats that have none; or NULL */
    bool ignore_exif; /**< leave JPEG and PNG pixels as stored */
} ferkd_dataset_options;

/**
 * Open a data set, told by what path is:
 *  - a folder of class folders (torchvision's ImageFolder: classes and files in code-point order);
 *  - an IDX image file, also .gz (its label file is beside it: "images-idx3" reads "labels-idx1"),
 *    or a folder with train-images-idx3-ubyte[.gz];
 *  - a CIFAR-10 or CIFAR-100 binary file, or a folder with data_batch_1..5.bin or train.bin.
 *
 * options may be NULL. The data set is read-only afterwards; any number of threads may use it.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_dataset_open(ferkd_dataset **out, const char *path,
                                                      const ferkd_dataset_options *options);
FERKD_API void ferkd_dataset_close(ferkd_dataset **dataset);

FERKD_API uint32_t ferkd_dataset_images(const ferkd_dataset *d);
FERKD_API uint32_t ferkd_dataset_classes(const ferkd_dataset *d);
/** 1 (grey) or 3 (RGB): what ferkd_dataset_image() gives. */
FERKD_API uint32_t ferkd_dataset_channels(const ferkd_dataset *d);
FERKD_API const char *ferkd_dataset_class_name(const ferkd_dataset *d, uint32_t c);
/** The ground truth of an image, 0..classes-1. */
FERKD_API uint32_t ferkd_dataset_label(const ferkd_dataset *d, uint32_t image);
/** A name for messages: the path below the root, or "file#number". Valid until the close. */
FERKD_API const char *ferkd_dataset_name(const ferkd_dataset *d, uint32_t image);
FERKD_API const char *ferkd_dataset_path(const ferkd_dataset *d);
/** "folder", "idx", "cifar10", "cifar100". */
FERKD_API const char *ferkd_dataset_kind(const ferkd_dataset *d);

/** Are its images left as stored, whatever their EXIF orientation? */
FERKD_API bool ferkd_dataset_ignores_exif(const ferkd_dataset *d);

/** 16 bytes that change when classes, image names, sizes in bytes, labels or their order do. The
 *  place of the folder does not matter, nor do the files' times. */
FERKD_API void ferkd_dataset_fingerprint(const ferkd_dataset *d, uint8_t out[16]);

/** Decode one image. file (with cap) is the caller's scratch for the encoded bytes; zero it first
 *  and free() it last. options' ignore_exif is the data set's. */
FERKD_API FERKD_CHECK ferkd_status ferkd_dataset_image(const ferkd_dataset *d, uint32_t image,
                                                       ferkd_image *out, uint8_t **file,
                                                       size_t *cap,
                                                       const ferkd_decode_options *options);

/** How regions are drawn: torchvision's RandomResizedCrop and RandomHorizontalFlip. */
typedef struct ferkd_sampler {
    uint64_t seed;
    double scale_min, scale_max; /**< share of the image's area; 0.08 and 1 */
    double ratio_min, ratio_max; /**< width to height; 3/4 and 4/3 */
    double flip;                 /**< probability; 0.5 */
} ferkd_sampler;

typedef struct ferkd_region {
    ferkd_box box;
    bool flip;
} ferkd_region;

FERKD_API ferkd_sampler ferkd_sampler_defaults(void);

/** Region number `region` of image number `image`, width x height pixels: always the same one for
 *  the same sampler. Up to 10 tries, then the central fallback, as torchvision. */
FERKD_API ferkd_region ferkd_region_at(const ferkd_sampler *s, uint32_t image, uint32_t region,
                                       uint32_t width, uint32_t height);

#ifdef __cplusplus
}
#endif
#endif
