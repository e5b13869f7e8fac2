/* Soft labels: the store and what is in it. */
#ifndef FERKD_LABEL_H
#define FERKD_LABEL_H

#include "ferkd/data.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ferkd_store ferkd_store;

/** Everything that the header of a store says. Texts belong to the store. */
typedef struct ferkd_store_info {
    uint32_t version;
    uint32_t images, regions, topk;
    uint32_t classes;         /**< of the data set */
    uint32_t teacher_classes; /**< of the teacher; other than classes: outside mass is stored */
    uint32_t
        label_classes; /**< that labels are over: the data set's, then, where there are more, the teacher's
                                 others in its order; 0 for a writer: classes */
    ferkd_sampler sampler;
    uint32_t teacher_px; /**< side of the square that the teacher saw */
    ferkd_filter filter; /**< that regions were resized with */
    double temperature;  /**< the logits were divided by it */
    bool ignore_exif;    /**< regions are in the pixels as stored */
    bool has_boxes;      /**< regions are told one by one, and do not follow from the seed */
    uint8_t dataset_fingerprint[16];
    uint8_t teacher_fingerprint[16];
    uint32_t prob_bits; /**< of a stored probability */
    uint64_t file_bytes;
    uint32_t labelled, skipped; /**< images with labels, images that could not be read */
    uint32_t part, parts;       /**< part (from 1) of parts of a store; 0 and 0: a whole one */
    uint32_t first, here;       /**< images in this file: here of them, from first on */
    const char *teacher;        /**< the file's name */
    const char *dataset;        /**< the data set's path, as given */
} ferkd_store_info;

/** One region's label. */
typedef struct ferkd_soft_label {
    uint32_t k; /**< classes that are told: at most topk; the others' share rounds to nothing */
    const uint16_t
        *index; /**< [k] classes, most probable first: of the data set or, from label_classes of the
                              store, below that number */
    const float *prob;   /**< [k] probabilities among all of these */
    float rest;          /**< 1 - their sum: spread evenly over the other classes */
    float inside;        /**< the teacher's probability for all the data set's classes together */
    float teacher_max;   /**< the teacher's largest probability over all its own classes */
    float area;          /**< the region's share of the image; 0 until ferkd_store_place() */
    ferkd_region region; /**< in stores with boxes (has_boxes): where it is, pixels */
} ferkd_soft_label;

/** Caller's room for one label: topk entries each. */
typedef struct ferkd_label_room {
    uint16_t *index;
    float *prob;
} ferkd_label_room;

/**
 * Open a sealed store. FERKD_CORRUPT: damaged or unfinished; FERKD_UNSUPPORTED: a newer version.
 * Read-only and mapped; any number of threads may use it.
 */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_open(ferkd_store **out, const char *path);
FERKD_API void ferkd_store_close(ferkd_store **store);
FERKD_API const ferkd_store_info *ferkd_store_about(const ferkd_store *store);
FERKD_API const char *ferkd_store_path(const ferkd_store *store);

/** Did the labeller find the image readable? FERKD_CORRUPT if its block is damaged. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_has(const ferkd_store *store, uint32_t image,
                                                   bool *has);

/** The ground-truth class of an image, as it was when labelled; no check of the block. */
FERKD_API uint32_t ferkd_store_truth(const ferkd_store *store, uint32_t image);

/** Decode a label into room, which out then points into. The block's checksum is verified.
 *  FERKD_ABSENT if the image was skipped. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_label(const ferkd_store *store, uint32_t image,
                                                     uint32_t region, ferkd_label_room room,
                                                     ferkd_soft_label *out);

/** All regions of an image: out, [regions]; room, [regions][topk]. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_labels(const ferkd_store *store, uint32_t image,
                                                      ferkd_label_room room, ferkd_soft_label *out);

/** Where a region of an image of width x height pixels is; label: its label (in stores with boxes it says where). */
FERKD_API ferkd_region ferkd_store_region(const ferkd_store *store, uint32_t image, uint32_t region,
                                          const ferkd_soft_label *label, uint32_t width,
                                          uint32_t height);

/** Fill in the areas of an image's labels, [regions]. Width and height 0: they are not known, and areas are those of a
 *  square image or, in stores with boxes, shares of the smallest rectangle around them all. */
FERKD_API void ferkd_store_place(const ferkd_store *store, uint32_t image, uint32_t width,
                                 uint32_t height, ferkd_soft_label *labels);

/** A label over all the teacher's classes among the data set's alone: what of the mass inside no class tells is spread
 *  evenly. out points into room, topk entries. Without any class of the data set among the k it is even. */
FERKD_API void ferkd_soft_label_narrow(const ferkd_soft_label *told, uint32_t classes,
                                       ferkd_label_room room, ferkd_soft_label *out);

/** The same as float[classes], sum 1 within 1e-6: the mass beyond the top-k is spread evenly over
 *  the other classes (FKD, ECCV 2022: marginal smoothing). */
