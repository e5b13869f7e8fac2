/* The work itself: models, labelling, training, evaluation. */
#ifndef FERKD_TRAIN_H
#define FERKD_TRAIN_H

#include "ferkd/data.h"
#include "ferkd/exchange.h"
#include "ferkd/label.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- models ------------------------------------------------------------------------------------ */

/** A classifier from an ONNX file or a run folder, with its classes and preprocessing. */
typedef struct ferkd_model ferkd_model;

/** What the user says of a model's input; it takes the place of what an ONNX file's sidecar or a run folder says. */
typedef struct ferkd_model_options {
    uint32_t size_px;    /**< 0: not said */
    const char *mean;    /**< "0.485,0.456,0.406" on 0..1, or on 0..255 ("127,127,127"); or NULL */
    const char *std;     /**< likewise */
    const char *resize;  /**< "bilinear", "bicubic", "lanczos"; or NULL */
    double crop_pct;     /**< 0: not said */
    const char *classes; /**< a file with the model's class names, one a line; or NULL */
    const char *weights; /**< run folder: "best" (default) or "last" */
    const char *precision; /**< "f32" (default), "bf16", or "auto": the faster of them here */
    const char *tune;      /**< "off" (default): the implementations by rule; "quick", "full": the
                                fastest, measured once and remembered; or a file of choices */
} ferkd_model_options;

/**
 * Open MODEL.onnx (preprocessing from options, from the metadata of files that ferkd wrote, or from
 * MODEL.json beside it) or a run folder. FERKD_USAGE, with the remedy, if the preprocessing of an
 * ONNX file is stated nowhere. options may be NULL.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_model_open(ferkd_model **out, const char *path,
                                                    const ferkd_model_options *options);
FERKD_API void ferkd_model_close(ferkd_model **model);
FERKD_API uint32_t ferkd_model_classes(const ferkd_model *m);
/** NULL if the model has no names. */
FERKD_API const char *ferkd_model_class_name(const ferkd_model *m, uint32_t c);
FERKD_API const ferkd_preprocess *ferkd_model_preprocess(const ferkd_model *m);

/**
 * Where each class of a data set is among the model's: map, uint32_t[classes of the data set]. By
 * name; or from file: lines "name index", or one index a line in the data set's order; or, where
 * the model has no names and the same number of classes, one to one. FERKD_USAGE names what is
 * missing.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_model_map(const ferkd_model *m, const ferkd_dataset *d,
                                                   const char *file, uint32_t *map);

/** Logits for `count` images that are preprocessed already: float[count][channels][size][size] to
 *  float[count][classes]. */
FERKD_API FERKD_CHECK ferkd_status ferkd_model_run(ferkd_model *m, const float *inputs,
                                                   uint32_t count, float *logits);

/** One tensor through a network, as it is. */
typedef struct ferkd_run_options {
    const char *model;     /**< MODEL.onnx, a run folder, or a name that "ferkd info" lists */
    const char *weights;   /**< of a name: .safetensors, .pth; of a run folder: "best", "last" */
    uint32_t classes;      /**< of a name; 0: 1000 */
    const char *input;     /**< X.npy */
    const char *output;    /**< Y.npy, written whole or not at all */
    const char *precision; /**< NULL: "f32" */
} ferkd_run_options;

/** Run X.npy, [N, ...], through a network and write the first output, f32. No preprocessing, no class names are
 *  needed; an ONNX model's open dimensions are the tensor's. shape, char[size], receives the output's shape, "2x1000". */
FERKD_API FERKD_CHECK ferkd_status ferkd_run(const ferkd_run_options *o, const ferkd_watch *watch,
                                             char *shape, size_t size);

typedef struct ferkd_export_options {
    uint32_t
        opset; /**< 13 to 18; 0: 13, or 17 for transformers, whose LayerNorm has an operator since */
    bool half;        /**< weights and arithmetic in float16, input and logits in float32 */
    bool for_opencv4; /**< ReLU6 in a form that OpenCV 4.6 reads */
    bool fold_norms;  /**< BatchNorms into the weights before them; always with int8_data */
    const ferkd_dataset
        *int8_data; /**< not NULL: values and weights in 8 bits, their ranges from images of it */
    uint32_t int8_images; /**< how many, spread evenly; 0: 256 */
} ferkd_export_options;

