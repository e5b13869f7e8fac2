/* Networks that are written down in a JSON file: docs/networks.md. */
#ifndef FK_NETFILE_H
#define FK_NETFILE_H

#include "net/zoo/zoo.h"

/* Is it the name of such a file? */
bool fk_is_netfile(const char *name);

/* What stands at its top. FERKD_CORRUPT names the file and the place. */
typedef struct fk_netfile_about {
    char name[64];
    int64_t size; /* pixels it is usually trained at */
} fk_netfile_about;

FERKD_CHECK ferkd_status fk_netfile_read(const char *path, fk_netfile_about *about);

/* As fk_zoo_build(). */
FERKD_CHECK ferkd_status fk_netfile_build(fk_graph **out, const char *path,
                                          const fk_zoo_options *o);

#endif