FERKD_API void ferkd_soft_label_expand(const ferkd_soft_label *label, uint32_t classes,
                                       float *probs);

/** FERKD_USAGE, with the reason, if the store was made for another data set. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_match(const ferkd_store *store,
                                                     const ferkd_dataset *dataset);

/** Put the parts of a store together, in whatever order they are given; the result is the same bytes as if it
 *  had been labelled at once. FERKD_USAGE: parts of different stores, or missing ones, which are named. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_merge(const char *const *parts, uint32_t n,
                                                     const char *path, const ferkd_watch *watch);

/** What a store is packed anew with; 0: as it is, of bits: the default's. */
typedef struct ferkd_store_pack {
    uint32_t
        regions; /**< the first of each image; the store is then as if so many had been labelled */
    uint32_t topk; /**< probabilities a region */
    uint32_t prob_bits;
} ferkd_store_pack;

/** Pack a store anew, into path. FERKD_USAGE: it holds fewer regions or probabilities than asked for. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_convert(const ferkd_store *store, const char *path,
                                                       const ferkd_store_pack *as,
                                                       const ferkd_watch *watch);

/** What two stores differ in. */
typedef struct ferkd_store_difference {
    char settings[256];    /**< names of settings that differ, with commas; "" */
    bool comparable;       /**< same images, regions and classes: the rest is filled in */
    uint32_t images;       /**< images of which any label differs */
    uint64_t regions;      /**< regions whose label differs */
    uint64_t other_first;  /**< regions whose first class differs */
    double most;           /**< largest difference of a probability */
    double mean_variation; /**< total variation between labels, mean over all regions */
} ferkd_store_difference;

FERKD_API FERKD_CHECK ferkd_status ferkd_store_compare(const ferkd_store *a, const ferkd_store *b,
                                                       ferkd_store_difference *out);

/** Check every block; the numbers of damaged images go to bad (the caller frees). */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_verify(const ferkd_store *store, uint32_t **bad,
                                                      uint32_t *n_bad);

/** What a store holds, over all labelled regions. */
typedef struct ferkd_store_stats {
    uint64_t regions;
    double quantile[101];        /**< of p: minimum, 1%, ... maximum */
    double inside_quantile[101]; /**< of the mass inside the data set's classes */
    uint64_t histogram[50];      /**< of p over 0..1 */
    double top1_agrees;          /**< share of regions whose first class is the ground truth */
    double mean_top1;            /**< mean probability of the first class among the data set's */
    double mean_entropy;         /**< of the stored label, nats */
} ferkd_store_stats;

FERKD_API FERKD_CHECK ferkd_status ferkd_store_statistics(const ferkd_store *store,
                                                          ferkd_store_stats *out);

/** An image whose label the teacher disputes. */
typedef struct ferkd_suspect {
    uint32_t image;
    uint32_t truth, said; /**< the label; what the teacher says of all its regions together */
    uint32_t agreeing;    /**< regions whose first class is the label */
    float
        score; /**< how much more the teacher believes in said than in truth, -1..1, regions weighted by the
                      mass inside the data set's classes */
} ferkd_suspect;

/** The (at most) n most disputed images, most disputed first; none whose score is not above 0. *found says
 *  how many. out: ferkd_suspect[n]. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_suspects(const ferkd_store *store, uint32_t n,
                                                        ferkd_suspect *out, uint32_t *found);

/** A store of made-up labels, to learn what one of that size costs. */
typedef struct ferkd_store_speed_options {
    uint32_t images, regions, topk, classes;
    uint32_t prob_bits; /**< 0: as the codec chooses */
    uint64_t seed;
    const char *path; /**< of the store to write */
    bool keep;        /**< or remove it at the end */
} ferkd_store_speed_options;

typedef struct ferkd_store_speed {
    double bytes_per_region, file_bytes;
    double write_s;            /**< making the labels up, packing, writing, syncing */
    double open_ms;            /**< median of nine */
    double open_bytes;         /**< of memory that is the process's own, from an open store */
    double verify_s;           /**< every checksum */
    double labels_per_s;       /**< one thread, all regions of images in random order, top k */
    double dense_labels_per_s; /**< the same, expanded to float[classes] */
    double
        visits_per_s; /**< one thread, as training reads: shuffled images, one region of each expanded */
    /* Against the labels as made up, rest spread evenly, over the classes: */
    double worst_probability; /**< largest difference of one of the K probabilities */
    double worst_variation;   /**< largest total variation of a label */
    double mean_variation;
} ferkd_store_speed;

/** Write, seal, open, verify and read a store whose labels are drawn as an ImageNet teacher's are spread. */
FERKD_API FERKD_CHECK ferkd_status ferkd_store_measure(const ferkd_store_speed_options *o,
                                                       const ferkd_watch *watch,
                                                       ferkd_store_speed *result);

#ifdef __cplusplus
}
#endif
#endif
