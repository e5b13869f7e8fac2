/* A door for debugging: FERKD_TRACE=plan,dnnl,loader prints what was decided, to stderr. */
#ifndef FK_TRACE_H
#define FK_TRACE_H

#include "base/compat.h"

bool fk_tracing(const char *topic);

void fk_trace(const char *topic, const char *format, ...) FK_PRINTF(2, 3);

#endif
