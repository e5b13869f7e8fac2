/* Opening a classifier: an ONNX file with what is said of it, or a run folder. */
#include "base/compat.h"

#include "train/model.h"

#include <jansson.h>

#include <libgen.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/dataset.h"
#include "exchange/safetensors.h"
#include "train/fit.h"

/* --- preprocessing --------------------------------------------------------------------------- */

ferkd_status fk_triple_parse(double out[3], const char *text, const char *what)
{
    int n = 0;
    const char *p = text;
    double top = 0.0;

    while (n < 3) {
        char *end;
        out[n] = strtod(p, &end);
        if (end == p || !isfinite(out[n]))
            break;
        top = fmax(top, out[n++]);
        p = *end == ',' ? end + 1 : end;
        if (*end != ',')
            break;
    }
    if ((n != 1 && n != 3) || *p)
        return fk_fail(FERKD_USAGE, "%s: one number or three with commas are needed, not \"%s\"",
                       what, text);
    if (n == 1)
        out[1] = out[2] = out[0];
    for (int i = 0; top > 1.0 && i < 3; i++)
        out[i] /= 255.0;
    return FERKD_OK;
}

ferkd_status fk_recipe_input(const ferkd_recipe *r, uint32_t channels, ferkd_preprocess *how)
{
    *how = ferkd_preprocess_defaults();
    how->size_px = (uint32_t)r->size;
    how->crop_pct = r->crop_pct;
    how->filter = ferkd_filter_parse(r->filter);
    how->channels = channels == 1 ? 1 : 3;
    for (int i = 0; channels == 1 && i < 3; i++)
        how->mean[i] = how->std[i] = 0.5;
    if (r->mean)
        TRY(fk_triple_parse(how->mean, r->mean, "--mean"));
    if (r->std)
        TRY(fk_triple_parse(how->std, r->std, "--std"));
    for (int i = 0; i < 3; i++) {
        if (!(how->std[i] > 0))
            return fk_fail(FERKD_USAGE, "--std must be above 0");
    }
    return FERKD_OK;
}

/* "mean": [..] of a card, on `range`. */
static bool card_triple(const json_t *a, double range, double out[3])
{
    if (json_array_size(a) != 3 && json_array_size(a) != 1)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(a, json_array_size(a) == 1 ? 0 : i);
        if (!json_is_number(v))
            return false;
        out[i] = json_number_value(v) / range;
    }
    return true;
}

static ferkd_status card_classes(ferkd_model *m, const json_t *classes, const char *path)
{
    char folder[PATH_MAX];
    char *file = NULL;
    uint32_t n = 0;

    if (json_is_string(classes)) { /* a file beside the card */
        (void)snprintf(folder, sizeof folder, "%s", path);
        TRY(fk_path_join(&file, dirname(folder), json_string_value(classes)));
        ferkd_status st = fk_names_read(&m->names, &n, file);
        free(file);
        m->classes = n;
        return st;
    }
    if (!json_is_array(classes) || json_array_size(classes) == 0)
        return FERKD_OK;
    TRY(fk_calloc(&m->names, json_array_size(classes), sizeof *m->names, path));
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const char *name = json_string_value(json_array_get(classes, i));
        TRY(fk_strdup(&m->names[i], name ? name : "?"));
        m->classes++;
    }
    return FERKD_OK;
}