/** Write a model (of a run folder, or of an ONNX file) as ONNX with a free batch, its classes and preprocessing in the
 *  metadata and in a JSON file beside it. options NULL: all zero; watch, of the images that are looked at, may be NULL. */
FERKD_API FERKD_CHECK ferkd_status ferkd_model_export(const ferkd_model *m, const char *path,
                                                      const ferkd_export_options *options,
                                                      const ferkd_watch *watch);

/** One line of a model's description. */
typedef struct ferkd_layer {
    const char *name, *kind, *shape; /**< shape of the output, "1x64x56x56" */
    uint64_t params;
    double macs; /**< multiply-adds, one image */
} ferkd_layer;

typedef struct ferkd_description {
    char name[64];
    const char *about;   /**< or NULL */
    ferkd_layer *layers; /**< freed by ferkd_description_fini() */
    uint32_t n_layers;
    char **params; /**< "name shape", as in torchvision's state_dict */
    uint32_t n_params;
    uint64_t trained; /**< parameters */
    double macs;
    uint32_t size_px, classes;
} ferkd_description;

/** Describe a model of the zoo ("resnet18"), an ONNX file or a run folder. size_px and classes: 0
 *  for the usual ones. */
FERKD_API FERKD_CHECK ferkd_status ferkd_describe(ferkd_description *out, const char *what,
                                                  uint32_t size_px, uint32_t classes);
FERKD_API void ferkd_description_fini(ferkd_description *d);

/** What a batch takes, bytes: in float32; training with gradients and two moments of AdamW a parameter. */
typedef struct ferkd_footprint {
    double run;      /**< values, scratch and weights while running */
    double train;    /**< values, gradients, scratch, copies of weights while training */
    double weights;  /**< parameters, */
    double learning; /**< their gradients and AdamW's moments */
} ferkd_footprint;

/** Of a model of the zoo or an ONNX file. */
FERKD_API FERKD_CHECK ferkd_status ferkd_measure_footprint(ferkd_footprint *out, const char *what,
                                                           uint32_t size_px, uint32_t classes,
                                                           uint32_t batch);
/** The zoo: name and one line for i = 0, 1, ...; NULL after the last. */
FERKD_API const char *ferkd_zoo_name(uint32_t i);
FERKD_API const char *ferkd_zoo_about(uint32_t i);

/* --- labelling --------------------------------------------------------------------------------- */

/** What of several teachers is averaged: softmaxes (at the temperature), or logits. */
typedef enum ferkd_average { FERKD_AVERAGE_PROBS, FERKD_AVERAGE_LOGITS } ferkd_average;

#define FERKD_MAX_TEACHERS 16 /**< that label together */

/** Which classes labels are over: the data set's, or all of the teacher's, of which a student learns the others along. */
typedef enum ferkd_label_width {
    FERKD_WIDTH_AUTO, /**< all of the teacher's, where it has others and they are 2048 at most */
    FERKD_WIDTH_DATA,
    FERKD_WIDTH_TEACHER
} ferkd_label_width;

/** "teacher", "data"; any other word is FERKD_WIDTH_AUTO. */
FERKD_API ferkd_label_width ferkd_label_width_of(const char *word);

typedef struct ferkd_label_options {
    uint32_t regions; /**< an image; 8 */
    uint32_t
        topk; /**< probabilities kept a region, at most the classes; 0: 5; of up to ten classes all; 20 where labels are over more classes than the data set's */
    uint32_t
        prob_bits; /**< of each, 8 to 16; 0: within 1/256, labels within 0.01 total variation */
    ferkd_sampler sampler;  /**< how regions are drawn */
    double temperature;     /**< of the softmax; 1 */
    uint32_t batch;         /**< regions the teacher sees at once; 64 */
    uint32_t threads;       /**< that decode; 0: as many as cores */
    bool stop_on_bad_image; /**< or skip it and count it */
    bool overwrite;
    bool repair; /**< label again what ferkd_store_verify() finds damaged */
    uint32_t part,
        parts; /**< label part (from 1) of parts; 0 and 0: all. ferkd_store_merge() puts them together */
    const char *map;            /**< class map file, or NULL */
    ferkd_label_width width;    /**< FERKD_WIDTH_AUTO */
    ferkd_model *const *others; /**< more teachers, of the same classes: what all say is averaged */
    uint32_t n_others;
    const double *weights; /**< [1 + n_others], above 0; NULL: equal */
    ferkd_average average;
    bool flips; /**< teachers see each region mirrored, too */
} ferkd_label_options;

