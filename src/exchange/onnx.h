/* ONNX in and out. */
#ifndef FK_ONNX_H
#define FK_ONNX_H

#include "ferkd/exchange.h"
#include "net/graph.h"
#include "net/quantise.h"

typedef struct fk_onnx_file fk_onnx_file;

/* Read the protobuf of a model file, checked for size. */
FERKD_CHECK ferkd_status fk_onnx_open(fk_onnx_file **out, const char *path);
FERKD_CHECK ferkd_status fk_onnx_parse(fk_onnx_file **out, const void *bytes, size_t n,
                                       const char *path);
void fk_onnx_close(fk_onnx_file **f);

/* A hash of the weights that stand in files beside the model; 0: there are none. */
uint64_t fk_onnx_external(const fk_onnx_file *f);

/* The value of a metadata property, or NULL. */
const char *fk_onnx_metadata(const fk_onnx_file *f, const char *key);

/* Make the graph for `batch` images of side size_px (0: the model's own). A model whose batch is
 * fixed keeps its own: look at the graph's input. The input is N C H W, or N H W C as tf2onnx
 * writes it (told by where the 1 or 3 channels are). */
FERKD_CHECK ferkd_status fk_onnx_graph(const fk_onnx_file *f, uint32_t batch, uint32_t size_px,
                                       fk_graph **out);

/* Make the graph for a tensor of this shape as it is, whatever it stands for: dimensions that the file fixes must be
 * these, but for the first (look at the graph's input). The output may have any shape. */
FERKD_CHECK ferkd_status fk_onnx_graph_raw(const fk_onnx_file *f, const fk_shape *input,
                                           fk_graph **out);

typedef struct fk_onnx_text {
    const char *key, *value;
} fk_onnx_text;

/* How a file is written. */
typedef struct fk_onnx_form {
    int64_t opset;    /* 13 to 18; 0: 13, or 17 where there is a LayerNorm */
    bool half;        /* weights and arithmetic of 16 bits (float16), input and logits of 32 */
    bool for_opencv4; /* ReLU6 as OpenCV 4.6 reads it */
    const fk_range *
        ranges; /* [n_nodes] values with low <= high are written in 8 bits (net/quantise.h); NULL: none */
} fk_onnx_form;

/* Write g with a free batch dimension, in eval form (BatchNorm kept, dropout left out). texts go to the metadata. form
 * NULL: all zero. */
FERKD_CHECK ferkd_status fk_onnx_write(const char *path, const fk_graph *g,
                                       const fk_onnx_form *form, const fk_onnx_text *texts,
                                       size_t n_texts);

#endif
