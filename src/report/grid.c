/* From YAML to runs: methods (with varied values), settings, seeds. */
#include "base/compat.h"

#include "report/grid.h"

#include "base/mem.h"
#include "base/yaml.h"
#include "train/recipe.h"

#define MAX_AXIS   4096u
#define MAX_SEEDS  1000u
#define MAX_TRIALS 100000u

/* A list of whole numbers, or a number n for 1 to n. */
typedef struct seeds {
    int64_t at[MAX_SEEDS];
    uint32_t n;
} seeds;

/* While the file is read. */
typedef struct reading {
    const fk_yaml *y;
    const fk_yaml_node *root;
    const char *folder;
    fk_grid *g;
    seeds all;                         /* of the grid */
    const fk_yaml_node **method_nodes; /* [n_methods] */
    const char **method_values;        /* [n_methods] what $x stands for, or NULL */
    const char **method_words;         /* [n_methods] the x of $x, or NULL */
} reading;

static ferkd_status wrong(const reading *r, const fk_yaml_node *n, const char *what)
{
    return fk_yaml_at(r->y, n ? n : r->root, fk_fail(FERKD_USAGE, "%s", what));
}

/* --- seeds ------------------------------------------------------------------------------------- */

static bool whole(const char *text, int64_t *out)
{
    char *end;

    errno = 0;
    long long v = text ? strtoll(text, &end, 10) : 0;
    *out = v;
    return text && *text && *end == '\0' && errno == 0 && v >= 0;
}

static ferkd_status read_seeds(const reading *r, const fk_yaml_node *n, seeds *out)
{
    int64_t v;

    out->n = 0;
    if (fk_yaml_is_list(n) && fk_yaml_count(n) >= 1 && fk_yaml_count(n) <= MAX_SEEDS) {
        for (size_t i = 0; i < fk_yaml_count(n); i++) {
            if (!whole(fk_yaml_text(fk_yaml_item(r->y, n, i)), &v))
                return wrong(r, n, "seeds: a list of whole numbers is needed");
            out->at[out->n++] = v;
        }
        return FERKD_OK;
    }
    if (!whole(fk_yaml_text(n), &v) || v < 1 || v > MAX_SEEDS)
        return wrong(r, n, "seeds: a list of numbers, or how many (1 to 1000), is needed");
    while (out->n < v) {
        out->at[out->n] = out->n + 1;
        out->n++;
    }
    return FERKD_OK;
}

static bool has_seed(const seeds *s, int64_t seed)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->at[i] == seed)
            return true;
    }
    return false;
}

/* --- methods and settings ---------------------------------------------------------------------- */

static bool is_ours(const char *key)
{
    return strcmp(key, "vary") == 0 || strcmp(key, "seeds") == 0 ||
           strcmp(key, "extra-seconds") == 0 || strcmp(key, "extra_seconds") == 0;
}

static double extra_of(const reading *r, const fk_yaml_node *map)
{
    const fk_yaml_node *n = fk_yaml_find(r->y, map, "extra-seconds");
    const char *text = fk_yaml_text(n ? n : fk_yaml_find(r->y, map, "extra_seconds"));

    return text ? strtod(text, NULL) : 0.0;
}

static ferkd_status add_method(reading *r, const char *name, const fk_yaml_node *node,
                               const char *word, const char *value)
{
    fk_grid *g = r->g;
    fk_axis *m = &g->methods[g->n_methods];

    r->method_nodes[g->n_methods] = node;
    r->method_values[g->n_methods] = value;
    r->method_words[g->n_methods++] = word;
    m->extra_seconds = extra_of(r, node);
    if (!value)
        return fk_strdup(&m->name, name);
    m->x = strtod(value, NULL);
    TRY(fk_strdup(&m->family, name));
    return fk_asprintf(&m->name, "%s %s", name, value);
}

/* {x: [5%, 10%]}: one word and its values. */
static ferkd_status add_family(reading *r, const char *name, const fk_yaml_node *node,
                               const fk_yaml_node *vary)
{
    const fk_yaml_node *values = fk_yaml_value(r->y, vary, 0);

    if (fk_yaml_count(vary) != 1 || !fk_yaml_key(r->y, vary, 0) || fk_yaml_count(values) == 0)
        return wrong(r, node, "vary: one word with a list of values is needed: {x: [1, 2]}");
    for (size_t i = 0; i < fk_yaml_count(values); i++) {
        const char *value = fk_yaml_text(fk_yaml_item(r->y, values, i));
        if (!value)
            return wrong(r, values, "vary: plain values are needed");
        TRY(add_method(r, name, node, fk_yaml_key(r->y, vary, 0), value));
    }
    return FERKD_OK;
}