typedef struct ferkd_label_result {
    uint32_t images, skipped, resumed_at; /**< of the part, if there are parts */
    uint32_t repaired;                    /**< images labelled again */
    bool complete_before;                 /**< nothing was left to do */
    double seconds;
    uint64_t file_bytes;
    double bytes_per_region;
    char first_bad[256]; /**< why the first skipped image was skipped */
} ferkd_label_result;

FERKD_API ferkd_label_options ferkd_label_defaults(void);

/** Let the teacher see every region of every image once, and store what it says. What an earlier,
 *  interrupted call wrote is kept; the result is the same bytes. */
FERKD_API FERKD_CHECK ferkd_status ferkd_label(ferkd_model *teacher, const ferkd_dataset *data,
                                               const char *store,
                                               const ferkd_label_options *options,
                                               const ferkd_watch *watch,
                                               ferkd_label_result *result);

/** FKD's label archives (a folder of .tar files of torch.save, as szq0214/FKD writes them) of data become a store that
 *  keeps their boxes. type: "ori", "hard", "smoothing", "marginal_smoothing_k5" (any k), "marginal_renorm"; the archives do
 *  not say it. Images without an archive are marked as skipped. FKD takes images as stored: open data with ignore_exif. */
FERKD_API FERKD_CHECK ferkd_status ferkd_fkd_import(const ferkd_dataset *data, const char *folder,
                                                    const char *type, const char *path,
                                                    const ferkd_watch *watch);

/** A store as FKD's archives, folder/SPLIT/CLASS/NAME.tar: type marginal_smoothing with as many classes as the store keeps.
 *  FKD's loader gives the same dense labels. */
FERKD_API FERKD_CHECK ferkd_status ferkd_fkd_export(const ferkd_store *store,
                                                    const ferkd_dataset *data, const char *folder,
                                                    const ferkd_watch *watch);

typedef struct ferkd_webdataset_options {
    uint32_t images_per_file; /**< 0: all in one; else NAME-000000.tar, NAME-000001.tar ... */
    bool with_images;         /**< the encoded images, too: a data set of its own */
} ferkd_webdataset_options;

/** A store as WebDataset's tar files (what is in them: train/webdataset.h, docs/store-format.md). path ends in .tar.
 *  options NULL: one file, labels only. */
FERKD_API FERKD_CHECK ferkd_status ferkd_webdataset_export(const ferkd_store *store,
                                                           const ferkd_dataset *data,
                                                           const char *path,
                                                           const ferkd_webdataset_options *options,
                                                           const ferkd_watch *watch);

/** The n tar files of a WebDataset, in any order, become the store path, which is replaced. What ferkd_webdataset_export()
 *  wrote needs no data, and gives the store's labels again. Of others', samples are matched with the images of data by
 *  "file" in their .json or by their key; they have boxes.npy, classes.npy, probs.npy and perhaps flips.npy. Labels of one
 *  store are held in memory, packed. */
FERKD_API FERKD_CHECK ferkd_status ferkd_webdataset_import(const char *const *paths, uint32_t n,
                                                           const ferkd_dataset *data,
                                                           const char *path,
                                                           const ferkd_watch *watch);

/* --- evaluation -------------------------------------------------------------------------------- */

typedef struct ferkd_eval_options {
    uint32_t batch;   /**< 64 */
    uint32_t threads; /**< that decode; 0: as many as cores */
    bool stop_on_bad_image;
    const char *map; /**< class map file, or NULL */
} ferkd_eval_options;

