/* Reading a network from JSON: chains of layers, blocks with parameters, numbers that depend on them. */
#include "base/compat.h"

#include <ctype.h>
#include <stdarg.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/option.h"
#include "net/netfile_inside.h"

#define MOST_BYTES  (1u << 20)
#define MOST_REPEAT 1000

int fk_netfile_wrong(fk_netfile *f, const char *format, ...)
{
    char text[256];
    va_list args;

    if (f->b.st != FERKD_OK)
        return -1;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    f->b.st = fk_fail(FERKD_CORRUPT, "%s: %s: %s (docs/networks.md has the words)", f->path,
                      f->place, text);
    return -1;
}

/* --- numbers ----------------------------------------------------------------------------------- */

static int64_t factor(fk_netfile *f, const fk_chain *c, int x, const char **p)
{
    char word[64];
    size_t n = strcspn(*p, "*/ ");

    (void)snprintf(word, sizeof word, "%.*s", (int)n, *p);
    *p += n;
    if (isdigit((unsigned char)*word))
        return strtoll(word, NULL, 10);
    if (strcmp(word, "classes") == 0)
        return f->o->classes;
    if (strcmp(word, "channels") == 0) {
        fk_shape s = fk_build_shape(&f->b, x);
        return s.n == 4 ? s.d[1] : s.n > 0 ? s.d[s.n - 1] : 0;
    }
    for (; *word == '$' && c; c = c->outside) {
        json_t *v = json_object_get(c->parameters, word + 1);
        if (v)
            return json_integer_value(v);
    }
    return fk_netfile_wrong(
        f, "\"%s\" is no number, no $parameter of the block, nor \"classes\" or \"channels\"",
        word);
}

/* Products and quotients, from left to right. */
static int64_t expression(fk_netfile *f, const fk_chain *c, int x, const char *text)
{
    const char *p = text + strspn(text, " ");
    int64_t v = factor(f, c, x, &p);

    for (p += strspn(p, " "); *p && f->b.st == FERKD_OK; p += strspn(p, " ")) {
        char sign = *p++;
        p += strspn(p, " ");
        int64_t by = factor(f, c, x, &p);
        if ((sign != '*' && sign != '/') || (sign == '/' && by == 0))
            return fk_netfile_wrong(f, "\"%.64s\": only * and / (not by 0) are known", text);
        if (sign == '*' && by && (v > INT32_MAX || by > INT32_MAX))
            return fk_netfile_wrong(f, "\"%.64s\" is too large", text);
        v = sign == '*' ? v * by : v / by;
    }
    return v;
}

int64_t fk_netfile_number(fk_netfile *f, const fk_chain *c, int x, json_t *v, const char *what)
{
    int64_t n = 0;

    if (f->b.st != FERKD_OK)
        return 0;
    if (json_is_integer(v))
        n = json_integer_value(v);
    else if (json_is_string(v))
        n = expression(f, c, x, json_string_value(v));
    else
        return fk_netfile_wrong(f, "\"%s\" needs a whole number, or an expression in quotes", what);
    if (f->b.st == FERKD_OK && (n < 0 || n > 1 << 20))
        return fk_netfile_wrong(f, "\"%s\" is %" PRId64 "; 0 to %d is possible", what, n, 1 << 20);
    return n;
}

int64_t fk_netfile_option(fk_netfile *f, const fk_chain *c, int x, json_t *layer, const char *key,
                          int64_t otherwise)
{
    json_t *v = json_object_get(layer, key);

    return v ? fk_netfile_number(f, c, x, v, key) : otherwise;
}

int fk_netfile_kept(fk_netfile *f, const fk_chain *c, const char *name)
{
    for (; c; c = c->outside) {
        for (int i = c->n_kept; i-- > 0;) {
            if (strcmp(c->names[i], name) == 0)
                return c->nodes[i];
        }
    }
    return fk_netfile_wrong(f, "nothing was kept as \"%.64s\" before", name);
}

/* --- blocks ------------------------------------------------------------------------------------ */

/* A parameter's value in repetition i: of a list, element i, or the last. */
static json_t *value_at(json_t *v, size_t i)
{
    size_t n = json_array_size(v);

    return json_is_array(v) ? json_array_get(v, i < n ? i : n - 1) : v;
}

static bool is_parameter(const char *key)
{
    return strcmp(key, "block") != 0 && strcmp(key, "repeat") != 0 && strcmp(key, "name") != 0 &&
           strcmp(key, "keep") != 0 && strcmp(key, "in") != 0;
}

/* Values of the parameters in repetition i, worked out outside the block. */
static json_t *parameters_at(fk_netfile *f, const fk_chain *c, int x, json_t *layer, size_t i)
{
    json_t *values = json_object();
    const char *key;
    json_t *v;

    json_object_foreach(layer, key, v)
    {
        if (is_parameter(key))
            (void)json_object_set_new(
                values, key, json_integer(fk_netfile_number(f, c, x, value_at(v, i), key)));
    }
    return values;
}

