/* By name, whatever the file. */
#include "base/compat.h"

#include "train/init.h"

#include "base/file.h"
#include "base/mem.h"
#include "exchange/safetensors.h"
#include "exchange/torch_file.h"
#include "train/positions.h"
#include "train/run.h"

#define NAMED 5 /* tensors of each kind that a message names */

/* A tensor of the file. */
typedef struct item {
    const char *name;
    size_t count;
    bool taken;
} item;

/* One of the two files is open. */
typedef struct source {
    const char *from;
    fk_safetensors *safe;
    fk_torch_file *torch;
    item *items;
    size_t n;
} source;

static ferkd_status list_items(source *s)
{
    const char *name = NULL;

    s->n = s->torch ? fk_torch_count(s->torch) : fk_safetensors_count(s->safe);
    TRY(fk_calloc(&s->items, s->n + 1, sizeof *s->items, s->from));
    for (size_t i = 0; i < s->n && s->torch; i++)
        s->items[i] =
            (item){fk_torch_at(s->torch, i)->name, fk_torch_at(s->torch, i)->count, false};
    for (size_t i = 0; i < s->n && s->safe; i++) {
        name = fk_safetensors_next(s->safe, name);
        s->items[i] = (item){name, fk_safetensors_size(s->safe, name), false};
    }
    return FERKD_OK;
}

static ferkd_status open_source(source *s, const char *from)
{
    char *path = NULL;

    *s = (source){.from = from};
    if (fk_ends_with(from, ".pth") || fk_ends_with(from, ".pt") || fk_ends_with(from, ".bin")) {
        TRY(fk_torch_open(&s->torch, from));
        return list_items(s);
    }
    if (!fk_is_folder(from)) {
        TRY(fk_safetensors_open(&s->safe, from));
        return list_items(s);
    }
    TRY(fk_path_join(&path, from, "best.safetensors"));
    ferkd_status st = fk_safetensors_open(&s->safe, path);
    free(path);
    return st == FERKD_OK ? list_items(s) : st;
}

/* --- names --------------------------------------------------------------------------------------- */

/* Beginnings of timm's names of a ViT, and torchvision's, OpenCLIP's and OpenAI's (whose text tower has the same names
 * without "visual."), DINOv2's; # is the number of a block. */
static const char *const VIT_NAMES[][2] = {
    {"cls_token", "class_token"},
    {"pos_embed", "encoder.pos_embedding"},
    {"patch_embed.proj.", "conv_proj."},
    {"blocks.#.norm1.", "encoder.layers.encoder_layer_#.ln_1."},
    {"blocks.#.attn.qkv.", "encoder.layers.encoder_layer_#.self_attention.in_proj_"},
    {"blocks.#.attn.proj.", "encoder.layers.encoder_layer_#.self_attention.out_proj."},
    {"blocks.#.norm2.", "encoder.layers.encoder_layer_#.ln_2."},
    {"blocks.#.mlp.fc1.", "encoder.layers.encoder_layer_#.mlp.0."},
    {"blocks.#.mlp.fc1.", "encoder.layers.encoder_layer_#.mlp.linear_1."},
    {"blocks.#.mlp.fc2.", "encoder.layers.encoder_layer_#.mlp.3."},
    {"blocks.#.mlp.fc2.", "encoder.layers.encoder_layer_#.mlp.linear_2."},
    {"norm.", "encoder.ln."},
    {"head.", "heads.head."},
    {"cls_token", "visual.class_embedding"},
    {"pos_embed", "visual.positional_embedding"},
    {"patch_embed.proj.", "visual.conv1."},
    {"norm_pre.", "visual.ln_pre."},
    {"blocks.#.norm1.", "visual.transformer.resblocks.#.ln_1."},
    {"blocks.#.attn.qkv.", "visual.transformer.resblocks.#.attn.in_proj_"},
    {"blocks.#.attn.proj.", "visual.transformer.resblocks.#.attn.out_proj."},
    {"blocks.#.norm2.", "visual.transformer.resblocks.#.ln_2."},
    {"blocks.#.mlp.fc1.", "visual.transformer.resblocks.#.mlp.c_fc."},
    {"blocks.#.mlp.fc2.", "visual.transformer.resblocks.#.mlp.c_proj."},
    {"norm.", "visual.ln_post."},
    {"reg_token", "register_tokens"},
    {"blocks.#.mlp.fc1.", "blocks.#.mlp.w12."},
    {"blocks.#.mlp.fc2.", "blocks.#.mlp.w3."},
};

/* Write name with the beginning `ours` in the form of `theirs`; false: it does not begin so. */
static bool rename_as(const char *name, const char *ours, const char *theirs, char *out,
                      size_t size)
{
    unsigned long block = 0;
    char *end = NULL;

    for (; *ours; ours++) {
        if (*ours == '#') {
            block = strtoul(name, &end, 10);
            if (end == name)
                return false;
            name = end;
        } else if (*name++ != *ours) {
            return false;
        }
    }
    const char *mark = strchr(theirs, '#');
    if (mark)
        (void)snprintf(out, size, "%.*s%lu%s%s", (int)(mark - theirs), theirs, block, mark + 1,
                       name);
    else
        (void)snprintf(out, size, "%s%s", theirs, name);
    return true;
}

