/* The memory of the tuner: keys and choices in a text file, a line each, "key TAB choice TAB microseconds". */
#include "base/compat.h"

#include "engine/tune.h"

#include <omp.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/dnnl_glue.h"

typedef struct entry {
    char *key, *choice;
    double seconds;
    bool asked; /* by this process: part of its record */
} entry;

struct fk_tuner {
    fk_tune_mode mode;
    entry *entries;
    size_t n, cap;
    char *path; /* of the cache, or NULL */
    bool changed;
};

static entry *find(const fk_tuner *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->entries[i].key, key) == 0)
            return &t->entries[i];
    }
    return NULL;
}

static ferkd_status put(fk_tuner *t, const char *key, const char *choice, double seconds,
                        entry **out)
{
    entry *e = find(t, key);
    char *copy = NULL;

    TRY(fk_strdup(&copy, choice));
    if (!e) {
        char *name = NULL;
        ferkd_status st = fk_grow(&t->entries, &t->cap, t->n + 1, sizeof *t->entries);
        if (st == FERKD_OK)
            st = fk_strdup(&name, key);
        if (st != FERKD_OK) {
            free(copy);
            return st;
        }
        e = &t->entries[t->n++];
        *e = (entry){.key = name};
    }
    free(e->choice);
    e->choice = copy;
    e->seconds = seconds;
    *out = e;
    return FERKD_OK;
}

/* Lines that are not ours are passed over. */
static ferkd_status read_lines(fk_tuner *t, char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *choice = strchr(line, '\t');
        char *time = choice ? strchr(choice + 1, '\t') : NULL;
        entry *e;
        if (*line == '#' || !time)
            continue;
        *choice++ = '\0';
        *time++ = '\0';
        TRY(put(t, line, choice, strtod(time, NULL) * 1e-6, &e));
    }
    return FERKD_OK;
}

static ferkd_status load(fk_tuner *t, const char *path)
{
    uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(fk_file_read(&bytes, &n, path, FK_MAX_TUNE_BYTES, true));
    ferkd_status st = read_lines(t, (char *)bytes);
    free(bytes);
    return st;
}

/* --- where the cache is ---------------------------------------------------------------------- */

/* The processor's name, as it gives it. */
static void processor_name(char *name, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");

    (void)snprintf(name, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (colon && (strncmp(line, "model", 5) == 0 || strncmp(line, "stepping", 8) == 0 ||
                      strncmp(line, "flags", 5) == 0)) {
            size_t used = strlen(name);
            (void)snprintf(name + used, size - used, "%s", colon + 1);
        }
        if (*line == '\n')
            break;
    }
    if (f)
        (void)fclose(f);
}

static ferkd_status cache_path(char **out)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char name[2048];
    char *folder = NULL;

    *out = NULL;
    if ((!cache || *cache != '/') && (!home || *home != '/'))
        return FERKD_OK;
    if (cache && *cache == '/')
        TRY(fk_asprintf(&folder, "%s/ferkd", cache));
    else
        TRY(fk_asprintf(&folder, "%s/.cache/ferkd", home));
    processor_name(name, sizeof name);
    ferkd_status st =
        fk_asprintf(out, "%s/tune-%016" PRIx64 "-%s-%d.txt", folder,
                    fk_hash64(name, strlen(name), 0), fk_dn_version(), omp_get_max_threads());
    free(folder);
    return st;
}

/* --- life ------------------------------------------------------------------------------------ */

ferkd_status fk_tuner_new(fk_tuner **out, const char *mode)
{
    fk_tuner *t = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&t, 1, sizeof *t, "the tuner"));
    t->mode = strcmp(mode, "off") == 0    ? FK_TUNE_OFF
              : strcmp(mode, "full") == 0 ? FK_TUNE_FULL
                                          : FK_TUNE_QUICK;
    if (t->mode != FK_TUNE_OFF)
        TRY_DONE(cache_path(&t->path));
    if (t->path && fk_is_file(t->path))
        (void)load(t, t->path); /* unreadable: measured again */
    if (t->mode == FK_TUNE_QUICK && strcmp(mode, "quick") != 0)
        TRY_DONE(load(t, mode));
    *out = t;
    t = NULL;
done:
    fk_tuner_free(&t);
    return st;
}

/* A longer list that somebody else wrote meanwhile is merged; what is left undone is measured again. */
static ferkd_status write_cache(fk_tuner *t)
{
    char *text = NULL;
    char *folder = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory to write %s", t->path);
    for (size_t i = 0; i < t->n; i++)
        (void)fprintf(f, "%s\t%s\t%.2f\n", t->entries[i].key, t->entries[i].choice,
                      1e6 * t->entries[i].seconds);
    ferkd_status st = fclose(f) == 0 ? fk_strdup(&folder, t->path)
                                     : fk_fail(FERKD_MEMORY, "no memory to write %s", t->path);
    if (st == FERKD_OK) {
        *strrchr(folder, '/') = '\0';
        st = fk_make_folder(folder);
    }
    if (st == FERKD_OK)
        st = fk_file_replace(t->path, text, size);
    free(folder);
    free(text);
    return st;
}

void fk_tuner_free(fk_tuner **tuner)
{
    fk_tuner *t = *tuner;

    if (!t)
        return;
    if (t->changed && t->path)
        (void)write_cache(t); /* a home that cannot be written to is no reason to fail */
    for (size_t i = 0; i < t->n; i++) {
        free(t->entries[i].key);
        free(t->entries[i].choice);
    }
    free(t->entries);
    free(t->path);
    free(t);
    *tuner = NULL;
}

fk_tune_mode fk_tuner_mode(const fk_tuner *t)
{
    return t ? t->mode : FK_TUNE_OFF;
}

const char *fk_tuner_find(fk_tuner *t, const char *key)
{
    entry *e = find(t, key);

    if (!e)
        return NULL;
    e->asked = true;
    return e->choice;
}

ferkd_status fk_tuner_note(fk_tuner *t, const char *key, const char *choice, double seconds)
{
    entry *e;

    TRY(put(t, key, choice, seconds, &e));
    e->asked = true;
    t->changed = true;
    return FERKD_OK;
}

ferkd_status fk_tuner_save(fk_tuner *t, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory to write %s", path);
    if (t->changed && t->path && write_cache(t) == FERKD_OK) /* now: the run may be killed */
        t->changed = false;
    (void)fprintf(f, "# ferkd: the implementations of this run; oneDNN %s, %d threads\n",
                  fk_dn_version(), omp_get_max_threads());
    for (size_t i = 0; i < t->n; i++) {
        if (t->entries[i].asked)
            (void)fprintf(f, "%s\t%s\t%.2f\n", t->entries[i].key, t->entries[i].choice,
                          1e6 * t->entries[i].seconds);
    }
    ferkd_status st = fclose(f) == 0 ? fk_file_replace(path, text, size)
                                     : fk_fail(FERKD_MEMORY, "no memory to write %s", path);
    free(text);
    return st;
}

fk_precision fk_precision_parse(const char *word)
{
    return strcmp(word, "bf16") == 0   ? FK_PRECISION_BF16
           : strcmp(word, "auto") == 0 ? FK_PRECISION_AUTO
                                       : FK_PRECISION_F32;
}
