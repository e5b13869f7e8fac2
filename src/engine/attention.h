/* What the two ways of attention share: op_attention.c in f32, attention_half.c in bf16. */
#ifndef FK_ATTENTION_H
#define FK_ATTENTION_H

#include "engine/step.h"

typedef struct fk_attention {
    size_t batch, tokens, heads, width; /* width of one head */
    size_t stride;                      /* of a row of scores, in f32 */
    size_t queries;                     /* rows of scores at a time */
    size_t windows, bias_heads;         /* of what is added to the scores */
} fk_attention;

/* Rows of n values, from element at on, `row` elements apart, to others; types may differ. */
void fk_copy_rows(fk_operand from, size_t at, size_t from_row, fk_operand to, size_t to_at,
                  size_t to_row, size_t rows, size_t n);
/* What is added to the scores of a head of an image, [tokens][tokens], or NULL. */
const float *fk_attention_bias(const fk_plan *p, const fk_step *s, const fk_attention *z,
                               size_t image, size_t head);

/* In bf16: its products (FERKD_UNSUPPORTED where there are none), the bytes of scratch a thread needs, and one head of one image
 * by thread t; false if a product failed. dbias: [tokens][tokens], added to, or NULL. */
FERKD_CHECK ferkd_status fk_attention_half_new(fk_plan *p, fk_step *s, const fk_attention *z);
size_t fk_attention_half_bytes(const fk_step *s, const fk_attention *z);
bool fk_attention_half_forward(const fk_plan *p, const fk_step *s, const fk_attention *z,
                               size_t task, size_t t, char *room);
bool fk_attention_half_backward(const fk_plan *p, const fk_step *s, const fk_attention *z,
                                size_t task, size_t t, char *room, float *dbias);

#endif
