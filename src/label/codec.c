/* Unpacking labels. Each probability is bounded by the one before it and by what is left of 1, so it takes no more
 * bits than that bound; classes are ranks in the image's palette, Rice-coded. */
#include "base/compat.h"

#include "label/codec.h"

#include "base/file.h"
#include "base/limits.h"

#define SUM_BYTES 4

ferkd_status fk_codec_init(fk_codec *c, uint32_t regions, uint32_t topk, uint32_t classes,
                           uint32_t prob_bits, bool outside, bool boxes)
{
    if (classes < 2 || classes > FK_MAX_CLASSES || regions < 1 || regions > FK_MAX_REGIONS ||
        topk < 1 || topk > classes || topk > FK_MAX_TOPK)
        return fk_fail(FERKD_LIMIT, "a store of %u regions, top %u of %u classes", regions, topk,
                       classes);
    if (prob_bits == 0) /* topk errors of half a step, and the rest's, sum to topk / steps */
        prob_bits = classes <= 64 ? 12 : (uint32_t)fmax(8.0, ceil(log2(50.0 * topk + 1.0)));
    if (prob_bits < 8 || prob_bits > 16)
        return fk_fail(FERKD_LIMIT, "probabilities of %u bits; 8 to 16 are possible", prob_bits);
    *c = (fk_codec){.regions = regions,
                    .topk = topk,
                    .classes = classes,
                    .index_bits = fk_bits_for(classes - 1),
                    .prob_bits = prob_bits,
                    .steps = (1u << prob_bits) - 1,
                    .outside = outside,
                    .boxes = boxes};
    if (fk_codec_most(c) > 1u << 30)
        return fk_fail(FERKD_LIMIT, "%u regions of top %u make a block of over 1 GiB", regions,
                       topk);
    return FERKD_OK;
}

ferkd_status fk_codec_of(fk_codec *c, const ferkd_store_info *info)
{
    uint32_t over = info->label_classes ? info->label_classes : info->classes;

    if (over != info->classes && over != info->teacher_classes)
        return fk_fail(FERKD_LIMIT, "labels over %u classes; the data set has %u, the teacher %u",
                       over, info->classes, info->teacher_classes);
    TRY(fk_codec_init(c, info->regions, info->topk, over, info->prob_bits,
                      info->teacher_classes != info->classes, info->has_boxes));
    c->all = over > info->classes;
    return FERKD_OK;
}

uint64_t fk_codec_most(const fk_codec *c)
{
    uint64_t palette = (uint64_t)c->regions * c->topk;
    uint64_t each =
        4 * FK_SIDE_BITS + 1 + 2 * FK_MASS_BITS + 2 + (uint64_t)c->topk * (c->prob_bits + 40);

    palette = palette < c->classes ? palette : c->classes;
    return FK_AT_BITS + SUM_BYTES + FK_READ_PAST +
           (16 + palette * c->index_bits + c->regions * each + 7) / 8;
}

float fk_mass_restore(uint32_t q)
{
    float t = (float)q / (float)((1u << FK_MASS_BITS) - 1);

    return t * t * (3.0f - 2.0f * t);
}

uint32_t fk_mass_quantise(float v)
{
    double t = 0.5 - sin(asin(1.0 - 2.0 * fmin(fmax((double)v, 0.0), 1.0)) / 3.0);

    return (uint32_t)rint(t * ((1u << FK_MASS_BITS) - 1));
}

uint32_t fk_codec_sum(const uint8_t *block, uint32_t n, uint32_t image)
{
    return (uint32_t)fk_hash64(block, n - SUM_BYTES, image);
}

bool fk_codec_check(const fk_codec *c, const uint8_t *block, uint64_t room, uint32_t image,
                    uint32_t *n)
{
    if (room < FK_BLOCK_MIN)
        return false;
    *n = fk_u32le(block + FK_AT_LENGTH);
    if (*n < FK_BLOCK_MIN || *n > room || *n > fk_codec_most(c))
        return false;
    if (block[FK_AT_STATUS] == FK_BLOCK_LABELLED ? *n < FK_AT_BITS + 2 + SUM_BYTES
                                                 : block[FK_AT_STATUS] != FK_BLOCK_SKIPPED)
        return false;
    return fk_u32le(block + *n - SUM_BYTES) == fk_codec_sum(block, *n, image);
}

uint32_t fk_codec_truth(const uint8_t *block)
{
    return fk_u16le(block + FK_AT_TRUTH);
}

/* --- labels ------------------------------------------------------------------------------------ */

/* What the labels of an image share. */
typedef struct palette {
    const uint8_t *bits;
    uint32_t n, index_bits, classes;
    uint32_t rice[2];
} palette;

