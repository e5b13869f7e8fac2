/* What a student starts from, and which of a pretrained head it keeps. */
#include "base/compat.h"

#include "train/init.h"

#include "base/file.h"
#include "base/mem.h"
#include "net/head.h"
#include "train/model.h"
#include "train/run.h"

/* Which outputs of the file the student's are: by the names of classes. *known: does the file say? */
static ferkd_status rows_of(const fk_run *run, const ferkd_model *m, uint32_t *rows, bool *known)
{
    uint32_t n = 0;
    ferkd_status st = ferkd_model_map(m, run->data, run->r->class_map, rows);

    *known = st == FERKD_OK && m->names != NULL;
    if (st == FERKD_USAGE && !run->r->class_map)
        st = FERKD_OK;
    if (st != FERKD_OK || !*known || run->outputs == run->classes)
        return st;
    if (m->classes != run->outputs) { /* the labels are another teacher's */
        *known = false;
        return FERKD_OK;
    }
    TRY(fk_map_others(rows, run->classes, m->classes, rows + run->classes, &n));
    *known = n == m->classes - run->classes;
    return FERKD_OK;
}

static ferkd_status take_rows(fk_run *run, const ferkd_model *m, const uint32_t *rows)
{
    fk_graph *whole = NULL;
    int64_t size = run->graph->nodes[run->graph->input].shape.d[2];

    TRY(fk_network_build(&run->network, run->batch, run->how.channels, (uint32_t)size, m->classes,
                         &whole, NULL));
    fk_graph_take_head(run->graph, whole, rows);
    fk_graph_free(&whole);
    return FERKD_OK;
}

/* The head of an ONNX file is kept where its classes are the student's; where it is for others, those rows of it that
 * the names of the classes point to. */
static ferkd_status start_from_onnx(fk_run *run, bool anew)
{
    ferkd_model_options o = {
        .size_px = (uint32_t)run->r->size, .mean = run->r->mean, .std = run->r->std};
    ferkd_model *m = NULL;
    uint32_t *rows = NULL;
    bool known = false;
    ferkd_status st = FERKD_OK;

    if (!anew && run->outputs == run->classes)
        return FERKD_OK;
    TRY(ferkd_model_open(&m, run->onnx_path, &o));
    TRY_DONE(fk_calloc(&rows, run->outputs, sizeof *rows, "the head"));
    TRY_DONE(rows_of(run, m, rows, &known));
    if (known) {
        TRY_DONE(take_rows(run, m, rows));
        fk_say(run->watch, "%s: of its head, %u of %u classes are kept", run->r->init, run->outputs,
               m->classes);
    } else {
        if (!anew)
            fk_graph_init_head(run->graph, (uint64_t)run->r->seed);
        run->head_anew = true;
        fk_say(run->watch, "%s: its head starts anew, for %u classes", run->r->init, run->outputs);
    }
done:
    free(rows);
    ferkd_model_close(&m);
    return st;
}

ferkd_status fk_student_start(fk_run *run, bool anew)
{
    uint64_t seed = (uint64_t)run->r->seed;

    if (run->onnx)
        return start_from_onnx(run, anew);
    fk_graph_init(run->graph, seed);
    if (!run->r->init ||
        fk_is_file(run->last_path)) /* which has all weights: the file may be gone */
        return FERKD_OK;
    TRY(fk_load_init(run->graph, run->r->init, run->watch, &run->head_anew));
    if (run->outputs > run->classes) { /* the file's may be as many, but in another order */
        fk_graph_init_head(run->graph, seed);
        run->head_anew = true;
    }
    return FERKD_OK;
}
