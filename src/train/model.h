/* What the floors of train/ share of a model. */
#ifndef FK_MODEL_H
#define FK_MODEL_H

#include "engine/tune.h"
#include "exchange/onnx.h"
#include "ferkd/train.h"
#include "net/zoo/zoo.h"
#include "train/network.h"
#include "train/pixels.h"

struct ferkd_model {
    char *path;
    fk_onnx_file *onnx; /* an ONNX file, or what a run folder began with, or NULL: */
    char *zoo_name;
    char *weights_file; /* of a run folder; else NULL */
    ferkd_preprocess how;
    bool channels_last;
    uint32_t classes;
    char **names; /* [classes], or NULL */
    uint8_t fingerprint[16];

    char *tune, *precision; /* as the options say */
    fk_tuner *tuner;        /* made on demand */
    fk_graph *graph;        /* for `batch` images (or a slice of them), made on demand */
    fk_plan *plan;
    uint32_t batch;
};

/* Make the plan for batches of n (the model's own batch if that is fixed: see m->batch). */
FERKD_CHECK ferkd_status fk_model_prepare(ferkd_model *m, uint32_t n);

/* The graph with its weights for batches of n (or the model's own batch). */
FERKD_CHECK ferkd_status fk_model_graph(const ferkd_model *m, uint32_t n, fk_graph **out);

/* MODEL.json for MODEL.onnx; the caller frees. */
FERKD_CHECK ferkd_status fk_model_sidecar(char **out, const char *path);

/* The choices of implementations, fixed as in the file, or to be written there by fk_model_save_choices(). */
FERKD_CHECK ferkd_status fk_model_fix_choices(ferkd_model *m, const char *path);
FERKD_CHECK ferkd_status fk_model_save_choices(const ferkd_model *m, const char *path);

/* Parse "a,b,c" (or one number for all): 0..1, or 0..255 where one is above 1. */
FERKD_CHECK ferkd_status fk_triple_parse(double out[3], const char *text, const char *what);

/* The student's input, as a recipe says it; channels: of the data, 1 or 3. */
FERKD_CHECK ferkd_status fk_recipe_input(const ferkd_recipe *r, uint32_t channels,
                                         ferkd_preprocess *how);

/* The classes among all that map does not name, in their order: [all - classes] at most go to others, *n says how many
 * there are. */
FERKD_CHECK ferkd_status fk_map_others(const uint32_t *map, uint32_t classes, uint32_t all,
                                       uint32_t *others, uint32_t *n);

/* The JSON that goes with a model: preprocessing and classes. The caller frees. */
FERKD_CHECK ferkd_status fk_model_card(char **out, const ferkd_preprocess *how,
                                       bool channels_last, char *const *names, uint32_t classes);

/* "arena 361.3 MiB: values 250.1, gradients ..." */
void fk_memory_text(const fk_plan *p, char *text, size_t size);

/* As many threads as asked for, or as there are cores. */
uint32_t fk_threads(uint32_t asked);

/* softmax of n logits / temperature, in double; probs may be logits. */
void fk_softmax(const float *logits, uint32_t n, double temperature, float *probs);

#endif
