/* What was measured to be fastest here: choices by key, kept in a file for this processor, this oneDNN and this
 * number of threads, so that each is measured once. */
#ifndef FK_TUNE_H
#define FK_TUNE_H

#include "engine/plan.h"

typedef enum fk_tune_mode {
    FK_TUNE_OFF,   /* rules, no measuring: the same choices everywhere */
    FK_TUNE_QUICK, /* few candidates, short measurements */
    FK_TUNE_FULL   /* all candidates */
} fk_tune_mode;

typedef struct fk_tuner fk_tuner;

/* mode is "off", "quick", "full", or a file that fk_tuner_save() wrote: its choices are taken, whatever would be
 * measured now. An unreadable cache is no error: it is measured again. */
FERKD_CHECK ferkd_status fk_tuner_new(fk_tuner **out, const char *mode);
/* What was measured goes to the cache. */
void fk_tuner_free(fk_tuner **tuner);
fk_tune_mode fk_tuner_mode(const fk_tuner *t); /* t may be NULL: off */

/* The choice for key, or NULL; the tuner's until it is freed. */
const char *fk_tuner_find(fk_tuner *t, const char *key);
FERKD_CHECK ferkd_status fk_tuner_note(fk_tuner *t, const char *key, const char *choice,
                                       double seconds);

/* Every choice asked for so far, as a file for fk_tuner_new(); what was measured goes to the cache, too. */
FERKD_CHECK ferkd_status fk_tuner_save(fk_tuner *t, const char *path);

struct fk_dn;

/* Does this processor convolve faster in bf16 than in f32? Some have the instructions and run them at half the
 * rate. Measured once, in milliseconds; by rule where the tuner is off or NULL. */
FERKD_CHECK ferkd_status fk_half_pays(struct fk_dn *dn, fk_tuner *tuner, bool *pays);

/* Has it kernels of ours for 3x3 convolutions, in bf16 with channels last or in f32 (op_conv_winograd.c)? */
bool fk_has_own_winograd(bool half);

typedef enum fk_precision { FK_PRECISION_F32, FK_PRECISION_BF16, FK_PRECISION_AUTO } fk_precision;

/* "f32", "bf16", "auto" */
fk_precision fk_precision_parse(const char *word);

/* Makes the same graph for any batch. */
typedef ferkd_status fk_graph_maker(void *ctx, uint32_t batch, fk_graph **out);

/* The fastest way to run a network: o is completed with layout, slices and precision. The graph for the plan is
 * then the maker's for batch / o->slices. o->tuner may be NULL: rules. */
FERKD_CHECK ferkd_status fk_tune_plan(fk_plan_options *o, fk_precision precision,
                                      fk_graph_maker *make, void *ctx, uint32_t batch);

#endif
