/* The sentence of the last failure, one for each thread. */
#include "base/compat.h"

static _Thread_local char last_error[512];

static const char *const STATUS_NAMES[] = {"ok",     "",        "usage",       "absent",
                                           "io",     "corrupt", "unsupported", "limit",
                                           "memory", "stopped", "bug"};

const char *ferkd_last_error(void)
{
    return last_error[0] ? last_error : "no error has happened on this thread";
}

const char *ferkd_version(void)
{
    return FERKD_VERSION;
}

ferkd_status fk_fail(ferkd_status st, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    return st;
}

ferkd_status fk_fail_errno(ferkd_status st, const char *format, ...)
{
    int code = errno;
    va_list args;

    va_start(args, format);
    int n = vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof last_error - 1) {
        char reason[128];
        (void)snprintf(last_error + n, sizeof last_error - (size_t)n, ": %s",
                       strerror_r(code, reason, sizeof reason));
    }
    return st;
}

void fk_fault_take(fk_fault *f, ferkd_status st)
{
    f->status = st;
    (void)snprintf(f->text, sizeof f->text, "%s", st == FERKD_OK ? "" : last_error);
}

ferkd_status fk_fault_put(const fk_fault *f)
{
    if (f->status != FERKD_OK)
        (void)snprintf(last_error, sizeof last_error, "%s", f->text);
    return f->status;
}

const char *fk_status_name(ferkd_status st)
{
    return (size_t)st < FK_COUNT(STATUS_NAMES) ? STATUS_NAMES[st] : "?";
}
