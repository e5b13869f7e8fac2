/* 1x1 convolutions in f32; see pointwise.h. Of 24 sums in registers six are of a pixel's vector each, and four of a channel's. */
#include "kernel/pointwise.h"

#include "kernel/words.h"

_Static_assert((int)FK_ABREAST == (int)FK_POINTWISE_BLOCK && FK_LANES == 16,
               "a block is what is multiplied at a time; turning rows around is written for 16");

/* --- weights --------------------------------------------------------------------------------- */

#ifdef __clang__
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (fk_vi){__VA_ARGS__})
#endif

/* Lanes of b that lie `by` before those of a change places with them. */
FK_INLINE void cross(fk_v *a, fk_v *b, int by)
{
    fk_v x = *a;
    fk_v y = *b;

    switch (by) {
    case 8:
        *a = PICK(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        *b = PICK(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
        break;
    case 4:
        *a = PICK(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        *b = PICK(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
        break;
    case 2:
        *a = PICK(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        *b = PICK(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
        break;
    default:
        *a = PICK(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        *b = PICK(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
}

/* 16 rows of 16: what was a row becomes a lane. */
FK_INLINE void turn(fk_v *rows)
{
#pragma GCC unroll 4
    for (int by = FK_LANES / 2; by; by /= 2)
#pragma GCC unroll 16
        for (int i = 0; i < FK_LANES; i++)
            if (!(i & by))
                cross(&rows[i], &rows[i | by], by);
}

/* Weights of 16 outputs from o on and 16 inputs from i on, a row an output; 0 where there are none. */
FK_INLINE void rows_of(const fk_pointwise_pack *k, size_t o, size_t i, fk_v *rows)
{
    bool whole = i + FK_LANES <= k->inputs;

    for (size_t r = 0; r < FK_LANES; r++) {
        const float *from = k->weights + (o + r) * k->inputs + i;
        rows[r] = (fk_v){0};
        if (o + r < k->outputs && whole)
            rows[r] = fk_v_at(from);
        else if (o + r < k->outputs)
            memcpy(&rows[r], from, (k->inputs - i) * sizeof *from);
    }
}

/* Where block `block` of what is made begins, from `read` vectors: those before it are full. */
FK_INLINE size_t block_at(size_t block, size_t read)
{
    return block * FK_ABREAST * read * FK_LANES * FK_LANES;
}

static void pack(const fk_pointwise_pack *k, size_t vector)
{
    size_t outputs = (k->outputs + FK_LANES - 1) / FK_LANES;
    size_t inputs = (k->inputs + FK_LANES - 1) / FK_LANES;
    size_t made = k->turned ? inputs : outputs;
    size_t read = k->turned ? outputs : inputs;
    size_t n = fk_words_vectors(made * FK_LANES, vector / FK_ABREAST);
    float *to = k->to + block_at(vector / FK_ABREAST, read) + vector % FK_ABREAST * FK_LANES;

    for (size_t v = 0; v < read; v++) {
        fk_v rows[FK_LANES];
        if (k->turned) {
            rows_of(k, v * FK_LANES, vector * FK_LANES, rows);
        } else {
            rows_of(k, vector * FK_LANES, v * FK_LANES, rows);
            turn(rows);
        }
        for (size_t r = 0; r < FK_LANES; r++)
            fk_v_put(to + (v * FK_LANES + r) * n * FK_LANES, rows[r]);
    }
}

/* --- products -------------------------------------------------------------------------------- */

/* Floats as words.h takes them. */
FK_INLINE const uint32_t *words(const float *p)
{
    return (const uint32_t *)p;
}

static void multiply(const fk_pointwise *k, const float *packed, size_t block)
{
    size_t n = fk_words_vectors(k->out * FK_LANES, block);

    for (size_t i = 0; i < k->images; i++)
        fk_words_apart(
            (fk_words_product){.a = words(k->x.data + i * k->x.image),
                               .a_row = FK_LANES,
                               .a_step = 1,
                               .depth = FK_LANES,
                               .groups = k->in,
                               .a_group = k->x.vector,
                               .b = words(packed + block_at(block, k->in)),
                               .b_group = FK_LANES * n * FK_LANES,
                               .b_step = n * FK_LANES,
                               .b_vector = FK_LANES,
                               .c = k->y.data + i * k->y.image + block * FK_ABREAST * k->y.vector,
                               .c_row = FK_LANES,
                               .c_vector = k->y.vector},
            k->pixels, n, false);
}

static void outer(const fk_pointwise *k, float *sums, bool add)
{
    size_t row = k->in * FK_LANES;

    for (size_t i = 0; i < k->in; i += FK_ABREAST)
        for (size_t o = 0; o < k->out; o++)
            fk_words_apart((fk_words_product){.a = words(k->y.data + o * k->y.vector),
                                              .a_row = 1,
                                              .a_step = FK_LANES,
                                              .depth = k->pixels,
                                              .groups = k->images,
                                              .a_group = k->y.image,
                                              .b = words(k->x.data + i * k->x.vector),
                                              .b_group = k->x.image,
                                              .b_step = FK_LANES,
                                              .b_vector = k->x.vector,
                                              .c = sums + o * FK_LANES * row + i * FK_LANES,
                                              .c_row = row,
                                              .c_vector = FK_LANES,
                                              .add = add},
                           FK_LANES, fk_words_vectors(row, i / FK_ABREAST), false);
}

const fk_pointwise_kernels FK_TABLE(fk_pointwise) = {FK_LANES, pack, multiply, outer};
