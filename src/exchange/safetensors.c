/* safetensors: u64 header length, a JSON header, the tensors without gaps. */
#include "base/compat.h"

#include "exchange/safetensors.h"

#include <jansson.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define HEAD_BYTES 8

struct fk_safetensors {
    fk_map map; /* size 0: the caller's memory */
    const uint8_t *bytes;
    size_t n;
    size_t data; /* where the tensors begin */
    char *path;
    json_t *header;
};

/* --- writing --------------------------------------------------------------------------------- */

static size_t width_of(const fk_tensor_out *t)
{
    return t->half ? sizeof *t->half : sizeof *t->values;
}

static json_t *describe(const fk_tensor_out *t, uint64_t begin, uint64_t *end)
{
    json_t *shape = json_array();
    uint64_t count = 1;

    for (int i = 0; i < t->n_dims; i++) {
        (void)json_array_append_new(shape, json_integer(t->dims[i]));
        count *= (uint64_t)t->dims[i];
    }
    *end = begin + count * width_of(t);
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->half ? "BF16" : "F32", "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)*end);
}

static ferkd_status make_header(char **out, const fk_tensor_out *tensors, size_t n,
                                const char *text, const char *path)
{
    json_t *header = json_object();
    uint64_t at = 0;

    if (text)
        (void)json_object_set_new(header, "__metadata__", json_pack("{s:s}", "ferkd", text));
    for (size_t i = 0; i < n; i++)
        (void)json_object_set_new(header, tensors[i].name, describe(&tensors[i], at, &at));
    char *json = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!json)
        return fk_fail(FERKD_MEMORY, "%s: no memory for its header", path);
    size_t length = strlen(json);
    size_t padded = (length + 7) / 8 * 8;
    char *spaced = malloc(padded + 1);
    if (spaced)
        (void)snprintf(spaced, padded + 1, "%-*s", (int)padded, json);
    free(json);
    if (!spaced)
        return fk_fail(FERKD_MEMORY, "%s: no memory for its header", path);
    *out = spaced;
    return FERKD_OK;
}

static ferkd_status write_parts(int fd, const char *beside, const char *header,
                                const fk_tensor_out *tensors, size_t n)
{
    uint8_t length[HEAD_BYTES];

    fk_put_u64(length, strlen(header));
    TRY(fk_write_all(fd, length, sizeof length, beside));
    TRY(fk_write_all(fd, header, strlen(header), beside));
    for (size_t i = 0; i < n; i++) {
        size_t count = 1;
        for (int k = 0; k < tensors[i].n_dims; k++)
            count *= (size_t)tensors[i].dims[k];
        const void *data = tensors[i].half ? (const void *)tensors[i].half : tensors[i].values;
        TRY(fk_write_all(fd, data, count * width_of(&tensors[i]), beside));
    }
    return FERKD_OK;
}

ferkd_status fk_safetensors_write(const char *path, const fk_tensor_out *tensors, size_t n,
                                  const char *text)
{
    char *header = NULL;
    char *beside = NULL;
    int fd = -1;
    ferkd_status st = FERKD_OK;

    TRY_DONE(make_header(&header, tensors, n, text, path));
    TRY_DONE(fk_asprintf(&beside, "%s.part", path));
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = fk_fail_errno(FERKD_IO, "%s: cannot be created", beside);
        goto done;
    }
    TRY_DONE(write_parts(fd, beside, header, tensors, n));
    TRY_DONE(fk_file_publish(fd, beside, path));
done:
    if (fd >= 0)
        (void)close(fd);
    if (st != FERKD_OK && fd >= 0)
        (void)unlink(beside);
    free(header);
    free(beside);
    return st;
}

/* --- reading --------------------------------------------------------------------------------- */

static size_t type_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        size_t bytes;
    } TYPES[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                 {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U64", 8},  {"U32", 4},
                 {"U16", 2}, {"U8", 1},  {"BOOL", 1}};

    for (size_t i = 0; i < FK_COUNT(TYPES); i++) {
        if (strcmp(TYPES[i].name, dtype) == 0)
            return TYPES[i].bytes;
    }
    return 0;
}

/* The tensor's place and number of elements; false if the entry makes no sense. */
static bool entry(const json_t *t, size_t room, uint64_t *begin, uint64_t *end, size_t *count)
{
    const char *dtype = json_string_value(json_object_get(t, "dtype"));
    const json_t *shape = json_object_get(t, "shape");
    const json_t *offsets = json_object_get(t, "data_offsets");
    size_t bytes = dtype ? type_bytes(dtype) : 0;

    *count = 1;
    if (!bytes || !json_is_array(shape) || json_array_size(offsets) != 2)
        return false;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0 ||
            __builtin_mul_overflow(*count, (size_t)json_integer_value(d), count))
            return false;
    }
    const json_t *b = json_array_get(offsets, 0);
    const json_t *e = json_array_get(offsets, 1);
    if (!json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
        json_integer_value(e) < json_integer_value(b) || (uint64_t)json_integer_value(e) > room)
        return false;
    *begin = (uint64_t)json_integer_value(b);
    *end = (uint64_t)json_integer_value(e);
    size_t all;
    return !__builtin_mul_overflow(*count, bytes, &all) && all == *end - *begin;
}

typedef struct span {
    uint64_t begin, end;
} span;

