/* Packing a region's top-k: class indices of just enough bits, probabilities of 12 bits. */
#include "base/compat.h"

#include "label/codec.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define HEAD_BYTES 3 /* status u8, ground truth u16 */
#define SUM_BYTES  4

static uint32_t bits_for(uint32_t n)
{
    uint32_t bits = 1;

    while (bits < 16 && (1u << bits) < n)
        bits++;
    return bits;
}

ferkd_status fk_codec_init(fk_codec *c, uint32_t regions, uint32_t topk, uint32_t classes,
                           bool outside)
{
    if (classes < 2 || classes > FK_MAX_CLASSES || regions < 1 || regions > FK_MAX_REGIONS ||
        topk < 1 || topk > classes || topk > FK_MAX_TOPK)
        return fk_fail(FERKD_LIMIT, "a store of %u regions, top %u of %u classes", regions, topk,
                       classes);
    *c = (fk_codec){.regions = regions, .topk = topk, .classes = classes, .outside = outside};
    c->index_bits = bits_for(classes);
    c->region_bits = topk * (c->index_bits + FK_PROB_BITS) + (outside ? 2 * FK_MASS_BITS : 0);
    uint64_t bits = (uint64_t)c->region_bits * regions;
    if (bits > (1ull << 33))
        return fk_fail(FERKD_LIMIT, "%u regions of top %u make a block of over 1 GiB", regions,
                       topk);
    c->block_bytes = HEAD_BYTES + (uint32_t)((bits + 7) / 8) + SUM_BYTES;
    return FERKD_OK;
}

/* Numbers are laid down low bit first, from the low bit of each byte up. */
static void put_bits(uint8_t *p, uint64_t at, uint32_t n, uint32_t v)
{
    for (uint32_t i = 0; i < n; i++, at++)
        p[at >> 3] |= (uint8_t)((v >> i & 1u) << (at & 7));
}

static uint32_t get_bits(const uint8_t *p, uint64_t at, uint32_t n)
{
    uint32_t shift = at & 7;
    uint32_t word = 0;

    p += at >> 3;
    for (uint32_t have = 0; have < shift + n; have += 8) /* at most 16 + 7 bits: three bytes */
        word |= (uint32_t)*p++ << have;
    return word >> shift & ((1u << n) - 1);
}

static uint32_t quantise(float p, uint32_t bits)
{
    double top = (double)((1u << bits) - 1);
    double v = rint((double)p * top);

    return (uint32_t)(v < 0 ? 0 : v > top ? top : v);
}

static float restore(uint32_t q, uint32_t bits)
{
    return (float)((double)q / (double)((1u << bits) - 1));
}

void fk_codec_put(const fk_codec *c, uint8_t *block, uint32_t region, const fk_verdict *v)
{
    uint8_t *p = block + HEAD_BYTES;
    uint64_t at = (uint64_t)region * c->region_bits;
    float last = INFINITY;
    uint32_t last_index = 0;

    for (uint32_t k = 0; k < c->topk; k++) {
        uint32_t best = c->classes; /* the largest after (last, last_index); ties by class number */
        for (uint32_t i = 0; i < c->classes; i++) {
            bool after = v->probs[i] < last || (v->probs[i] == last && i > last_index);
            if (after && (best == c->classes || v->probs[i] > v->probs[best]))
                best = i;
        }
        assert(best < c->classes); /* probs are finite: fk_verdict's maker checked */
        put_bits(p, at, c->index_bits, best);
        put_bits(p, at + c->index_bits, FK_PROB_BITS, quantise(v->probs[best], FK_PROB_BITS));
        at += c->index_bits + FK_PROB_BITS;
        last = v->probs[best];
        last_index = best;
    }
    if (c->outside) {
        put_bits(p, at, FK_MASS_BITS, quantise(v->inside, FK_MASS_BITS));
        put_bits(p, at + FK_MASS_BITS, FK_MASS_BITS, quantise(v->teacher_max, FK_MASS_BITS));
    }
}

void fk_codec_get(const fk_codec *c, const uint8_t *block, uint32_t region, ferkd_label_room room,
                  ferkd_soft_label *out)
{
    const uint8_t *p = block + HEAD_BYTES;
    uint64_t at = (uint64_t)region * c->region_bits;
    double sum = 0.0;

    for (uint32_t k = 0; k < c->topk; k++) {
        uint32_t index = get_bits(p, at, c->index_bits);
        room.index[k] = (uint16_t)(index < c->classes ? index : c->classes - 1);
        room.prob[k] = restore(get_bits(p, at + c->index_bits, FK_PROB_BITS), FK_PROB_BITS);
        at += c->index_bits + FK_PROB_BITS;
        sum += (double)room.prob[k];
    }
    if (sum > 0.0 && (sum > 1.0 || c->topk == c->classes)) { /* rounding must not leave a debt */
        for (uint32_t k = 0; k < c->topk; k++)
            room.prob[k] = (float)((double)room.prob[k] / sum);
        sum = 1.0;
    }
    *out = (ferkd_soft_label){.k = c->topk,
                              .index = room.index,
                              .prob = room.prob,
                              .rest = (float)(1.0 - sum),
                              .inside = 1.0f,
                              .teacher_max = room.prob[0]};
    if (c->outside) {
        out->inside = restore(get_bits(p, at, FK_MASS_BITS), FK_MASS_BITS);
        out->teacher_max = restore(get_bits(p, at + FK_MASS_BITS, FK_MASS_BITS), FK_MASS_BITS);
    }
}

static uint32_t checksum(const fk_codec *c, const uint8_t *block, uint32_t image)
{
    return (uint32_t)fk_hash64(block, c->block_bytes - SUM_BYTES, image);
}

void fk_codec_seal(const fk_codec *c, uint8_t *block, uint32_t image, fk_block_status status,
                   uint32_t truth)
{
    block[0] = (uint8_t)status;
    fk_put_u16(block + 1, truth);
    fk_put_u32(block + c->block_bytes - SUM_BYTES, checksum(c, block, image));
}

bool fk_codec_check(const fk_codec *c, const uint8_t *block, uint32_t image)
{
    return (block[0] == FK_BLOCK_LABELLED || block[0] == FK_BLOCK_SKIPPED) &&
           fk_u32le(block + c->block_bytes - SUM_BYTES) == checksum(c, block, image);
}

uint32_t fk_codec_truth(const uint8_t *block)
{
    return fk_u16le(block + 1);
}