static ferkd_status read_card(ferkd_model *m, const char *json, size_t n, const char *path)
{
    json_error_t error;
    json_t *card = json_loadb(json, n, 0, &error);
    ferkd_status st = FERKD_OK;

    if (!card)
        return fk_fail(FERKD_CORRUPT, "%s:%d: %s", path, error.line, error.text);
    const json_t *in = json_object_get(card, "input");
    const char *channels = json_string_value(json_object_get(in, "channels"));
    const char *resize = json_string_value(json_object_get(in, "resize"));
    const json_t *range = json_object_get(in, "range");
    const json_t *crop = json_object_get(in, "crop_pct");
    double top = json_is_number(range) ? json_number_value(range) : 1.0;
    json_int_t size = json_integer_value(json_object_get(in, "size"));
    m->how.filter = resize ? ferkd_filter_parse(resize) : FERKD_BILINEAR;
    m->how.crop_pct = json_is_number(crop) ? json_number_value(crop) : 1.0;
    m->how.bgr = channels && strcmp(channels, "BGR") == 0;
    m->how.channels = channels && strcmp(channels, "L") == 0 ? 1 : 3;
    m->how.size_px = (uint32_t)size;
    if (size < 1 || size > 8192 || !card_triple(json_object_get(in, "mean"), top, m->how.mean) ||
        !card_triple(json_object_get(in, "std"), top, m->how.std) || !m->how.filter ||
        !(m->how.crop_pct > 0.05 && m->how.crop_pct <= 1.0))
        st =
            fk_fail(FERKD_CORRUPT,
                    "%s: \"input\" needs size, mean and std (and may have range, channels, resize, "
                    "crop_pct)",
                    path);
    if (st == FERKD_OK)
        st = card_classes(m, json_object_get(json_object_get(card, "output"), "classes"), path);
    json_decref(card);
    return st;
}

ferkd_status fk_model_card(char **out, const ferkd_preprocess *how, bool channels_last,
                           char *const *names, uint32_t classes)
{
    json_t *list = json_array();

    for (uint32_t i = 0; names && i < classes; i++)
        (void)json_array_append_new(list, json_string(names[i]));
    json_t *card =
        json_pack("{s:{s:s, s:s, s:i, s:s, s:[f,f,f], s:[f,f,f], s:f, s:s, s:f}, s:{s:s, s:o}}",
                  "input", "name", "input", "layout", channels_last ? "NHWC" : "NCHW", "size",
                  (int)how->size_px, "channels",
                  how->channels == 1 ? "L"
                  : how->bgr         ? "BGR"
                                     : "RGB",
                  "mean", how->mean[0], how->mean[1], how->mean[2], "std", how->std[0], how->std[1],
                  how->std[2], "range", 1.0, "resize", ferkd_filter_name(how->filter), "crop_pct",
                  how->crop_pct, "output", "name", "logits", "classes", list);
    *out = card ? json_dumps(card, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(card);
    return *out ? FERKD_OK : fk_fail(FERKD_MEMORY, "no memory for a model's card");
}

/* --- ONNX ------------------------------------------------------------------------------------ */

static ferkd_status hash_file(ferkd_model *m, const char *path)
{
    fk_map map = {0};
    fk_hash128_state *h = fk_hash128_new();

    if (!h)
        return fk_fail(FERKD_MEMORY, "%s: no memory", path);
    ferkd_status st = fk_map_open(&map, path);
    if (st == FERKD_OK)
        fk_hash128_add(h, map.bytes, map.size_bytes);
    fk_map_close(&map);
    uint64_t beside = m->onnx ? fk_onnx_external(m->onnx) : 0;
    if (beside)
        fk_hash128_add(h, &beside, sizeof beside);
    fk_hash128_add(h, &m->how.size_px, sizeof m->how.size_px);
    fk_hash128_add(h, m->how.mean, sizeof m->how.mean);
    fk_hash128_add(h, m->how.std, sizeof m->how.std);
    fk_hash128_add(h, &m->how.filter, sizeof m->how.filter);
    fk_hash128_end(h, m->fingerprint);
    return st;
}

/* Options take the place of what the card said. *stated: is there enough now? */
static ferkd_status apply_options(ferkd_model *m, const ferkd_model_options *o, bool *stated)
{
    bool size = *stated || o->size_px;
    bool mean = *stated || o->mean;
    bool std = *stated || o->std;

    if (o->size_px)
        m->how.size_px = o->size_px;
    if (o->mean)
        TRY(fk_triple_parse(m->how.mean, o->mean, "--teacher-mean"));
    if (o->std)
        TRY(fk_triple_parse(m->how.std, o->std, "--teacher-std"));
    for (int i = 0; i < 3; i++) {
        if (!(m->how.std[i] > 0))
            return fk_fail(FERKD_USAGE, "%s: a deviation (std) of the input that is not above 0",
                           m->path);
    }
    if (o->resize) {
        m->how.filter = ferkd_filter_parse(o->resize);
        if (!m->how.filter)
            return fk_fail(FERKD_USAGE,
                           "--teacher-resize is bilinear, bicubic or lanczos, not \"%s\"",
                           o->resize);
    }
    if (o->crop_pct > 0)
        m->how.crop_pct = o->crop_pct;
    if (o->classes) {
        fk_names_free(m->names, m->classes);
        m->names = NULL;
        m->classes = 0;
        TRY(fk_names_read(&m->names, &m->classes, o->classes));
    }
    *stated = size && mean && std;
    return FERKD_OK;
}

ferkd_status fk_model_sidecar(char **out, const char *path)
{
    size_t n = strlen(path);

    return fk_asprintf(out, "%.*s.json", (int)(n - (fk_ends_with(path, ".onnx") ? 5 : 0)), path);
}

static ferkd_status open_onnx(ferkd_model *m, const ferkd_model_options *o)
{
    char *sidecar = NULL;
    uint8_t *json = NULL;
    size_t n = 0;
    bool stated = false;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_onnx_open(&m->onnx, m->path));
    TRY_DONE(fk_model_sidecar(&sidecar, m->path));
    m->how = ferkd_preprocess_defaults();
    m->how.crop_pct = 1.0;
    const char *inside = fk_onnx_metadata(m->onnx, "ferkd");
    if (fk_is_file(sidecar)) {
        TRY_DONE(fk_file_read(&json, &n, sidecar, FK_MAX_JSON_BYTES, false));
        TRY_DONE(read_card(m, (const char *)json, n, sidecar));
        stated = true;
    } else if (inside) {
        TRY_DONE(read_card(m, inside, strlen(inside), m->path));
        stated = true;
    }
    TRY_DONE(apply_options(m, o, &stated));
    if (!stated) {
        st = fk_fail(FERKD_USAGE,
                     "%s: its preprocessing is stated nowhere; give --teacher-size, --teacher-mean "
                     "and --teacher-std, or write %s",
                     m->path, sidecar);
        goto done;
    }
    TRY_DONE(hash_file(m, m->path));
done:
    free(sidecar);
    free(json);
    return st;
}

