/* metrics.csv of a run folder, read by the names of its columns. */
#include "base/compat.h"

#include "report/outcome.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

enum { EPOCH, LOSS, TOP1, TOP5, SECONDS, IMAGES, COLUMNS };

static const char *const NAMES[COLUMNS] = {
    [EPOCH] = "epoch",   [LOSS] = "train_loss", [TOP1] = "val_top1",
    [TOP5] = "val_top5", [SECONDS] = "seconds", [IMAGES] = "images"};

/* Where each column stands; -1: not there. */
static void find_columns(char *head, int where[COLUMNS])
{
    char *rest = NULL;
    int at = 0;

    for (int c = 0; c < COLUMNS; c++)
        where[c] = -1;
    for (char *name = strtok_r(head, ",", &rest); name; name = strtok_r(NULL, ",", &rest), at++) {
        for (int c = 0; c < COLUMNS; c++) {
            if (strcmp(name, NAMES[c]) == 0)
                where[c] = at;
        }
    }
}

static fk_epoch read_row(char *line, const int where[COLUMNS])
{
    double v[COLUMNS] = {0};
    char *rest = NULL;
    int at = 0;

    for (char *word = strtok_r(line, ",", &rest); word; word = strtok_r(NULL, ",", &rest), at++) {
        for (int c = 0; c < COLUMNS; c++) {
            if (where[c] == at)
                v[c] = strtod(word, NULL);
        }
    }
    return (fk_epoch){v[EPOCH], v[LOSS], v[TOP1], v[TOP5], v[SECONDS], v[IMAGES]};
}

static ferkd_status read_rows(fk_outcome *o, char *text)
{
    int where[COLUMNS];
    size_t cap = 0;
    char *rest = NULL;
    char *line = strtok_r(text, "\n", &rest);

    if (!line)
        return FERKD_OK;
    find_columns(line, where);
    while ((line = strtok_r(NULL, "\n", &rest))) {
        TRY(fk_grow(&o->epochs, &cap, o->n + 1, sizeof *o->epochs));
        o->epochs[o->n] = read_row(line, where);
        o->best = fmax(o->best, o->epochs[o->n++].top1);
    }
    return FERKD_OK;
}

ferkd_status fk_outcome_read(fk_outcome *o, const fk_trial *t)
{
    char *path = NULL;
    uint8_t *text = NULL;
    size_t n = 0;
    ferkd_status st = FERKD_OK;

    *o = (fk_outcome){0};
    TRY(fk_path_join(&path, t->folder, "metrics.csv"));
    if (fk_is_file(path))
        TRY_DONE(fk_file_read(&text, &n, path, FK_MAX_JSON_BYTES, false));
    if (text)
        TRY_DONE(read_rows(o, (char *)text));
    o->finished = o->n > 0 && o->epochs[o->n - 1].epoch >= (double)t->recipe.epochs;
done:
    free(path);
    free(text);
    if (st != FERKD_OK)
        fk_outcome_fini(o);
    return st;
}

void fk_outcome_fini(fk_outcome *o)
{
    free(o->epochs);
    *o = (fk_outcome){0};
}

const fk_epoch *fk_outcome_reach(const fk_outcome *o, double top1)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->epochs[i].top1 >= top1)
            return &o->epochs[i];
    }
    return NULL;
}
