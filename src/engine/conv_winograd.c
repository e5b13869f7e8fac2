/* How threads share a convolution by Winograd's algorithm. */
#include "base/compat.h"

#include "engine/conv_winograd.h"

#include "base/bytes.h"

static const fk_winograd_kernels *kernels_of(const fk_winograd_maps *m)
{
    return fk_winograd_best(m->kind);
}

/* Part i of n of some things: where it begins. */
static size_t part_of(size_t all, size_t i, size_t n)
{
    return all * i / n;
}

/* --- forward --------------------------------------------------------------------------------- */

/* Into how many parts the channels of y are shared out; of the threads of each, each takes some rows. A thread packs the weights of its
 * part and transforms the tiles of its rows: the former is measured to cost as much for a channel as the latter for 12 pixels. */
static size_t parts_of_channels(const fk_winograd_maps *m, size_t threads, bool pack)
{
    size_t pixels = m->images * fk_max_size(m->x.height * m->x.width, m->y.height * m->y.width);
    size_t best = 1;
    double least = INFINITY;

    for (size_t parts = 1; pack && parts <= threads && parts <= fk_winograd_blocks(m); parts++) {
        double cost = 12.0 * (double)m->out / (double)parts +
                      (double)pixels * (double)parts / (double)threads;
        if (threads % parts || cost >= least)
            continue;
        least = cost;
        best = parts;
    }
    return best;
}

static size_t packed_words(const fk_winograd_maps *m)
{
    return fk_winograd_packed(m, fk_winograd_blocks_at_once(m));
}

/* Of one thread, whole lines of the cache. */
static size_t forward_words(const fk_winograd_maps *m, bool pack)
{
    return (fk_winograd_room(m) + 15) / 16 * 16 + (pack ? packed_words(m) : 0);
}

size_t fk_winograd_forward_bytes(const fk_winograd_maps *m, size_t threads, bool pack)
{
    return threads * forward_words(m, pack) * sizeof(float);
}

/* Blocks first .. end of some rows. */
static void forward_blocks(fk_winograd_forward k, const fk_winograd_pack *pack, size_t first,
                           size_t end, size_t row, size_t rows, float *room)
{
    const fk_winograd_kernels *kernels = kernels_of(&k.maps);
    size_t once = fk_winograd_blocks_at_once(&k.maps);
    size_t vectors = k.maps.out / (size_t)kernels->lanes;
    fk_winograd_pack now = *pack;

    now.to = room;
    k.weights = room;
    for (k.block = first; k.block < end; k.block += k.blocks) {
        k.blocks = fk_min_size(once, end - k.block);
        now.block = k.block;
        size_t last = fk_min_size(FK_WINOGRAD_BLOCK * (k.block + k.blocks), vectors);
        for (size_t v = FK_WINOGRAD_BLOCK * k.block; v < last; v++)
            kernels->pack(&now, v);
        kernels->forward(&k, row, rows, room + packed_words(&k.maps));
    }
}

void fk_winograd_run_forward(size_t threads, const fk_winograd_forward *all,
                             const fk_winograd_pack *pack, void *room)
{
    size_t parts = parts_of_channels(&all->maps, threads, pack != NULL);
    size_t blocks = fk_winograd_blocks(&all->maps);
    size_t rows = fk_winograd_rows(&all->maps);

#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t t = 0; t < threads; t++) {
        fk_winograd_forward k = *all;
        float *mine = (float *)room + t * forward_words(&k.maps, pack != NULL);
        size_t first = part_of(rows, t / parts, threads / parts);
        size_t count = part_of(rows, t / parts + 1, threads / parts) - first;
        k.blocks = blocks;
        if (pack)
            forward_blocks(k, pack, part_of(blocks, t % parts, parts),
                           part_of(blocks, t % parts + 1, parts), first, count, mine);
        else
            kernels_of(&k.maps)->forward(&k, first, count, mine);
    }
}

void fk_winograd_pack_all(size_t threads, const fk_winograd_pack *pack, const fk_winograd_maps *m)
{
    const fk_winograd_kernels *kernels = kernels_of(m);

#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t v = 0; v < m->out / (size_t)kernels->lanes; v++)
        kernels->pack(pack, v);
}

/* --- the gradient of the weights -------------------------------------------------------------- */

/* The outputs are shared out to as many threads as there are vectors of them; where there are more, groups of threads take some rows
 * each, and what they have summed up is added in the end. */
typedef struct grid {
    size_t vectors, parts; /* of outputs, and their parts */
    size_t groups;         /* of rows */
    size_t most;           /* outputs in a part */
} grid;

