/* For programs that train elsewhere: calibrated batches from a store, and stores from teachers of any make. */
#ifndef FERKD_LOADER_H
#define FERKD_LOADER_H

#include "ferkd/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- batches ----------------------------------------------------------------------------------- */

typedef struct ferkd_loader ferkd_loader;

typedef struct ferkd_loader_info {
    uint32_t batch, channels, size_px, images;
    uint32_t classes; /**< of the data set */
    uint32_t
        label_classes; /**< of the targets: the data set's, then, in some stores, others of the teacher's */
    uint64_t batches_per_epoch, batches; /**< of all epochs */
    const char *rules, *words;           /**< of the calibration; "" without a store */
} ferkd_loader_info;

/**
 * Open a loader by keys of recipes ("ferkd train --help"): data, labels, method (ce, fkd, ferkd), calibrate, size,
 * batch, epochs, seed, regions-per-image, mean, std, filter, mix with mix-scope image, threads, ...
 * Worker threads decode, cut and resize ahead; what comes out follows from the seed alone, whatever their number.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_loader_open(ferkd_loader **out, const char *const *keys,
                                                     const char *const *values, size_t n);
FERKD_API void ferkd_loader_close(ferkd_loader **loader);
FERKD_API void ferkd_loader_about(const ferkd_loader *l, ferkd_loader_info *out);

/** Begin (again) at a batch, counted over all epochs. The first call of ferkd_loader_next() begins at 0. */
FERKD_API FERKD_CHECK ferkd_status ferkd_loader_seek(ferkd_loader *l, uint64_t batch);

/** The next batch: inputs float[batch][channels][size][size], normalised; targets float[batch][label_classes], rows of
 *  sum 1. Valid until the next call; both are NULL after the last batch. One thread at a time. */
FERKD_API FERKD_CHECK ferkd_status ferkd_loader_next(ferkd_loader *l, const float **inputs,
                                                     const float **targets);

/* --- teachers that live elsewhere -------------------------------------------------------------- */

typedef struct ferkd_scribe ferkd_scribe;

typedef struct ferkd_scribe_options {
    uint32_t regions, topk, prob_bits; /**< 8; 5, at most the classes; 0: as the codec chooses */
    ferkd_sampler sampler;
    uint32_t size_px;         /**< side of the crops that the teacher sees; 224 */
    ferkd_filter filter;      /**< they are resized with; FERKD_BILINEAR */
    uint32_t teacher_classes; /**< columns of the logits; 0: the data set's classes */
    const uint32_t *map;      /**< [classes of the data set]: columns; NULL: one to one */
    bool every;          /**< labels over all the teacher's classes, not the data set's alone */
    double temperature;  /**< of the softmax; 1 */
    const char *teacher; /**< a name, which with the settings above tells stores apart */
    uint32_t threads;    /**< that decode; 0: as many as cores */
    bool overwrite;
} ferkd_scribe_options;

FERKD_API ferkd_scribe_options ferkd_scribe_defaults(void);

/** Begin, or go on with, a store of data. *out is NULL if it is complete already. */
FERKD_API FERKD_CHECK ferkd_status ferkd_scribe_open(ferkd_scribe **out, const ferkd_dataset *data,
                                                     const char *path,
                                                     const ferkd_scribe_options *options);
FERKD_API void ferkd_scribe_close(ferkd_scribe **scribe);

/** The regions of the next images, at most n of them: crops, uint8_t[n][regions][size][size][channels], as Pillow
 *  cuts and resizes them. *got: images; 0 when all are done. Images that cannot be read have zeros there, and are
 *  marked so in the store. *first: number of the first image. */
FERKD_API FERKD_CHECK ferkd_status ferkd_scribe_crops(ferkd_scribe *s, uint32_t n, uint8_t *crops,
                                                      uint32_t *first, uint32_t *got);

/** What the teacher says of them: float[got][regions][teacher_classes] logits. */
FERKD_API FERKD_CHECK ferkd_status ferkd_scribe_logits(ferkd_scribe *s, const float *logits);

/** Seal the store. FERKD_USAGE: images are missing. */
FERKD_API FERKD_CHECK ferkd_status ferkd_scribe_commit(ferkd_scribe *s);

#ifdef __cplusplus
}
#endif
#endif
