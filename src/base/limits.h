/* Every limit on input from strangers, in one place. */
#ifndef FK_LIMITS_H
#define FK_LIMITS_H

#define FK_MAX_SIDE_PX      65500u             /* JPEG's own limit */
#define FK_MAX_PIXELS       (178956970ull)     /* an image: Pillow's bomb limit, 2 x 89 Mpx */
#define FK_MAX_FILE_BYTES   (1ull << 40)       /* any file that is mapped */
#define FK_MAX_IMAGE_BYTES  (1ull << 29)       /* one encoded image */
#define FK_MAX_IMAGES       (1ull << 31)       /* a data set */
#define FK_MAX_CLASSES      65535u             /* a class is a u16 in the store */
#define FK_MAX_REGIONS      65536u             /* regions an image */
#define FK_MAX_TOPK         1024u              /* probabilities kept a region */
#define FK_MAX_DIMS         6                  /* dimensions of a tensor */
#define FK_MAX_NODES        100000u            /* nodes of a graph */
#define FK_MAX_TENSOR       (1ull << 31)       /* elements of one tensor */
#define FK_MAX_FOLDED       (1u << 26)         /* elements of a constant that an ONNX file has worked out */
#define FK_MAX_ONNX_BYTES   (1ull << 31)       /* protobuf's own limit */
#define FK_MAX_HEADER_BYTES (100ull * 1000000) /* the JSON of a safetensors file */
#define FK_MAX_YAML_BYTES   (1ull << 20)       /* a recipe */
#define FK_MAX_TUNE_BYTES   (1ull << 26)       /* the tuner's cache */
#define FK_MAX_JSON_BYTES   (1ull << 26)       /* a sidecar */
#define FK_MAX_BATCH        65536u

#endif
