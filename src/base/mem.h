/* Sizes that cannot wrap around, aligned memory, strings. */
#ifndef FK_MEM_H
#define FK_MEM_H

#include "base/compat.h"

/* out = a * b; FERKD_LIMIT where that does not fit. */
FERKD_CHECK ferkd_status fk_size_mul(size_t *out, size_t a, size_t b);

/* calloc with the sentence: n elements of size bytes, zeroed. what names it in the message. */
FERKD_CHECK ferkd_status fk_calloc(void *out, size_t n, size_t size, const char *what);

/* Zeroed memory on a 64-byte boundary (2 MiB for large ones, offered as huge pages); free() it. */
FERKD_CHECK ferkd_status fk_calloc_aligned(void *out, size_t bytes, const char *what);

/* Grow *array (elements of size bytes, capacity *cap) so that it holds at least need. */
FERKD_CHECK ferkd_status fk_grow(void *array, size_t *cap, size_t need, size_t size);

FERKD_CHECK ferkd_status fk_strdup(char **out, const char *text);

/* A new string from a format. */
FERKD_CHECK ferkd_status fk_asprintf(char **out, const char *format, ...) FK_PRINTF(2, 3);

/* Does text end in tail, letter case apart? */
bool fk_ends_with(const char *text, const char *tail);

/* Seconds on a clock that never jumps. */
double fk_now_s(void);

#endif
