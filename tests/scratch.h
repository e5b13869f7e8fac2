/* A folder of a test's own: made before it, gone after it. For tests that are one file each. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>

static char scratch[64];

static inline int scratch_begin(void **state)
{
    (void)state;
    (void)snprintf(scratch, sizeof scratch, "/tmp/ferkd-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_end(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

#endif