static ferkd_status read_methods(reading *r)
{
    const fk_yaml_node *map = fk_yaml_find(r->y, r->root, "methods");
    size_t n = 0;

    if (!fk_yaml_is_map(map) || fk_yaml_count(map) == 0)
        return wrong(r, map, "methods: a map of names to recipe keys is needed");
    for (size_t i = 0; i < fk_yaml_count(map); i++) {
        const fk_yaml_node *vary = fk_yaml_find(r->y, fk_yaml_value(r->y, map, i), "vary");
        n += vary ? fk_yaml_count(fk_yaml_value(r->y, vary, 0)) : 1;
    }
    if (n > MAX_AXIS)
        return wrong(r, map, "methods: more than 4096");
    TRY(fk_calloc(&r->g->methods, n, sizeof *r->g->methods, "the experiment"));
    TRY(fk_calloc(&r->method_nodes, n, sizeof *r->method_nodes, "the experiment"));
    TRY(fk_calloc(&r->method_values, n, sizeof *r->method_values, "the experiment"));
    TRY(fk_calloc(&r->method_words, n, sizeof *r->method_words, "the experiment"));
    for (size_t i = 0; i < fk_yaml_count(map); i++) {
        const char *name = fk_yaml_key(r->y, map, i);
        const fk_yaml_node *node = fk_yaml_value(r->y, map, i);
        const fk_yaml_node *vary = fk_yaml_find(r->y, node, "vary");
        if (!name || !fk_yaml_is_map(node))
            return wrong(r, map, "methods: each is a name with a map of recipe keys");
        TRY(vary ? add_family(r, name, node, vary) : add_method(r, name, node, NULL, NULL));
    }
    return FERKD_OK;
}

static ferkd_status read_settings(reading *r)
{
    const fk_yaml_node *map = fk_yaml_find(r->y, r->root, "settings");
    size_t n = fk_yaml_count(map);

    if (map && (!fk_yaml_is_map(map) || n == 0 || n > MAX_AXIS))
        return wrong(r, map, "settings: a map of names to recipe keys is needed");
    r->g->n_settings = map ? (uint32_t)n : 1;
    TRY(fk_calloc(&r->g->settings, r->g->n_settings, sizeof *r->g->settings, "the experiment"));
    if (!map)
        return fk_strdup(&r->g->settings[0].name, "");
    for (size_t i = 0; i < n; i++) {
        if (!fk_yaml_key(r->y, map, i) || !fk_yaml_is_map(fk_yaml_value(r->y, map, i)))
            return wrong(r, map, "settings: each is a name with a map of recipe keys");
        TRY(fk_strdup(&r->g->settings[i].name, fk_yaml_key(r->y, map, i)));
    }
    return FERKD_OK;
}

/* --- one run ----------------------------------------------------------------------------------- */

/* text with "$word" replaced by value. */
static ferkd_status fill_in(char **out, const char *text, const char *word, const char *value)
{
    size_t n = 0;
    FILE *f = open_memstream(out, &n);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory for the experiment");
    while (*text) {
        if (word && *text == '$' && strncmp(text + 1, word, strlen(word)) == 0) {
            (void)fputs(value, f);
            text += 1 + strlen(word);
        } else {
            (void)fputc(*text++, f);
        }
    }
    (void)fclose(f);
    return FERKD_OK;
}

/* Keys of a method or setting, but for those that are the grid's own. */
static ferkd_status take_keys(const reading *r, ferkd_recipe *recipe, const fk_yaml_node *map,
                              const char *word, const char *value)
{
    for (size_t i = 0; i < fk_yaml_count(map); i++) {
        const char *key = fk_yaml_key(r->y, map, i);
        const char *text = fk_yaml_text(fk_yaml_value(r->y, map, i));
        char *filled = NULL;
        if (key && is_ours(key))
            continue;
        if (!key || !text)
            return wrong(r, map, "a key with one value is needed");
        TRY(fill_in(&filled, text, word, value));
        ferkd_status st = ferkd_recipe_set(recipe, key, filled);
        free(filled);
        if (st != FERKD_OK)
            return fk_yaml_at(r->y, fk_yaml_value(r->y, map, i), st);
    }
    return FERKD_OK;
}

