/* Memory and strings: every failure has its sentence. */
#include "base/mem.h"

#include <strings.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

ferkd_status fk_size_mul(size_t *out, size_t a, size_t b)
{
    if (__builtin_mul_overflow(a, b, out))
        return fk_fail(FERKD_LIMIT, "a size of %zu x %zu does not fit in memory", a, b);
    return FERKD_OK;
}

ferkd_status fk_calloc(void *out, size_t n, size_t size, const char *what)
{
    void *p = calloc(n ? n : 1, size);

    if (!p)
        return fk_fail(FERKD_MEMORY, "%s: no memory for %zu x %zu bytes", what, n, size);
    memcpy(out, &p, sizeof p);
    return FERKD_OK;
}

ferkd_status fk_calloc_aligned(void *out, size_t bytes, const char *what)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    size_t whole = (bytes + align) / align * align;
    void *p = aligned_alloc(align, whole);

    if (!p)
        return fk_fail(FERKD_MEMORY, "%s: no memory for %zu bytes", what, bytes);
    if (align == HUGE_PAGE)
        (void)madvise(p, whole, MADV_HUGEPAGE); /* a wish: slower without, never wrong */
    memset(p, 0, whole);
    memcpy(out, &p, sizeof p);
    return FERKD_OK;
}

ferkd_status fk_grow(void *array, size_t *cap, size_t need, size_t size)
{
    void *old;
    size_t want = *cap ? *cap : 16;
    size_t bytes;

    if (need <= *cap)
        return FERKD_OK;
    while (want < need)
        want *= 2;
    TRY(fk_size_mul(&bytes, want, size));
    memcpy(&old, array, sizeof old);
    void *p = realloc(old, bytes);
    if (!p)
        return fk_fail(FERKD_MEMORY, "no memory for %zu bytes", bytes);
    memcpy(array, &p, sizeof p);
    *cap = want;
    return FERKD_OK;
}

ferkd_status fk_strdup(char **out, const char *text)
{
    char *p = strdup(text);

    if (!p)
        return fk_fail(FERKD_MEMORY, "no memory for a text");
    *out = p;
    return FERKD_OK;
}

ferkd_status fk_asprintf(char **out, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        return fk_fail(FERKD_MEMORY, "no memory for a text");
    *out = text;
    return FERKD_OK;
}

bool fk_ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text);
    size_t m = strlen(tail);

    return n >= m && strcasecmp(text + n - m, tail) == 0;
}

double fk_now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
