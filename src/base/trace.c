/* The one place in the library that prints, and only when asked by the environment. */
#include "base/trace.h"

bool fk_tracing(const char *topic)
{
    const char *topics = getenv("FERKD_TRACE");

    return topics && strstr(topics, topic);
}

void fk_trace(const char *topic, const char *format, ...)
{
    va_list args;

    if (!fk_tracing(topic))
        return;
    (void)fprintf(stderr, "[%s] ", topic);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
}