/* Letters, digits, dots; everything else is a dash. */
static void append_slug(char *slug, size_t size, const char *text)
{
    size_t n = strlen(slug);

    for (; *text && n + 2 < size; text++) {
        bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                     (*text >= '0' && *text <= '9') || *text == '.' || *text == '_';
        slug[n++] = plain ? *text : '-';
    }
    slug[n++] = '-';
    slug[n] = '\0';
}

static ferkd_status make_trial(reading *r, fk_trial *t, int64_t seed)
{
    const fk_yaml_node *settings = fk_yaml_find(r->y, r->root, "settings");
    const fk_yaml_node *base = fk_yaml_find(r->y, r->root, "base");
    char slug[200] = "";
    char number[32];

    TRY(ferkd_recipe_init(&t->recipe));
    if (base)
        TRY(fk_recipe_take(&t->recipe, r->y, base, 0));
    TRY(take_keys(r, &t->recipe, fk_yaml_value(r->y, settings, t->setting), NULL, NULL));
    TRY(take_keys(r, &t->recipe, r->method_nodes[t->method], r->method_words[t->method],
                  r->method_values[t->method]));
    if (*r->g->settings[t->setting].name)
        append_slug(slug, sizeof slug - 32, r->g->settings[t->setting].name);
    append_slug(slug, sizeof slug - 32, r->g->methods[t->method].name);
    (void)snprintf(number, sizeof number, "%" PRId64, seed);
    TRY(fk_asprintf(&t->folder, "%s/runs/%ss%s", r->folder, slug, number));
    TRY(ferkd_recipe_set(&t->recipe, "seed", number));
    return ferkd_recipe_set(&t->recipe, "run", t->folder);
}

/* Does the grid ask for this method and setting with this seed? */
static ferkd_status wanted(const reading *r, uint32_t setting, uint32_t method, int64_t seed,
                           seeds *room, bool *out)
{
    const fk_yaml_node *settings = fk_yaml_find(r->y, r->root, "settings");
    const fk_yaml_node *own = fk_yaml_find(r->y, r->method_nodes[method], "seeds");
    const fk_yaml_node *theirs =
        fk_yaml_find(r->y, fk_yaml_value(r->y, settings, setting), "seeds");

    *out = has_seed(&r->all, seed);
    if (!own && !theirs)
        return FERKD_OK;
    TRY(read_seeds(r, own ? own : theirs, room));
    *out = has_seed(room, seed);
    return FERKD_OK;
}

static ferkd_status add_trial(reading *r, size_t *cap, uint32_t setting, uint32_t method,
                              int64_t seed)
{
    fk_grid *g = r->g;

    if (g->n_trials == MAX_TRIALS)
        return wrong(r, NULL, "more than 100000 runs");
    TRY(fk_grow(&g->trials, cap, g->n_trials + 1, sizeof *g->trials));
    fk_trial *t = &g->trials[g->n_trials++];
    *t = (fk_trial){.setting = setting, .method = method};
    TRY(make_trial(r, t, seed));
    for (uint32_t i = 0; i + 1 < g->n_trials; i++) {
        if (strcmp(g->trials[i].folder, t->folder) == 0)
            return fk_fail(FERKD_USAGE,
                           "%s: two runs of the experiment would share this folder; "
                           "give methods and settings distinct names",
                           t->folder);
    }
    return FERKD_OK;
}

/* Seeds that any method or setting names, in order of appearance after the grid's. */
static ferkd_status gather_seeds(const reading *r, seeds *out, seeds *room)
{
    const fk_yaml_node *settings = fk_yaml_find(r->y, r->root, "settings");

    *out = r->all;
    for (uint32_t i = 0; i < r->g->n_methods + r->g->n_settings; i++) {
        const fk_yaml_node *n = i < r->g->n_methods
                                    ? r->method_nodes[i]
                                    : fk_yaml_value(r->y, settings, i - r->g->n_methods);
        n = fk_yaml_find(r->y, n, "seeds");
        if (!n)
            continue;
        TRY(read_seeds(r, n, room));
        for (uint32_t k = 0; k < room->n && out->n < MAX_SEEDS; k++) {
            if (!has_seed(out, room->at[k]))
                out->at[out->n++] = room->at[k];
        }
    }
    return FERKD_OK;
}

