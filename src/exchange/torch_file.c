/* From the values of the pickle to tensors whose every element lies within its storage. */
#include "base/compat.h"

#include "exchange/torch_file.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "exchange/zip.h"

#define MAX_DEPTH 16

struct fk_torch_file {
    fk_map map; /* of an opened file */
    fk_zip zip;
    fk_pickle_file *pickle;
    fk_torch_tensor *tensors;
    size_t n, cap;
    const char *path;
    char *own_path;
};

static ferkd_status corrupt(const fk_torch_file *f, const char *name, const char *what)
{
    return fk_fail(FERKD_CORRUPT, "%s: %s: %s", f->path, name, what);
}

/* --- one tensor -------------------------------------------------------------------------------- */

/* Does every element lie within `room` elements from the first on? */
static bool fits(const fk_torch_tensor *t, uint64_t room)
{
    uint64_t last = 0;
    uint64_t count = 1;

    for (int i = 0; i < t->n_dims; i++) {
        uint64_t step;
        if (t->dims[i] < 0 || t->strides[i] < 0 ||
            __builtin_mul_overflow(count, (uint64_t)t->dims[i], &count) || count > FK_MAX_TENSOR)
            return false;
        if (t->dims[i] == 0)
            continue;
        if (__builtin_mul_overflow((uint64_t)t->dims[i] - 1, (uint64_t)t->strides[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    }
    return count == 0 || last < room;
}

static ferkd_status take_dims(const fk_torch_file *f, const fk_pickle *from, const char *name,
                              int64_t *out, int *n)
{
    if (from->n > 6)
        return fk_fail(FERKD_LIMIT, "%s: %s: more than six dimensions", f->path, name);
    for (size_t i = 0; i < from->n; i++) {
        if (from->items[i]->kind != FK_P_INT)
            return corrupt(f, name, "a size that is no number");
        out[i] = from->items[i]->i;
    }
    *n = (int)from->n;
    return FERKD_OK;
}

/* {storage, offset, size, stride} */
static ferkd_status take_tensor(const fk_torch_file *f, const fk_pickle *v, const char *name,
                                fk_torch_tensor *t)
{
    const fk_pickle *storage = v->items[0];
    const fk_pickle *key = storage->items[2];
    int n_strides;
    char tail[64];

    t->element = (fk_element)storage->items[1]->i;
    TRY(take_dims(f, v->items[2], name, t->dims, &t->n_dims));
    TRY(take_dims(f, v->items[3], name, t->strides, &n_strides));
    (void)snprintf(tail, sizeof tail, "data/%.*s", (int)fk_min_size(key->n_text, 40), key->text);
    const fk_zip_member *m = fk_zip_find(&f->zip, tail);
    if (!m)
        return corrupt(f, name, "its storage is not in the file");
    uint64_t room = m->size / fk_element_bytes(t->element);
    uint64_t offset = (uint64_t)v->items[1]->i;
    if (v->items[1]->i < 0 || offset > room || !fits(t, room - offset))
        return corrupt(f, name, "it is larger than its storage");
    t->bytes = m->bytes + offset * fk_element_bytes(t->element);
    return FERKD_OK;
}

static bool numpy_element(const fk_pickle *dtype, fk_element *out)
{
    static const struct {
        const char *code;
        fk_element element;
    } codes[] = {{"f8", FK_E_F64}, {"f4", FK_E_F32}, {"f2", FK_E_F16},
                 {"i8", FK_E_I64}, {"i4", FK_E_I32}, {"i2", FK_E_I16},
                 {"i1", FK_E_I8},  {"u1", FK_E_U8},  {"b1", FK_E_BOOL}};

    for (size_t i = 0; i < FK_COUNT(codes); i++) {
        if (dtype->n_text == 2 && memcmp(dtype->text, codes[i].code, 2) == 0) {
            *out = codes[i].element;
            return true;
        }
    }
    return false;
}

/* {shape, dtype, fortran, bytes} */
static ferkd_status take_array(const fk_torch_file *f, const fk_pickle *v, const char *name,
                               fk_torch_tensor *t)
{
    int64_t stride = 1;

    if (v->n != 4)
        return corrupt(f, name, "an array without content");
    if (!numpy_element(v->items[1], &t->element))
        return fk_fail(FERKD_UNSUPPORTED, "%s: %s: an array of type %.*s", f->path, name,
                       (int)fk_min_size(v->items[1]->n_text, 20), v->items[1]->text);
    TRY(take_dims(f, v->items[0], name, t->dims, &t->n_dims));
    for (int i = 0; i < t->n_dims; i++) {
        int d = v->items[2]->i ? i : t->n_dims - 1 - i;
        t->strides[d] = stride;
        if (__builtin_mul_overflow(stride, t->dims[d] > 0 ? t->dims[d] : 1, &stride))
            return corrupt(f, name, "its size makes no sense");
    }
    if (!fits(t, v->items[3]->n_text / fk_element_bytes(t->element)))
        return corrupt(f, name, "it is larger than its bytes");
    t->bytes = (const uint8_t *)v->items[3]->text;
    return FERKD_OK;
}

static ferkd_status add(fk_torch_file *f, const fk_pickle *v, const char *name)
{
    fk_torch_tensor t = {.count = 1};

    TRY(v->kind == FK_P_TENSOR ? take_tensor(f, v, name, &t) : take_array(f, v, name, &t));
    for (int i = 0; i < t.n_dims; i++)
        t.count *= (size_t)t.dims[i];
    TRY(fk_grow(&f->tensors, &f->cap, f->n + 1, sizeof *f->tensors));
    TRY(fk_strdup(&t.name, name));
    f->tensors[f->n++] = t;
    return FERKD_OK;
}

/* --- all of them ------------------------------------------------------------------------------- */

static ferkd_status collect(fk_torch_file *f, const fk_pickle *v, const char *name, int depth);

static ferkd_status collect_item(fk_torch_file *f, const fk_pickle *item, const char *name,
                                 const char *key, size_t n_key, int depth)
{
    char *inner = NULL;

    TRY(fk_asprintf(&inner, "%s%s%.*s", name, *name ? "." : "", (int)fk_min_size(n_key, 500), key));
    ferkd_status st = collect(f, item, inner, depth + 1);
    free(inner);
    return st;
}

static ferkd_status collect(fk_torch_file *f, const fk_pickle *v, const char *name, int depth)
{
    char number[24];

    if (v->kind == FK_P_TENSOR || v->kind == FK_P_ARRAY)
        return f->n < FK_MAX_NODES
                   ? add(f, v, name)
                   : fk_fail(FERKD_LIMIT, "%s: more than %u tensors", f->path, FK_MAX_NODES);
    if (depth == MAX_DEPTH) /* a list may hold itself */
        return FERKD_OK;
    if (v->kind == FK_P_DICT) {
        for (size_t i = 0; i + 1 < v->n; i += 2) {
            if (v->items[i]->kind == FK_P_TEXT)
                TRY(collect_item(f, v->items[i + 1], name, v->items[i]->text, v->items[i]->n_text,
                                 depth));
        }
    }
    for (size_t i = 0; (v->kind == FK_P_LIST || v->kind == FK_P_TUPLE) && i < v->n; i++) {
        (void)snprintf(number, sizeof number, "%zu", i);
        TRY(collect_item(f, v->items[i], name, number, strlen(number), depth));
    }
    return FERKD_OK;
}

static ferkd_status read_all(fk_torch_file *f, const uint8_t *bytes, size_t n)
{
    static const uint8_t OLD[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46};

    if (n >= sizeof OLD && memcmp(bytes, OLD, sizeof OLD) == 0)
        return fk_fail(FERKD_UNSUPPORTED,
                       "%s: written by torch before 1.6; load it there and save it again", f->path);
    TRY(fk_zip_open(&f->zip, bytes, n, f->path));
    const fk_zip_member *order = fk_zip_find(&f->zip, "byteorder");
    if (order && order->size >= 3 && memcmp(order->bytes, "big", 3) == 0)
        return fk_fail(FERKD_UNSUPPORTED, "%s: of the other byte order", f->path);
    const fk_zip_member *pickle = fk_zip_find(&f->zip, "data.pkl");
    if (!pickle)
        return fk_fail(FERKD_CORRUPT, "%s: no file of torch.save: data.pkl is not in it", f->path);
    TRY(fk_pickle_read(&f->pickle, pickle->bytes, pickle->size, f->path));
    return collect(f, fk_pickle_root(f->pickle), "", 0);
}

ferkd_status fk_torch_parse(fk_torch_file **out, const uint8_t *bytes, size_t n, const char *path)
{
    fk_torch_file *f = NULL;

    TRY(fk_calloc(&f, 1, sizeof *f, path));
    f->path = path;
    ferkd_status st = read_all(f, bytes, n);
    if (st == FERKD_OK)
        *out = f;
    else
        fk_torch_close(&f);
    return st;
}

ferkd_status fk_torch_open(fk_torch_file **out, const char *path)
{
    fk_torch_file *f = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&f, 1, sizeof *f, path));
    TRY_DONE(fk_strdup(&f->own_path, path));
    f->path = f->own_path;
    TRY_DONE(fk_map_open(&f->map, path));
    TRY_DONE(read_all(f, f->map.bytes, f->map.size_bytes));
    *out = f;
    f = NULL;
done:
    fk_torch_close(&f);
    return st;
}

void fk_torch_close(fk_torch_file **file)
{
    fk_torch_file *f = *file;

    if (!f)
        return;
    for (size_t i = 0; i < f->n; i++)
        free(f->tensors[i].name);
    free(f->tensors);
    fk_pickle_free(&f->pickle);
    fk_zip_close(&f->zip);
    fk_map_close(&f->map);
    free(f->own_path);
    free(f);
    *file = NULL;
}

size_t fk_torch_count(const fk_torch_file *f)
{
    return f->n;
}

const fk_torch_tensor *fk_torch_at(const fk_torch_file *f, size_t i)
{
    return &f->tensors[i];
}

const fk_torch_tensor *fk_torch_find(const fk_torch_file *f, const char *name)
{
    const fk_torch_tensor *found = NULL;
    size_t n = strlen(name);

    for (size_t i = 0; i < f->n; i++) {
        const char *has = f->tensors[i].name;
        size_t m = strlen(has);
        if (strcmp(has, name) == 0)
            return &f->tensors[i];
        if (!found && m > n && has[m - n - 1] == '.' && strcmp(has + m - n, name) == 0)
            found = &f->tensors[i];
    }
    return found;
}

/* --- values ------------------------------------------------------------------------------------ */

static float value_of(fk_element e, const uint8_t *p)
{
    uint32_t bits;
    float v;

    switch (e) {
    case FK_E_F64:
        return (float)fk_f64le(p);
    case FK_E_F32:
    case FK_E_BF16:
        bits = e == FK_E_F32 ? fk_u32le(p) : fk_u16le(p) << 16;
        memcpy(&v, &bits, sizeof v);
        return v;
    case FK_E_F16:
        return fk_half_value(fk_u16le(p));
    case FK_E_I64:
        return (float)(int64_t)fk_u64le(p);
    case FK_E_I32:
        return (float)(int32_t)fk_u32le(p);
    case FK_E_I16:
        return (float)(int16_t)fk_u16le(p);
    case FK_E_I8:
        return (float)(int8_t)p[0];
    case FK_E_U8:
    case FK_E_BOOL:
        return (float)p[0];
    case FK_E_COUNT:
        break;
    }
    return 0.0f;
}

void fk_torch_values(const fk_torch_tensor *t, float *out)
{
    int64_t at[6] = {0};
    size_t bytes = fk_element_bytes(t->element);

    for (size_t i = 0; i < t->count; i++) {
        size_t place = 0;
        for (int d = 0; d < t->n_dims; d++)
            place += (size_t)(at[d] * t->strides[d]);
        out[i] = value_of(t->element, t->bytes + place * bytes);
        for (int d = t->n_dims - 1; d >= 0 && ++at[d] == t->dims[d]; d--)
            at[d] = 0;
    }
}