/* --- run folders ----------------------------------------------------------------------------- */

/* The ONNX file that the run began with: its graph, without its weights. */
static ferkd_status open_network(ferkd_model *m)
{
    char *path = NULL;

    TRY(fk_path_join(&path, m->path, FK_NETWORK_FILE));
    ferkd_status st = fk_onnx_open(&m->onnx, path);
    free(path);
    return st;
}

static ferkd_status open_run(ferkd_model *m, const ferkd_model_options *o)
{
    fk_safetensors *f = NULL;
    json_error_t error;
    char name[64];
    bool stated = true;
    ferkd_status st = FERKD_OK;

    (void)snprintf(name, sizeof name, "%.32s.safetensors", o->weights ? o->weights : "best");
    TRY(fk_path_join(&m->weights_file, m->path, name));
    if (!o->weights && !fk_is_file(m->weights_file)) {
        free(m->weights_file);
        m->weights_file = NULL;
        TRY(fk_path_join(&m->weights_file, m->path, "last.safetensors"));
    }
    TRY(fk_safetensors_open(&f, m->weights_file));
    const char *text = fk_safetensors_text(f);
    json_t *meta = text ? json_loads(text, 0, &error) : NULL;
    const char *model = json_string_value(json_object_get(meta, "model"));
    char *card = json_dumps(json_object_get(meta, "card"), JSON_ENCODE_ANY);
    if (!model || !card)
        st = fk_fail(FERKD_CORRUPT, "%s: not a checkpoint of ferkd", m->weights_file);
    if (st == FERKD_OK && strcmp(model, FK_NETWORK_FILE) == 0)
        st = open_network(m);
    else if (st == FERKD_OK && strcmp(model, FK_NETWORK_TEXT) == 0)
        st = fk_path_join(&m->zoo_name, m->path, FK_NETWORK_TEXT);
    else if (st == FERKD_OK)
        st = fk_strdup(&m->zoo_name, model);
    if (st == FERKD_OK)
        st = read_card(m, card, strlen(card), m->weights_file);
    if (st == FERKD_OK)
        st = apply_options(m, o, &stated);
    free(card);
    json_decref(meta);
    fk_safetensors_close(&f);
    return st == FERKD_OK ? hash_file(m, m->weights_file) : st;
}

