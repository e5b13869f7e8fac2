/* Quantise, count classes, choose the shorter codes, write. */
#include "base/compat.h"

#include "label/packer.h"

#include "base/mem.h"

/* A class of the image's palette. */
typedef struct paint {
    uint32_t class, uses;
} paint;

struct fk_packer {
    fk_codec c;
    uint32_t regions;        /* added so far */
    uint16_t *class, *steps; /* [regions][topk] */
    uint16_t *count;         /* [regions]: of steps that are not 0 */
    uint16_t *inside, *most; /* [regions] */
    bool *most_is_first;     /* [regions] */
    ferkd_region *region;    /* [regions]: of stores with boxes */
    uint32_t *uses, *rank;   /* [classes] */
    paint *palette;          /* [classes] */
    uint32_t n_palette;
    uint16_t *top; /* [topk], and with them: of the region at hand */
    float *top_probs, *rounding;
    uint8_t *block;
    uint32_t used; /* bytes of it that the last image wrote */
};

ferkd_status fk_packer_new(fk_packer **out, const fk_codec *c)
{
    fk_packer *p = NULL;
    ferkd_status st = FERKD_OK;
    size_t all;

    TRY(fk_size_mul(&all, c->regions, c->topk));
    TRY(fk_calloc(&p, 1, sizeof *p, "labels"));
    p->c = *c;
    TRY_DONE(fk_calloc(&p->class, all, sizeof *p->class, "labels"));
    TRY_DONE(fk_calloc(&p->steps, all, sizeof *p->steps, "labels"));
    TRY_DONE(fk_calloc(&p->count, c->regions, sizeof *p->count, "labels"));
    TRY_DONE(fk_calloc(&p->inside, c->regions, sizeof *p->inside, "labels"));
    TRY_DONE(fk_calloc(&p->most, c->regions, sizeof *p->most, "labels"));
    TRY_DONE(fk_calloc(&p->most_is_first, c->regions, sizeof *p->most_is_first, "labels"));
    TRY_DONE(fk_calloc(&p->region, c->regions, sizeof *p->region, "labels"));
    TRY_DONE(fk_calloc(&p->uses, c->classes, sizeof *p->uses, "labels"));
    TRY_DONE(fk_calloc(&p->rank, c->classes, sizeof *p->rank, "labels"));
    TRY_DONE(fk_calloc(&p->palette, c->classes, sizeof *p->palette, "labels"));
    TRY_DONE(fk_calloc(&p->top, c->topk, sizeof *p->top, "labels"));
    TRY_DONE(fk_calloc(&p->top_probs, c->topk, sizeof *p->top_probs, "labels"));
    TRY_DONE(fk_calloc(&p->rounding, c->topk, sizeof *p->rounding, "labels"));
    TRY_DONE(fk_calloc(&p->block, (size_t)fk_codec_most(c), 1, "labels"));
    *out = p;
    p = NULL;
done:
    fk_packer_free(&p);
    return st;
}

void fk_packer_free(fk_packer **packer)
{
    fk_packer *p = *packer;

    if (!p)
        return;
    free(p->class);
    free(p->steps);
    free(p->count);
    free(p->inside);
    free(p->most);
    free(p->most_is_first);
    free(p->region);
    free(p->uses);
    free(p->rank);
    free(p->palette);
    free(p->top);
    free(p->top_probs);
    free(p->rounding);
    free(p->block);
    free(p);
    *packer = NULL;
}

/* --- quantising -------------------------------------------------------------------------------- */

/* The top k classes, most probable first, ties by class number. */
static void choose(const fk_codec *c, const float *probs, uint16_t *class)
{
    float last = INFINITY;
    uint32_t last_class = 0;

    for (uint32_t k = 0; k < c->topk; k++) {
        uint32_t best = c->classes;
        for (uint32_t i = 0; i < c->classes; i++) {
            bool after = probs[i] < last || (probs[i] == last && i > last_class);
            if (after && (best == c->classes || probs[i] > probs[best]))
                best = i;
        }
        assert(best < c->classes); /* probs are finite: the verdict's maker checked */
        class[k] = (uint16_t)best;
        last = probs[best];
        last_class = best;
    }
}

