/* A convolution of kernel/winograd.h by several threads. On some processors what one core has written costs another one many times what
 * its own memory does, so each thread packs, spreads out and adds up for itself, at the price of some work done twice. */
#ifndef FK_CONV_WINOGRAD_H
#define FK_CONV_WINOGRAD_H

#include "kernel/winograd.h"

/* Forward, or the gradient of the input: the channels and weights of `k` are for us to fill in. With `pack` (training) each thread packs
 * the weights that it needs when it needs them; else (NULL) k->weights has all of them. */
void fk_winograd_run_forward(size_t threads, const fk_winograd_forward *k,
                             const fk_winograd_pack *pack, void *room);
size_t fk_winograd_forward_bytes(const fk_winograd_maps *m, size_t threads, bool pack);

/* The gradient of the weights: maps and dw of `k` are given. */
void fk_winograd_run_weights(size_t threads, const fk_winograd_weights *k, void *room);
size_t fk_winograd_weights_bytes(const fk_winograd_maps *m, size_t threads);

/* All weights, for inference, to pack->to of fk_winograd_packed() words. */
void fk_winograd_pack_all(size_t threads, const fk_winograd_pack *pack, const fk_winograd_maps *m);

#endif
