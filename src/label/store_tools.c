/* Whole stores as operands: parts put together, stores packed anew, two stores compared. */
#include "base/compat.h"

#include "base/mem.h"
#include "label/labels.h"
#include "label/packer.h"
#include "label/store_format.h"
#include "label/store_writer.h"

static ferkd_status tell(const ferkd_watch *watch, const char *what, uint32_t done, uint32_t all)
{
    if (watch && watch->progress)
        watch->progress(watch->ctx, what, done, all, "");
    return watch && watch->stop && watch->stop(watch->ctx) && done < all
               ? fk_fail(FERKD_STOPPED, "stopped after %u of %u images; the same command goes on",
                         done, all)
               : FERKD_OK;
}

/* --- merging ----------------------------------------------------------------------------------- */

static int by_first(const void *a, const void *b)
{
    const ferkd_store *const *x = a;
    const ferkd_store *const *y = b;
    uint32_t i = ferkd_store_about(*x)->first;
    uint32_t k = ferkd_store_about(*y)->first;

    return (i > k) - (i < k);
}

/* The header of a store, as if it were whole. */
static void whole_header(const ferkd_store *s, const ferkd_store *names, uint8_t *h,
                         ferkd_store_info *out)
{
    ferkd_store_info i = *ferkd_store_about(s);

    i.part = i.parts = i.first = 0;
    i.here = i.images;
    i.teacher = ferkd_store_about(names)->teacher; /* folders may have moved */
    i.dataset = ferkd_store_about(names)->dataset;
    fk_store_header_write(h, &i);
    if (out)
        *out = i;
}

/* Sorted: do they belong together, and is nothing missing? */
static ferkd_status check_parts(ferkd_store *const *s, uint32_t n)
{
    uint8_t first[FK_STORE_HEADER_BYTES];
    uint8_t other[FK_STORE_HEADER_BYTES];
    uint32_t next = 0;

    whole_header(s[0], s[0], first, NULL);
    for (uint32_t i = 0; i < n; i++) {
        const ferkd_store_info *info = ferkd_store_about(s[i]);
        whole_header(s[i], s[0], other, NULL);
        if (memcmp(first, other, sizeof first) != 0)
            return fk_fail(FERKD_USAGE, "%s and %s are parts of different stores",
                           ferkd_store_path(s[0]), ferkd_store_path(s[i]));
        if (info->first < next)
            return fk_fail(FERKD_USAGE, "%s: its images are in another part, too",
                           ferkd_store_path(s[i]));
        if (info->first > next)
            break;
        next += info->here;
    }
    uint32_t images = ferkd_store_about(s[0])->images;
    return next == images
               ? FERKD_OK
               : fk_fail(FERKD_USAGE, "images from %u on are in none of these parts (of %u images)",
                         next, images);
}

static ferkd_status append_part(fk_store_writer *w, const ferkd_store *s, const ferkd_watch *watch)
{
    const ferkd_store_info *info = ferkd_store_about(s);

    while (fk_store_writer_next(w) < info->first + info->here) {
        const uint8_t *block = NULL;
        uint32_t n = 0;
        TRY(fk_store_raw(s, fk_store_writer_next(w), &block, &n));
        TRY(fk_store_writer_append(w, block, n));
        if (fk_store_writer_next(w) % 4096 == 0)
            TRY(tell(watch, "merge", fk_store_writer_next(w), info->images));
    }
    return FERKD_OK;
}

ferkd_status ferkd_store_merge(const char *const *parts, uint32_t n, const char *path,
                               const ferkd_watch *watch)
{
    uint8_t header[FK_STORE_HEADER_BYTES];
    ferkd_store **s = NULL;
    fk_store_writer *w = NULL;
    ferkd_store_info info;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&s, n, sizeof(ferkd_store *), "a list of parts"));
    for (uint32_t i = 0; i < n; i++)
        TRY_DONE(fk_store_open_part(&s[i], parts[i]));
    qsort(s, n, sizeof *s, by_first);
    TRY_DONE(check_parts(s, n));
    whole_header(s[0], s[0], header, &info);
    TRY_DONE(fk_store_writer_open(&w, path, &info, 1, false));
    for (uint32_t i = 0; w && i < n; i++)
        TRY_DONE(append_part(w, s[i], watch));
    if (w)
        st = fk_store_writer_commit(w);