/* --- graph and plan -------------------------------------------------------------------------- */

/* While it learns a student may have more outputs and other positions than in the end. */
static ferkd_status load_param(const fk_safetensors *f, const fk_param *p, float *values)
{
    size_t there = fk_safetensors_size(f, p->name);
    float *all = NULL;

    if (there == p->count || there == 0)
        return fk_safetensors_copy(f, p->name, values, p->count);
    TRY(fk_calloc(&all, there, sizeof *all, p->name));
    ferkd_status st = fk_safetensors_copy(f, p->name, all, there);
    if (st == FERKD_OK)
        st = fk_fit_param(p, all, there, values);
    free(all);
    return st;
}

static ferkd_status load_weights(const ferkd_model *m, fk_graph *g)
{
    fk_safetensors *f = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_safetensors_open(&f, m->weights_file));
    for (size_t i = 0; i < g->n_params && st == FERKD_OK; i++)
        st = load_param(f, &g->params[i], fk_graph_values(g, (int)i));
    fk_safetensors_close(&f);
    return st;
}

ferkd_status fk_model_graph(const ferkd_model *m, uint32_t n, fk_graph **out)
{
    fk_network net = {.zoo_name = m->zoo_name, .onnx = m->onnx};

    if (!m->weights_file)
        return fk_onnx_graph(m->onnx, n, m->how.size_px, out);
    TRY(fk_network_build(&net, n, m->how.channels, m->how.size_px, m->classes, out, NULL));
    ferkd_status st = load_weights(m, *out);
    if (st != FERKD_OK)
        fk_graph_free(out);
    return st;
}

/* The graph's input and output have to be what the card says. */
static ferkd_status check_graph(ferkd_model *m)
{
    const fk_shape *in = &m->graph->nodes[m->graph->input].shape;
    uint32_t classes = (uint32_t)m->graph->nodes[m->graph->output].shape.d[1];

    m->batch = (uint32_t)in->d[0];
    m->channels_last = in->d[1] != m->how.channels;
    if (in->d[m->channels_last ? 3 : 1] != m->how.channels)
        return fk_fail(FERKD_USAGE, "%s: its input has %" PRId64 " channels, its card says %u",
                       m->path, in->d[1], m->how.channels);
    if (m->names && m->classes != classes)
        return fk_fail(FERKD_USAGE, "%s: %u outputs, but %u class names", m->path, classes,
                       m->classes);
    m->classes = classes;
    return FERKD_OK;
}

static ferkd_status make_graph(void *ctx, uint32_t n, fk_graph **out)
{
    return fk_model_graph(ctx, n, out);
}

/* The plan for n images, its choices made by rule or measured. */
static ferkd_status make_plan(ferkd_model *m, uint32_t n, const char *tune)
{
    fk_plan_options o = {0};

    fk_plan_free(&m->plan);
    fk_graph_free(&m->graph);
    if (!m->tuner && strcmp(tune, "off") != 0)
        TRY(fk_tuner_new(&m->tuner, tune));
    o.tuner = m->tuner;
    TRY(fk_tune_plan(&o, fk_precision_parse(m->precision), make_graph, m, n));
    TRY(fk_model_graph(m, n / o.slices, &m->graph));
    TRY(check_graph(m));
    m->batch *= o.slices;
    return fk_plan_new(&m->plan, m->graph, &o);
}

/* --- any ------------------------------------------------------------------------------------- */