static int by_begin(const void *a, const void *b)
{
    const span *x = a;
    const span *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Every tensor sane, no gaps, no overlaps, nothing after the last. */
static ferkd_status check_entries(const fk_safetensors *f)
{
    size_t room = f->n - f->data;
    span *spans = NULL;
    size_t n = 0;
    const char *name;
    json_t *t;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&spans, json_object_size(f->header), sizeof *spans, f->path));
    json_object_foreach(f->header, name, t)
    {
        size_t count;
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!entry(t, room, &spans[n].begin, &spans[n].end, &count)) {
            st = fk_fail(FERKD_CORRUPT, "%s: tensor \"%.80s\" is described wrongly", f->path, name);
            goto done;
        }
        n++;
    }
    if (n)
        qsort(spans, n, sizeof *spans, by_begin);
    uint64_t at = 0;
    for (size_t i = 0; i < n && st == FERKD_OK; i++) {
        if (spans[i].begin != at)
            st = fk_fail(FERKD_CORRUPT, "%s: its tensors overlap or leave gaps", f->path);
        at = spans[i].end;
    }
    if (st == FERKD_OK && at != room)
        st =
            fk_fail(FERKD_CORRUPT, "%s: %zu bytes of tensors, %" PRIu64 " described; copy it again",
                    f->path, room, at);
done:
    free(spans);
    return st;
}

static ferkd_status parse(fk_safetensors *f)
{
    json_error_t error;

    if (f->n < HEAD_BYTES)
        return fk_fail(FERKD_CORRUPT, "%s: %zu bytes, too short for safetensors", f->path, f->n);
    uint64_t length = fk_u64le(f->bytes);
    if (length > FK_MAX_HEADER_BYTES || length > f->n - HEAD_BYTES)
        return fk_fail(FERKD_CORRUPT, "%s: not a safetensors file, or truncated", f->path);
    f->data = HEAD_BYTES + (size_t)length;
    f->header = json_loadb((const char *)f->bytes + HEAD_BYTES, (size_t)length, 0, &error);
    if (!json_is_object(f->header))
        return fk_fail(FERKD_CORRUPT, "%s: its header is no JSON object", f->path);
    return check_entries(f);
}

ferkd_status fk_safetensors_parse(fk_safetensors **out, const void *bytes, size_t n,
                                  const char *path)
{
    fk_safetensors *f = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&f, 1, sizeof *f, path));
    f->bytes = bytes;
    f->n = n;
    TRY_DONE(fk_strdup(&f->path, path));
    TRY_DONE(parse(f));
    *out = f;
    f = NULL;
done:
    fk_safetensors_close(&f);
    return st;
}

ferkd_status fk_safetensors_open(fk_safetensors **out, const char *path)
{
    fk_map map = {0};

    TRY(fk_map_open(&map, path));
    ferkd_status st = fk_safetensors_parse(out, map.bytes, map.size_bytes, path);
    if (st == FERKD_OK)
        (*out)->map = map;
    else
        fk_map_close(&map);
    return st;
}

void fk_safetensors_close(fk_safetensors **file)
{
    fk_safetensors *f = *file;

    if (!f)
        return;
    json_decref(f->header);
    fk_map_close(&f->map);
    free(f->path);
    free(f);
    *file = NULL;
}

const char *fk_safetensors_text(const fk_safetensors *f)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), "ferkd"));
}

bool fk_safetensors_has(const fk_safetensors *f, const char *name)
{
    return json_object_get(f->header, name) != NULL;
}

size_t fk_safetensors_count(const fk_safetensors *f)
{
    return json_object_size(f->header) - (json_object_get(f->header, "__metadata__") != NULL);
}

const char *fk_safetensors_next(const fk_safetensors *f, const char *after)
{
    void *at = after ? json_object_iter_next(f->header, json_object_iter_at(f->header, after))
                     : json_object_iter(f->header);

    if (at && strcmp(json_object_iter_key(at), "__metadata__") == 0)
        at = json_object_iter_next(f->header, at);
    return at ? json_object_iter_key(at) : NULL;
}

size_t fk_safetensors_size(const fk_safetensors *f, const char *name)
{
    uint64_t begin;
    uint64_t end;
    size_t count;
    const json_t *t = json_object_get(f->header, name);

    return t && entry(t, f->n - f->data, &begin, &end, &count) ? count : 0;
}

ferkd_status fk_safetensors_copy(const fk_safetensors *f, const char *name, float *values, size_t n)
{
    const json_t *t = json_object_get(f->header, name);
    uint64_t begin;
    uint64_t end;
    size_t count;

    if (!t || !entry(t, f->n - f->data, &begin, &end, &count))
        return fk_fail(FERKD_ABSENT, "%s: no tensor \"%s\"; is it of another model?", f->path,
                       name);
    if (count != n)
        return fk_fail(FERKD_CORRUPT, "%s: tensor \"%s\" has %zu values, the model needs %zu",
                       f->path, name, count, n);
    const char *type = json_string_value(json_object_get(t, "dtype"));
    const uint8_t *from = f->bytes + f->data + begin;
    bool half = strcmp(type, "F16") == 0;
    if (strcmp(type, "F32") == 0) {
        memcpy(values, from, n * sizeof *values);
        return FERKD_OK;
    }
    if (!half && strcmp(type, "BF16") != 0)
        return fk_fail(FERKD_UNSUPPORTED, "%s: tensor \"%s\" is %s, not F32, F16 or BF16", f->path,
                       name, type);
    for (size_t i = 0; i < n; i++)
        values[i] =
            half ? fk_half_value(fk_u16le(from + 2 * i)) : fk_bf16_value(fk_u16le(from + 2 * i));
    return FERKD_OK;
}
