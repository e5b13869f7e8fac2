/* Reading and writing .npy: a magic, a Python dict as text, the numbers. */
#include "base/compat.h"

#include "exchange/npy.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

#define MAGIC "\x93NUMPY"

enum { MAGIC_BYTES = 6, MAX_HEADER = 1 << 16 };

typedef enum kind { REAL, SIGNED, UNSIGNED } kind;

typedef struct header {
    kind kind;
    size_t size; /* bytes an element */
    fk_shape shape;
} header;

static ferkd_status bad(const char *path, const char *why)
{
    return fk_fail(FERKD_CORRUPT, "%s: %s; write it with numpy.save", path, why);
}

/* What stands behind 'key': in the dict; NULL if it is not there. */
static const char *entry(const char *dict, const char *key)
{
    char quoted[32];

    (void)snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(dict, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    return at + strspn(at, " ");
}

static ferkd_status read_type(header *h, const char *path, const char *dict)
{
    const char *at = entry(dict, "descr");

    if (!at || *at++ != '\'')
        return bad(path, "no simple element type");
    if (*at != '<' && *at != '|' && *at != '=')
        return fk_fail(FERKD_UNSUPPORTED, "%s: not little-endian", path);
    at++;
    h->kind = *at == 'f' ? REAL : *at == 'i' ? SIGNED : UNSIGNED;
    h->size = (size_t)(at[1] - '0');
    bool known = h->kind == REAL ? h->size == 2 || h->size == 4 || h->size == 8
                                 : (*at == 'i' || *at == 'u' || *at == 'b') &&
                                       (h->size == 1 || h->size == 2 || h->size == 4);
    return known && at[2] == '\''
               ? FERKD_OK
               : fk_fail(FERKD_UNSUPPORTED,
                         "%s: elements of another type than floats or integers of up to 32 bits",
                         path);
}

static ferkd_status read_shape(header *h, const char *path, const char *dict)
{
    const char *at = entry(dict, "shape");
    uint64_t count = 1;

    if (!at || *at++ != '(')
        return bad(path, "no shape");
    while (*at != ')') {
        char *end;
        if (h->shape.n == FK_MAX_DIMS)
            return fk_fail(FERKD_LIMIT, "%s: more than %d dimensions", path, FK_MAX_DIMS);
        unsigned long long d = strtoull(at, &end, 10);
        if (end == at || d == 0 || d > FK_MAX_TENSOR || (count *= d) > FK_MAX_TENSOR)
            return bad(path, "a shape out of range");
        h->shape.d[h->shape.n++] = (int64_t)d;
        at = end + strspn(end, ", ");
    }
    return FERKD_OK;
}

static float element(const header *h, const uint8_t *p)
{
    uint32_t bits = h->size == 1 ? *p : h->size == 2 ? fk_u16le(p) : fk_u32le(p);
    float v;

    if (h->kind == UNSIGNED)
        return (float)bits;
    if (h->kind == SIGNED)
        return (float)(h->size == 1 ? (int8_t)bits : h->size == 2 ? (int16_t)bits : (int32_t)bits);
    if (h->size == 8)
        return (float)fk_f64le(p);
    if (h->size == 2)
        return fk_half_value(bits);
    memcpy(&v, &bits, sizeof v);
    return v;
}

static ferkd_status read_header(header *h, const char *path, const uint8_t *p, size_t size,
                                size_t *data)
{
    char dict[512];
    size_t start = MAGIC_BYTES + 4;

    if (size < start + 2 || memcmp(p, MAGIC, MAGIC_BYTES) != 0)
        return bad(path, "no .npy file");
    size_t n = fk_u16le(p + MAGIC_BYTES + 2);
    if (p[MAGIC_BYTES] >= 2) {
        n = fk_u32le(p + MAGIC_BYTES + 2);
        start += 2;
    }
    if (n > MAX_HEADER || n > size - start)
        return bad(path, "damaged");
    size_t used = fk_min_size(n, sizeof dict - 1);
    memcpy(dict, p + start, used);
    dict[used] = '\0';
    TRY(read_type(h, path, dict));
    const char *order = entry(dict, "fortran_order");
    if (order && strncmp(order, "True", 4) == 0)
        return fk_fail(FERKD_UNSUPPORTED, "%s: column by column; save numpy.ascontiguousarray(x)",
                       path);
    TRY(read_shape(h, path, dict));
    *data = start + n;
    return FERKD_OK;
}

ferkd_status fk_npy_parse(const char *name, const uint8_t *bytes, size_t size, fk_shape *shape,
                          float **values)
{
    header h = {.shape = {.n = 0}};
    float *v = NULL;
    size_t at = 0;

    TRY(read_header(&h, name, bytes, size, &at));
    size_t n = (size_t)fk_shape_count(&h.shape);
    if ((size - at) / h.size < n)
        return bad(name, "cut short");
    TRY(fk_calloc(&v, n, sizeof *v, name));
    for (size_t i = 0; i < n; i++)
        v[i] = element(&h, bytes + at + i * h.size);
    *shape = h.shape;
    *values = v;
    return FERKD_OK;
}

ferkd_status fk_npy_read(const char *path, fk_shape *shape, float **values)
{
    fk_map map = {0};

    TRY(fk_map_open(&map, path));
    ferkd_status st = fk_npy_parse(path, map.bytes, map.size_bytes, shape, values);
    fk_map_close(&map);
    return st;
}

static size_t type_bytes(const char *type)
{
    return (size_t)(type[2] - '0');
}

ferkd_status fk_npy_format(uint8_t **out, size_t *size, const char *type, const fk_shape *shape,
                           const void *values)
{
    char dims[160] = "";
    char head[256];
    size_t used = 0;
    size_t n = (size_t)fk_shape_count(shape) * type_bytes(type);
    uint8_t *bytes = NULL;

    for (int i = 0; i < shape->n; i++)
        used += (size_t)snprintf(dims + used, sizeof dims - used, "%" PRId64 ", ", shape->d[i]);
    int k = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                     type, dims);
    size_t whole = (MAGIC_BYTES + 4 + (size_t)k + 1 + 63) / 64 * 64; /* the data begins aligned */
    TRY(fk_calloc(&bytes, whole + n, 1, "an array"));
    memcpy(bytes, MAGIC, MAGIC_BYTES);
    bytes[MAGIC_BYTES] = 1;
    fk_put_u16(bytes + MAGIC_BYTES + 2, (uint32_t)(whole - MAGIC_BYTES - 4));
    memset(bytes + MAGIC_BYTES + 4, ' ', whole - MAGIC_BYTES - 5);
    memcpy(bytes + MAGIC_BYTES + 4, head, (size_t)k);
    bytes[whole - 1] = '\n';
    memcpy(bytes + whole, values, n);
    *out = bytes;
    *size = whole + n;
    return FERKD_OK;
}

ferkd_status fk_npy_write(const char *path, const fk_shape *shape, const float *values)
{
    uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(fk_npy_format(&bytes, &n, "<f4", shape, values));
    ferkd_status st = fk_file_replace(path, bytes, n);
    free(bytes);
    return st;
}