ferkd_status ferkd_model_open(ferkd_model **out, const char *path,
                              const ferkd_model_options *options)
{
    const ferkd_model_options none = {0};
    ferkd_status st = FERKD_OK;
    ferkd_model *m = NULL;

    TRY(fk_calloc(&m, 1, sizeof *m, path));
    TRY_DONE(fk_strdup(&m->path, path));
    if (fk_is_folder(path))
        TRY_DONE(open_run(m, options ? options : &none));
    else
        TRY_DONE(open_onnx(m, options ? options : &none));
    TRY_DONE(fk_strdup(&m->tune, options && options->tune ? options->tune : "off"));
    TRY_DONE(fk_strdup(&m->precision, options && options->precision ? options->precision : "f32"));
    TRY_DONE(make_plan(m, 1, "off")); /* also tells the number of classes */
    *out = m;
    m = NULL;
done:
    ferkd_model_close(&m);
    return st;
}

void ferkd_model_close(ferkd_model **model)
{
    ferkd_model *m = *model;

    if (!m)
        return;
    fk_plan_free(&m->plan);
    fk_graph_free(&m->graph);
    fk_onnx_close(&m->onnx);
    fk_tuner_free(&m->tuner);
    free(m->tune);
    free(m->precision);
    fk_names_free(m->names, m->classes);
    free(m->zoo_name);
    free(m->weights_file);
    free(m->path);
    free(m);
    *model = NULL;
}

ferkd_status fk_model_prepare(ferkd_model *m, uint32_t n)
{
    return m->plan && m->batch == n ? FERKD_OK : make_plan(m, n, m->tune);
}

ferkd_status fk_model_fix_choices(ferkd_model *m, const char *path)
{
    if (strcmp(m->tune, "off") == 0)
        return FERKD_OK;
    fk_tuner_free(&m->tuner);
    return fk_tuner_new(&m->tuner, path);
}

ferkd_status fk_model_save_choices(const ferkd_model *m, const char *path)
{
    return m->tuner ? fk_tuner_save(m->tuner, path) : FERKD_OK;
}

uint32_t ferkd_model_classes(const ferkd_model *m)
{
    return m->classes;
}

const char *ferkd_model_class_name(const ferkd_model *m, uint32_t c)
{
    return m->names ? m->names[c] : NULL;
}

const ferkd_preprocess *ferkd_model_preprocess(const ferkd_model *m)
{
    return &m->how;
}

ferkd_status ferkd_model_run(ferkd_model *m, const float *inputs, uint32_t count, float *logits)
{
    size_t each = (size_t)m->how.channels * m->how.size_px * m->how.size_px;

    if (!m->plan)
        TRY(fk_model_prepare(m, count));
    for (uint32_t at = 0; at < count; at += m->batch) {
        size_t n = fk_min_size(m->batch, count - at);
        memcpy(fk_plan_input(m->plan), inputs + at * each, n * each * sizeof *inputs);
        TRY(fk_plan_forward(m->plan, 0));
        memcpy(logits + (size_t)at * m->classes, fk_plan_output(m->plan),
               n * m->classes * sizeof *logits);
    }
    return FERKD_OK;
}

void fk_memory_text(const fk_plan *p, char *text, size_t size)
{
    const double mib = 1048576.0;
    size_t b[FK_MEMORY_COUNT];

    fk_plan_memory(p, b);
    (void)snprintf(
        text, size,
        "arena %.1f MiB; at its fullest: values %.1f, their gradients %.1f, scratch %.1f, "
        "copies of weights %.1f",
        (double)fk_plan_bytes(p) / mib, (double)b[FK_MEMORY_VALUES] / mib,
        (double)b[FK_MEMORY_GRADIENTS] / mib, (double)b[FK_MEMORY_SCRATCH] / mib,
        (double)b[FK_MEMORY_WEIGHTS] / mib);
}

void fk_softmax(const float *logits, uint32_t n, double temperature, float *probs)
{
    double top = -INFINITY;
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        top = fmax(top, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp(((double)logits[i] - top) / temperature);
    for (uint32_t i = 0; i < n; i++)
        probs[i] = (float)(exp(((double)logits[i] - top) / temperature) / sum);
}
