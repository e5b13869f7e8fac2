/* Writing, keeping and passing on the sentence that goes with a status. */
#ifndef FK_FAULT_H
#define FK_FAULT_H

#include "ferkd/status.h"

/* Return a failure from a function that owns nothing yet. */
#define TRY(call)                     \
    do {                              \
        ferkd_status try_st = (call); \
        if (try_st != FERKD_OK)       \
            return try_st;            \
    } while (0)

/* Keep a failure in st and go to done, where what is still ours is freed. */
#define TRY_DONE(call)      \
    do {                    \
        st = (call);        \
        if (st != FERKD_OK) \
            goto done;      \
    } while (0)

/* Write this thread's sentence and return st, so that "return fk_fail(...)" reads as what it is. */
ferkd_status fk_fail(ferkd_status st, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, with the system's word for errno at the end. */
ferkd_status fk_fail_errno(ferkd_status st, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A fault on its way from a worker to the thread that waits for it. */
typedef struct fk_fault {
    ferkd_status status;
    char text[512];
} fk_fault;

/* Take this thread's sentence along with st. */
void fk_fault_take(fk_fault *f, ferkd_status st);

/* Make f this thread's sentence and return its status. */
ferkd_status fk_fault_put(const fk_fault *f);

/* A short name for a status, as in JSON output. */
const char *fk_status_name(ferkd_status st);

#endif
