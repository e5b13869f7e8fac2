/* Contact sheets: the regions of an image, drawn on it and side by side; or regions of one group. The border of a region
 * is the colour of its group. As a PNG, or as a page with what the teacher says below each. */
#include "base/compat.h"

#include "ferkd/report.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "label/labels.h"
#include "report/plot.h"

#define TILE   112 /* pixels */
#define BORDER 4
#define GAP    6
#define ACROSS 8
#define MOST   64  /* tiles */
#define VIEW   464 /* side of the picture that regions are drawn on */

static const uint8_t COLORS[3][3] = {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}}; /* UR, HR, IR */
static const char *const GROUPS[3] = {"discarded", "treated", "kept"};

typedef struct tile {
    ferkd_image crop; /* TILE x TILE */
    ferkd_group group;
    char caption[160];
} tile;

typedef struct sheet {
    const ferkd_store *store;
    const ferkd_dataset *data;
    const ferkd_calibration *c;
    fk_labels labels;
    ferkd_treatment *treat;
    ferkd_image image, view; /* view: the whole picture with boxes, for one image; else empty */
    uint8_t *file;
    size_t cap;
    tile *tiles; /* [MOST] */
    uint32_t n;
} sheet;

/* --- pixels ------------------------------------------------------------------------------------ */

static void put_pixel(ferkd_image *to, uint32_t x, uint32_t y, const uint8_t color[3])
{
    if (x < to->width && y < to->height)
        memcpy(to->px + ((size_t)y * to->width + x) * 3, color, 3);
}

static void draw_box(ferkd_image *to, uint32_t x0, uint32_t y0, uint32_t x1, uint32_t y1,
                     uint32_t thick, const uint8_t color[3])
{
    for (uint32_t t = 0; t < thick; t++) {
        for (uint32_t x = x0; x < x1; x++) {
            put_pixel(to, x, y0 + t, color);
            put_pixel(to, x, y1 - 1 - t, color);
        }
        for (uint32_t y = y0; y < y1; y++) {
            put_pixel(to, x0 + t, y, color);
            put_pixel(to, x1 - 1 - t, y, color);
        }
    }
}

/* RGB of whatever the data set gives. */
static void paste(ferkd_image *to, const ferkd_image *from, uint32_t x0, uint32_t y0)
{
    for (uint32_t y = 0; y < from->height; y++) {
        for (uint32_t x = 0; x < from->width; x++) {
            const uint8_t *p = from->px + ((size_t)y * from->width + x) * from->channels;
            const uint8_t grey[3] = {p[0], p[0], p[0]};
            put_pixel(to, x0 + x, y0 + y, from->channels == 1 ? grey : p);
        }
    }
}

static ferkd_status blank(ferkd_image *to, uint32_t width, uint32_t height)
{
    TRY(ferkd_image_shape(to, width, height, 3));
    memset(to->px, 255, (size_t)width * height * 3);
    return FERKD_OK;
}

/* --- regions ----------------------------------------------------------------------------------- */

static ferkd_region region_of(const sheet *s, uint32_t image, uint32_t r)
{
    return ferkd_store_region(s->store, image, r, &s->labels.label[r], s->image.width,
                              s->image.height);
}

static void caption(const sheet *s, uint32_t image, uint32_t r, tile *t)
{
    const ferkd_soft_label *l = &s->labels.label[r];

    (void)snprintf(t->caption, sizeof t->caption, "%s, labelled %s: %s %.3f; max %.3f, inside %.3f",
                   ferkd_dataset_name(s->data, image),
                   ferkd_dataset_class_name(s->data, ferkd_store_truth(s->store, image)),
                   ferkd_dataset_class_name(s->data, l->index[0]), (double)l->prob[0],
                   (double)l->teacher_max, (double)l->inside);
}

static ferkd_status add_tile(sheet *s, uint32_t image, uint32_t r)
{
    tile *t = &s->tiles[s->n];
    ferkd_region at = region_of(s, image, r);

    TRY(ferkd_image_crop_resize(&t->crop, &s->image, at.box, TILE, TILE, FERKD_BICUBIC, at.flip));
    t->group = ferkd_group_of(s->treat[r]);
    caption(s, image, r, t);
    s->n++;
    return FERKD_OK;
}

/* What the rules say of the labels that were read; width and height 0: not known yet. */
static void judge(sheet *s, uint32_t image, uint32_t width, uint32_t height)
{
    ferkd_store_place(s->store, image, width, height, s->labels.label);
    ferkd_calibration_judge(s->c, 0.0, ferkd_store_truth(s->store, image), s->labels.label,
                            s->labels.n, s->treat);
}