/* Round; where the sum then exceeds 1, those that were rounded up by the most come down by one. */
static void quantise(fk_packer *p, const float *probs, uint16_t *steps)
{
    uint32_t sum = 0;

    for (uint32_t k = 0; k < p->c.topk; k++) {
        double v = (double)probs[k] * p->c.steps;
        uint32_t q = (uint32_t)rint(fmin(fmax(v, 0.0), p->c.steps));
        steps[k] = (uint16_t)(k == 0 && q == 0 ? 1 : q); /* the first class is always known */
        p->rounding[k] = (float)(steps[k] - v);
        sum += steps[k];
    }
    for (; sum > p->c.steps; sum--) {
        uint32_t worst = 0;
        for (uint32_t k = 1; k < p->c.topk; k++)
            worst = p->rounding[k] > p->rounding[worst] ? k : worst;
        steps[worst]--;
        p->rounding[worst] -= 1.0f;
    }
    for (uint32_t k = 1; k < p->c.topk;
         k++) /* coming down may have disturbed the order by a step */
        steps[k] = steps[k] > steps[k - 1] ? steps[k - 1] : steps[k];
}

void fk_packer_add_top(fk_packer *p, const uint16_t *class, const float *probs, float inside,
                       float teacher_max)
{
    uint32_t r = p->regions++;
    uint16_t *steps = p->steps + (size_t)r * p->c.topk;
    uint32_t n = 0;

    assert(r < p->c.regions);
    memcpy(p->class + (size_t)r * p->c.topk, class, p->c.topk * sizeof *class);
    quantise(p, probs, steps);
    while (n < p->c.topk && steps[n])
        n++;
    p->count[r] = (uint16_t)n;
    for (uint32_t k = 0; k < n; k++) {
        if (p->uses[class[k]]++ == 0)
            p->palette[p->n_palette++].class = class[k];
    }
    if (!p->c.outside)
        return;
    p->inside[r] = (uint16_t)fk_mass_quantise(inside);
    p->most[r] = (uint16_t)fk_mass_quantise(teacher_max);
    float of = p->c.all ? 1.0f : fk_mass_restore(p->inside[r]);
    float first = of * (float)steps[0] / (float)p->c.steps;
    p->most_is_first[r] = fabsf(first - teacher_max) < 1.0f / 1024.0f;
}

void fk_label_insert(uint16_t *class, float *prob, uint32_t n, uint16_t more, float p)
{
    uint32_t at = n;

    for (; at > 0 && prob[at - 1] < p; at--) {
        prob[at] = prob[at - 1];
        class[at] = class[at - 1];
    }
    prob[at] = p;
    class[at] = more;
}

void fk_packer_region(fk_packer *p, const ferkd_region *region)
{
    assert(p->regions < p->c.regions);
    p->region[p->regions] = *region;
}

void fk_packer_add(fk_packer *p, const fk_verdict *v)
{
    choose(&p->c, v->probs, p->top);
    for (uint32_t k = 0; k < p->c.topk; k++)
        p->top_probs[k] = v->probs[p->top[k]];
    fk_packer_add_top(p, p->top, p->top_probs, v->inside, v->teacher_max);
}

/* --- packing ----------------------------------------------------------------------------------- */

static int by_uses(const void *a, const void *b)
{
    const paint *x = a;
    const paint *y = b;

    if (x->uses != y->uses)
        return x->uses > y->uses ? -1 : 1;
    return x->class < y->class ? -1 : x->class > y->class;
}

static void rank_palette(fk_packer *p)
{
    for (uint32_t i = 0; i < p->n_palette; i++)
        p->palette[i].uses = p->uses[p->palette[i].class];
    qsort(p->palette, p->n_palette, sizeof *p->palette, by_uses);
    for (uint32_t i = 0; i < p->n_palette; i++)
        p->rank[p->palette[i].class] = i;
}