/* Names within are longer by the block's name, and, where it is repeated, a number. */
static bool lengthen_prefix(fk_netfile *f, const char *name, bool numbered, int64_t i)
{
    size_t at = strlen(f->b.prefix);
    size_t room = sizeof f->b.prefix - at;
    int n = !name       ? 0
            : !*name    ? snprintf(f->b.prefix + at, room, "%" PRId64 ".", i)
            : !numbered ? snprintf(f->b.prefix + at, room, "%s.", name)
                        : snprintf(f->b.prefix + at, room, "%s.%" PRId64 ".", name, i);

    return n >= 0 && (size_t)n < room;
}

static int build_block(fk_netfile *f, fk_chain *c, int x, json_t *layer)
{
    const char *kind = json_string_value(json_object_get(layer, "block"));
    const char *name = json_string_value(json_object_get(layer, "name"));
    json_t *layers = kind ? json_object_get(f->blocks, kind) : NULL;
    int64_t repeat = fk_netfile_option(f, c, x, layer, "repeat", -1);
    size_t prefix = strlen(f->b.prefix);

    if (!layers)
        return fk_netfile_wrong(f, "there is no block \"%.64s\" under \"blocks\"",
                                kind ? kind : "");
    if (repeat > MOST_REPEAT)
        return fk_netfile_wrong(f, "\"repeat\": at most %d", MOST_REPEAT);
    for (int64_t i = 0; i < (repeat < 0 ? 1 : repeat) && f->b.st == FERKD_OK; i++) {
        if (f->built++ > FK_NETFILE_NODES)
            return fk_netfile_wrong(f, "more than %d blocks", FK_NETFILE_NODES);
        json_t *values = parameters_at(f, c, x, layer, (size_t)i);
        fk_chain inner = {.outside = c, .parameters = values, .depth = c->depth + 1};
        if (!lengthen_prefix(f, name, repeat >= 0, i))
            (void)fk_netfile_wrong(f, "the names of its parameters become too long");
        x = fk_netfile_chain(f, &inner, x, layers, kind);
        f->b.prefix[prefix] = '\0';
        json_decref(values);
    }
    return x;
}

/* --- chains ------------------------------------------------------------------------------------ */

/* The key that says what a layer does. */
static const char *kind_of(fk_netfile *f, json_t *layer)
{
    const char *found = NULL;
    const char *key;
    json_t *v;

    json_object_foreach(layer, key, v)
    {
        bool is = strcmp(key, "block") == 0 || fk_netfile_knows(key);
        if (is && found && !fk_netfile_may_have(found, key)) {
            if (!fk_netfile_may_have(key, found)) {
                (void)fk_netfile_wrong(f, "\"%s\" and \"%s\" are two layers", found, key);
                return NULL;
            }
            found = key;
        } else if (is && !found) {
            found = key;
        }
    }
    if (!found) {
        key = json_object_iter_key(json_object_iter(layer));
        (void)fk_netfile_wrong(f, "a layer without an operation; did you mean \"%s\" by \"%.40s\"?",
                               fk_netfile_nearest(key ? key : ""), key ? key : "");
    }
    return found;
}

static bool check_keys(fk_netfile *f, const char *kind, json_t *layer)
{
    const char *key;
    json_t *v;

    json_object_foreach(layer, key, v)
    {
        if (strcmp(key, kind) != 0 && !fk_netfile_may_have(kind, key)) {
            (void)fk_netfile_wrong(f, "\"%s\" has no \"%.40s\"", kind, key);
            return false;
        }
    }
    return true;
}

static int build_layer(fk_netfile *f, fk_chain *c, int x, json_t *layer)
{
    if (json_is_string(layer)) {
        const char *word = json_string_value(layer);
        if (!fk_netfile_knows(word))
            return fk_netfile_wrong(f, "\"%.40s\" is no operation; did you mean \"%s\"?", word,
                                    fk_netfile_nearest(word));
        return fk_netfile_op(f, c, x, word, NULL, NULL);
    }
    if (!json_is_object(layer))
        return fk_netfile_wrong(f, "a layer is an object, or the name of an operation");
    const char *kind = kind_of(f, layer);
    if (!kind)
        return -1;
    json_t *in = json_object_get(layer, "in");
    if (in && json_is_string(in))
        x = fk_netfile_kept(f, c, json_string_value(in));
    if (strcmp(kind, "block") == 0)
        return build_block(f, c, x, layer);
    if (!check_keys(f, kind, layer))
        return -1;
    return fk_netfile_op(f, c, x, kind, json_object_get(layer, kind), layer);
}

static void keep(fk_netfile *f, fk_chain *c, int x, json_t *layer)
{
    json_t *name = json_object_get(layer, "keep");

    if (!name)
        return;
    if (!json_is_string(name) || c->n_kept == FK_NETFILE_KEPT) {
        (void)fk_netfile_wrong(f, "\"keep\" needs a name; at most %d are kept at once",
                               FK_NETFILE_KEPT);
        return;
    }
    c->names[c->n_kept] = json_string_value(name);
    c->nodes[c->n_kept++] = x;
}