/* Load an image, its labels, and what the rules say of them. */
static ferkd_status look_at(sheet *s, uint32_t image)
{
    TRY(fk_labels_read(&s->labels, s->store, image));
    TRY(ferkd_dataset_image(s->data, image, &s->image, &s->file, &s->cap, NULL));
    judge(s, image, s->image.width, s->image.height);
    return FERKD_OK;
}

/* The picture with every region's box, uninformative ones below. */
static ferkd_status draw_view(sheet *s, uint32_t image)
{
    ferkd_box whole = {0, 0, s->image.height, s->image.width};
    uint32_t side = s->image.width > s->image.height ? s->image.width : s->image.height;
    double scale = (double)VIEW / side;
    ferkd_image small = {0};
    uint32_t width = (uint32_t)fmax(rint(s->image.width * scale), 1.0);
    uint32_t height = (uint32_t)fmax(rint(s->image.height * scale), 1.0);
    ferkd_status st =
        ferkd_image_crop_resize(&small, &s->image, whole, width, height, FERKD_BICUBIC, false);

    if (st == FERKD_OK)
        st = blank(&s->view, width, height);
    if (st == FERKD_OK)
        paste(&s->view, &small, 0, 0);
    for (int g = 0; st == FERKD_OK && g < 3; g++) {
        for (uint32_t r = 0; r < s->labels.n; r++) {
            ferkd_box b = region_of(s, image, r).box;
            if (ferkd_group_of(s->treat[r]) == (ferkd_group)g)
                draw_box(&s->view, (uint32_t)(b.left * scale), (uint32_t)(b.top * scale),
                         (uint32_t)((b.left + b.width) * scale),
                         (uint32_t)((b.top + b.height) * scale), 2, COLORS[g]);
        }
    }
    ferkd_image_fini(&small);
    return st;
}

static ferkd_status of_image(sheet *s, uint32_t image)
{
    TRY(look_at(s, image));
    TRY(draw_view(s, image));
    for (uint32_t r = 0; r < s->labels.n && s->n < MOST; r++)
        TRY(add_tile(s, image, r));
    return FERKD_OK;
}

/* One region of each of some images in random order, as many as there is room for. */
static ferkd_status of_group(sheet *s, ferkd_group group)
{
    uint32_t images = ferkd_store_about(s->store)->images;
    uint32_t *order = NULL;
    fk_rng rng = fk_rng_at(1, FK_RNG_TEST, 0, 0);
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&order, images, sizeof *order, "a sheet"));
    fk_rng_shuffle(&rng, order, images);
    for (uint32_t i = 0; i < images && s->n < MOST && st == FERKD_OK; i++) {
        if (fk_labels_read(&s->labels, s->store, order[i]) != FERKD_OK)
            continue; /* an image without labels */
        judge(s, order[i], 0, 0);
        uint32_t first = fk_rng_below(&rng, s->labels.n);
        for (uint32_t k = 0; k < s->labels.n; k++) {
            uint32_t r = (first + k) % s->labels.n;
            if (ferkd_group_of(s->treat[r]) != group)
                continue;
            st = look_at(s, order[i]);
            if (st == FERKD_OK && ferkd_group_of(s->treat[r]) == group)
                st = add_tile(s, order[i], r);
            break;
        }
    }
    free(order);
    return st;
}

/* --- what is written --------------------------------------------------------------------------- */

static ferkd_status draw_sheet(sheet *s, ferkd_image *to)
{
    uint32_t each = TILE + 2 * BORDER + GAP;
    uint32_t across = s->view.px ? ACROSS / 2 : ACROSS;
    uint32_t rows = (s->n + across - 1) / across;
    uint32_t left = s->view.px ? s->view.width + GAP : 0;
    uint32_t height = rows * each > s->view.height ? rows * each : s->view.height;

    TRY(blank(to, left + across * each, height));
    if (s->view.px)
        paste(to, &s->view, 0, 0);
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t x = left + i % across * each;
        uint32_t y = i / across * each;
        draw_box(to, x, y, x + TILE + 2 * BORDER, y + TILE + 2 * BORDER, BORDER,
                 COLORS[s->tiles[i].group]);
        paste(to, &s->tiles[i].crop, x + BORDER, y + BORDER);
    }
    return FERKD_OK;
}

