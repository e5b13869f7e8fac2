/* The architectures that ferkd builds itself, by name. */
#ifndef FK_ZOO_H
#define FK_ZOO_H

#include "net/builder.h"

typedef struct fk_zoo_options {
    int64_t batch, channels, size, classes;
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

const fk_zoo_entry *fk_zoo_find(const char *name);

/* FERKD_ABSENT, with the nearest name, if there is none. Parameters are zero. */
FERKD_CHECK ferkd_status fk_zoo_build(fk_graph **out, const char *name, const fk_zoo_options *o);

int fk_build_resnet(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_resnet_cifar(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_mobilenet_v2(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_vit(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_convnext(fk_builder *b, int x, const fk_zoo_options *o, int variant);
int fk_build_small28(fk_builder *b, int x, const fk_zoo_options *o, int variant);

#endif
