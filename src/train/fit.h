/* Values for the same network at another size of image, or with fewer outputs. */
#ifndef FK_FIT_H
#define FK_FIT_H

#include "engine/optim.h"

/* The values of a parameter that are `there` elsewhere, for p, float[p->count]: of a head with more outputs the first, position
 * embeddings resized (train/positions.h), of constants of the network out as it is, else as they are.
 * FERKD_UNSUPPORTED: they are for one size of image only. */
FERKD_CHECK ferkd_status fk_fit_param(const fk_param *p, const float *values, size_t there,
                                      float *out);

/* All values of from's, laid out as from->values, go into to->values. */
FERKD_CHECK ferkd_status fk_fit_values(fk_graph *to, const fk_graph *from, const float *values);

/* What an optimiser keeps of from's parameters becomes what it keeps of to's; likewise gradients, float[from->n_trained], or NULL. */
FERKD_CHECK ferkd_status fk_fit_optim(const fk_graph *to, const fk_graph *from, fk_optim *optim,
                                      float **gradients);

#endif