static grid grid_of(const fk_winograd_maps *m, size_t threads)
{
    grid g = {.vectors = m->out / (size_t)kernels_of(m)->lanes, .parts = 1};

    for (size_t parts = 2; parts <= threads && parts <= g.vectors; parts++)
        g.parts = threads % parts == 0 ? parts : g.parts;
    g.groups = threads / g.parts;
    g.most = (g.vectors + g.parts - 1) / g.parts * (size_t)kernels_of(m)->lanes;
    return g;
}

/* Of one thread: what is spread out, and sums. */
typedef struct weights_room {
    size_t rows, outputs;           /* spread out at once, multiplied at once */
    size_t inputs, gradients, sums; /* words */
} weights_room;

static weights_room room_for(const fk_winograd_maps *m, const grid *g)
{
    weights_room r = {.rows = fk_winograd_rows_weights(m, g->most), .outputs = g->most};
    size_t all = (fk_winograd_rows(m) + g->groups - 1) / g->groups;

    if (r.rows >= all) { /* else rows to come are added to all sums */
        r.rows = all;
        r.outputs = fk_min_size(fk_winograd_outputs_at_once(m), g->most);
    }
    r.inputs = fk_winograd_spread(m, m->in, r.rows);
    r.gradients = fk_winograd_spread(m, g->most, r.rows);
    r.sums = fk_winograd_sums(m, r.outputs);
    return r;
}

static size_t weights_of(const fk_winograd_maps *m)
{
    return 9 * m->in * m->out;
}

size_t fk_winograd_weights_bytes(const fk_winograd_maps *m, size_t threads)
{
    grid g = grid_of(m, threads);
    weights_room r = room_for(m, &g);
    size_t parts = g.groups > 1 ? g.groups * weights_of(m) : 0;

    return (threads * (r.inputs + r.gradients + r.sums) + parts) * sizeof(float);
}

/* Rows first .. end of the outputs of k. */
static void sum_rows(fk_winograd_weights k, const weights_room *r, size_t first, size_t end)
{
    const fk_winograd_kernels *kernels = kernels_of(&k.maps);

    for (size_t at = first; at < end; at += k.rows) {
        k.rows = fk_min_size(r->rows, end - at);
        for (size_t i = 0; i < k.rows; i++)
            kernels->spread(&k, at + i, i);
        for (k.first = k.from; k.first < k.from + k.outputs; k.first += k.count) {
            k.count = fk_min_size(r->outputs, k.from + k.outputs - k.first);
            kernels->multiply(&k, at > first);
            for (size_t o = 0; at + k.rows == end && o < k.count; o++)
                kernels->collect(&k, k.first + o);
        }
    }
}

/* dw, from those of the groups. */
static void add_groups(size_t threads, size_t groups, size_t count, const float *parts, float *dw)
{
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t i = 0; i < count; i++) {
        float sum = parts[i];
        for (size_t g = 1; g < groups; g++)
            sum += parts[g * count + i];
        dw[i] = sum;
    }
}

void fk_winograd_run_weights(size_t threads, const fk_winograd_weights *all, void *room)
{
    grid g = grid_of(&all->maps, threads);
    weights_room r = room_for(&all->maps, &g);
    size_t rows = fk_winograd_rows(&all->maps);
    size_t lanes = (size_t)kernels_of(&all->maps)->lanes;
    size_t each = r.inputs + r.gradients + r.sums;
    size_t count = weights_of(&all->maps);
    float *parts = (float *)room + threads * each;

#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (size_t t = 0; t < threads; t++) {
        fk_winograd_weights k = *all;
        size_t group = t / g.parts;
        size_t first = part_of(rows, group, g.groups);
        size_t end = part_of(rows, group + 1, g.groups);
        k.from = lanes * part_of(g.vectors, t % g.parts, g.parts);
        k.outputs = lanes * part_of(g.vectors, t % g.parts + 1, g.parts) - k.from;
        k.inputs = (uint32_t *)room + t * each;
        k.gradients = k.inputs + r.inputs;
        k.sums = (float *)(k.gradients + r.gradients);
        if (g.groups > 1)
            k.dw = parts + group * count;
        if (first < end)
            sum_rows(k, &r, first, end);
        else
            memset(k.dw + 9 * k.from * k.maps.in, 0, 9 * k.outputs * k.maps.in * sizeof *k.dw);
    }
    if (g.groups > 1)
        add_groups(threads, g.groups, count, parts, all->dw);
}
