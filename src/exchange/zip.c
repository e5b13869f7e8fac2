/* The central directory alone is believed: local headers written by torch have no sizes. (PKWARE's APPNOTE 6.3.) */
#include "base/compat.h"

#include "exchange/zip.h"

#include "base/bytes.h"
#include "base/mem.h"

#define MAX_MEMBERS 1000000u

enum {
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    END64 = 0x06064b50,
    LOCATOR64 = 0x07064b50
};

enum { END_BYTES = 22, LOCATOR_BYTES = 20, CENTRAL_BYTES = 46, LOCAL_BYTES = 30, END64_BYTES = 56 };

static ferkd_status corrupt(const char *path, const char *what)
{
    return fk_fail(FERKD_CORRUPT, "%s: %s; copy the file again", path, what);
}

/* The end record: within the last 64 KiB, a comment may follow it. */
static const uint8_t *find_end(const uint8_t *bytes, size_t n)
{
    for (size_t back = END_BYTES; back <= n && back < 65536 + END_BYTES; back++) {
        if (fk_u32le(bytes + n - back) == END)
            return bytes + n - back;
    }
    return NULL;
}

/* Where the directory is, and how many members it has. */
static ferkd_status read_end(const uint8_t *bytes, size_t n, const char *path, uint64_t *at,
                             uint64_t *count)
{
    const uint8_t *end = find_end(bytes, n);

    if (!end)
        return corrupt(path, "no ZIP file, or cut short");
    *count = fk_u16le(end + 10);
    *at = fk_u32le(end + 16);
    if ((*count != 0xffff && *at != 0xffffffff) || end - bytes < LOCATOR_BYTES)
        return FERKD_OK;
    const uint8_t *locator = end - LOCATOR_BYTES;
    uint64_t record = fk_u64le(locator + 8);
    if (fk_u32le(locator) != LOCATOR64 || record > n || n - record < END64_BYTES ||
        fk_u32le(bytes + record) != END64)
        return corrupt(path, "its end makes no sense");
    *count = fk_u64le(bytes + record + 32);
    *at = fk_u64le(bytes + record + 48);
    return FERKD_OK;
}

/* Sizes and offsets of 32 bits that are all ones stand in the extra field with id 1, in this order. */
static void read_extra(const uint8_t *extra, size_t n, uint64_t *size, uint64_t *packed,
                       uint64_t *offset)
{
    uint64_t *wanted[3] = {size, packed, offset};

    while (n >= 4) {
        uint32_t id = fk_u16le(extra);
        size_t bytes = fk_u16le(extra + 2);
        if (bytes > n - 4)
            return;
        const uint8_t *at = extra + 4;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wanted[i] != 0xffffffff || bytes < 8)
                continue;
            *wanted[i] = fk_u64le(at);
            at += 8;
            bytes -= 8;
        }
        bytes = fk_u16le(extra + 2);
        extra += 4 + bytes;
        n -= 4 + bytes;
    }
}

/* One entry of the directory at *at, which moves on. */
static ferkd_status read_entry(const uint8_t *bytes, size_t n, const char *path, uint64_t *at,
                               fk_zip_member *m)
{
    if (*at > n || n - *at < CENTRAL_BYTES || fk_u32le(bytes + *at) != CENTRAL)
        return corrupt(path, "its directory is damaged");
    const uint8_t *e = bytes + *at;
    uint64_t packed = fk_u32le(e + 20);
    uint64_t size = fk_u32le(e + 24);
    uint64_t offset = fk_u32le(e + 42);
    size_t name = fk_u16le(e + 28);
    size_t extra = fk_u16le(e + 30);
    size_t whole = CENTRAL_BYTES + name + extra + fk_u16le(e + 32);
    if (n - *at < whole)
        return corrupt(path, "its directory is damaged");
    read_extra(e + CENTRAL_BYTES + name, extra, &size, &packed, &offset);
    if (fk_u16le(e + 10) != 0)
        return fk_fail(FERKD_UNSUPPORTED, "%s: a packed ZIP; torch.save writes stored ones", path);
    if (offset > n || n - offset < LOCAL_BYTES || fk_u32le(bytes + offset) != LOCAL)
        return corrupt(path, "a member's place makes no sense");
    uint64_t data =
        offset + LOCAL_BYTES + fk_u16le(bytes + offset + 26) + fk_u16le(bytes + offset + 28);
    if (size != packed || data > n || size > n - data)
        return corrupt(path, "a member's size makes no sense");
    *m = (fk_zip_member){(const char *)e + CENTRAL_BYTES, name, bytes + data, (size_t)size};
    *at += whole;
    return FERKD_OK;
}

ferkd_status fk_zip_open(fk_zip *z, const uint8_t *bytes, size_t n, const char *path)
{
    uint64_t at = 0;
    uint64_t count = 0;

    *z = (fk_zip){0};
    TRY(read_end(bytes, n, path, &at, &count));
    if (count > MAX_MEMBERS || count > n / CENTRAL_BYTES)
        return fk_fail(FERKD_LIMIT, "%s: %" PRIu64 " members", path, count);
    TRY(fk_calloc(&z->members, (size_t)count, sizeof *z->members, path));
    for (; z->n < count; z->n++) {
        ferkd_status st = read_entry(bytes, n, path, &at, &z->members[z->n]);
        if (st != FERKD_OK) {
            fk_zip_close(z);
            return st;
        }
    }
    return FERKD_OK;
}

void fk_zip_close(fk_zip *z)
{
    free(z->members);
    *z = (fk_zip){0};
}

const fk_zip_member *fk_zip_find(const fk_zip *z, const char *tail)
{
    size_t n = strlen(tail);

    for (size_t i = 0; i < z->n; i++) {
        const fk_zip_member *m = &z->members[i];
        const char *slash = memchr(m->name, '/', m->name_bytes);
        if (slash && m->name_bytes - (size_t)(slash - m->name) - 1 == n &&
            memcmp(slash + 1, tail, n) == 0)
            return m;
    }
    return NULL;
}
