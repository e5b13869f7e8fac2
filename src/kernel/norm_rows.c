/* BatchNorm where the channels of a pixel lie side by side: the loops of norm.c, pixel by pixel, so that memory is read in
 * its order. The sums of some channels are kept in float for some pixels, and then go to double. */
#include "kernel/lanes.h"

#define BLOCK   32  /* channel vectors whose sums are kept at hand */
#define CHUNK   256 /* pixels between two additions in double */
#define AT_ONCE 8   /* pixels a vector's constants are loaded for */
#define AHEAD   16  /* pixels from what is read to what is fetched */

typedef struct partial {
    fk_v first[BLOCK], second[BLOCK];
} partial;

static void clear(partial *s)
{
    for (size_t v = 0; v < BLOCK; v++)
        s->first[v] = s->second[v] = fk_v_of(0.0f);
}

/* The sums of the vectors from v0 on go to where they are wanted. */
static void flush(partial *s, const fk_norm_args *k, size_t v0, size_t n, double *first,
                  double *second)
{
    for (size_t v = 0; v < n; v++) {
        fk_v_add_to(first + (v0 + v) * k->sums_step, s->first[v]);
        fk_v_add_to(second + (v0 + v) * k->sums_step, s->second[v]);
    }
    clear(s);
}

/* All operands bf16, as a constant: the usual case. */
FK_INLINE fk_norm_args all_half(const fk_norm_args *args)
{
    fk_norm_args k = *args;

    k.y.half = k.residual.half = k.a.half = k.g.half = k.g2.half = k.dz.half = k.dy.half = true;
    return k;
}

static bool is_half(fk_operand o)
{
    return !o.data || o.half;
}

static bool forward_is_half(const fk_norm_args *k)
{
    return is_half(k->y) && is_half(k->residual) && is_half(k->a);
}

static bool backward_is_half(const fk_norm_args *k)
{
    return forward_is_half(k) && is_half(k->g) && is_half(k->g2) && is_half(k->dz) &&
           is_half(k->dy);
}

/* The operand from element i on, whose address is told from nothing else: GCC would keep one for each of the pixels that are done
 * together, more than there are registers. */
FK_INLINE fk_operand moved(fk_operand o, size_t i)
{
    o.data = (void *)((uintptr_t)o.data + i * (o.half ? sizeof(uint16_t) : sizeof(float)));
#if defined(__AVX2__)
    __asm__("" : "+r"(o.data));
#endif
    return o;
}

FK_INLINE fk_norm_args all_moved(const fk_norm_args *args, size_t i)
{
    fk_norm_args k = *args;

    k.y = moved(k.y, i), k.residual = moved(k.residual, i), k.a = moved(k.a, i);
    k.g = moved(k.g, i), k.g2 = moved(k.g2, i), k.dz = moved(k.dz, i), k.dy = moved(k.dy, i);
    return k;
}

/* --- forward --------------------------------------------------------------------------------- */

FK_INLINE void forward_of(const fk_norm_args *k, fk_post act, bool adds, size_t at, size_t n)
{
    for (size_t v = 0; v < k->at.vectors; v++) {
        fk_v mean = fk_v_at(k->mean + v * FK_LANES);
        fk_v scale = fk_v_at(k->scale + v * FK_LANES);
        fk_v shift = fk_v_at(k->shift + v * FK_LANES);
        fk_norm_args m = all_moved(k, at + v * FK_LANES);
        fk_norm_args next = all_moved(&m, AHEAD * k->at.pixel);
        for (size_t i = 0; i < n; i++) {
            size_t here = i * k->at.pixel;
            fk_v_fetch(next.y, here);
            fk_v_fetch(next.a, here);
            fk_v z = (fk_v_load(m.y, here) - mean) * scale + shift;
            if (adds) {
                fk_v_fetch(next.residual, here);
                z += fk_v_load(m.residual, here);
            }
            fk_v_store(m.a, here, fk_v_act(act, z));
        }
    }
}