static uint16_t class_of(const palette *p, uint32_t rank)
{
    uint32_t word;
    uint64_t at = (uint64_t)(rank < p->n ? rank : p->n - 1) * p->index_bits;

    memcpy(&word, p->bits + (at >> 3), sizeof word); /* at most 7 + 16 bits */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    word = word >> (at & 7) & ((1u << p->index_bits) - 1);
    return (uint16_t)(word < p->classes ? word : p->classes - 1);
}

static inline uint32_t take_rank(fk_bit_reader *r, uint32_t rice)
{
    uint32_t high = (uint32_t)__builtin_ctzll(r->bits | 1ull << FK_MAX_HIGH);

    (void)fk_bits_take(r, high + 1);
    return high << rice | fk_bits_take(r, rice);
}

static inline uint32_t take_first(fk_bit_reader *r, const fk_codec *c)
{
    uint32_t near = fk_bits_take(r, 1); /* either is as likely: no branch */
    uint32_t q = fk_bits_take(r, c->prob_bits - near * FK_NEAR_BITS);

    return near ? c->steps - q : q;
}

/* The probabilities and classes; gives their number. *sum: of the steps. */
static uint32_t take_top(fk_bit_reader *r, const fk_codec *c, const palette *p,
                         ferkd_label_room room, uint32_t *sum)
{
    const float scale = 1.0f / (float)c->steps;
    uint32_t last = c->steps;
    uint32_t left = c->steps;
    uint32_t k = 0;

    for (; k < c->topk; k++) {
        uint32_t bound = last < left ? last : left;
        if (bound == 0)
            break;
        fk_bits_fill(r);
        uint32_t q = k ? fk_bits_take(r, fk_bits_for(bound)) : take_first(r, c);
        q = q < bound ? q : bound;
        if (q == 0)
            break;
        room.index[k] = class_of(p, take_rank(r, p->rice[k > 0]));
        room.prob[k] = (float)q * scale;
        last = q;
        left -= q;
    }
    *sum = c->steps - left;
    return k;
}

static ferkd_region take_region(fk_bit_reader *r)
{
    ferkd_region region;

    fk_bits_fill(r);
    region.box.top = fk_bits_take(r, FK_SIDE_BITS);
    region.box.left = fk_bits_take(r, FK_SIDE_BITS);
    fk_bits_fill(r);
    region.box.height = fk_bits_take(r, FK_SIDE_BITS);
    region.box.width = fk_bits_take(r, FK_SIDE_BITS);
    region.flip = fk_bits_take(r, 1);
    return region;
}

static void take_label(fk_bit_reader *r, const fk_codec *c, const palette *p, ferkd_label_room room,
                       ferkd_soft_label *out)
{
    float inside = 1.0f;
    float most = -1.0f; /* the first class's */
    uint32_t sum = 0;
    ferkd_region region = {0};

    if (c->boxes)
        region = take_region(r);
    if (c->outside) {
        fk_bits_fill(r);
        inside = fk_mass_restore(fk_bits_take(r, FK_MASS_BITS));
        if (!fk_bits_take(r, 1))
            most = fk_mass_restore(fk_bits_take(r, FK_MASS_BITS));
    }
    uint32_t k = take_top(r, c, p, room, &sum);
    if (k == 0) { /* only in a block that no packer wrote */
        room.index[0] = class_of(p, 0);
        room.prob[0] = 1.0f;
        sum = c->steps;
        k = 1;
    }
    if (c->topk == c->classes && sum < c->steps) { /* rounding must not leave a debt */
        for (uint32_t i = 0; i < k; i++)
            room.prob[i] *= (float)c->steps / (float)sum;
        sum = c->steps;
    }
    *out = (ferkd_soft_label){.k = k,
                              .index = room.index,
                              .prob = room.prob,
                              .rest = (float)(c->steps - sum) / (float)c->steps,
                              .inside = inside,
                              .region = region,
                              .teacher_max = most >= 0.0f ? most
                                             : c->all     ? room.prob[0]
                                                          : inside * room.prob[0]};
}

void fk_codec_labels(const fk_codec *c, const uint8_t *block, uint32_t n, const uint8_t *limit,
                     ferkd_label_room room, bool each, ferkd_soft_label *out)
{
    palette p = {.bits = block + FK_AT_BITS + 2,
                 .n = fk_u16le(block + FK_AT_BITS),
                 .index_bits = c->index_bits,
                 .classes = c->classes,
                 .rice = {block[FK_AT_RICE] & 15u, block[FK_AT_RICE] >> 4}};
    uint64_t room_bits = (uint64_t)(limit - p.bits) * 8;

    if ((uint64_t)p.n * p.index_bits > room_bits || p.n == 0)
        p.n = 1;
    fk_bit_reader r = fk_bits_at(p.bits, (uint64_t)p.n * p.index_bits, limit);
    for (uint32_t i = 0; i < n; i++) {
        take_label(&r, c, &p, room, &out[each ? i : 0]);
        room.index += each ? c->topk : 0;
        room.prob += each ? c->topk : 0;
    }
}
