/* The recipe: one table of keys, from which the command line, the YAML file, the help and the run
 * folder's record all come. */
#include "base/compat.h"

#include "train/recipe.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/option.h"

#define AT(field) offsetof(ferkd_recipe, field)
#define TEXT(name, field, initial, arg, help)                           \
    {                                                                   \
        name, 0, FK_OPT_TEXT, AT(field), initial, 0, 0, NULL, arg, help \
    }
#define PICK(name, field, initial, words, help)                             \
    {                                                                       \
        name, 0, FK_OPT_CHOICE, AT(field), initial, 0, 0, words, NULL, help \
    }
#define REAL(name, field, initial, low, high, help)                          \
    {                                                                        \
        name, 0, FK_OPT_REAL, AT(field), initial, low, high, NULL, "X", help \
    }
#define WHOLE(name, field, initial, low, high, help)                        \
    {                                                                       \
        name, 0, FK_OPT_INT, AT(field), initial, low, high, NULL, "N", help \
    }
#define FLAG(name, field, initial, help)                                 \
    {                                                                    \
        name, 0, FK_OPT_FLAG, AT(field), initial, 0, 0, NULL, NULL, help \
    }

static const fk_option KEYS[] = {
    TEXT("data", data, NULL, "DATA", "training data: folder of class folders, IDX or CIFAR file"),
    TEXT("val", val, NULL, "DATA", "validation data, evaluated after every epoch"),
    TEXT("labels", labels, NULL, "STORE", "label store of the training data (fkd, ferkd)"),
    TEXT("run", run, NULL, "FOLDER", "where the run goes; also -o"),
    TEXT("model", model, "resnet18", "NAME",
         "student: a name that \"ferkd info\" lists; resnet18d+silu: with another activation for "
         "ReLU"),
    PICK("method", method, "ferkd", "ce|kd|funmatch|deit|fkd|ferkd",
         "ce: hard labels; fkd: all stored labels; ferkd: calibrated ones; with the teacher in the "
         "loop: kd; "
         "funmatch (same mixed view for both); deit (its choice as a hard label)"),
    WHOLE("size", size, "224", 8, 4096, "side of the student's input, pixels"),
    WHOLE(
        "size-start", size_start, "0", 0, 4096,
        "begin at this size and grow by 32 to size within two thirds of the epochs; 0: no growing"),
    WHOLE("val-size", val_size, "0", 0, 4096,
          "side of the input in evaluation and in what is exported; 0: as size"),
    WHOLE("epochs", epochs, "90", 1, 1000000, "each shows as many regions as there are images"),
    WHOLE("batch", batch, "0", 0, FK_MAX_BATCH,
          "regions a step; 0: 64, or 32 or 16 where 64 would make fewer than 600 steps in all"),
    WHOLE("seed", seed, "0", 0, 9007199254740991.0, "of everything random"),
    WHOLE("regions-per-image", regions_per_image, "1", 1, 1024,
          "regions of one image in a batch; the image is decoded once"),
    PICK("optimizer", optimizer, "auto", "auto|sgd|adamw",
         "the optimiser; auto: sgd, or adamw for pretrained weights (--init) without --lr"),
    REAL("lr", lr, "-1", -1, 1e6,
         "highest learning rate; -1: 0.1 for SGD (less in proportion in batches below 64 and in "
         "fewer than 300 steps), 0.001 for AdamW; for pretrained weights 0.3 of it, without "
         "BatchNorms 0.03 (SGD: 0.003)"),
    REAL("lr-min", lr_min, "0", 0, 1e6, "learning rate at the end of cosine and one-cycle"),
    REAL("momentum", momentum, "0.9", 0, 1, "of SGD"),
    FLAG("nesterov", nesterov, "true", "Nesterov's momentum"),
    REAL("beta1", beta1, "0.9", 0, 1, "of AdamW"),
    REAL("beta2", beta2, "0.999", 0, 1, "of AdamW"),
    REAL("weight-decay", weight_decay, "0.0005", 0, 1e3, "of weights"),
    FLAG("decay-all", decay_all, "false", "decay biases and norms, too"),
    PICK("schedule", schedule, "one-cycle", "cosine|one-cycle|step|constant",
         "of the learning rate"),
    REAL("warmup-epochs", warmup_epochs, "0.5", 0, 1e6,
         "linear rise at the start; one-cycle has its own, 30% of the steps"),
    WHOLE("step-epochs", step_epochs, "30", 1, 1000000, "schedule step: epochs between two drops"),
    REAL("step-gamma", step_gamma, "0.1", 0, 1, "schedule step: factor of each drop"),
    REAL("clip", clip, "0", 0, 1e9, "largest norm of the gradient; 0: none"),
    REAL("ema", ema, "0", 0, 1,
         "decay of the average of weights, which is then evaluated; 0: none"),
    REAL("layer-decay", layer_decay, "1", 0.01, 1,
         "factor of the learning rate for each layer (block) further from the head; 0.65 to 0.75 "
         "when "
         "fine-tuning transformers"),
    REAL("head-rate", head_rate, "0", 0, 1000,
         "factor of the learning rate for the head; 0: 10 where it starts anew beside pretrained "
         "weights and --lr says nothing, else 1"),
    WHOLE("accumulate", accumulate, "1", 1, 65536, "batches a step of the optimiser"),
    REAL("label-smoothing", label_smoothing, "0", 0, 1, "of hard labels (ce, kd)"),
    REAL("temperature", temperature, "1", 0.01, 1000, "of the student's softmax (fkd, ferkd)"),
    REAL("kd-alpha", kd_alpha, "-1", -1, 1,
         "alpha CE + (1-alpha) KL; -1: 0.1 for kd, 0.5 for deit; funmatch has no CE"),
    REAL("kd-temperature", kd_temperature, "2", 0.01, 1000, "kd, funmatch: of both softmaxes"),
    TEXT("calibrate", calibrate, "auto", "RULES",
         "ferkd: auto, ferkd-paper, fkd, relabel, or rules such as \"max < 5%: discard; wrong: "
         "hard; "
         "else: keep\"; \"ferkd calibrate --help\" explains"),
    REAL("hard-smoothing", hard_smoothing, "0.1", 0, 1,
         "ferkd: smoothing of the label of images of which no region is left"),
    PICK("mix", mix, "auto", "auto|none|mixup|cutmix|both",
         "mixing of inputs and targets; auto: none, but for funmatch mixup with alpha 1"),
    PICK("mix-scope", mix_scope, "batch", "batch|image",
         "mix with another image of the batch, or with a region of the same image (SelfMix)"),
    REAL("mix-prob", mix_prob, "1", 0, 1, "share of batches (SelfMix: of regions) that are mixed"),
    REAL("mixup-alpha", mixup_alpha, "0.2", 0.001, 100, "lambda is Beta(alpha, alpha)"),
    REAL("cutmix-alpha", cutmix_alpha, "1", 0.001, 100, "likewise for CutMix"),
    WHOLE("mix-off-epoch", mix_off_epoch, "0", 0, 1000000,
          "no mixing from this epoch on; 0: never"),
    TEXT("teacher", teacher, NULL, "MODEL", "kd: the teacher, MODEL.onnx or a run folder"),
    WHOLE("teacher-size", teacher_size, "0", 0, 4096, "side of the teacher's input; 0: as it says"),
    TEXT("teacher-mean", teacher_mean, NULL, "R,G,B", "mean of the teacher's input"),
    TEXT("teacher-std", teacher_std, NULL, "R,G,B", "deviation of the teacher's input"),
    TEXT("teacher-resize", teacher_resize, NULL, "FILTER", "bilinear, bicubic or lanczos"),
    TEXT("teacher-classes", teacher_classes, NULL, "FILE", "the teacher's class names, one a line"),
    TEXT("class-map", class_map, NULL, "FILE", "the data set's classes among the teacher's"),
    PICK("label-classes", label_classes, "auto", "auto|data|teacher",
         "kd, funmatch, deit: classes that the student has while it learns, all of the teacher's "
         "or the data set's; "
         "auto: the former up to 2048, but for deit"),
    REAL("scale-min", scale_min, "0.08", 0.0001, 1, "ce, kd: smallest share of area of a region"),
    REAL("scale-max", scale_max, "1", 0.0001, 1, "ce, kd: largest share of area of a region"),
    REAL("ratio-min", ratio_min, "0.75", 0.001, 1000, "ce, kd: narrowest region, width to height"),
    REAL("ratio-max", ratio_max, "1.33333333333", 0.001, 1000, "ce, kd: widest region"),
    REAL("flip", flip, "0.5", 0, 1, "ce, kd: probability of a mirrored region"),
    PICK("mirror", mirror, "auto", "auto|always|never",
         "fkd, ferkd: show a stored region mirrored, with the same label, every second time; auto: "
         "ferkd, where regions are shown "
         "twice or more"),
    TEXT("mean", mean, NULL, "R,G,B", "mean of the student's input; default: ImageNet's"),
    TEXT("std", std, NULL, "R,G,B", "deviation of the student's input"),
    PICK("filter", filter, "bilinear", "bilinear|bicubic|lanczos", "of resizing"),
    REAL("crop-pct", crop_pct, "0.875", 0.1, 1, "validation: short side = size / crop-pct"),
    TEXT("class-names", class_names, NULL, "FILE", "names for IDX data, one a line"),
    FLAG("ignore-exif", ignore_exif, "false", "leave images as stored, not upright"),
    PICK("on-bad-image", on_bad_image, "skip", "skip|stop", "what to do with unreadable images"),
    WHOLE("threads", threads, "0", 0, 1024, "that decode; 0: as many as cores"),
    WHOLE("save-every", save_every, "0", 0, 1e12, "steps between checkpoints within an epoch"),
    PICK("precision", precision, "auto", "auto|f32|bf16",
         "bf16 stores values in half the memory; auto: the faster of both on this processor"),
    TEXT(
        "tune", tune, "quick", "HOW",
        "off: implementations by rule; quick, full: the fastest, measured once; or the tune.txt of "
        "another run"),
    WHOLE("max-memory", max_memory, "0", 0, 1e9,
          "MiB for activations, gradients and workspaces; values are worked out anew in backward "
          "where "
          "that is needed, with equal losses; 0: any"),
    FLAG("lean", lean, "false",
         "for networks that hardly fit: the optimiser's states in bf16, each parameter moves "
         "within backward and its "
         "gradient is dropped; not with --clip, --ema, --accumulate"),
    FLAG("memory", memory, "false", "say what the memory is for, before the first step"),
    TEXT("init", init, NULL, "MODEL",
         "start from the weights of a run folder, of a .pth or .safetensors file of torchvision, "
         "timm, "
         "OpenCLIP, OpenAI or DINOv2 for the network that --model names, or of an ONNX file, which "
         "is "
         "then the network, too; a head for other classes starts anew"),
    WHOLE("probe-epochs", probe_epochs, "0", 0, 1000000,
          "epochs at the start in which only the head is trained"),
    FLAG(
        "freeze", freeze, "false",
        "train the head alone in all epochs (BatchNorm's statistics follow the data); with --init"),
};