done:
    fk_store_writer_close(&w);
    for (uint32_t i = 0; i < n; i++)
        ferkd_store_close(&s[i]);
    free(s);
    return st;
}

/* --- packing anew ------------------------------------------------------------------------------ */

/* A label's classes and probabilities in rooms of topk: what it does not tell has no share. */
static void pad(const ferkd_soft_label *l, uint32_t topk, uint16_t *class, float *prob)
{
    for (uint32_t k = 0; k < topk; k++) {
        class[k] = k < l->k ? l->index[k] : 0;
        prob[k] = k < l->k ? l->prob[k] : 0.0f;
    }
}

static ferkd_status convert_image(const ferkd_store *from, uint32_t image, fk_labels *l,
                                  fk_packer *p, uint16_t *class, float *prob,
                                  const ferkd_store_info *as, fk_store_writer *w)
{
    const uint8_t *block;
    uint32_t n;
    bool has;

    TRY(fk_labels_find(l, from, image, &has));
    for (uint32_t r = 0; has && r < l->n && r < as->regions; r++) {
        pad(&l->told[r], as->topk, class, prob);
        fk_packer_region(p, &l->told[r].region);
        fk_packer_add_top(p, class, prob, l->told[r].inside, l->told[r].teacher_max);
    }
    fk_packer_seal(p, image, has ? FK_BLOCK_LABELLED : FK_BLOCK_SKIPPED,
                   ferkd_store_truth(from, image), &block, &n);
    return fk_store_writer_append(w, block, n);
}

/* What the header of a store says that is packed anew. */
static ferkd_status packed_info(const ferkd_store *store, const ferkd_store_pack *as,
                                ferkd_store_info *info)
{
    *info = *ferkd_store_about(store);
    if (as->topk > info->topk)
        return fk_fail(
            FERKD_USAGE,
            "%s holds %u probabilities a region, not %u; label again with --topk for more",
            ferkd_store_path(store), info->topk, as->topk);
    if (as->regions > info->regions)
        return fk_fail(FERKD_USAGE,
                       "%s holds %u regions an image, not %u; label again with --regions for more",
                       ferkd_store_path(store), info->regions, as->regions);
    info->topk = as->topk ? as->topk : info->topk;
    info->regions = as->regions ? as->regions : info->regions;
    info->prob_bits = as->prob_bits;
    return FERKD_OK;
}

ferkd_status ferkd_store_convert(const ferkd_store *store, const char *path,
                                 const ferkd_store_pack *as, const ferkd_watch *watch)
{
    ferkd_store_info info;
    fk_store_writer *w = NULL;
    fk_packer *p = NULL;
    fk_labels l = {0};
    uint16_t *class = NULL;
    float *prob = NULL;
    ferkd_status st = FERKD_OK;

    TRY(packed_info(store, as, &info));
    TRY_DONE(fk_store_writer_open(&w, path, &info, 1, false));
    if (!w)
        goto done;
    TRY_DONE(fk_packer_new(&p, fk_store_writer_codec(w)));
    TRY_DONE(fk_labels_init(&l, store));
    TRY_DONE(fk_calloc(&class, info.topk, sizeof *class, "a label"));
    TRY_DONE(fk_calloc(&prob, info.topk, sizeof *prob, "a label"));
    while (fk_store_writer_next(w) < info.images) {
        TRY_DONE(convert_image(store, fk_store_writer_next(w), &l, p, class, prob, &info, w));
        if (fk_store_writer_next(w) % 4096 == 0)
            TRY_DONE(tell(watch, "convert", fk_store_writer_next(w), info.images));
    }
    st = fk_store_writer_commit(w);
done:
    free(class);
    free(prob);
    fk_labels_fini(&l);
    fk_packer_free(&p);
    fk_store_writer_close(&w);
    return st;
}

/* --- comparing --------------------------------------------------------------------------------- */