/** Top-1 and top-5 in percent; over the model's own classes, and among the data set's alone. */
typedef struct ferkd_eval_result {
    uint32_t images, skipped;
    uint32_t classes; /**< of the data set */
    uint32_t model_classes;
    double top1, top5;               /**< over all classes of the model */
    double top1_mapped, top5_mapped; /**< among the data set's classes */
    double loss;                     /**< mean cross-entropy among the data set's classes */
    double ece; /**< expected calibration error, 15 bins, percent (Guo et al. 2017) */
    double seconds;
    uint32_t *confusion; /**< [classes][classes]: truth by prediction; ferkd_eval_fini() frees */
    char first_bad[256];
} ferkd_eval_result;

FERKD_API ferkd_eval_options ferkd_eval_defaults(void);
FERKD_API FERKD_CHECK ferkd_status ferkd_eval(ferkd_model *model, const ferkd_dataset *data,
                                              const ferkd_eval_options *options,
                                              const ferkd_watch *watch, ferkd_eval_result *result);
FERKD_API void ferkd_eval_fini(ferkd_eval_result *r);

/** Probabilities of one image file: float[classes]. */
FERKD_API FERKD_CHECK ferkd_status ferkd_predict(ferkd_model *model, const char *path,
                                                 bool ignore_exif, float *probs);

/* --- speed ------------------------------------------------------------------------------------- */

/** What is to be timed: a model of the zoo, an ONNX file or a run folder, on random input. */
typedef struct ferkd_speed_options {
    const char *model;
    bool train;            /**< whole steps: forward, loss, backward, optimiser; or inference */
    uint32_t batch;        /**< 64 */
    uint32_t size_px;      /**< 0: the model's usual one */
    uint32_t classes;      /**< of a model of the zoo; 0: 1000 */
    const char *precision; /**< "f32", "bf16", "auto" */
    const char *tune;      /**< "off", "quick", "full", or a file of choices */
    uint64_t max_bytes;    /**< training: of activations, gradients and workspaces; 0: any */
    bool lean;             /**< training: as ferkd train --lean, with AdamW */
    bool profile;          /**< note where the time goes */
} ferkd_speed_options;

/** Seconds by kind of work. */
typedef struct ferkd_speed_part {
    const char *what;
    double seconds;
} ferkd_speed_part;

typedef struct ferkd_speed ferkd_speed;

FERKD_API ferkd_speed_options ferkd_speed_defaults(void);
FERKD_API FERKD_CHECK ferkd_status ferkd_speed_open(ferkd_speed **out,
                                                    const ferkd_speed_options *options);
FERKD_API void ferkd_speed_close(ferkd_speed **speed);
/** One step, or one pass over a batch. */
FERKD_API FERKD_CHECK ferkd_status ferkd_speed_step(ferkd_speed *s, double *seconds);
/** Of the last training step; before its update. */
FERKD_API double ferkd_speed_loss(const ferkd_speed *s);
/** Bytes of activations, gradients and workspaces; of weights, their gradients and the optimiser. */
FERKD_API void ferkd_speed_memory(const ferkd_speed *s, uint64_t *arena, uint64_t *weights);
/** The arena by kind, at its fullest moment, as a line of text (at most size bytes). */
FERKD_API void ferkd_speed_memory_text(const ferkd_speed *s, char *text, size_t size);
/** What values are stored and multiplied in. */
FERKD_API const char *ferkd_speed_precision(const ferkd_speed *s);
/** Where the time of all steps went (profile): at most `room` parts; gives how many. */
FERKD_API size_t ferkd_speed_profile(const ferkd_speed *s, ferkd_speed_part *parts, size_t room);

/* --- training ---------------------------------------------------------------------------------- */

/** Everything that decides a run. Fields and their texts are those of the recipe file; see
 *  ferkd_recipe_keys(). */