FK_INLINE void forward_as(fk_norm_args k, fk_post act, bool adds)
{
    for (size_t n = 0; n < k.at.images; n++) {
        for (size_t i = 0; i < k.at.pixels; i += AT_ONCE) {
            size_t at = k.at.first + n * k.at.image + i * k.at.pixel;
            if (i + AT_ONCE <= k.at.pixels)
                forward_of(&k, act, adds, at, AT_ONCE);
            else
                forward_of(&k, act, adds, at, k.at.pixels - i);
        }
    }
}

FK_INLINE void forward_act(fk_post act, const fk_norm_args *k)
{
    if (!forward_is_half(k))
        forward_as(*k, act, k->residual.data != NULL);
    else if (k->residual.data)
        forward_as(all_half(k), act, true);
    else
        forward_as(all_half(k), act, false);
}

static void forward(const fk_norm_args *k)
{
    FK_BY_ACT(k->act, forward_act, k);
}

/* --- sums ------------------------------------------------------------------------------------ */

/* What is constant in a loop over rows. */
typedef struct way {
    fk_post act;
    bool two, from_output, stores, reads;
} way;

FK_INLINE fk_v dz_at(const fk_norm_args *k, way w, size_t at, fk_v d, fk_v scale, fk_v shift)
{
    return w.reads ? fk_v_load(k->dz, at)
                   : fk_v_dz(k, at, w.act, w.two, w.from_output, d, scale, shift);
}

FK_INLINE void sums_of(const fk_norm_args *k, way w, size_t at, size_t n, size_t v0, size_t vectors,
                       partial *s)
{
    for (size_t v = 0; v < vectors; v++) {
        fk_v mean = fk_v_at(k->mean + (v0 + v) * FK_LANES);
        fk_v scale = fk_v_at(k->scale + (v0 + v) * FK_LANES);
        fk_v shift = fk_v_at(k->shift + (v0 + v) * FK_LANES);
        fk_v first = s->first[v];
        fk_v second = s->second[v];
        for (size_t i = 0; i < n; i++) {
            size_t here = at + i * k->at.pixel + (v0 + v) * FK_LANES;
            fk_v_fetch(k->y, here + AHEAD * k->at.pixel);
            fk_v_fetch(w.reads ? k->dz : k->g, here + AHEAD * k->at.pixel);
            fk_v d = fk_v_load(k->y, here) - mean;
            fk_v dz = dz_at(k, w, here, d, scale, shift);
            if (w.stores)
                fk_v_store(k->dz, here, dz);
            first += dz;
            second += dz * d;
        }
        s->first[v] = first;
        s->second[v] = second;
    }
}

/* `n` pixels from element `at` on, vectors v0 to v0 + vectors. */
FK_INLINE void moments_of(const fk_norm_args *k, size_t at, size_t n, size_t v0, size_t vectors,
                          partial *s)
{
    for (size_t v = 0; v < vectors; v++) {
        fk_v mean = fk_v_at(k->mean + (v0 + v) * FK_LANES);
        fk_v first = s->first[v];
        fk_v second = s->second[v];
        fk_operand y = moved(k->y, at + (v0 + v) * FK_LANES);
        fk_operand next = moved(y, AHEAD * k->at.pixel);
        for (size_t i = 0; i < n; i++) {
            fk_v_fetch(next, i * k->at.pixel);
            fk_v d = fk_v_load(y, i * k->at.pixel) - mean;
            first += d;
            second += d * d;
        }
        s->first[v] = first;
        s->second[v] = second;
    }
}

/* Two sums a channel over all pixels: the moments of y, or those of its gradient. */
FK_INLINE void add_up(fk_norm_args k, bool of_gradient, way w, double *first, double *second)
{
    const fk_planes *p = &k.at;
    partial s;

    clear(&s);
    for (size_t v0 = 0; v0 < p->vectors; v0 += BLOCK) {
        size_t vectors = fk_min_size(BLOCK, p->vectors - v0);
        for (size_t n = 0; n < p->images; n++) {
            for (size_t i = 0; i < p->pixels; i += AT_ONCE) {
                size_t at = p->first + n * p->image + i * p->pixel;
                size_t count = fk_min_size(AT_ONCE, p->pixels - i);
                if (of_gradient && count == AT_ONCE)
                    sums_of(&k, w, at, AT_ONCE, v0, vectors, &s);
                else if (of_gradient)
                    sums_of(&k, w, at, count, v0, vectors, &s);
                else if (count == AT_ONCE)
                    moments_of(&k, at, AT_ONCE, v0, vectors, &s);
                else
                    moments_of(&k, at, count, v0, vectors, &s);
                if (i % CHUNK == CHUNK - AT_ONCE)
                    flush(&s, &k, v0, vectors, first, second);
            }
            flush(&s, &k, v0, vectors, first, second);
        }
    }
}

