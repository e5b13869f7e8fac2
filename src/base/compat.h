/* First include of every .c file: the standard headers, the few macros that all floors share, and
 * the functions that nobody may call. */
#ifndef FK_COMPAT_H
#define FK_COMPAT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"

#define FK_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define FK_PRINTF(f, a) __attribute__((format(printf, f, a)))

static inline size_t fk_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t fk_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline int fk_min_int(int a, int b)
{
    return a < b ? a : b;
}

static inline int fk_max_int(int a, int b)
{
    return a > b ? a : b;
}

#pragma GCC poison strcpy strcat sprintf strtok atoi atof rand srand localtime strerror

#endif
