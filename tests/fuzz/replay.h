/* A fuzz target: libFuzzer calls it, and so does the plain driver, on every file of the corpus. */
#ifndef REPLAY_H
#define REPLAY_H

#include <stddef.h>
#include <stdint.h>

/* Call, whatever it says: a fuzz target looks for crashes only. */
#define FUZZ(call)   \
    do {             \
        if (call)    \
            (void)0; \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Where its seeds lie below tests/: a folder, and the end of the names. */
extern const char *const fuzz_seeds;
extern const char *const fuzz_suffix;

#endif
