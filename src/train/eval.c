/* Evaluation: top-1, top-5, confusion, loss, and how honest the probabilities are (ECE). */
#include "base/compat.h"

#include "train/eval.h"

#include "base/limits.h"
#include "base/mem.h"

ferkd_status fk_score_init(fk_score *s, ferkd_eval_result *r, const uint32_t *map)
{
    *s = (fk_score){.r = r, .map = map};
    TRY(fk_calloc(&r->confusion, (size_t)r->classes * r->classes, sizeof *r->confusion,
                  "evaluation"));
    return fk_calloc(&s->probs, r->classes, sizeof *s->probs, "evaluation");
}

void fk_score_fini(fk_score *s)
{
    free(s->probs);
    s->probs = NULL;
}

/* How many values are above v[i], ties counted against it in order of class number (as argmax). */
static uint32_t rank_of(const float *v, uint32_t n, uint32_t i)
{
    uint32_t rank = 0;

    for (uint32_t k = 0; k < n; k++)
        rank += v[k] > v[i] || (v[k] == v[i] && k < i);
    return rank;
}

void fk_score_add(fk_score *s, const float *logits, uint32_t truth)
{
    ferkd_eval_result *r = s->r;
    uint32_t rank = rank_of(logits, r->model_classes, s->map[truth]);
    uint32_t best = 0;

    s->top1 += rank < 1;
    s->top5 += rank < 5;
    for (uint32_t c = 0; c < r->classes; c++)
        s->probs[c] = logits[s->map[c]];
    fk_softmax(s->probs, r->classes, 1.0, s->probs);
    for (uint32_t c = 1; c < r->classes; c++)
        best = s->probs[c] > s->probs[best] ? c : best;
    rank = rank_of(s->probs, r->classes, truth);
    s->top1_mapped += best == truth;
    s->top5_mapped += rank < 5;
    s->loss -= log(fmax((double)s->probs[truth], 1e-30));
    r->confusion[(size_t)truth * r->classes + best]++;
    int bin = fk_min_int((int)((double)s->probs[best] * FK_ECE_BINS), FK_ECE_BINS - 1);
    bin = fk_max_int(bin, 0); /* NaN */
    s->confidence[bin] += (double)s->probs[best];
    s->right[bin] += best == truth;
    s->count[bin]++;
    r->images++;
}

void fk_score_end(fk_score *s)
{
    ferkd_eval_result *r = s->r;
    double n = r->images ? r->images : 1;

    r->top1 = 100.0 * (double)s->top1 / n;
    r->top5 = 100.0 * (double)s->top5 / n;
    r->top1_mapped = 100.0 * (double)s->top1_mapped / n;
    r->top5_mapped = 100.0 * (double)s->top5_mapped / n;
    r->loss = s->loss / n;
    r->ece = 0.0;
    for (int b = 0; b < FK_ECE_BINS; b++)
        r->ece += 100.0 * fabs(s->confidence[b] - (double)s->right[b]) / n;
}

ferkd_status fk_evaluate(fk_plan *plan, const ferkd_dataset *data, const fk_view_options *o,
                         fk_score *score, const ferkd_watch *watch)
{
    fk_view *view = NULL;
    size_t each = (size_t)o->how.channels * o->how.size_px * o->how.size_px;
    uint32_t images = ferkd_dataset_images(data);
    ferkd_status st = FERKD_OK;

    TRY(fk_view_new(&view, data, o));
    for (;;) {
        uint32_t first;
        uint32_t n;
        const float *inputs;
        const fk_fault *faults;
        TRY_DONE(fk_view_next(view, &first, &n, &inputs, &faults));
        if (n == 0)
            break;
        memcpy(fk_plan_input(plan), inputs, n * each * sizeof *inputs);
        TRY_DONE(fk_plan_forward(plan, 0));
        const float *logits = fk_plan_output(plan);
        for (uint32_t i = 0; i < n; i++) {
            if (faults[i].status == FERKD_OK) {
                fk_score_add(score, logits + (size_t)i * score->r->model_classes,
                             ferkd_dataset_label(data, first + i));
                continue;
            }
            if (score->r->skipped++ == 0)
                (void)snprintf(score->r->first_bad, sizeof score->r->first_bad, "%.255s",
                               faults[i].text);
        }
        if (watch && watch->progress)
            watch->progress(watch->ctx, "eval", first + n, images, "");
        if (watch && watch->stop && watch->stop(watch->ctx)) {
            st = fk_fail(FERKD_STOPPED, "stopped after %u of %u images", first + n, images);
            goto done;
        }
    }
    fk_score_end(score);
done:
    fk_view_free(&view);
    return st;
}

ferkd_eval_options ferkd_eval_defaults(void)
{
    return (ferkd_eval_options){.batch = 64};
}

ferkd_status ferkd_eval(ferkd_model *model, const ferkd_dataset *data,
                        const ferkd_eval_options *options, const ferkd_watch *watch,
                        ferkd_eval_result *result)
{
    ferkd_status st = FERKD_OK;
    fk_score score = {0};
    uint32_t *map = NULL;
    double start = fk_now_s();

    *result = (ferkd_eval_result){.classes = ferkd_dataset_classes(data),
                                  .model_classes = model->classes};
    if (options->batch < 1 || options->batch > FK_MAX_BATCH)
        return fk_fail(FERKD_USAGE, "--batch lies between 1 and %u", FK_MAX_BATCH);
    TRY_DONE(fk_calloc(&map, result->classes, sizeof *map, "evaluation"));
    TRY_DONE(ferkd_model_map(model, data, options->map, map));
    TRY_DONE(fk_model_prepare(model, options->batch));
    TRY_DONE(fk_score_init(&score, result, map));
    fk_view_options o = {.how = model->how,
                         .channels_last = model->channels_last,
                         .batch = model->batch,
                         .threads = fk_threads(options->threads),
                         .stop_on_bad_image = options->stop_on_bad_image};
    TRY_DONE(fk_evaluate(model->plan, data, &o, &score, watch));
    result->seconds = fk_now_s() - start;
done:
    free(map);
    fk_score_fini(&score);
    if (st != FERKD_OK)
        ferkd_eval_fini(result);
    return st;
}

void ferkd_eval_fini(ferkd_eval_result *r)
{
    free(r->confusion);
    r->confusion = NULL;
}

ferkd_status ferkd_predict(ferkd_model *model, const char *path, bool ignore_exif, float *probs)
{
    ferkd_image image = {0};
    ferkd_image crop = {0};
    ferkd_decode_options decode = {.ignore_exif = ignore_exif};
    const ferkd_preprocess *how = &model->how;
    fk_pixels pixels;
    ferkd_status st = FERKD_OK;

    TRY(fk_model_prepare(model, 1));
    fk_pixels_init(&pixels, how, model->channels_last);
    TRY_DONE(ferkd_image_load(&image, path, &decode));
    TRY_DONE(ferkd_image_center(&crop, &image, (uint32_t)(how->size_px / how->crop_pct),
                                how->size_px, how->filter));
    fk_pixels_fill(&pixels, &crop, fk_plan_input(model->plan));
    TRY_DONE(fk_plan_forward(model->plan, 0));
    fk_softmax(fk_plan_output(model->plan), model->classes, 1.0, probs);
done:
    ferkd_image_fini(&image);
    ferkd_image_fini(&crop);
    return st;
}
