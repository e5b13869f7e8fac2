/* A ZIP of stored members: data.pkl (protocol 2), byteorder, data/0, data/1, ..., version. */
#include "base/compat.h"

#include "exchange/torch_write.h"

#include <zlib.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

#define MAX_TENSORS 9
#define MAX_MEMBERS (MAX_TENSORS + 3)

static void put_number(FILE *f, int64_t v)
{
    uint8_t b[5] = {'J'};

    fk_put_u32(b + 1, (uint32_t)v);
    (void)fwrite(b, 1, sizeof b, f);
}

static void put_text(FILE *f, const char *text)
{
    uint8_t b[5] = {'X'};

    fk_put_u32(b + 1, (uint32_t)strlen(text));
    (void)fwrite(b, 1, sizeof b, f);
    (void)fputs(text, f);
}

static void put_sizes(FILE *f, const int64_t *sizes, int n)
{
    (void)fputc('(', f);
    for (int i = 0; i < n; i++)
        put_number(f, sizes[i]);
    (void)fputc('t', f);
}

static int64_t count_of(const fk_torch_out *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

/* _rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()) */
static void put_tensor(FILE *f, const fk_torch_out *t, size_t number)
{
    int64_t strides[6];
    char key[24];
    int64_t step = 1;

    for (int i = t->n_dims - 1; i >= 0; i--) {
        strides[i] = step;
        step *= t->dims[i];
    }
    (void)snprintf(key, sizeof key, "%zu", number);
    (void)fputs("ctorch._utils\n_rebuild_tensor_v2\n((", f);
    put_text(f, "storage");
    (void)fputs(t->element == FK_E_BOOL ? "ctorch\nBoolStorage\n" : "ctorch\nFloatStorage\n", f);
    put_text(f, key);
    put_text(f, "cpu");
    put_number(f, count_of(t));
    (void)fputs("tQ", f);
    put_number(f, 0);
    put_sizes(f, t->dims, t->n_dims);
    put_sizes(f, strides, t->n_dims);
    (void)fputs("\x89"
                "ccollections\nOrderedDict\n)RtR",
                f);
}

static ferkd_status make_pickle(const fk_torch_out *tensors, size_t n, char **out, size_t *size)
{
    FILE *f = open_memstream(out, size);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory for a pickle");
    (void)fputs("\x80\x02](", f);
    for (size_t i = 0; i < n; i++)
        put_tensor(f, &tensors[i], i);
    (void)fputs("e.", f);
    return fclose(f) == 0 ? FERKD_OK : fk_fail(FERKD_MEMORY, "no memory for a pickle");
}

/* --- the ZIP ----------------------------------------------------------------------------------- */

typedef struct member {
    char name[48];
    const void *bytes;
    size_t size;
    uint32_t crc, offset;
} member;

/* What local and central headers share, from "version needed" to the lengths. */
static void put_common(uint8_t *p, const member *m)
{
    fk_put_u16(p, 20);
    fk_put_u32(p + 10, m->crc);
    fk_put_u32(p + 14, (uint32_t)m->size);
    fk_put_u32(p + 18, (uint32_t)m->size);
    fk_put_u16(p + 22, (uint32_t)strlen(m->name));
}

static void put_member(FILE *f, member *m)
{
    uint8_t head[30] = {'P', 'K', 3, 4};

    m->offset = (uint32_t)ftell(f);
    m->crc = (uint32_t)crc32(0, m->bytes, (uInt)m->size);
    put_common(head + 4, m);
    (void)fwrite(head, 1, sizeof head, f);
    (void)fputs(m->name, f);
    (void)fwrite(m->bytes, 1, m->size, f);
}

static void put_directory(FILE *f, const member *m, size_t n)
{
    uint32_t start = (uint32_t)ftell(f);
    uint8_t end[22] = {'P', 'K', 5, 6};

    for (size_t i = 0; i < n; i++) {
        uint8_t head[46] = {'P', 'K', 1, 2, 20};
        put_common(head + 6, &m[i]);
        fk_put_u32(head + 42, m[i].offset);
        (void)fwrite(head, 1, sizeof head, f);
        (void)fputs(m[i].name, f);
    }
    fk_put_u16(end + 8, (uint32_t)n);
    fk_put_u16(end + 10, (uint32_t)n);
    fk_put_u32(end + 12, (uint32_t)ftell(f) - start);
    fk_put_u32(end + 16, start);
    (void)fwrite(end, 1, sizeof end, f);
}

static ferkd_status make_zip(member *m, size_t n, char **out, size_t *size)
{
    FILE *f = open_memstream(out, size);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory for a ZIP file");
    for (size_t i = 0; i < n; i++)
        put_member(f, &m[i]);
    put_directory(f, m, n);
    return fclose(f) == 0 ? FERKD_OK : fk_fail(FERKD_MEMORY, "no memory for a ZIP file");
}

ferkd_status fk_torch_write(const char *path, const fk_torch_out *tensors, size_t n)
{
    member m[MAX_MEMBERS] = {{"archive/data.pkl", NULL, 0, 0, 0},
                             {"archive/byteorder", "little", 6, 0, 0}};
    char *pickle = NULL;
    char *zip = NULL;
    size_t size = 0;
    size_t count = 2;

    if (n > MAX_TENSORS)
        return fk_fail(FERKD_LIMIT, "%s: more than %d tensors", path, MAX_TENSORS);
    ferkd_status st = make_pickle(tensors, n, &pickle, &size);
    m[0].bytes = pickle;
    m[0].size = size;
    for (size_t i = 0; i < n; i++, count++) {
        (void)snprintf(m[count].name, sizeof m[count].name, "archive/data/%zu", i);
        m[count].bytes = tensors[i].values;
        m[count].size = (size_t)count_of(&tensors[i]) * fk_element_bytes(tensors[i].element);
        if (m[count].size > 1u << 30 && st == FERKD_OK)
            st = fk_fail(FERKD_LIMIT, "%s: a tensor of over 1 GiB", path);
    }
    m[count++] = (member){"archive/version", "3\n", 2, 0, 0};
    if (st == FERKD_OK)
        st = make_zip(m, count, &zip, &size);
    if (st == FERKD_OK)
        st = fk_file_replace(path, zip, size);
    free(pickle);
    free(zip);
    return st;
}
