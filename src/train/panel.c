/* Members see the same regions, each in its own size; answers are brought into the first one's order of classes. */
#include "base/compat.h"

#include "train/panel.h"

#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/model.h"

/* --- who sits there ---------------------------------------------------------------------------- */

static void choose_view(fk_panel *p, fk_panel_member *m)
{
    const ferkd_preprocess *how = &m->model->how;
    uint32_t v = 0;

    while (v < p->n_views &&
           (p->view[v].size_px != how->size_px || p->view[v].filter != how->filter))
        v++;
    m->view = v;
    if (v < p->n_views)
        return;
    p->view[p->n_views++] = (fk_cut){how->size_px, how->filter, p->crop_bytes};
    p->crop_bytes += (size_t)how->size_px * how->size_px * p->channels;
}

static uint32_t find_class(const ferkd_model *m, const char *name)
{
    uint32_t c = 0;

    while (c < m->classes && strcmp(m->names[c], name) != 0)
        c++;
    return c;
}

/* By name where both have names, else in their order. */
static ferkd_status match_classes(const fk_panel *p, fk_panel_member *m)
{
    const ferkd_model *first = p->member[0].model;
    const ferkd_model *t = m->model;

    if (t->classes != first->classes)
        return fk_fail(FERKD_USAGE,
                       "%s has %u classes, %s has %u: teachers that label together need the same",
                       first->path, first->classes, t->path, t->classes);
    if (m == &p->member[0] || !first->names || !t->names)
        return FERKD_OK;
    TRY(fk_calloc(&m->column, t->classes, sizeof *m->column, t->path));
    for (uint32_t c = 0; c < t->classes; c++) {
        m->column[c] = find_class(t, first->names[c]);
        if (m->column[c] == t->classes)
            return fk_fail(FERKD_USAGE,
                           "%s has a class \"%s\", %s has none: teachers that label together need "
                           "the same classes, in whatever order",
                           first->path, first->names[c], t->path);
    }
    return FERKD_OK;
}

static const char *file_name(const ferkd_model *m)
{
    const char *slash = strrchr(m->path, '/');

    return slash ? slash + 1 : m->path;
}

/* One teacher that sees regions as they are is itself. */
static ferkd_status identify(fk_panel *p)
{
    FILE *name = NULL;
    size_t n = 0;
    fk_hash128_state *h = NULL;

    memcpy(p->fingerprint, p->member[0].model->fingerprint, sizeof p->fingerprint);
    if (p->n == 1 && !p->flips)
        return fk_strdup(&p->name, file_name(p->member[0].model));
    name = open_memstream(&p->name, &n);
    h = fk_hash128_new();
    if (!name || !h) {
        if (name)
            (void)fclose(name);
        if (h)
            fk_hash128_end(h, p->fingerprint);
        return fk_fail(FERKD_MEMORY, "labelling: no memory");
    }
    fk_hash128_add(h, &p->average, p->n > 1 ? sizeof p->average : 0);
    fk_hash128_add(h, &p->flips, sizeof p->flips);
    for (uint32_t i = 0; i < p->n; i++) {
        fk_hash128_add(h, p->member[i].model->fingerprint, 16);
        fk_hash128_add(h, &p->member[i].weight, sizeof p->member[i].weight);
        (void)fprintf(name, "%s%s", i ? "+" : "", file_name(p->member[i].model));
    }
    (void)fprintf(name, "%s", p->flips ? ", mirrored too" : "");
    (void)fclose(name);
    fk_hash128_end(h, p->fingerprint);
    return FERKD_OK;
}

static ferkd_status seat(fk_panel *p, ferkd_model *model, double weight)
{
    fk_panel_member *m = &p->member[p->n++];

    if (!(weight > 0.0) || !isfinite(weight))
        return fk_fail(FERKD_USAGE, "%s: a teacher's weight is %g, and has to be above 0",
                       model->path, weight);
    *m = (fk_panel_member){.model = model, .weight = weight};
    choose_view(p, m);
    return match_classes(p, m);
}

ferkd_status fk_panel_init(fk_panel *p, ferkd_model *first, const ferkd_label_options *o,
                           uint32_t channels)
{
    double sum = 0.0;

    *p = (fk_panel){.classes = first->classes,
                    .channels = channels,
                    .average = o->average,
                    .flips = o->flips,
                    .temperature = o->temperature};
    if (o->n_others >= FERKD_MAX_TEACHERS)
        return fk_fail(FERKD_LIMIT, "%u teachers; at most %d label together", o->n_others + 1,
                       FERKD_MAX_TEACHERS);
    TRY(seat(p, first, o->weights ? o->weights[0] : 1.0));
    for (uint32_t i = 0; i < o->n_others; i++)
        TRY(seat(p, o->others[i], o->weights ? o->weights[i + 1] : 1.0));
    for (uint32_t i = 0; i < p->n; i++)
        sum += p->member[i].weight;
    for (uint32_t i = 0; i < p->n; i++)
        p->member[i].weight /= sum;
    return identify(p);
}

void fk_panel_fini(fk_panel *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        free(p->member[i].column);
    free(p->name);
    free(p->probs);
    *p = (fk_panel){0};
}