const fk_option *ferkd_recipe_keys(size_t *n)
{
    *n = FK_COUNT(KEYS);
    return KEYS;
}

ferkd_status ferkd_recipe_init(ferkd_recipe *r)
{
    return fk_options_init(KEYS, FK_COUNT(KEYS), r);
}

void ferkd_recipe_fini(ferkd_recipe *r)
{
    fk_options_fini(KEYS, FK_COUNT(KEYS), r);
}

ferkd_status ferkd_recipe_set(ferkd_recipe *r, const char *key, const char *text)
{
    const fk_option *o = fk_option_find(KEYS, FK_COUNT(KEYS), key);

    if (!o) {
        const char *near = fk_option_nearest(KEYS, FK_COUNT(KEYS), key);
        return fk_fail(FERKD_USAGE, "unknown key \"%.60s\"%s%s%s", key,
                       near ? "; did you mean \"" : "; see \"ferkd train --help\"",
                       near ? near : "", near ? "\"?" : "");
    }
    return fk_option_set(o, r, text);
}

/* A value that is a map is a group, whose keys count as ours. */
ferkd_status fk_recipe_take(ferkd_recipe *r, const fk_yaml *y, const fk_yaml_node *map, int depth)
{
    if (!fk_yaml_is_map(map) || depth > 4)
        return fk_yaml_at(y, map,
                          fk_fail(FERKD_USAGE, "a recipe is a list of \"key: value\" lines"));
    for (size_t i = 0; i < fk_yaml_count(map); i++) {
        const char *key = fk_yaml_key(y, map, i);
        const fk_yaml_node *value = fk_yaml_value(y, map, i);
        if (fk_yaml_is_map(value)) {
            TRY(fk_recipe_take(r, y, value, depth + 1));
            continue;
        }
        if (!key || !fk_yaml_text(value))
            return fk_yaml_at(y, map, fk_fail(FERKD_USAGE, "a key with one value is needed"));
        ferkd_status st = ferkd_recipe_set(r, key, fk_yaml_text(value));
        if (st != FERKD_OK)
            return fk_yaml_at(y, value, st);
    }
    return FERKD_OK;
}

