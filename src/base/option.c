/* Options from a table: parse, print, and find the nearest name to a typing error. */
#include "base/option.h"

#include "base/mem.h"

#define MAX_WORD 64

static char fold(char c)
{
    return c == '_' ? '-' : c;
}

static bool same_name(const char *a, const char *b)
{
    while (*a && fold(*a) == fold(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

bool fk_is_choice(const char *choices, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return n > 0;
    }
    return false;
}

static ferkd_status parse_flag(const fk_option *o, bool *out, const char *text)
{
    if (fk_is_choice("true|yes|on|1", text))
        *out = true;
    else if (fk_is_choice("false|no|off|0", text))
        *out = false;
    else
        return fk_fail(FERKD_USAGE, "--%s is true or false, not \"%s\"", o->name, text);
    return FERKD_OK;
}

static ferkd_status parse_number(const fk_option *o, double *out, const char *text)
{
    char *end;

    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(v))
        return fk_fail(FERKD_USAGE, "--%s takes a number, not \"%s\"", o->name, text);
    if (o->kind == FK_OPT_INT && (fabs(v) >= 0x1p53 || v != floor(v)))
        return fk_fail(FERKD_USAGE, "--%s takes a whole number, not \"%s\"", o->name, text);
    if ((o->low != 0.0 || o->high != 0.0) && (v < o->low || v > o->high))
        return fk_fail(FERKD_USAGE, "--%s lies between %.12g and %.12g, not %s", o->name, o->low,
                       o->high, text);
    *out = v;
    return FERKD_OK;
}

ferkd_status fk_option_set(const fk_option *o, void *base, const char *text)
{
    char *field = (char *)base + o->offset;
    double number = 0.0;
    char *copy = NULL;

    switch (o->kind) {
    case FK_OPT_FLAG:
        return parse_flag(o, (bool *)(void *)field, text);
    case FK_OPT_INT:
        TRY(parse_number(o, &number, text));
        *(int64_t *)(void *)field = (int64_t)number;
        return FERKD_OK;
    case FK_OPT_REAL:
        TRY(parse_number(o, &number, text));
        *(double *)(void *)field = number;
        return FERKD_OK;
    case FK_OPT_CHOICE:
        if (!fk_is_choice(o->choices, text))
            return fk_fail(FERKD_USAGE, "--%s is one of %s, not \"%s\"", o->name, o->choices, text);
        break;
    case FK_OPT_TEXT:
        break;
    }
    TRY(fk_strdup(&copy, text));
    free(*(char **)(void *)field);
    *(char **)(void *)field = copy;
    return FERKD_OK;
}

ferkd_status fk_options_init(const fk_option *table, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        if (table[i].kind == FK_OPT_TEXT || table[i].kind == FK_OPT_CHOICE)
            *(char **)(void *)((char *)base + table[i].offset) = NULL;
        if (table[i].kind == FK_OPT_FLAG)
            *(bool *)(void *)((char *)base + table[i].offset) = false;
    }
    for (size_t i = 0; i < n; i++) {
        if (table[i].initial)
            TRY(fk_option_set(&table[i], base, table[i].initial));
    }
    return FERKD_OK;
}

void fk_options_fini(const fk_option *table, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        if (table[i].kind != FK_OPT_TEXT && table[i].kind != FK_OPT_CHOICE)
            continue;
        char **field = (char **)(void *)((char *)base + table[i].offset);
        free(*field);
        *field = NULL;
    }
}

ferkd_status fk_option_text(const fk_option *o, const void *base, char **out)
{
    const char *field = (const char *)base + o->offset;

    switch (o->kind) {
    case FK_OPT_FLAG:
        return fk_strdup(out, *(const bool *)(const void *)field ? "true" : "false");
    case FK_OPT_INT:
        return fk_asprintf(out, "%" PRId64, *(const int64_t *)(const void *)field);
    case FK_OPT_REAL:
        return fk_asprintf(out, "%.12g", *(const double *)(const void *)field);
    case FK_OPT_TEXT:
    case FK_OPT_CHOICE:
        break;
    }
    const char *text = *(char *const *)(const void *)field;
    return fk_strdup(out, text ? text : "");
}

const fk_option *fk_option_find(const fk_option *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (same_name(table[i].name, name))
            return &table[i];
    }
    return NULL;
}

int fk_word_distance(const char *a, const char *b)
{
    int d[3][MAX_WORD + 1];
    int n = fk_min_int((int)strlen(a), MAX_WORD);
    int m = fk_min_int((int)strlen(b), MAX_WORD);

    for (int j = 0; j <= m; j++)
        d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = d[i % 3];
        const int *last = d[(i + 2) % 3];
        const int *before = d[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int swap = fold(a[i - 1]) != fold(b[j - 1]);
            now[j] = fk_min_int(fk_min_int(last[j] + 1, now[j - 1] + 1), last[j - 1] + swap);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = fk_min_int(now[j], before[j - 2] + 1);
        }
    }
    return d[n % 3][m];
}

const char *fk_option_nearest(const fk_option *table, size_t n, const char *name)
{
    const char *best = NULL;
    int best_distance = fk_max_int(2, (int)strlen(name) / 3) + 1;

    for (size_t i = 0; i < n; i++) {
        int d = fk_word_distance(table[i].name, name);
        if (d < best_distance) {
            best_distance = d;
            best = table[i].name;
        }
    }
    return best;
}
