/* A training run: what it holds while it lasts. */
#ifndef FK_RUN_H
#define FK_RUN_H

#include "engine/optim.h"
#include "engine/tune.h"
#include "train/checkpoint.h"
#include "train/eval.h"
#include "train/feed.h"
#include "train/metrics.h"
#include "train/network.h"

typedef struct fk_run {
    const ferkd_recipe *r;
    const ferkd_watch *watch;
    ferkd_dataset *data, *val;
    ferkd_store *store;
    ferkd_calibration *calibration; /* with a store */
    ferkd_model *teacher;
    uint32_t *teacher_map;     /* [outputs]: the student's classes among the teacher's */
    float *teacher_logits;     /* [batch][outputs] */
    ferkd_preprocess how;      /* of training, at the present size */
    ferkd_preprocess view_how; /* of evaluation, and of what is exported */
    uint32_t classes;          /* of the data set */
    uint32_t outputs; /* of the student in training: as many, or those that the labels are over */
    uint32_t heads;   /* 2: one for the truth, one for the teacher, side by side */
    uint32_t batch, threads;
    uint64_t batches_per_epoch;
    double highest_rate; /* of learning */
    bool channels_last;  /* what the student wants */
    fk_onnx_file *onnx;  /* that it started from, or NULL */
    char *onnx_path;
    char *text_path; /* of the network file that it is written in, or NULL */
    fk_network network;
    fk_tuner *tuner;
    fk_graph *graph;
    bool head_anew; /* does it start anew beside pretrained weights? */
    fk_plan *plan;
    fk_optim optim;
    float *accumulated; /* gradients under accumulation, or NULL */
    fk_graph *eval_graph;
    fk_plan *eval_plan;
    uint32_t *identity; /* class map of the student */
    float *scratch;     /* one input, for mixing */
    char *card;
    char *last_path, *best_path;
    fk_progress at;
    fk_metrics metrics;
    int lock; /* descriptor of the run folder's lock */
} fk_run;

/* Data, labels, teacher, network, optimiser: everything but the run folder. */
FERKD_CHECK ferkd_status fk_run_open(fk_run *run, const ferkd_recipe *r, const ferkd_watch *watch);
void fk_run_close(fk_run *run);

/* Of a head that starts anew beside pretrained weights, in learning rates. */
#define FK_HEAD_RATE 10.0

/* The student, and what evaluates it; run->r, classes, batch and val are set. */
FERKD_CHECK ferkd_status fk_student_open(fk_run *run);
/* Make the plan anew where sizes grow and the epoch of that batch has another one. */
FERKD_CHECK ferkd_status fk_student_fit(fk_run *run, uint64_t batch);
/* The model's name in checkpoints. */
const char *fk_student_name(const fk_run *run);
/* What the tuner chose, into the run folder. */
FERKD_CHECK ferkd_status fk_student_save_choices(const fk_run *run);

/* The student as it is to be used, with values (of the training graph's size) in it, in run->eval_graph: what it has
 * learnt of classes that are not the data set's is cut off, positions are those of the size it is evaluated at. */
FERKD_CHECK ferkd_status fk_student_show(fk_run *run, const float *values);

/* From run->at to the last epoch. */
FERKD_CHECK ferkd_status fk_run_train(fk_run *run, ferkd_train_result *result);

void fk_say(const ferkd_watch *watch, const char *format, ...) FK_PRINTF(2, 3);

#endif
