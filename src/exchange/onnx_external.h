/* External data of ONNX files. */
#ifndef FK_ONNX_EXTERNAL_H
#define FK_ONNX_EXTERNAL_H

#include "ferkd/status.h"

#include "onnx.pb-c.h"

/* Read the numbers of initialisers that stand in other files, in the model's folder or below, into the model; they then are as
 * if they had been in it. FERKD_ABSENT: no such file; FERKD_CORRUPT: elsewhere, or cut short. *hash: over all that
 * was read; 0: nothing was. */
FERKD_CHECK ferkd_status fk_onnx_load_external(Onnx__ModelProto *model, const char *path,
                                               uint64_t *hash);

#endif