int fk_netfile_chain(fk_netfile *f, fk_chain *c, int x, json_t *layers, const char *what)
{
    size_t at = strlen(f->place);
    size_t i;
    json_t *layer;

    if (!json_is_array(layers))
        return fk_netfile_wrong(f, "\"%s\" needs a list of layers", what);
    if (c->depth > FK_NETFILE_DEPTH)
        return fk_netfile_wrong(f, "blocks within blocks, more than %d deep", FK_NETFILE_DEPTH);
    json_array_foreach(layers, i, layer)
    {
        if (f->b.st != FERKD_OK)
            return -1;
        (void)snprintf(f->place + at, sizeof f->place - at, "%s%s[%zu]", at ? "." : "", what, i);
        ferkd_status before = f->b.st;
        x = build_layer(f, c, x, layer);
        if (f->b.g->n_nodes > FK_NETFILE_NODES)
            (void)fk_netfile_wrong(f, "more than %d operations", FK_NETFILE_NODES);
        if (f->b.st != FERKD_OK && before == FERKD_OK && f->b.st != FERKD_CORRUPT) {
            char why[256]; /* the graph's own words, with the place */
            (void)snprintf(why, sizeof why, "%s", ferkd_last_error());
            f->b.st = FERKD_OK;
            return fk_netfile_wrong(f, "%s", why);
        }
        keep(f, c, x, json_is_object(layer) ? layer : NULL);
        f->place[at] = '\0';
    }
    return x;
}

/* --- files ------------------------------------------------------------------------------------- */

bool fk_is_netfile(const char *name)
{
    return name && fk_ends_with(name, ".json");
}

static ferkd_status load(const char *path, json_t **root)
{
    uint8_t *text = NULL;
    size_t n = 0;
    json_error_t e;

    TRY(fk_file_read(&text, &n, path, MOST_BYTES, false));
    *root = json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!*root)
        return fk_fail(FERKD_CORRUPT, "%s:%d: not JSON: %s", path, e.line, e.text);
    if (json_is_string(json_object_get(*root, "network")) &&
        json_is_array(json_object_get(*root, "layers")))
        return FERKD_OK;
    json_decref(*root);
    *root = NULL;
    return fk_fail(FERKD_CORRUPT,
                   "%s: not a network: it needs \"network\" (a name) and \"layers\" (a list); "
                   "docs/networks.md",
                   path);
}

static void read_about(json_t *root, fk_netfile_about *about)
{
    json_int_t size = json_integer_value(json_object_get(root, "size"));

    *about = (fk_netfile_about){.size = size > 0 && size <= 8192 ? size : 224};
    (void)snprintf(about->name, sizeof about->name, "%s",
                   json_string_value(json_object_get(root, "network")));
}

ferkd_status fk_netfile_read(const char *path, fk_netfile_about *about)
{
    json_t *root = NULL;

    TRY(load(path, &root));
    read_about(root, about);
    json_decref(root);
    return FERKD_OK;
}

ferkd_status fk_netfile_build(fk_graph **out, const char *path, const fk_zoo_options *o)
{
    fk_netfile f = {.path = path, .o = o, .b = {.st = FERKD_OK}};
    fk_chain top = {.depth = 0};
    fk_netfile_about about;
    json_t *root = NULL;
    int x = -1;

    TRY(load(path, &root));
    read_about(root, &about);
    f.blocks = json_object_get(root, "blocks");
    f.b.st = fk_graph_new(&f.b.g, about.name);
    fk_node input = {.op = FK_INPUT,
                     .name = "input",
                     .param = {-1, -1, -1, -1},
                     .shape = fk_shape_of(4, o->batch, o->channels, o->size, o->size)};
    if (f.b.st == FERKD_OK)
        f.b.st = fk_graph_add(f.b.g, &input, &x);
    if (f.b.st == FERKD_OK)
        x = fk_netfile_chain(&f, &top, x, json_object_get(root, "layers"), "layers");
    if (f.b.st == FERKD_OK) {
        fk_shape s = fk_build_shape(&f.b, x);
        (void)snprintf(f.place, sizeof f.place, "layers");
        if (s.n != 2 || s.d[0] != o->batch || s.d[1] != o->classes)
            (void)fk_netfile_wrong(&f, "the last one does not give [images, classes]; end with "
                                       "\"globalpool\" and {\"linear\": \"classes\"}");
    }
    if (f.b.st == FERKD_OK)
        f.b.st = fk_graph_finish(f.b.g, x);
    json_decref(root);
    if (f.b.st != FERKD_OK) {
        fk_graph_free(&f.b.g);
        return f.b.st;
    }
    *out = f.b.g;
    return FERKD_OK;
}