typedef struct ferkd_recipe {
    char *data, *val, *labels, *run, *model, *method;
    char *teacher, *teacher_mean, *teacher_std, *teacher_resize, *teacher_classes, *class_map,
        *label_classes;
    int64_t teacher_size;
    int64_t size, size_start, val_size, epochs, batch, seed, regions_per_image, accumulate, threads,
        save_every;
    char *mean, *std, *filter, *class_names, *on_bad_image;
    double crop_pct;
    bool ignore_exif;
    double scale_min, scale_max, ratio_min, ratio_max, flip;
    char *mirror;
    char *optimizer, *schedule;
    double lr, lr_min, momentum, beta1, beta2, weight_decay, warmup_epochs, step_gamma, clip, ema,
        layer_decay, head_rate;
    bool nesterov, decay_all;
    int64_t step_epochs;
    double label_smoothing, temperature, kd_alpha, kd_temperature;
    char *calibrate;
    double hard_smoothing;
    char *mix, *mix_scope;
    double mix_prob, mixup_alpha, cutmix_alpha;
    int64_t mix_off_epoch;
    char *init;
    int64_t probe_epochs;
    bool freeze;
    char *precision, *tune;
    int64_t max_memory;
    bool lean;
    bool memory;
} ferkd_recipe;

struct fk_option;
/** The table of keys (base/option.h): names, kinds, defaults, help. */
FERKD_API const struct fk_option *ferkd_recipe_keys(size_t *n);
FERKD_API FERKD_CHECK ferkd_status ferkd_recipe_init(ferkd_recipe *r);
FERKD_API void ferkd_recipe_fini(ferkd_recipe *r);
/** Set one key from text; an unknown key is an error that names the nearest known one. */
FERKD_API FERKD_CHECK ferkd_status ferkd_recipe_set(ferkd_recipe *r, const char *key,
                                                    const char *text);
/** Read a YAML file of `key: value` lines over what r holds; groups (nested maps) are allowed. */
FERKD_API FERKD_CHECK ferkd_status ferkd_recipe_load(ferkd_recipe *r, const char *path);
FERKD_API FERKD_CHECK ferkd_status ferkd_recipe_save(const ferkd_recipe *r, const char *path);

typedef struct ferkd_train_result {
    uint32_t epochs;
    double train_loss, val_top1, val_top5, seconds, images_per_s;
    double best_top1; /**< -1: nothing to evaluate on */
    uint32_t skipped;
    char first_bad[256];
} ferkd_train_result;

/** Train as the recipe says, into the folder recipe->run; with resume, go on from its last
 *  checkpoint instead (the recipe then comes from the folder). FERKD_STOPPED: stopped on request;
 *  the checkpoint is written, and resuming gives the same bytes as never having stopped. */
FERKD_API FERKD_CHECK ferkd_status ferkd_train(const ferkd_recipe *recipe, const ferkd_watch *watch,
                                               ferkd_train_result *result);
FERKD_API FERKD_CHECK ferkd_status ferkd_train_resume(const char *run, const ferkd_watch *watch,
                                                      ferkd_train_result *result);

/* --- the whole way ----------------------------------------------------------------------------- */

/** From images and a pretrained network to a student, in a folder. */
typedef struct ferkd_distill_options {
    const char *data, *val;
    const char *teacher;       /**< MODEL.onnx or a run folder */
    ferkd_model_options input; /**< what is said of the teacher's input */
    const char *folder;        /**< where everything goes */
    const char *class_map;     /**< the data set's classes among the teacher's, or NULL: by name */
    const char *adapt;         /**< "auto": where the teacher lacks a class; "always", "never" */
    uint32_t adapt_epochs;     /**< of which the first two fifths train the head alone */
    uint32_t regions;          /**< an image */
    uint64_t seed;
    const ferkd_recipe *recipe; /**< of the student; data, val, labels, run and seed are set here */
} ferkd_distill_options;

typedef struct ferkd_distill_result {
    bool adapted;
    double teacher_top1; /**< of the adapted teacher; -1 where it was taken as it is */
    double student_top1; /**< of the best epoch; -1 without validation data */
} ferkd_distill_result;

/** Adapt the teacher where it lacks the data set's classes (folder/teacher), label (folder/labels.ferkd), train the
 *  student (folder/student), export it (folder/student.onnx). Stopped or killed, the same call goes on at the stage
 *  where it was. */
FERKD_API FERKD_CHECK ferkd_status ferkd_distill(const ferkd_distill_options *o,
                                                 const ferkd_watch *watch,
                                                 ferkd_distill_result *result);

#ifdef __cplusplus
}
#endif
#endif