static ferkd_status write_png(sheet *s, const char *path)
{
    ferkd_image to = {0};
    uint8_t *bytes = NULL;
    size_t n = 0;
    ferkd_status st = draw_sheet(s, &to);

    if (st == FERKD_OK)
        st = ferkd_image_encode_png(&to, &bytes, &n);
    if (st == FERKD_OK)
        st = fk_file_replace(path, bytes, n);
    free(bytes);
    ferkd_image_fini(&to);
    return st;
}

static void put_base64(FILE *f, const uint8_t *b, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)b[i] << 16 | (i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0) |
                     (i + 2 < n ? b[i + 2] : 0u);
        (void)fputc(digits[v >> 18], f);
        (void)fputc(digits[v >> 12 & 63], f);
        (void)fputc(i + 1 < n ? digits[v >> 6 & 63] : '=', f);
        (void)fputc(i + 2 < n ? digits[v & 63] : '=', f);
    }
}

static ferkd_status put_image(FILE *f, const ferkd_image *image)
{
    uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(ferkd_image_encode_png(image, &bytes, &n));
    (void)fputs("<img alt=\"\" src=\"data:image/png;base64,", f);
    put_base64(f, bytes, n);
    (void)fputs("\">", f);
    free(bytes);
    return FERKD_OK;
}

static ferkd_status write_body(sheet *s, FILE *f)
{
    fk_page_begin(f, "Regions");
    (void)fputs("<style>.tiles{display:flex;flex-wrap:wrap;gap:14px}.tiles figure{width:150px;"
                "overflow-wrap:anywhere}"
                ".tiles img{width:142px;border:4px solid}.tiles .u img{border-color:#0072b2}"
                ".tiles .h img{border-color:#d55e00}.tiles .i img{border-color:#009e73}</style>"
                "<h1>Regions</h1><p>Rules: <code>",
                f);
    fk_page_text(f, ferkd_calibration_rules(s->c));
    (void)fputs("</code>. Blue: discarded, orange: treated, green: kept.</p>\n", f);
    if (s->view.px)
        TRY(put_image(f, &s->view));
    (void)fputs("<div class=\"tiles\">\n", f);
    for (uint32_t i = 0; i < s->n; i++) {
        const tile *t = &s->tiles[i];
        (void)fprintf(f, "<figure class=\"%c\">", "uhi"[t->group]);
        TRY(put_image(f, &t->crop));
        (void)fprintf(f, "<figcaption>%s. ", GROUPS[t->group]);
        fk_page_text(f, t->caption);
        (void)fputs("</figcaption></figure>\n", f);
    }
    (void)fputs("</div>\n", f);
    fk_page_end(f);
    return FERKD_OK;
}

static ferkd_status write_page(sheet *s, const char *path)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return fk_fail(FERKD_MEMORY, "%s: no memory to write it", path);
    ferkd_status st = write_body(s, f);
    (void)fclose(f);
    if (st == FERKD_OK)
        st = fk_file_replace(path, text, n);
    free(text);
    return st;
}

ferkd_status ferkd_store_sheet(const ferkd_store *store, const ferkd_dataset *data,
                               const char *rules, double visits, int64_t image, ferkd_group group,
                               const char *path)
{
    sheet s = {.store = store, .data = data};
    ferkd_calibration *c = NULL;
    ferkd_status st = FERKD_OK;

    if (image >= ferkd_store_about(store)->images)
        return fk_fail(FERKD_USAGE, "image %" PRId64 " of %u", image,
                       ferkd_store_about(store)->images);
    TRY(ferkd_calibration_new(&c, rules, store, visits));
    s.c = c;
    TRY_DONE(fk_labels_init(&s.labels, store));
    TRY_DONE(fk_calloc(&s.treat, s.labels.n, sizeof *s.treat, "a sheet"));
    TRY_DONE(fk_calloc(&s.tiles, MOST, sizeof *s.tiles, "a sheet"));
    TRY_DONE(image >= 0 ? of_image(&s, (uint32_t)image) : of_group(&s, group));
    if (s.n == 0)
        st = fk_fail(FERKD_ABSENT, "no region is %s by these rules", GROUPS[group]);
    else
        st = fk_ends_with(path, ".png") ? write_png(&s, path) : write_page(&s, path);
done:
    for (uint32_t i = 0; s.tiles && i < MOST; i++)
        ferkd_image_fini(&s.tiles[i].crop);
    free(s.tiles);
    free(s.treat);
    free(s.file);
    fk_labels_fini(&s.labels);
    ferkd_image_fini(&s.image);
    ferkd_image_fini(&s.view);
    ferkd_calibration_free(&c);
    return st;
}
