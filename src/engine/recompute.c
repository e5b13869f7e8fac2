/* Less memory for more time: the steps are cut into segments, what a segment works out for itself is thrown away
 * after forward, and the segment runs forward again before its backward (Chen, Xu, Zhang, Guestrin, "Training deep
 * nets with sublinear memory cost", 2016). The same kernels on the same values give the same bytes. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"
#include "base/trace.h"

/* Between two times of the plan there is room for every step to run again. */
static int finer(const fk_plan *p, int time)
{
    return time == FK_ALWAYS ? FK_ALWAYS : time * ((int)p->n_steps + 1);
}

static int back_time(const fk_plan *p, int step)
{
    return finer(p, 2 * (int)p->n_steps - 1 - step);
}

/* When step k of a segment that ends with step `end` runs again: right before the backward of that. */
static int again_time(const fk_plan *p, int k, int end)
{
    return back_time(p, end) - (end - k + 1);
}

/* The last step that reads the tensor's buffer in forward. */
static int last_reader(const fk_plan *p, int buffer)
{
    int last = -1;

    for (size_t k = 0; k < p->n_steps; k++) {
        for (int i = 0; i < p->steps[k]->n_in; i++) {
            if (p->tensors[p->steps[k]->in[i]].data == buffer)
                last = (int)k;
        }
    }
    return last;
}

/* Whatever steps begin..end read from before them must be there when they run again. */
static void keep_inputs(fk_plan *p, int begin, int end)
{
    for (int k = begin; k <= end; k++) {
        for (int i = 0; i < p->steps[k]->n_in; i++) {
            int buffer = p->tensors[p->steps[k]->in[i]].data;
            if (buffer < 0)
                continue;
            fk_buffer *b = &p->buffers[buffer];
            int *last = b->again <= b->until ? &b->until : &b->last;
            *last = fk_max_int(*last, again_time(p, k, end));
        }
    }
}

/* The values that steps begin..end make and nobody behind them reads live twice: while forward needs them, and from
 * when they are made again. */
static void drop(fk_plan *p, int begin, int end)
{
    p->redo[end] = begin;
    for (int k = begin; k <= end; k++) {
        fk_step *s = p->steps[k];
        int data = p->tensors[s->out].data;
        fk_buffer *b = &p->buffers[data];
        int reader = last_reader(p, data);
        for (size_t i = 0; i < FK_COUNT(s->buffers);
             i++) { /* scratch of forward, when it runs again */
            fk_buffer *own = s->buffers[i] >= 0 ? &p->buffers[s->buffers[i]] : NULL;
            if (own && own->first == finer(p, k) && own->last == finer(p, k))
                own->again = own->until = again_time(p, k, end);
        }
        if (b->last == FK_ALWAYS || reader > end || b->first != finer(p, k))
            continue;
        b->again = again_time(p, k, end);
        b->until = fk_max_int(b->again, b->last >= back_time(p, end) ? b->last : 0);
        b->last = finer(p, fk_max_int(reader, k));
    }
    keep_inputs(p, begin, end);
}

/* Segments of about the same number of steps; the last one's backward comes at once, so it is kept. */
static void cut(fk_plan *p, int segments)
{
    int n = (int)p->n_steps;

    for (int i = 0; i < n; i++)
        p->redo[i] = -1;
    for (int g = 0; g + 1 < segments; g++) {
        int begin = n * g / segments;
        int end = n * (g + 1) / segments - 1;
        if (end > begin)
            drop(p, begin, end);
    }
}

ferkd_status fk_place_within(fk_plan *p)
{
    fk_buffer *whole = NULL;
    size_t bytes = p->n_buffers * sizeof *whole;
    size_t least = SIZE_MAX;

    TRY(fk_calloc(&p->redo, p->n_steps + 1, sizeof *p->redo, "the plan"));
    TRY(fk_calloc(&whole, p->n_buffers + 1, sizeof *whole, "the plan"));
    for (size_t i = 0; i < p->n_buffers; i++) {
        p->buffers[i].first = finer(p, p->buffers[i].first);
        p->buffers[i].last = finer(p, p->buffers[i].last);
    }
    memcpy(whole, p->buffers, bytes);
    for (int segments = 1; segments <= (int)p->n_steps / 2;
         segments += segments < 8 ? 1 : segments / 4) {
        memcpy(p->buffers, whole, bytes);
        cut(p, segments);
        fk_place_buffers(p->buffers, p->n_buffers, &p->arena_bytes);
        fk_trace("plan", "%d segments: arena %.1f MiB", segments,
                 (double)p->arena_bytes / 1048576.0);
        least = fk_min_size(least, p->arena_bytes);
        if (p->arena_bytes <= p->o.max_bytes) {
            free(whole);
            return FERKD_OK;
        }
    }
    free(whole);
    return fk_fail(
        FERKD_LIMIT,
        "the network needs %.0f MiB at least where %.0f are allowed; raise --max-memory, "
        "or lower --batch or --size",
        (double)least / 1048576.0, (double)p->o.max_bytes / 1048576.0);
}
