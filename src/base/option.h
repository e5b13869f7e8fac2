/* One table of options: the command line, the recipe file, the help and the man page all read it. */
#ifndef FK_OPTION_H
#define FK_OPTION_H

#include "base/compat.h"

typedef enum fk_option_kind {
    FK_OPT_FLAG,  /* bool */
    FK_OPT_INT,   /* int64_t, within low..high */
    FK_OPT_REAL,  /* double, within low..high */
    FK_OPT_TEXT,  /* char *, owned; NULL until set */
    FK_OPT_CHOICE /* char *, one of the words of choices ("a|b|c") */
} fk_option_kind;

typedef struct fk_option {
    const char *name; /* in recipes with '_', on the command line with '-' */
    char letter;      /* short form, or 0 */
    fk_option_kind kind;
    size_t offset; /* of the field in the struct that it fills */
    const char *initial;
    double low, high;    /* both 0: unlimited */
    const char *choices; /* for FK_OPT_CHOICE */
    const char *arg;     /* the word for the argument in help */
    const char *help;
} fk_option;

/* Set every field to its initial value. */
FERKD_CHECK ferkd_status fk_options_init(const fk_option *table, size_t n, void *base);
void fk_options_fini(const fk_option *table, size_t n, void *base);

/* Parse text into the field; the sentence names the option and what it accepts. */
FERKD_CHECK ferkd_status fk_option_set(const fk_option *o, void *base, const char *text);

/* The field's value as text, as it would be written in a recipe. */
FERKD_CHECK ferkd_status fk_option_text(const fk_option *o, const void *base, char **out);

/* Is it one of the words of choices, "a|b|c"? */
bool fk_is_choice(const char *choices, const char *word);

/* By name ('-' and '_' alike), or NULL. */
const fk_option *fk_option_find(const fk_option *table, size_t n, const char *name);

/* The known name that is nearest to a mistyped one (Damerau and Levenshtein), or NULL. */
const char *fk_option_nearest(const fk_option *table, size_t n, const char *name);

/* Edit distance between two words, '-' and '_' alike. */
int fk_word_distance(const char *a, const char *b);

#endif