/* By its whole name, or by what stands behind the first keys (module., state_dict.). */
static item *find_name(source *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->items[i].name, name) == 0)
            return &s->items[i];
    }
    for (size_t i = 0; i < s->n; i++) {
        size_t more = strlen(s->items[i].name);
        size_t n = strlen(name);
        if (more > n + 1 && s->items[i].name[more - n - 1] == '.' &&
            strcmp(s->items[i].name + more - n, name) == 0)
            return &s->items[i];
    }
    return NULL;
}

static item *find_item(source *s, const char *name)
{
    item *found = find_name(s, name);
    char other[256];

    for (size_t i = 0; i < FK_COUNT(VIT_NAMES) && !found; i++) {
        if (rename_as(name, VIT_NAMES[i][0], VIT_NAMES[i][1], other, sizeof other))
            found = find_name(s, other);
    }
    return found;
}

/* --- values -------------------------------------------------------------------------------------- */

static ferkd_status copy(const source *s, const item *t, float *values)
{
    if (s->safe)
        return fk_safetensors_copy(s->safe, t->name, values, t->count);
    fk_torch_values(fk_torch_at(s->torch, (size_t)(t - s->items)), values);
    return FERKD_OK;
}

/* The class token's own position goes into the token (Darcet et al. 2023: it is added to nothing else). */
static void add_to_class_token(fk_graph *g, const float *position, size_t width)
{
    int id = fk_graph_find_param(g, "cls_token");
    float *token = id >= 0 ? fk_graph_values(g, id) : NULL;

    for (size_t k = 0; token && k < width; k++)
        token[k] += position[k];
}

/* A position embedding of another size of the image. *done says whether it is one. */
static ferkd_status resize(const source *s, const item *t, fk_graph *g, const fk_param *p,
                           float *values, bool *done)
{
    fk_position_fit fit;
    float *old = NULL;

    *done = false;
    if (!fk_positions_fit(p, t->count, &fit))
        return FERKD_OK;
    TRY(fk_calloc(&old, t->count, sizeof *old, p->name));
    ferkd_status st = copy(s, t, old);
    if (st == FERKD_OK)
        st = fk_fit_positions(&fit, old, values);
    if (st == FERKD_OK && fit.more)
        add_to_class_token(g, old, fit.width);
    free(old);
    *done = st == FERKD_OK;
    return st;
}

/* --- all ----------------------------------------------------------------------------------------- */

typedef struct tally {
    size_t wanted, taken, missing, reshaped;
    bool head_anew;
} tally;

static ferkd_status take(source *s, fk_graph *g, size_t i, tally *n, const ferkd_watch *watch)
{
    const fk_param *p = &g->params[i];
    item *t = find_item(s, p->name);
    bool resized = false;

    n->wanted++;
    n->head_anew = n->head_anew || (p->head && (!t || t->count != p->count));
    if (!t) {
        if (n->missing++ < NAMED)
            fk_say(watch, "%s: starts anew (not in %s)", p->name, s->from);
        return FERKD_OK;
    }
    t->taken = true;
    if (t->count != p->count) {
        TRY(resize(s, t, g, p, fk_graph_values(g, (int)i), &resized));
        if (!resized && n->reshaped++ < NAMED)
            fk_say(watch, "%s: starts anew (%zu values there, %zu here)", p->name, t->count,
                   p->count);
        if (resized)
            fk_say(watch, "%s: resized from %zu to %zu values", p->name, t->count, p->count);
        n->taken += resized;
        return FERKD_OK;
    }
    n->taken++;
    return copy(s, t, fk_graph_values(g, (int)i));
}

/* Counters of batches and what an optimiser keeps are nobody's loss. */
static void say_left_over(const source *s, const ferkd_watch *watch)
{
    size_t left = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].taken || fk_ends_with(s->items[i].name, "num_batches_tracked"))
            continue;
        if (left++ < NAMED)
            fk_say(watch, "%s: not used", s->items[i].name);
    }
    if (left > NAMED)
        fk_say(watch, "... and %zu more tensors of %s are not used", left - NAMED, s->from);
}

ferkd_status fk_load_init(fk_graph *g, const char *from, const ferkd_watch *watch, bool *head_anew)
{
    source s;
    tally n = {0};
    ferkd_status st = open_source(&s, from);

    for (size_t i = 0; i < g->n_params && st == FERKD_OK; i++) {
        if (g->params[i].init != FK_INIT_GIVEN)
            st = take(&s, g, i, &n, watch);
    }
    if (st == FERKD_OK && n.taken == 0)
        st = fk_fail(
            FERKD_USAGE,
            "%s: none of its tensors has a name of %s (\"%s\", ...); \"ferkd info %s\" lists them",
            from, g->name, g->params[0].name, g->name);
    if (st == FERKD_OK) {
        say_left_over(&s, watch);
        fk_say(watch, "%zu of %zu tensors are %s's", n.taken, n.wanted, from);
        if (n.missing + n.reshaped > 0)
            fk_say(watch, "%zu are missing there, %zu have another size", n.missing, n.reshaped);
    }
    if (head_anew)
        *head_anew = n.head_anew;
    fk_safetensors_close(&s.safe);
    fk_torch_close(&s.torch);
    free(s.items);
    return st;
}
