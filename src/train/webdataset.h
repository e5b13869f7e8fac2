/* Label stores as WebDataset (github.com/webdataset/webdataset, its README's "The WebDataset Format"): tar files in which
 * members of one key, which ends at the first dot, are one sample. A sample is an image, R regions, K classes a region:
 *
 *   000000012.json           {"image": 12, "file": "class/name.jpg", "class": 3, "class_name": "class", "labelled": true}
 *   000000012.cls            3
 *   000000012.boxes.npy      int32 [R][4]    top, left, height, width, pixels of the (upright) image
 *   000000012.flips.npy      uint8 [R]       1: mirrored
 *   000000012.classes.npy    uint16 [R][K]   of the data set, most probable first
 *   000000012.probs.npy      float32 [R][K]  their probabilities; 0: no class is told here
 *   000000012.mass.npy       float32 [R][2]  the teacher's probability inside the data set's classes, its largest of all
 *   000000012.jpg            the image, where wanted
 *
 * The first member of each file, __ferkd__ (readers of WebDataset pass over such names), is JSON with the store's header. */
#ifndef FK_WEBDATASET_H
#define FK_WEBDATASET_H

#include "ferkd/train.h"

#define FK_WDS_SETTINGS "__ferkd__"

/* The header of a store as 2 x FK_STORE_HEADER_BYTES hexadecimal digits, and back. */
void fk_wds_hex(const uint8_t *bytes, size_t n, char *text);
bool fk_wds_unhex(const char *text, uint8_t *bytes, size_t n);

#endif
