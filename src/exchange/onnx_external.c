/* Tensors whose numbers stand in files beside the model (onnx's docs/ExternalData.md). */
#include "base/compat.h"

#include "exchange/onnx_external.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

typedef struct place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
} place;

typedef struct loader {
    const char *model;
    char *path; /* of the file that is mapped; NULL: none */
    fk_map map;
    uint64_t hash;
} loader;

static ferkd_status wrong(const loader *l, const Onnx__TensorProto *t, const char *why)
{
    return fk_fail(FERKD_CORRUPT, "%s: tensor %s: %s", l->model, t->name ? t->name : "", why);
}

static bool read_number(const char *text, uint64_t *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

static ferkd_status read_place(const loader *l, const Onnx__TensorProto *t, place *out)
{
    bool good = true;

    *out = (place){.location = NULL};
    for (size_t i = 0; i < t->n_external_data; i++) {
        const Onnx__StringStringEntryProto *e = t->external_data[i];
        if (!e->key || !e->value)
            continue;
        if (strcmp(e->key, "location") == 0)
            out->location = e->value;
        else if (strcmp(e->key, "offset") == 0)
            good = good && read_number(e->value, &out->offset);
        else if (strcmp(e->key, "length") == 0)
            good = good && (out->has_length = read_number(e->value, &out->length));
    }
    return good && out->location ? FERKD_OK
                                 : wrong(l, t, "where its external data is makes no sense");
}

/* A model must not name any file that it likes. */
static bool stays_beside(const char *location)
{
    size_t n = strlen(location);

    if (n == 0 || location[0] == '/' || strcmp(location, "..") == 0 ||
        strncmp(location, "../", 3) == 0 || strstr(location, "/../"))
        return false;
    return n < 3 || strcmp(location + n - 3, "/..") != 0;
}

/* Tensors of one file mostly follow each other: it stays mapped until another is asked for. */
static ferkd_status map_file(loader *l, const char *location)
{
    const char *slash = strrchr(l->model, '/');
    int folder = slash ? (int)(slash - l->model) + 1 : 0;
    char *path = NULL;

    TRY(fk_asprintf(&path, "%.*s%s", folder, l->model, location));
    if (l->path && strcmp(l->path, path) == 0) {
        free(path);
        return FERKD_OK;
    }
    fk_map_close(&l->map);
    free(l->path);
    l->path = path;
    return fk_map_open(&l->map, path);
}

static ferkd_status load_tensor(loader *l, Onnx__TensorProto *t)
{
    place p;

    TRY(read_place(l, t, &p));
    if (!stays_beside(p.location))
        return wrong(l, t, "its external data is not beside the model");
    TRY(map_file(l, p.location));
    if (p.offset > l->map.size_bytes)
        return wrong(l, t, "its external data is behind the end of its file");
    uint64_t rest = l->map.size_bytes - p.offset;
    uint64_t n = p.has_length ? p.length : rest;
    if (n > rest)
        return wrong(l, t, "its external data is cut short");
    if (n > sizeof(double) * FK_MAX_TENSOR)
        return fk_fail(FERKD_LIMIT, "%s: tensor %s: too large", l->model, t->name ? t->name : "");
    if (t->has_raw_data)
        return wrong(l, t, "its numbers are both in the file and beside it");
    t->raw_data.data = malloc(n ? n : 1); /* protobuf's own free() lets it go */
    if (!t->raw_data.data)
        return fk_fail(FERKD_MEMORY, "%s: no memory for its weights", l->model);
    memcpy(t->raw_data.data, l->map.bytes + p.offset, n);
    t->raw_data.len = n;
    l->hash = fk_hash64(t->raw_data.data, n, l->hash);
    t->has_raw_data = 1;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT;
    return FERKD_OK;
}

ferkd_status fk_onnx_load_external(Onnx__ModelProto *model, const char *path, uint64_t *hash)
{
    loader l = {.model = path};
    ferkd_status st = FERKD_OK;
    Onnx__GraphProto *g = model->graph;

    for (size_t i = 0; st == FERKD_OK && i < g->n_initializer; i++) {
        if (g->initializer[i]->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
            st = load_tensor(&l, g->initializer[i]);
    }
    fk_map_close(&l.map);
    free(l.path);
    *hash = l.hash;
    return st;
}
