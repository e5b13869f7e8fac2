/* What the environment may say, for tests, for comparing, and for repeating elsewhere what was measured here. */
#ifndef FK_SWITCHES_H
#define FK_SWITCHES_H

#include "base/compat.h"

typedef struct fk_switch {
    const char *name;  /* of the variable */
    const char *words; /* "a|b|c" */
    const char *help;
} fk_switch;

/* All of them; n: how many. */
const fk_switch *fk_switches(size_t *n);

/* Does variable `name`, one of the switches, say this word? */
bool fk_switch_is(const char *name, const char *word);

/* FERKD_USAGE if a switch is set to a word that it does not have; the sentence names both. */
FERKD_CHECK ferkd_status fk_switches_check(void);

#endif
