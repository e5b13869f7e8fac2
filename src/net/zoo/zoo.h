/* The architectures that ferkd builds itself, by name. */
#ifndef FK_ZOO_H
#define FK_ZOO_H

#include "net/builder.h"

typedef struct fk_zoo_options {
    int64_t batch, channels, size, classes;
    bool heads_apart; /* networks with two heads: their logits side by side, not averaged */
} fk_zoo_options;

typedef struct fk_zoo_entry {
    const char *name;
    const char *about;
    int64_t size; /* pixels it is usually trained at */
    /* From input x to logits. */
    int (*build)(fk_builder *b, int x, const fk_zoo_options *o, int variant);
    int variant;
} fk_zoo_entry;

extern const fk_zoo_entry fk_zoo[];
extern const size_t fk_zoo_count;

/* A name may end in an activation that takes the place of ReLU and ReLU6: "resnet18d+silu". */
const fk_zoo_entry *fk_zoo_find(const char *name);

/* The side, in pixels, that a model of this name, or a network file, is usually trained at. */
int64_t fk_zoo_size(const char *name);

/* name: of the zoo, or a network file (net/netfile.h). FERKD_ABSENT, with the nearest name, if there is none. Parameters are zero. */
FERKD_CHECK ferkd_status fk_zoo_build(fk_graph **out, const char *name, const fk_zoo_options *o);

enum { FK_RESNEXT50_32X4D = 1000, FK_RESNEXT101_32X8D, FK_RESNET_D = 2000 /* and the layers */ };

int fk_build_resnet(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_resnet_cifar(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_mobilenet_v2(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_regnet(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_shufflenet_v2(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_swin(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_sret(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_vit(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_convnext(fk_builder *b, int x, const fk_zoo_options *o, int variant);

typedef enum fk_efficientnet {
    FK_EFFICIENTNET_B0,
    FK_EFFICIENTNET_LITE0,
    FK_EFFICIENTNETV2_B0,
    FK_FBNETC_100,
    FK_MOBILENETV3_SMALL,
    FK_MOBILENETV3_LARGE,
    FK_MOBILENETV4_SMALL
} fk_efficientnet;

int fk_build_efficientnet(fk_builder *b, int x, const fk_zoo_options *o, int variant);

/* fk_build_vit: a form and its traits, or'ed. */
enum {
    FK_VIT_TI_16,
    FK_VIT_S_16,
    FK_VIT_B_16,
    FK_VIT_L_16,
    FK_VIT_H_14,
    FK_VIT_SMALL_G_14,
    FK_VIT_G_14,
    FK_VIT_S_14,
    FK_VIT_B_14,
    FK_VIT_L_14,
    FK_VIT_B_32,
    FK_VIT_GIANT_14, /* DINOv2's */
    FK_VIT_FORMS = 16,
    FK_VIT_DISTILLED = 16, /* a distillation token, two heads */
    FK_VIT_SCALED = 32,    /* LayerScale */
    FK_VIT_REGISTERS = 64, /* four more tokens; positions of the image alone */
    FK_VIT_CLIP = 128,     /* a LayerNorm in front, patches without bias */
    FK_VIT_QUICK = 256,    /* x sigmoid(1.702 x) for GELU */
    FK_VIT_GATED = 512     /* SwiGLU: half of the hidden values gate the others */
};

/* To a multiple of 8, never losing more than a tenth (MobileNetV2's own rule). */
int64_t fk_zoo_round_channels(double v);

int fk_build_small28(fk_builder *b, int x, const fk_zoo_options *o, int variant);

#endif