/* The Rice parameter with which the ranks of first (or other) classes take the fewest bits. */
static uint32_t choose_rice(const fk_packer *p, bool first)
{
    uint64_t fewest = UINT64_MAX;
    uint32_t best = 0;

    for (uint32_t rice = 0; rice < 16; rice++) {
        uint64_t bits = 0;
        if (p->n_palette && (p->n_palette - 1) >> rice > FK_MAX_HIGH)
            continue;
        for (uint32_t r = 0; r < p->regions; r++) {
            const uint16_t *class = p->class + (size_t)r * p->c.topk;
            for (uint32_t k = first ? 0 : 1; k < (first ? 1u : p->count[r]); k++)
                bits += (p->rank[class[k]] >> rice) + 1 + rice;
        }
        if (bits < fewest) {
            fewest = bits;
            best = rice;
        }
    }
    return best;
}

static void put_first(fk_bit_writer *w, const fk_codec *c, uint32_t q)
{
    uint32_t near_bits = c->prob_bits - FK_NEAR_BITS;
    bool near = c->steps - q < 1u << near_bits;

    fk_bits_put(w, near, 1);
    fk_bits_put(w, near ? c->steps - q : q, near ? near_bits : c->prob_bits);
}

static void put_label(const fk_packer *p, fk_bit_writer *w, uint32_t r, const uint32_t rice[2])
{
    const uint16_t *class = p->class + (size_t)r * p->c.topk;
    const uint16_t *steps = p->steps + (size_t)r * p->c.topk;
    uint32_t last = p->c.steps;
    uint32_t left = p->c.steps;

    if (p->c.boxes) {
        const ferkd_region *at = &p->region[r];
        fk_bits_put(w, at->box.top, FK_SIDE_BITS);
        fk_bits_put(w, at->box.left, FK_SIDE_BITS);
        fk_bits_put(w, at->box.height, FK_SIDE_BITS);
        fk_bits_put(w, at->box.width, FK_SIDE_BITS);
        fk_bits_put(w, at->flip, 1);
    }
    if (p->c.outside) {
        fk_bits_put(w, p->inside[r], FK_MASS_BITS);
        fk_bits_put(w, p->most_is_first[r], 1);
        fk_bits_put(w, p->most[r], p->most_is_first[r] ? 0 : FK_MASS_BITS);
    }
    for (uint32_t k = 0; k < p->c.topk; k++) {
        uint32_t bound = last < left ? last : left;
        uint32_t code = rice[k > 0];
        if (bound == 0)
            return;
        if (k == 0)
            put_first(w, &p->c, steps[0]);
        else
            fk_bits_put(w, steps[k], fk_bits_for(bound));
        if (steps[k] == 0)
            return;
        uint32_t rank = p->rank[class[k]];
        fk_bits_put(w, 1u << (rank >> code), (rank >> code) + 1);
        fk_bits_put(w, rank & ((1u << code) - 1), code);
        last = steps[k];
        left -= steps[k];
    }
}

static uint64_t put_labels(fk_packer *p)
{
    fk_bit_writer w = {p->block + FK_AT_BITS, 0};
    uint32_t rice[2];

    rank_palette(p);
    rice[0] = choose_rice(p, true);
    rice[1] = choose_rice(p, false);
    p->block[FK_AT_RICE] = (uint8_t)(rice[0] | rice[1] << 4);
    fk_bits_put(&w, p->n_palette, 16);
    for (uint32_t i = 0; i < p->n_palette; i++)
        fk_bits_put(&w, p->palette[i].class, p->c.index_bits);
    for (uint32_t r = 0; r < p->regions; r++)
        put_label(p, &w, r, rice);
    return (w.at + 7) / 8;
}

void fk_packer_seal(fk_packer *p, uint32_t image, fk_block_status status, uint32_t truth,
                    const uint8_t **block, uint32_t *n)
{
    memset(p->block, 0, p->used);
    *n = FK_BLOCK_MIN;
    if (status == FK_BLOCK_LABELLED)
        *n = (uint32_t)(FK_AT_BITS + put_labels(p) + 4);
    fk_put_u32(p->block + FK_AT_LENGTH, *n);
    p->block[FK_AT_STATUS] = (uint8_t)status;
    fk_put_u16(p->block + FK_AT_TRUTH, truth);
    fk_put_u32(p->block + *n - 4, fk_codec_sum(p->block, *n, image));
    *block = p->block;
    p->used = *n;
    for (uint32_t i = 0; i < p->n_palette; i++)
        p->uses[p->palette[i].class] = 0;
    p->n_palette = 0;
    p->regions = 0;
}
