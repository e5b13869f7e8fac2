/* The one error model of libferkd: a status, and a sentence kept for the calling thread. */
#ifndef FERKD_STATUS_H
#define FERKD_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define FERKD_API
#else
#define FERKD_API __attribute__((visibility("default")))
#endif

#define FERKD_CHECK __attribute__((warn_unused_result))

/** What became of a call. Zero is success; each value is also the program's exit code. */
typedef enum ferkd_status {
    FERKD_OK = 0,
    FERKD_USAGE = 2,       /**< an argument or option makes no sense */
    FERKD_ABSENT = 3,      /**< a file, folder, class or key is not there */
    FERKD_IO = 4,          /**< the system could not read or write */
    FERKD_CORRUPT = 5,     /**< a file is damaged or not what it claims to be */
    FERKD_UNSUPPORTED = 6, /**< well formed, but beyond what this build does */
    FERKD_LIMIT = 7,       /**< larger than a named limit */
    FERKD_MEMORY = 8,      /**< no memory */
    FERKD_STOPPED = 9,     /**< stopped on request, at a safe point */
    FERKD_BUG = 10         /**< a promise of the library itself was broken: please report */
} ferkd_status;

/** The sentence that belongs to this thread's last failure: what, where, remedy. Never NULL;
 *  valid until the next failure on this thread. */
FERKD_API const char *ferkd_last_error(void);

/** The library's version, "major.minor.patch". */
FERKD_API const char *ferkd_version(void);

/** Asked now and then by long calls, which return FERKD_STOPPED at their next safe point once it
 *  gives nonzero. May be called from any thread. */
typedef int ferkd_stop_fn(void *ctx);

/** One report of progress: done of total units (total 0: unknown), and what is being done. */
typedef void ferkd_progress_fn(void *ctx, const char *what, unsigned long long done,
                               unsigned long long total, const char *detail);

/** How a long call speaks with its caller; every field may be NULL. */
typedef struct ferkd_watch {
    ferkd_progress_fn *progress;
    void (*message)(void *ctx, const char *line); /**< a plain line for a person */
    ferkd_stop_fn *stop;
    void *ctx;
} ferkd_watch;

#ifdef __cplusplus
}
#endif
#endif