static void name_settings(const ferkd_store_info *a, const ferkd_store_info *b, char *text,
                          size_t size)
{
    const struct {
        const char *name;
        bool differs;
    } settings[] = {
        {"images", a->images != b->images},
        {"regions", a->regions != b->regions},
        {"top-k", a->topk != b->topk},
        {"bits", a->prob_bits != b->prob_bits},
        {"classes", a->classes != b->classes},
        {"classes of labels", a->label_classes != b->label_classes},
        {"teacher's classes", a->teacher_classes != b->teacher_classes},
        {"seed", a->sampler.seed != b->sampler.seed},
        {"scale", a->sampler.scale_min != b->sampler.scale_min ||
                      a->sampler.scale_max != b->sampler.scale_max},
        {"ratio", a->sampler.ratio_min != b->sampler.ratio_min ||
                      a->sampler.ratio_max != b->sampler.ratio_max},
        {"flip", a->sampler.flip != b->sampler.flip},
        {"temperature", a->temperature != b->temperature},
        {"teacher's size", a->teacher_px != b->teacher_px},
        {"filter", a->filter != b->filter},
        {"EXIF", a->ignore_exif != b->ignore_exif},
        {"data set", memcmp(a->dataset_fingerprint, b->dataset_fingerprint, 16) != 0},
        {"teacher", memcmp(a->teacher_fingerprint, b->teacher_fingerprint, 16) != 0},
    };

    *text = '\0';
    for (size_t i = 0; i < FK_COUNT(settings); i++) {
        size_t n = strlen(text);
        if (settings[i].differs)
            (void)snprintf(text + n, size - n, "%s%s", n ? ", " : "", settings[i].name);
    }
}

typedef struct comparison {
    fk_labels a, b;
    float *p, *q; /* [classes] */
    double variation;
    uint64_t regions;
} comparison;

static ferkd_status compare_image(const ferkd_store *a, const ferkd_store *b, uint32_t image,
                                  comparison *c, ferkd_store_difference *out)
{
    uint32_t classes = ferkd_store_about(a)->label_classes;
    bool in_a;
    bool in_b;
    bool differs = false;

    TRY(fk_labels_find(&c->a, a, image, &in_a));
    TRY(fk_labels_find(&c->b, b, image, &in_b));
    for (uint32_t r = 0; in_a && in_b && r < c->a.n; r++) {
        double most = 0.0;
        ferkd_soft_label_expand(&c->a.told[r], classes, c->p);
        ferkd_soft_label_expand(&c->b.told[r], classes, c->q);
        for (uint32_t k = 0; k < classes; k++) {
            double d = fabs((double)c->p[k] - (double)c->q[k]);
            most = fmax(most, d);
            c->variation += 0.5 * d;
        }
        out->most = fmax(out->most, most);
        out->regions += most > 0.0;
        out->other_first += c->a.told[r].index[0] != c->b.told[r].index[0];
        differs = differs || most > 0.0;
        c->regions++;
    }
    out->images += differs || in_a != in_b;
    return FERKD_OK;
}

ferkd_status ferkd_store_compare(const ferkd_store *a, const ferkd_store *b,
                                 ferkd_store_difference *out)
{
    const ferkd_store_info *x = ferkd_store_about(a);
    const ferkd_store_info *y = ferkd_store_about(b);
    comparison c = {0};
    ferkd_status st = FERKD_OK;

    *out = (ferkd_store_difference){0};
    name_settings(x, y, out->settings, sizeof out->settings);
    out->comparable =
        x->images == y->images && x->regions == y->regions && x->label_classes == y->label_classes;
    if (!out->comparable)
        return FERKD_OK;
    TRY_DONE(fk_labels_init(&c.a, a));
    TRY_DONE(fk_labels_init(&c.b, b));
    TRY_DONE(fk_calloc(&c.p, x->label_classes, sizeof *c.p, "a label"));
    TRY_DONE(fk_calloc(&c.q, x->label_classes, sizeof *c.q, "a label"));
    for (uint32_t i = 0; i < x->images; i++)
        TRY_DONE(compare_image(a, b, i, &c, out));
    out->mean_variation = c.regions ? c.variation / (double)c.regions : 0.0;
done:
    fk_labels_fini(&c.a);
    fk_labels_fini(&c.b);
    free(c.p);
    free(c.q);
    return st;
}
