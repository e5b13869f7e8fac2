/* What the two halves of the reader share: netfile.c has chains, blocks and numbers, netfile_ops.c the operations. */
#ifndef FK_NETFILE_INSIDE_H
#define FK_NETFILE_INSIDE_H

#include <jansson.h>

#include "net/netfile.h"

#define FK_NETFILE_DEPTH 16    /* chains within chains */
#define FK_NETFILE_NODES 20000 /* of a network */
#define FK_NETFILE_KEPT  64    /* outputs with a name, at once */

/* Where the reader is: in a chain, with the block's parameters, and outputs that were named. */
typedef struct fk_chain {
    const struct fk_chain *outside;
    json_t *parameters; /* of the block at hand, numbers; borrowed */
    const char *names[FK_NETFILE_KEPT];
    int nodes[FK_NETFILE_KEPT];
    int n_kept;
    int depth;
} fk_chain;

typedef struct fk_netfile {
    const char *path;
    fk_builder b;
    const fk_zoo_options *o;
    json_t *blocks;
    uint32_t built;  /* blocks, so that empty ones within each other end, too */
    char place[256]; /* "layers[3].residual[0]" */
} fk_netfile;

/* FERKD_CORRUPT, with file and place, into the builder's status; gives -1. */
int fk_netfile_wrong(fk_netfile *f, const char *format, ...) FK_PRINTF(2, 3);

/* A number, or an expression: "classes", "channels" (of x), "$parameter", products and quotients of such. */
int64_t fk_netfile_number(fk_netfile *f, const fk_chain *c, int x, json_t *v, const char *what);
/* The number under a key, or otherwise. */
int64_t fk_netfile_option(fk_netfile *f, const fk_chain *c, int x, json_t *layer, const char *key,
                          int64_t otherwise);
/* The node of an output that was named. */
int fk_netfile_kept(fk_netfile *f, const fk_chain *c, const char *name);

/* A chain of layers from x; gives its last node. */
int fk_netfile_chain(fk_netfile *f, fk_chain *c, int x, json_t *layers, const char *what);

/* One operation; kind: its name, v: what stands behind it (NULL in a layer that is just a name). */
int fk_netfile_op(fk_netfile *f, fk_chain *c, int x, const char *kind, json_t *v, json_t *layer);
/* Is there an operation of this name? */
bool fk_netfile_knows(const char *kind);
/* The operation whose name is nearest. */
const char *fk_netfile_nearest(const char *kind);
/* May a layer of this kind have this key? */
bool fk_netfile_may_have(const char *kind, const char *key);

#endif
