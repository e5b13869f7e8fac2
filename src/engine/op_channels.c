/* What moves whole channels of a feature map, in the layout in which convolutions leave it: concatenation, slices, the
 * shuffle of ShuffleNet (Zhang et al. 2018), and what of these stands side by side, in one pass and without a row-major
 * copy. Such a step is a map: from where each channel of its output comes. */
#include "base/compat.h"

#include "engine/step.h"

#include "base/mem.h"

/* --- running --------------------------------------------------------------------------------- */

typedef struct feature_map {
    fk_operand data;
    const fk_lay *lay;
} feature_map;

/* Where the lanes of output vector v come from; gives how many other vectors that are. */
static size_t sources_of(const fk_channel *map, size_t channels, size_t v, const feature_map *in,
                         fk_gather_source *sources)
{
    size_t lanes = (size_t)in->lay->lanes;
    size_t n = 0;

    for (size_t l = 0; l < lanes && v * lanes + l < channels; l++) {
        fk_channel c = map[v * lanes + l];
        size_t k = 0;
        if (c.in < 0)
            continue;
        const feature_map *from = &in[c.in];
        size_t first = (size_t)c.channel / lanes * from->lay->vector;
        while (k < n && (sources[k].first != first || sources[k].from.data != from->data.data))
            k++;
        if (k == n) {
            sources[n++] = (fk_gather_source){from->data, first, from->lay->image, {0}};
            memset(sources[k].lane, -1, sizeof sources[k].lane);
        }
        sources[k].lane[l] = (int32_t)((size_t)c.channel % lanes);
    }
    return n;
}

/* out[c] = in[map[c]]; in: as many as the map names. */
static void move(feature_map out, const feature_map *in, const fk_channel *map, size_t channels)
{
    const fk_gather_kernel *kernel = fk_gather_for(out.lay->lanes);
    const fk_lay *lay = out.lay;
    size_t parts = fk_parts_of(lay);

#pragma omp parallel for schedule(static)
    for (size_t job = 0; job < lay->vectors * parts; job++) {
        fk_gather_source sources[FK_MAX_LANES];
        size_t v = job / parts;
        size_t begin = lay->images * (job % parts) / parts;
        size_t end = lay->images * (job % parts + 1) / parts;
        fk_gather k = {.to = out.data, .sources = sources};
        k.at = (fk_planes){begin * lay->image + v * lay->vector,
                           end - begin,
                           lay->image,
                           lay->pixels,
                           lay->pixel,
                           1};
        k.n_sources = sources_of(map, channels, v, in, sources);
        for (size_t i = 0; i < k.n_sources; i++)
            sources[i].first += begin * sources[i].image;
        kernel->gather(&k);
    }
}

static size_t channels_of(const fk_plan *p, int tensor)
{
    return (size_t)p->tensors[tensor].shape.d[1];
}

static ferkd_status forward(fk_plan *p, fk_step *s)
{
    feature_map in[FK_MAX_MOVED];

    for (int i = 0; i < s->n_in; i++)
        in[i] = (feature_map){fk_data_operand(p, s->in[i]), &p->tensors[s->in[i]].lay};
    move((feature_map){fk_data_operand(p, s->out), &p->tensors[s->out].lay}, in, s->map,
         channels_of(p, s->out));
    return FERKD_OK;
}

/* The map of the gradient of input i lies behind that of the output and those of the inputs before. */
static ferkd_status backward(fk_plan *p, fk_step *s)
{
    const fk_tensor *out = &p->tensors[s->out];
    const feature_map dy = {fk_buffer_operand(p, out->grad, fk_md_half(out->md)), &out->lay};
    const fk_channel *map = s->map + channels_of(p, s->out);

    for (int i = 0; i < s->n_in; i++) {
        const fk_tensor *t = &p->tensors[s->in[i]];
        if (fk_wants_din(p, s, i))
            move((feature_map){fk_buffer_operand(p, s->din[i], fk_md_half(t->md)), &t->lay}, &dy,
                 map, channels_of(p, s->in[i]));
        map += channels_of(p, s->in[i]);
    }
    return FERKD_OK;
}

/* --- compiling ------------------------------------------------------------------------------- */

static bool is_channel_node(const fk_node *n, fk_op op)
{
    return n->op == op && n->shape.n == 4 && n->u.axis.axis == 1;
}

/* Behind node *id, and used by nothing else: [N, C, H, W] as [N, groups, C / groups, H, W], the two exchanged, and back
 * as [N, C, H, W]? Then *id becomes the last of these, which are absorbed. Gives the groups, 1: there is none. */
static int64_t absorb_shuffle(fk_plan *p, int *id)
{
    static const int PERM[] = {0, 2, 1, 3, 4};

    const fk_shape *s = &p->g->nodes[*id].shape;
    int at[3] = {0};
    const fk_node *apart = fk_only_user(p, *id, &at[0]);
    const fk_node *turned = apart ? fk_only_user(p, at[0], &at[1]) : NULL;
    const fk_node *joined = turned ? fk_only_user(p, at[1], &at[2]) : NULL;

    if (!joined || apart->op != FK_RESHAPE || turned->op != FK_TRANSPOSE ||
        joined->op != FK_RESHAPE || apart->shape.n != 5 || !fk_shape_equal(&joined->shape, s) ||
        memcmp(turned->u.transpose.perm, PERM, sizeof PERM) != 0)
        return 1;
    const int64_t *d = apart->shape.d;
    if (d[0] != s->d[0] || d[3] != s->d[2] || d[4] != s->d[3])
        return 1;
    for (int i = 0; i < 3; i++)
        p->absorbed[at[i]] = true;
    *id = at[2];
    return d[1];
}

