/* What the files that know oneDNN share: dnnl_prims.c, which is the same for every version, and dnnl_v2.c or dnnl_v3.c,
 * of which the build takes one. */
#ifndef FK_DNNL_INSIDE_H
#define FK_DNNL_INSIDE_H

#include "base/compat.h"

#include "engine/dnnl_glue.h"

#include <dnnl.h>

/* A borrowed layout, as oneDNN's functions take it. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t fk_raw_md;
#else
typedef const dnnl_memory_desc_t *fk_raw_md;
#endif

struct fk_dn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

/* In version 2 the layout itself, from version 3 on a handle. */
struct fk_md {
    dnnl_memory_desc_t d;
};

struct fk_pd {
    dnnl_primitive_desc_t h;
};

ferkd_status fk_dn_check(dnnl_status_t s, const char *what);
/* oneDNN's words for our activations, and their parameters in its own meaning. */
dnnl_alg_kind_t fk_dn_act(const fk_post *act, float *a, float *b);
/* [O, I/g, h, w] as oneDNN counts it: 4 dimensions, or 5 with groups. */
int fk_dn_grouped(const fk_shape *s, int64_t groups, int64_t *dims);
/* Attributes with what is fused behind a primitive. sum: what dst holds is added first. */
ferkd_status fk_dn_attr(dnnl_primitive_attr_t *out, bool sum, const fk_post *post);

ferkd_status fk_dn_matmul_attr(dnnl_primitive_attr_t *out, const fk_matmul_args *a);

/* --- by version ------------------------------------------------------------------------------ */

fk_raw_md fk_md_raw(const fk_md *md);
FERKD_CHECK ferkd_status fk_md_from(fk_md **out, fk_raw_md raw);
FERKD_CHECK ferkd_status fk_md_tagged(fk_md **out, const fk_shape *shape, dnnl_format_tag_t tag,
                                      bool half);
dnnl_status_t fk_dn_append_sum(dnnl_post_ops_t ops);
dnnl_status_t fk_dn_append_act(dnnl_post_ops_t ops, const fk_post *post);
/* hard swish, x clip(x / 6 + 1/2, 0, 1): version 3 wants both numbers. */
void fk_dn_hardswish(float *a, float *b);
/* Dimension 1 of a primitive's input. */
int64_t fk_dn_channels(fk_raw_md src);

#endif