static ferkd_status make_trials(reading *r, seeds *every, seeds *room)
{
    size_t cap = 0;

    TRY(gather_seeds(r, every, room));
    for (uint32_t k = 0; k < every->n; k++) {
        for (uint32_t s = 0; s < r->g->n_settings; s++) {
            for (uint32_t m = 0; m < r->g->n_methods; m++) {
                bool yes = false;
                TRY(wanted(r, s, m, every->at[k], room, &yes));
                if (yes)
                    TRY(add_trial(r, &cap, s, m, every->at[k]));
            }
        }
    }
    return FERKD_OK;
}

/* --- the file ---------------------------------------------------------------------------------- */

static ferkd_status check_keys(const reading *r)
{
    static const char *const known[] = {"name",    "about",    "base",     "seeds",
                                        "methods", "settings", "baseline", "target"};

    for (size_t i = 0; i < fk_yaml_count(r->root); i++) {
        const char *key = fk_yaml_key(r->y, r->root, i);
        bool ok = false;
        for (size_t k = 0; key && k < FK_COUNT(known); k++)
            ok = ok || strcmp(key, known[k]) == 0;
        if (!ok)
            return wrong(r, fk_yaml_value(r->y, r->root, i),
                         "an experiment has name, about, base, seeds, methods, settings, baseline "
                         "and target; recipe keys go into base");
    }
    return FERKD_OK;
}

static ferkd_status read_head(reading *r)
{
    const char *name = fk_yaml_text(fk_yaml_find(r->y, r->root, "name"));
    const char *about = fk_yaml_text(fk_yaml_find(r->y, r->root, "about"));
    const char *target = fk_yaml_text(fk_yaml_find(r->y, r->root, "target"));
    const fk_yaml_node *n = fk_yaml_find(r->y, r->root, "seeds");

    TRY(check_keys(r));
    TRY(fk_strdup(&r->g->name, name ? name : "experiment"));
    TRY(fk_strdup(&r->g->about, about ? about : ""));
    r->g->target = target ? strtod(target, NULL) : 0.0;
    r->all = (seeds){.at = {1}, .n = 1};
    return n ? read_seeds(r, n, &r->all) : FERKD_OK;
}

static ferkd_status read_baseline(reading *r)
{
    const fk_yaml_node *n = fk_yaml_find(r->y, r->root, "baseline");
    const char *name = fk_yaml_text(n);

    for (uint32_t m = 0; name && m < r->g->n_methods; m++) {
        if (strcmp(r->g->methods[m].name, name) == 0) {
            r->g->baseline = m;
            return FERKD_OK;
        }
    }
    return n ? wrong(r, n, "baseline: no method of that name") : FERKD_OK;
}

ferkd_status fk_grid_load(fk_grid *g, const char *file, const char *folder)
{
    fk_yaml *y = NULL;
    reading r = {.folder = folder, .g = g};
    seeds *room = NULL;
    ferkd_status st = FERKD_OK;

    *g = (fk_grid){0};
    TRY(fk_yaml_load(&y, file));
    r.y = y;
    r.root = fk_yaml_root(y);
    TRY_DONE(fk_calloc(&room, 2, sizeof *room, "the experiment"));
    TRY_DONE(read_head(&r));
    TRY_DONE(read_methods(&r));
    TRY_DONE(read_settings(&r));
    TRY_DONE(read_baseline(&r));
    TRY_DONE(make_trials(&r, &room[0], &room[1]));
done:
    free(room);
    free(r.method_nodes);
    free(r.method_values);
    free(r.method_words);
    fk_yaml_free(&y);
    if (st != FERKD_OK)
        fk_grid_fini(g);
    return st;
}

static void free_axis(fk_axis *axis, uint32_t n)
{
    for (uint32_t i = 0; axis && i < n; i++) {
        free(axis[i].name);
        free(axis[i].family);
    }
    free(axis);
}

void fk_grid_fini(fk_grid *g)
{
    free_axis(g->methods, g->n_methods);
    free_axis(g->settings, g->n_settings);
    for (uint32_t i = 0; i < g->n_trials; i++) {
        ferkd_recipe_fini(&g->trials[i].recipe);
        free(g->trials[i].folder);
    }
    free(g->trials);
    free(g->name);
    free(g->about);
    *g = (fk_grid){0};
}
