/* A ring of slots, filled by workers that take tickets (batch, job) in order. */
#include "base/conveyor.h"

#include <pthread.h>

#include "base/mem.h"

typedef struct slot_state {
    uint32_t left; /* jobs not done yet */
    fk_fault fault;
} slot_state;

struct fk_conveyor {
    fk_conveyor_options o;
    pthread_mutex_t lock;
    pthread_cond_t room;  /* a slot was given back */
    pthread_cond_t ready; /* a batch was filled */
    slot_state *slots;
    uint64_t batch; /* of the next ticket */
    uint32_t job;
    uint64_t taken; /* batches handed to the consumer */
    bool stop;
    int started;
    int next_worker;
    pthread_t *threads;
};

static void *work(void *p)
{
    fk_conveyor *c = p;

    (void)pthread_mutex_lock(&c->lock);
    int worker = c->next_worker++;
    for (;;) {
        /* The consumer holds one slot, so batches up to taken + slots - 2 may be under way. */
        while (!c->stop && c->batch < c->o.end &&
               c->batch + 1 >= c->o.first + c->taken + (uint64_t)c->o.slots)
            (void)pthread_cond_wait(&c->room, &c->lock);
        if (c->stop || c->batch >= c->o.end)
            break;
        uint64_t batch = c->batch;
        uint32_t job = c->job++;
        int slot = (int)(batch % (uint64_t)c->o.slots);
        if (job == 0)
            c->slots[slot] = (slot_state){.left = c->o.jobs};
        if (c->job == c->o.jobs) {
            c->job = 0;
            c->batch++;
        }
        (void)pthread_mutex_unlock(&c->lock);

        ferkd_status st = c->o.fill(c->o.ctx, worker, batch, job, slot);

        (void)pthread_mutex_lock(&c->lock);
        if (st != FERKD_OK && c->slots[slot].fault.status == FERKD_OK)
            fk_fault_take(&c->slots[slot].fault, st);
        if (--c->slots[slot].left == 0)
            (void)pthread_cond_signal(&c->ready);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return NULL;
}

ferkd_status fk_conveyor_new(fk_conveyor **out, const fk_conveyor_options *o)
{
    ferkd_status st = FERKD_OK;
    fk_conveyor *c = NULL;

    TRY(fk_calloc(&c, 1, sizeof *c, "the loader"));
    c->o = *o;
    c->batch = o->first;
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->room, NULL);
    (void)pthread_cond_init(&c->ready, NULL);
    TRY_DONE(fk_calloc(&c->slots, (size_t)o->slots, sizeof *c->slots, "the loader"));
    for (int i = 0; i < o->slots; i++)
        c->slots[i].left = 1; /* not filled */
    TRY_DONE(fk_calloc(&c->threads, (size_t)o->threads, sizeof *c->threads, "the loader"));
    for (; c->started < o->threads; c->started++) {
        if (pthread_create(&c->threads[c->started], NULL, work, c) != 0) {
            st = fk_fail(FERKD_MEMORY, "the loader: thread %d cannot be started", c->started);
            goto done;
        }
    }
    *out = c;
    c = NULL;
done:
    fk_conveyor_free(&c);
    return st;
}

ferkd_status fk_conveyor_next(fk_conveyor *c, int *slot)
{
    (void)pthread_mutex_lock(&c->lock);
    uint64_t batch = c->o.first + c->taken;
    if (batch >= c->o.end) {
        (void)pthread_mutex_unlock(&c->lock);
        *slot = -1;
        return FERKD_OK;
    }
    int i = (int)(batch % (uint64_t)c->o.slots);
    if (c->taken > 0) /* what the consumer held until now is free again */
        c->slots[(batch - 1) % (uint64_t)c->o.slots].left = 1;
    c->taken++;
    (void)pthread_cond_broadcast(&c->room);
    while (c->slots[i].left > 0 || c->batch <= batch)
        (void)pthread_cond_wait(&c->ready, &c->lock);
    ferkd_status st = fk_fault_put(&c->slots[i].fault);
    (void)pthread_mutex_unlock(&c->lock);
    *slot = i;
    return st;
}

void fk_conveyor_free(fk_conveyor **conveyor)
{
    fk_conveyor *c = *conveyor;

    if (!c)
        return;
    (void)pthread_mutex_lock(&c->lock);
    c->stop = true;
    (void)pthread_cond_broadcast(&c->room);
    (void)pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->started; i++)
        (void)pthread_join(c->threads[i], NULL);
    (void)pthread_mutex_destroy(&c->lock);
    (void)pthread_cond_destroy(&c->room);
    (void)pthread_cond_destroy(&c->ready);
    free(c->slots);
    free(c->threads);
    free(c);
    *conveyor = NULL;
}