static void moments(const fk_norm_args *k, double *sum, double *squares)
{
    if (k->y.half)
        add_up(all_half(k), false, (way){0}, sum, squares);
    else
        add_up(*k, false, (way){0}, sum, squares);
}

FK_INLINE void sums_act(fk_post act, const fk_norm_args *k, double *sum, double *product)
{
    bool two = k->g2.data != NULL;
    bool stores = k->dz.data != NULL;
    bool from_output = k->residual.data != NULL;

    if (!backward_is_half(k))
        add_up(*k, true, (way){act, two, from_output, stores, false}, sum, product);
    else if (from_output && two)
        add_up(all_half(k), true, (way){act, true, true, stores, false}, sum, product);
    else if (from_output)
        add_up(all_half(k), true, (way){act, false, true, stores, false}, sum, product);
    else
        add_up(all_half(k), true, (way){act, two, false, stores, false}, sum, product);
}

static void sums(const fk_norm_args *k, double *sum, double *product)
{
    FK_BY_ACT(k->act, sums_act, k, sum, product);
}

/* --- backward -------------------------------------------------------------------------------- */

FK_INLINE void backward_of(const fk_norm_args *k, way w, size_t at, size_t n)
{
    for (size_t v = 0; v < k->at.vectors; v++) {
        fk_v mean = fk_v_at(k->mean + v * FK_LANES);
        fk_v scale = fk_v_at(k->scale + v * FK_LANES);
        fk_v shift = fk_v_at(k->shift + v * FK_LANES);
        fk_v to_dz = fk_v_at(k->to_dz + v * FK_LANES);
        fk_v to_y = fk_v_at(k->to_y + v * FK_LANES);
        fk_v to_1 = fk_v_at(k->to_1 + v * FK_LANES);
        fk_norm_args m = all_moved(k, at + v * FK_LANES);
        fk_norm_args next = all_moved(&m, AHEAD * k->at.pixel);
        for (size_t i = 0; i < n; i++) {
            size_t here = i * k->at.pixel;
            fk_v_fetch(next.y, here);
            fk_v_fetch(w.reads ? next.dz : next.g, here);
            fk_v d = fk_v_load(m.y, here) - mean;
            fk_v dz = dz_at(&m, w, here, d, scale, shift);
            fk_v_fetch(next.dy, here);
            fk_v_store(m.dy, here, dz * to_dz + (d * to_y + to_1));
        }
    }
}

FK_INLINE void backward_as(fk_norm_args k, way w)
{
    for (size_t n = 0; n < k.at.images; n++) {
        for (size_t i = 0; i < k.at.pixels; i += AT_ONCE) {
            size_t at = k.at.first + n * k.at.image + i * k.at.pixel;
            if (i + AT_ONCE <= k.at.pixels)
                backward_of(&k, w, at, AT_ONCE);
            else
                backward_of(&k, w, at, k.at.pixels - i);
        }
    }
}

FK_INLINE void backward_act(fk_post act, const fk_norm_args *k)
{
    bool two = k->g2.data != NULL;
    bool from_output = k->residual.data != NULL;

    if (!backward_is_half(k))
        backward_as(*k, (way){act, two, from_output, false, false});
    else
        backward_as(all_half(k), (way){act, two, from_output, false, false});
}

static void backward(const fk_norm_args *k)
{
    way stored = {.reads = true};

    if (!k->dz.data)
        FK_BY_ACT(k->act, backward_act, k);
    else if (backward_is_half(k))
        backward_as(all_half(k), stored);
    else
        backward_as(*k, stored);
}

extern const fk_norm_kernels FK_TABLE(fk_norm_rows);
const fk_norm_kernels FK_TABLE(fk_norm_rows) = {FK_LANES, moments, forward, sums,
                                                backward, NULL,    NULL};
