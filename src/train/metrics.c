/* Rows are appended; on resuming, the file is rewritten whole without the rows to come again. */
#include "base/compat.h"

#include "train/metrics.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "exchange/tfevents.h"

static const char HEAD[] = "epoch,train_loss,val_loss,val_top1,val_top5,lr,images_per_s,seconds,"
                           "hard,important,dropped,images\n";

/* The epoch that a line is about; 0: none. The CSV's first number, or after "epoch": */
static uint64_t epoch_of(const char *line)
{
    const char *key = strstr(line, "\"epoch\":");

    return strtoull(key ? key + 8 : line, NULL, 10);
}

static double seconds_of(const char *line)
{
    for (int i = 0; line && i < 7; i++) {
        line = strchr(line, ',');
        line = line ? line + 1 : NULL;
    }
    return line ? strtod(line, NULL) : 0.0;
}

/* Keep the lines up to epoch `keep`; *seconds: of the last one. */
static ferkd_status trim(const char *path, const char *head, uint64_t keep, double *seconds)
{
    uint8_t *old = NULL;
    size_t n = 0;
    char *text = NULL;
    size_t size = 0;
    char *rest = NULL;

    if (fk_is_file(path))
        TRY(fk_file_read(&old, &n, path, FK_MAX_JSON_BYTES, false));
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        free(old);
        return fk_fail(FERKD_MEMORY, "%s: no memory", path);
    }
    (void)fputs(head, f);
    char *line = old ? strtok_r((char *)old, "\n", &rest) : NULL;
    for (; line; line = strtok_r(NULL, "\n", &rest)) {
        uint64_t epoch = epoch_of(line);
        if (epoch < 1 || epoch > keep)
            continue;
        (void)fprintf(f, "%s\n", line);
        *seconds = seconds_of(line);
    }
    (void)fclose(f);
    ferkd_status st = fk_file_replace(path, text, size);
    free(text);
    free(old);
    return st;
}

/* --- TensorBoard ------------------------------------------------------------------------------- */

static double wall_clock(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static ferkd_status add_event(const fk_metrics *m, const fk_metrics_row *r, double wall_time)
{
    const fk_scalar scalars[] = {
        {"loss/train", r->train_loss},     {"speed/images_per_s", r->images_per_s},
        {"optimizer/lr", r->lr},           {"regions/important", (double)r->important},
        {"regions/hard", (double)r->hard}, {"regions/dropped", (double)r->dropped},
        {"loss/val", r->val_loss},         {"accuracy/top1", r->val_top1},
        {"accuracy/top5", r->val_top5}};
    bool validated = r->val_loss > 0.0 || r->val_top1 > 0.0;

    return fk_tfevents_add(m->events, wall_time, (int64_t)r->epoch, scalars,
                           FK_COUNT(scalars) - (validated ? 0 : 3));
}

static bool read_row(const char *line, fk_metrics_row *r)
{
    return sscanf(line, "%" SCNu64 ",%lf,%lf,%lf,%lf,%lf,%lf,%lf,%" SCNu64 ",%" SCNu64 ",%" SCNu64,
                  &r->epoch, &r->train_loss, &r->val_loss, &r->val_top1, &r->val_top5, &r->lr,
                  &r->images_per_s, &r->seconds, &r->hard, &r->important, &r->dropped) == 11;
}

/* The events of the epochs before, as far as the CSV has them. */
static ferkd_status begin_events(const fk_metrics *m)
{
    uint8_t *text = NULL;
    size_t n = 0;
    char *rest = NULL;
    fk_metrics_row r = {0};
    double begun = wall_clock() - m->seconds_before;
    ferkd_status st = FERKD_OK;

    TRY(fk_tfevents_begin(m->events, begun));
    TRY(fk_file_read(&text, &n, m->csv, FK_MAX_JSON_BYTES, false));
    for (char *line = strtok_r((char *)text, "\n", &rest); line && st == FERKD_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        if (read_row(line, &r))
            st = add_event(m, &r, begun + r.seconds);
    }
    free(text);
    return st;
}

/* --- the three files --------------------------------------------------------------------------- */

ferkd_status fk_metrics_open(fk_metrics *m, const char *folder, uint64_t keep)
{
    double unused = 0.0;

    *m = (fk_metrics){0};
    TRY(fk_path_join(&m->csv, folder, "metrics.csv"));
    TRY(fk_path_join(&m->jsonl, folder, "metrics.jsonl"));
    TRY(fk_path_join(&m->events, folder, "events.out.tfevents.0.ferkd"));
    TRY(trim(m->csv, HEAD, keep, &m->seconds_before));
    TRY(trim(m->jsonl, "", keep, &unused));
    return begin_events(m);
}

ferkd_status fk_metrics_add(fk_metrics *m, const fk_metrics_row *r)
{
    char line[512];

    (void)snprintf(line, sizeof line,
                   "%" PRIu64 ",%.6f,%.6f,%.3f,%.3f,%.8g,%.2f,%.2f,%" PRIu64 ",%" PRIu64 ",%" PRIu64
                   ",%" PRIu64 "\n",
                   r->epoch, r->train_loss, r->val_loss, r->val_top1, r->val_top5, r->lr,
                   r->images_per_s, r->seconds, r->hard, r->important, r->dropped, r->images);
    TRY(fk_file_append(m->csv, line, strlen(line)));
    (void)snprintf(line, sizeof line,
                   "{\"epoch\":%" PRIu64 ",\"train_loss\":%.9g,\"val_loss\":%.9g,\"val_top1\":%.6g,"
                   "\"val_top5\":%.6g,\"lr\":%.9g,\"images_per_s\":%.6g,\"seconds\":%.6g,"
                   "\"hard\":%" PRIu64 ",\"important\":%" PRIu64 ",\"dropped\":%" PRIu64
                   ",\"images\":%" PRIu64 "}\n",
                   r->epoch, r->train_loss, r->val_loss, r->val_top1, r->val_top5, r->lr,
                   r->images_per_s, r->seconds, r->hard, r->important, r->dropped, r->images);
    TRY(fk_file_append(m->jsonl, line, strlen(line)));
    return add_event(m, r, wall_clock());
}

void fk_metrics_close(fk_metrics *m)
{
    free(m->csv);
    free(m->jsonl);
    free(m->events);
    *m = (fk_metrics){0};
}
