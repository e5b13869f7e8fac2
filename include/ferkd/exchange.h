/* Models of other programs: ONNX. */
#ifndef FERKD_EXCHANGE_H
#define FERKD_EXCHANGE_H

#include "ferkd/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How pixels become a network's input; stated beside the model, never guessed. */
typedef struct ferkd_preprocess {
    uint32_t size_px;    /**< side of the square input */
    double mean[3];      /**< on values 0..1, in the order R G B */
    double std[3];       /**< likewise */
    ferkd_filter filter; /**< of resizing */
    double crop_pct;     /**< evaluation: the short side becomes size / crop_pct, then the centre */
    bool bgr;            /**< channels in the order B G R */
    uint32_t channels;   /**< 1 or 3 */
} ferkd_preprocess;

/** ImageNet's mean and deviation, bilinear, 224 px, crop 0.875. */
FERKD_API ferkd_preprocess ferkd_preprocess_defaults(void);

#ifdef __cplusplus
}
#endif
#endif