ferkd_status ferkd_recipe_load(ferkd_recipe *r, const char *path)
{
    fk_yaml *y = NULL;

    TRY(fk_yaml_load(&y, path));
    ferkd_status st = FERKD_OK;
    if (fk_yaml_root(y))
        st = fk_recipe_take(r, y, fk_yaml_root(y), 0);
    fk_yaml_free(&y);
    return st;
}

/* A YAML scalar in double quotes. */
static void quote(FILE *f, const char *text)
{
    (void)fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', f);
        (void)fputc(*text, f);
    }
    (void)fputc('"', f);
}

ferkd_status fk_recipe_text(const ferkd_recipe *r, char **out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    ferkd_status st = FERKD_OK;

    if (!f)
        return fk_fail(FERKD_MEMORY, "no memory for a recipe");
    (void)fprintf(f, "# written by ferkd %s; \"ferkd train FILE.yaml\" repeats it\n",
                  ferkd_version());
    for (size_t i = 0; i < FK_COUNT(KEYS) && st == FERKD_OK; i++) {
        char *value = NULL;
        bool words = KEYS[i].kind == FK_OPT_TEXT || KEYS[i].kind == FK_OPT_CHOICE;
        st = fk_option_text(&KEYS[i], r, &value);
        if (st == FERKD_OK && !(words && *value == '\0')) {
            for (const char *c = KEYS[i].name; *c; c++)
                (void)fputc(*c == '-' ? '_' : *c, f);
            (void)fputs(": ", f);
            if (KEYS[i].kind == FK_OPT_TEXT)
                quote(f, value);
            else
                (void)fputs(value, f);
            (void)fputc('\n', f);
        }
        free(value);
    }
    (void)fclose(f);
    if (st == FERKD_OK)
        *out = text;
    else
        free(text);
    return st;
}

ferkd_status ferkd_recipe_save(const ferkd_recipe *r, const char *path)
{
    char *text = NULL;

    TRY(fk_recipe_text(r, &text));
    ferkd_status st = fk_file_replace(path, text, strlen(text));
    free(text);
    return st;
}