/* The map of each input's gradient: where in the output its channels went. */
static void turn_map(const fk_plan *p, fk_step *s)
{
    size_t channels = channels_of(p, s->out);
    fk_channel *to = s->map + channels;

    for (int i = 0; i < s->n_in; i++) {
        for (size_t c = 0; c < channels_of(p, s->in[i]); c++)
            to[c] = (fk_channel){-1, 0};
        for (size_t c = 0; c < channels; c++) {
            if (s->map[c].in == i)
                to[s->map[c].channel] = (fk_channel){0, (int)c};
        }
        to += channels_of(p, s->in[i]);
    }
}

/* The step: `map` says for each channel of node n's output where it comes from; a shuffle may follow. */
static ferkd_status compile_map(fk_plan *p, const fk_node *n, int id, const int *in, int n_in,
                                const fk_channel *map)
{
    int64_t groups = absorb_shuffle(p, &id);
    int64_t channels = n->shape.d[1];
    size_t all = (size_t)channels;
    bool half = true;
    fk_step *s = NULL;
    fk_md *md = NULL;

    TRY(fk_step_new(p, &s, n, n_in));
    memcpy(s->in, in, (size_t)n_in * sizeof *in);
    for (int i = 0; i < n_in; i++) {
        all += channels_of(p, in[i]);
        half = half && fk_md_half(p->tensors[in[i]].md);
    }
    TRY(fk_calloc(&s->map, all, sizeof *s->map, n->name));
    for (int64_t c = 0; c < channels; c++)
        s->map[c] = map[c % groups * (channels / groups) + c / groups];
    s->forward = forward;
    s->backward = backward;
    TRY(fk_md_lanes(&md, &n->shape, fk_dn_lanes(), half));
    TRY(fk_step_output(p, s, md, &n->shape, id));
    turn_map(p, s);
    return FERKD_OK;
}

static bool has_lanes(const fk_plan *p, int node)
{
    int tensor = p->tensor_of[node];

    return tensor >= 0 && p->tensors[tensor].lay.lanes && p->tensors[tensor].lazy < 0;
}

/* A slice that only a concatenation reads has no tensor: that reads what is sliced. */
static bool is_read_through(const fk_plan *p, int node)
{
    return p->absorbed[node] && is_channel_node(&p->g->nodes[node], FK_SLICE);
}

bool fk_is_channel_concat(const fk_plan *p, const fk_node *n)
{
    bool any = false;

    if (!is_channel_node(n, FK_CONCAT) || n->n_in > FK_MAX_MOVED)
        return false;
    for (int i = 0; i < n->n_in; i++)
        any = any || is_read_through(p, n->in[i]) || has_lanes(p, n->in[i]);
    return any;
}

ferkd_status fk_compile_channel_concat(fk_plan *p, const fk_node *n, int id)
{
    int in[FK_MAX_MOVED];
    fk_channel *map = NULL;
    ferkd_status st = FERKD_OK;
    int64_t at = 0;

    TRY(fk_calloc(&map, (size_t)n->shape.d[1], sizeof *map, n->name));
    for (int i = 0; i < n->n_in; i++) {
        const fk_node *from = &p->g->nodes[n->in[i]];
        bool through = is_read_through(p, n->in[i]);
        TRY_DONE(fk_want_lanes(p, p->tensor_of[through ? from->in[0] : n->in[i]], &in[i]));
        for (int64_t c = 0; c < from->shape.d[1]; c++)
            map[at++] =
                (fk_channel){i, (int)(through ? from->u.axis.start + c * from->u.axis.step : c)};
    }
    st = compile_map(p, n, id, in, n->n_in, map);
done:
    free(map);
    return st;
}

bool fk_is_channel_slice(const fk_plan *p, const fk_node *n)
{
    return is_channel_node(n, FK_SLICE) && has_lanes(p, n->in[0]);
}

ferkd_status fk_compile_channel_slice(fk_plan *p, const fk_node *n, int id)
{
    int user = -1;
    const fk_node *next = fk_only_user(p, id, &user);
    fk_channel *map = NULL;
    int in = p->tensor_of[n->in[0]];

    if (next && is_channel_node(next, FK_CONCAT) && next->n_in <= FK_MAX_MOVED) {
        p->absorbed[id] = true;
        return FERKD_OK;
    }
    TRY(fk_want_lanes(p, in, &in));
    TRY(fk_calloc(&map, (size_t)n->shape.d[1], sizeof *map, n->name));
    for (int64_t c = 0; c < n->shape.d[1]; c++)
        map[c] = (fk_channel){0, (int)(n->u.axis.start + c * n->u.axis.step)};
    ferkd_status st = compile_map(p, n, id, &in, 1, map);
    free(map);
    return st;
}
