/* Where each buffer lies: large ones first, each at the lowest place that no buffer alive at the same
 * time takes. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"

#define ALIGN 64

typedef struct placed {
    fk_buffer *b;
    size_t number;
} placed;

static int by_size(const void *a, const void *b)
{
    const placed *x = a;
    const placed *y = b;

    if (x->b->bytes != y->b->bytes)
        return x->b->bytes < y->b->bytes ? 1 : -1;
    return (x->number > y->number) - (x->number < y->number);
}

static bool meet(int a_first, int a_last, int b_first, int b_last)
{
    return a_first <= b_last && b_first <= a_last;
}

static bool overlap(const fk_buffer *a, const fk_buffer *b)
{
    bool twice_a = a->again <= a->until;
    bool twice_b = b->again <= b->until;

    return meet(a->first, a->last, b->first, b->last) ||
           (twice_a && meet(a->again, a->until, b->first, b->last)) ||
           (twice_b && meet(a->first, a->last, b->again, b->until)) ||
           (twice_a && twice_b && meet(a->again, a->until, b->again, b->until));
}

static bool alive(const fk_buffer *b, int time)
{
    return (b->first <= time && time <= b->last) || (b->again <= time && time <= b->until);
}

void fk_memory_by_kind(const fk_buffer *buffers, size_t n, size_t *bytes)
{
    size_t fullest = 0;

    memset(bytes, 0, FK_MEMORY_COUNT * sizeof *bytes);
    for (size_t t = 0; t < n; t++) { /* it begins where some buffer does */
        for (int second = 0; second < 2; second++) {
            size_t now[FK_MEMORY_COUNT] = {0};
            size_t all = 0;
            int time = second ? buffers[t].again : buffers[t].first;
            for (size_t i = 0; i < n; i++) {
                size_t b = alive(&buffers[i], time) ? buffers[i].bytes : 0;
                now[buffers[i].kind] += b;
                all += b;
            }
            if (all > fullest) {
                fullest = all;
                memcpy(bytes, now, sizeof now);
            }
        }
    }
}

/* The lowest offset for b among those already placed, which are sorted by offset. */
static size_t lowest_gap(const fk_buffer *b, fk_buffer *const *by_offset, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (!overlap(b, by_offset[i]))
            continue;
        if (by_offset[i]->offset >= at + b->bytes)
            break;
        size_t end = by_offset[i]->offset + by_offset[i]->bytes;
        at = end > at ? end : at;
    }
    return at;
}

void fk_place_buffers(fk_buffer *buffers, size_t n, size_t *arena_bytes)
{
    placed *order = calloc(n + 1, sizeof *order);
    fk_buffer **by_offset = calloc(n + 1, sizeof(fk_buffer *));
    size_t count = 0;

    *arena_bytes = 0;
    for (size_t i = 0; order && i < n; i++) {
        buffers[i].bytes = (buffers[i].bytes + ALIGN - 1) / ALIGN * ALIGN;
        order[i] = (placed){&buffers[i], i};
    }
    if (order && by_offset)
        qsort(order, n, sizeof *order, by_size);
    for (size_t i = 0; i < n; i++) {
        fk_buffer *b = order && by_offset ? order[i].b : &buffers[i];
        if (b->first > b->last)
            continue;
        if (!order || !by_offset) { /* no memory to plan with: side by side is right, too */
            b->offset = *arena_bytes;
        } else {
            b->offset = lowest_gap(b, by_offset, count);
            size_t k = count++;
            for (; k > 0 && by_offset[k - 1]->offset > b->offset; k--)
                by_offset[k] = by_offset[k - 1];
            by_offset[k] = b;
        }
        if (b->offset + b->bytes > *arena_bytes)
            *arena_bytes = b->offset + b->bytes;
    }
    free(order);
    free(by_offset);
}
