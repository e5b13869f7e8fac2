/* The data set's classes among a model's: by name, by a file, or one to one. */
#include "base/compat.h"

#include "train/model.h"

#include "base/mem.h"
#include "data/dataset.h"

/* The class number at the end of a line, after its name if it has one. */
static bool parse_line(const char *line, const ferkd_dataset *d, uint32_t row, uint32_t *class_,
                       uint32_t *index)
{
    const char *blank = strrchr(line, ' ');
    const char *tab = strrchr(line, '\t');
    const char *cut = tab > blank ? tab : blank;
    const char *digits = cut ? cut + 1 : line;
    char *end;
    unsigned long v = strtoul(digits, &end, 10);

    if (end == digits || *end || v > UINT32_MAX)
        return false;
    *index = (uint32_t)v;
    *class_ = row;
    if (!cut)
        return true;
    for (uint32_t c = 0; c < ferkd_dataset_classes(d); c++) {
        const char *name = ferkd_dataset_class_name(d, c);
        if (strlen(name) == (size_t)(cut - line) && strncmp(name, line, strlen(name)) == 0) {
            *class_ = c;
            return true;
        }
    }
    return false;
}

static ferkd_status map_by_file(const ferkd_model *m, const ferkd_dataset *d, const char *file,
                                uint32_t *map)
{
    char **lines = NULL;
    uint32_t n = 0;
    uint32_t classes = ferkd_dataset_classes(d);
    ferkd_status st = FERKD_OK;

    TRY(fk_names_read(&lines, &n, file));
    for (uint32_t c = 0; c < classes; c++)
        map[c] = UINT32_MAX;
    for (uint32_t i = 0; i < n && st == FERKD_OK; i++) {
        uint32_t c = 0;
        uint32_t index = 0;
        if (!parse_line(lines[i], d, i, &c, &index) || c >= classes || index >= m->classes)
            st = fk_fail(FERKD_USAGE,
                         "%s:%u: \"%.60s\" is no \"class index\" pair for %u classes of a model "
                         "with %u",
                         file, i + 1, lines[i], classes, m->classes);
        else
            map[c] = index;
    }
    for (uint32_t c = 0; c < classes && st == FERKD_OK; c++) {
        if (map[c] == UINT32_MAX)
            st = fk_fail(FERKD_USAGE, "%s: class \"%s\" is missing", file,
                         ferkd_dataset_class_name(d, c));
    }
    fk_names_free(lines, n);
    return st;
}

static uint32_t find_name(const ferkd_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->classes; i++) {
        if (strcmp(m->names[i], name) == 0)
            return i;
    }
    return UINT32_MAX;
}

ferkd_status ferkd_model_map(const ferkd_model *m, const ferkd_dataset *d, const char *file,
                             uint32_t *map)
{
    uint32_t classes = ferkd_dataset_classes(d);
    uint32_t found = 0;
    uint32_t missing = 0;

    if (file)
        return map_by_file(m, d, file, map);
    for (uint32_t c = 0; m->names && c < classes; c++) {
        map[c] = find_name(m, ferkd_dataset_class_name(d, c));
        if (map[c] == UINT32_MAX)
            missing = c;
        else
            found++;
    }
    if (found == classes)
        return FERKD_OK;
    if (found == 0 && classes == m->classes && !m->names) {
        for (uint32_t c = 0; c < classes; c++)
            map[c] = c;
        return FERKD_OK;
    }
    return fk_fail(FERKD_USAGE,
                   "%s: class \"%s\" of %s is not among the %u classes of the model%s; give a "
                   "--class-map FILE with lines \"class index\"",
                   m->path, ferkd_dataset_class_name(d, missing), ferkd_dataset_path(d), m->classes,
                   m->names ? "" : ", which has no names");
}

ferkd_status fk_map_others(const uint32_t *map, uint32_t classes, uint32_t all, uint32_t *others,
                           uint32_t *n)
{
    bool *taken = NULL;

    *n = 0;
    TRY(fk_calloc(&taken, all, sizeof *taken, "a class map"));
    for (uint32_t c = 0; c < classes; c++)
        taken[map[c]] = true;
    for (uint32_t c = 0; c < all; c++) {
        if (!taken[c] && (*n)++ < all - classes)
            others[*n - 1] = c;
    }
    free(taken);
    return FERKD_OK;
}