/* --- plans ------------------------------------------------------------------------------------- */

static ferkd_status choices_of(char **out, const char *choices, uint32_t i)
{
    return i ? fk_asprintf(out, "%s%u", choices, i + 1) : fk_strdup(out, choices);
}

ferkd_status fk_panel_prepare(fk_panel *p, uint32_t n, const char *choices, bool resumes)
{
    for (uint32_t i = 0; i < p->n; i++) {
        fk_panel_member *m = &p->member[i];
        char *path = NULL;
        TRY(choices_of(&path, choices, i));
        ferkd_status st = FERKD_OK;
        if (resumes && fk_is_file(path))
            st = fk_model_fix_choices(m->model, path);
        if (st == FERKD_OK)
            st = fk_model_prepare(m->model, n);
        if (st == FERKD_OK)
            st = fk_model_save_choices(m->model, path);
        free(path);
        TRY(st);
        fk_pixels_init(&m->pixels, &m->model->how, m->model->channels_last);
    }
    return fk_calloc(&p->probs, p->classes, sizeof *p->probs, "labelling");
}

void fk_panel_forget(const fk_panel *p, const char *choices)
{
    for (uint32_t i = 0; i < p->n; i++) {
        char *path = NULL;
        if (choices_of(&path, choices, i) == FERKD_OK)
            (void)unlink(path);
        free(path);
    }
}

/* --- answers ----------------------------------------------------------------------------------- */

/* Left for right, in an image of bytes. */
static void mirror(uint8_t *px, uint32_t side, uint32_t channels)
{
    for (uint32_t y = 0; y < side; y++, px += (size_t)side * channels) {
        for (uint32_t x = 0; x < side / 2; x++) {
            for (uint32_t c = 0; c < channels; c++) {
                uint8_t *a = px + x * channels + c;
                uint8_t *b = px + (side - 1 - x) * channels + c;
                uint8_t keep = *a;
                *a = *b;
                *b = keep;
            }
        }
    }
}

/* A member's answers to `count` regions. Mirrored ones are mirrored back when it has seen them. */
static ferkd_status answers(const fk_panel *p, const fk_panel_member *m, uint8_t *crops,
                            uint32_t count, bool mirrored)
{
    const fk_cut *view = &p->view[m->view];
    size_t each = (size_t)m->model->how.channels * view->size_px * view->size_px;
    float *input = fk_plan_input(m->model->plan);

#pragma omp parallel for schedule(static)
    for (uint32_t i = 0; i < count; i++) {
        ferkd_image image = {.px = crops + i * p->crop_bytes + view->at,
                             .width = view->size_px,
                             .height = view->size_px,
                             .channels = p->channels};
        if (mirrored)
            mirror(image.px, view->size_px, p->channels);
        fk_pixels_fill(&m->pixels, &image, input + i * each);
        if (mirrored)
            mirror(image.px, view->size_px, p->channels);
    }
    return fk_plan_forward(m->model->plan, 0);
}

/* Add one answer, in the first member's order of classes, to the average. */
static void add(const fk_panel *p, const fk_panel_member *m, const float *z, double weight,
                float *probs, float *sum)
{
    const float *v = z;

    if (p->average == FERKD_AVERAGE_PROBS) {
        fk_softmax(z, p->classes, p->temperature, probs);
        v = probs;
    }
    for (uint32_t c = 0; c < p->classes; c++)
        sum[c] += (float)weight * v[m->column ? m->column[c] : c];
}

/* Probabilities as logits again. */
static void back_to_logits(const fk_panel *p, float *sum, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(sum[i])) /* else whoever judges it says so */
            sum[i] = (float)(p->temperature * log(fmax((double)sum[i], 1e-30)));
    }
}

static ferkd_status ask_member(fk_panel *p, const fk_panel_member *m, uint8_t *crops, uint32_t n,
                               float *logits)
{
    uint32_t passes = p->flips ? 2 : 1;
    bool alone = p->n == 1 && !p->flips;

    for (uint32_t at = 0; at < n; at += m->model->batch) {
        uint32_t count = (uint32_t)fk_min_size(m->model->batch, n - at);
        float *to = logits + (size_t)at * p->classes;
        for (uint32_t k = 0; k < passes; k++) {
            TRY(answers(p, m, crops + at * p->crop_bytes, count, k == 1));
            const float *z = fk_plan_output(m->model->plan);
            if (alone)
                memcpy(to, z, (size_t)count * p->classes * sizeof *to);
            for (uint32_t i = 0; !alone && i < count; i++)
                add(p, m, z + (size_t)i * p->classes, m->weight / passes, p->probs,
                    to + (size_t)i * p->classes);
        }
    }
    return FERKD_OK;
}

ferkd_status fk_panel_ask(fk_panel *p, uint8_t *crops, uint32_t n, float *logits)
{
    size_t all = (size_t)n * p->classes;

    memset(logits, 0, all * sizeof *logits);
    for (uint32_t i = 0; i < p->n; i++)
        TRY(ask_member(p, &p->member[i], crops, n, logits));
    if (p->average == FERKD_AVERAGE_PROBS && (p->n > 1 || p->flips))
        back_to_logits(p, logits, all);
    return FERKD_OK;
}
