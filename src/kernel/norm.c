/* BatchNorm over one channel vector: moments, forward, the two sums of its gradient, backward. The
 * normalised values are never stored: backward works them out from the input. */
#include "kernel/lanes.h"

#define CHUNK 512 /* pixels summed in float before they go to double */

/* --- moments --------------------------------------------------------------------------------- */

FK_INLINE void moments_of(fk_operand y, size_t at, size_t n, size_t step, fk_v mean, double *sum,
                          double *squares)
{
    fk_v s[4] = {{0}};
    fk_v q[4] = {{0}};
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            fk_v d = fk_v_load(y, at + (i + k) * step) - mean;
            s[k] += d;
            q[k] += d * d;
        }
    }
    for (; i < n; i++) {
        fk_v d = fk_v_load(y, at + i * step) - mean;
        s[0] += d;
        q[0] += d * d;
    }
    fk_v_add_to(sum, (s[0] + s[1]) + (s[2] + s[3]));
    fk_v_add_to(squares, (q[0] + q[1]) + (q[2] + q[3]));
}

static void moments(const fk_norm_args *k, double *sum, double *squares)
{
    const fk_planes *p = &k->at;
    fk_v mean = fk_v_at(k->mean);

    for (size_t n = 0; n < p->images; n++) {
        for (size_t i = 0; i < p->pixels; i += CHUNK) {
            size_t count = fk_min_size(CHUNK, p->pixels - i);
            size_t at = p->first + n * p->image + i * p->pixel;
            if (k->y.half)
                moments_of((fk_operand){k->y.data, true}, at, count, p->pixel, mean, sum, squares);
            else
                moments_of((fk_operand){k->y.data, false}, at, count, p->pixel, mean, sum, squares);
        }
    }
}

/* --- forward --------------------------------------------------------------------------------- */

FK_INLINE void forward_as(const fk_norm_args *args, fk_post act, bool adds)
{
    const fk_norm_args k = *args; /* a copy: no store can change it, so it stays in registers */
    fk_v mean = fk_v_at(k.mean);
    fk_v scale = fk_v_at(k.scale);
    fk_v shift = fk_v_at(k.shift);

    for (size_t n = 0; n < k.at.images; n++) {
        size_t at = k.at.first + n * k.at.image;
        for (size_t i = 0; i < k.at.pixels; i++, at += k.at.pixel) {
            fk_v z = (fk_v_load(k.y, at) - mean) * scale + shift;
            if (adds)
                z += fk_v_load(k.residual, at);
            fk_v_store(k.a, at, fk_v_act(act, z));
        }
    }
}

FK_INLINE void forward_act(fk_post act, const fk_norm_args *k)
{
    if (k->residual.data)
        forward_as(k, act, true);
    else
        forward_as(k, act, false);
}

static void forward(const fk_norm_args *k)
{
    FK_BY_ACT(k->act, forward_act, k);
}

/* --- backward -------------------------------------------------------------------------------- */

FK_INLINE void sums_as(const fk_norm_args *args, fk_post act, bool two, bool from_output,
                       double *sum, double *product)
{
    const fk_norm_args k = *args;
    const fk_planes *p = &k.at;
    fk_v mean = fk_v_at(k.mean);
    fk_v scale = fk_v_at(k.scale);
    fk_v shift = fk_v_at(k.shift);

    for (size_t n = 0; n < p->images; n++) {
        for (size_t i = 0; i < p->pixels; i += CHUNK) {
            size_t count = fk_min_size(CHUNK, p->pixels - i);
            size_t at = p->first + n * p->image + i * p->pixel;
            fk_v s[2] = {{0}};
            fk_v q[2] = {{0}};
            for (size_t c = 0; c < count; c++, at += p->pixel) {
                fk_v d = fk_v_load(k.y, at) - mean;
                fk_v dz = fk_v_dz(&k, at, act, two, from_output, d, scale, shift);
                if (k.dz.data)
                    fk_v_store(k.dz, at, dz);
                s[c & 1] += dz;
                q[c & 1] += dz * d;
            }
            fk_v_add_to(sum, s[0] + s[1]);
            fk_v_add_to(product, q[0] + q[1]);
        }
    }
}

FK_INLINE void sums_act(fk_post act, const fk_norm_args *k, double *sum, double *product)
{
    bool from_output = k->residual.data != NULL;

    if (k->g2.data)
        sums_as(k, act, true, from_output, sum, product);
    else if (from_output)
        sums_as(k, act, false, true, sum, product);
    else
        sums_as(k, act, false, false, sum, product);
}

static void sums(const fk_norm_args *k, double *sum, double *product)
{
    FK_BY_ACT(k->act, sums_act, k, sum, product);
}

FK_INLINE void backward_as(const fk_norm_args *args, fk_post act, bool stored, bool two,
                           bool from_output)
{
    const fk_norm_args k = *args;
    const fk_planes *p = &k.at;
    fk_v mean = fk_v_at(k.mean);
    fk_v scale = fk_v_at(k.scale);
    fk_v shift = fk_v_at(k.shift);
    fk_v to_dz = fk_v_at(k.to_dz);
    fk_v to_y = fk_v_at(k.to_y);
    fk_v to_1 = fk_v_at(k.to_1);

    for (size_t n = 0; n < p->images; n++) {
        size_t at = p->first + n * p->image;
        for (size_t i = 0; i < p->pixels; i++, at += p->pixel) {
            fk_v d = fk_v_load(k.y, at) - mean;
            fk_v dz = stored ? fk_v_load(k.dz, at)
                             : fk_v_dz(&k, at, act, two, from_output, d, scale, shift);
            fk_v_store(k.dy, at, dz * to_dz + (d * to_y + to_1));
        }
    }
}

FK_INLINE void backward_act(fk_post act, const fk_norm_args *k)
{
    bool from_output = k->residual.data != NULL;

    if (k->g2.data)
        backward_as(k, act, false, true, from_output);
    else if (from_output)
        backward_as(k, act, false, false, true);
    else
        backward_as(k, act, false, false, false);
}

static void backward(const fk_norm_args *k)
{
    if (k->dz.data)
        backward_as(k, (fk_post){0}, true, false, false);
    else
        FK_BY_ACT(k->act, backward_act, k);
}

static void add(fk_operand dst, fk_operand a, fk_operand b, size_t n)
{
    for (size_t i = 0; i < n; i += FK_LANES) {
        fk_v v = fk_v_load(a, i);
        fk_v_store(dst, i, b.data ? v + fk_v_load(b, i) : v);
    }
}

extern const fk_norm_kernels FK_TABLE(fk_norm_rows);

const fk_norm_kernels FK_TABLE(fk_norm) = {
    FK_LANES, moments, forward, sums, backward, add, &FK_TABLE(fk_norm_rows)};
