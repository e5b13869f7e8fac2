/* Reading a label store: mapped, checked block by block as it is used. */
#include "base/compat.h"

#include "label/store_format.h"

#include "base/file.h"
#include "base/mem.h"

struct ferkd_store {
    fk_map map;
    char *path;
    ferkd_store_info info;
    fk_codec codec;
    fk_store_end end;
    uint64_t *start; /* [info.here + 1]: places of the blocks in the file */
};

/* The directory's lengths become places. */
static ferkd_status read_directory(ferkd_store *s)
{
    size_t bytes = (size_t)s->info.here * 4;
    uint64_t at = FK_STORE_HEADER_BYTES;
    uint64_t end;

    if (s->map.size_bytes < FK_STORE_HEADER_BYTES + bytes + FK_STORE_FOOTER_BYTES)
        return fk_fail(FERKD_CORRUPT, "%s: cut short; copy the store again", s->path);
    end = s->map.size_bytes - FK_STORE_FOOTER_BYTES - bytes;
    TRY(fk_calloc(&s->start, (size_t)s->info.here + 1, sizeof *s->start, s->path));
    const uint8_t *length = s->map.bytes + end;
    if (fk_hash64(length, bytes, 2) != s->end.directory_hash)
        return fk_fail(FERKD_CORRUPT, "%s: its directory is damaged; copy the store again",
                       s->path);
    for (uint32_t i = 0; i < s->info.here; i++) {
        s->start[i] = at;
        at += fk_u32le(length + (size_t)i * 4);
        if (at > end)
            break;
    }
    s->start[s->info.here] = at;
    return at == end
               ? FERKD_OK
               : fk_fail(FERKD_CORRUPT, "%s: its directory makes no sense; copy it again", s->path);
}

ferkd_status fk_store_open_part(ferkd_store **out, const char *path)
{
    ferkd_status st = FERKD_OK;
    ferkd_store *s = NULL;

    TRY(fk_calloc(&s, 1, sizeof *s, path));
    TRY_DONE(fk_strdup(&s->path, path));
    TRY_DONE(fk_map_open(&s->map, path));
    TRY_DONE(fk_store_header_read(s->map.bytes, s->map.size_bytes, &s->info, &s->codec, path));
    if (s->map.size_bytes < FK_STORE_HEADER_BYTES + FK_STORE_FOOTER_BYTES) {
        st = fk_fail(FERKD_CORRUPT, "%s: cut short; copy the store again", path);
        goto done;
    }
    TRY_DONE(fk_store_footer_read(s->map.bytes + s->map.size_bytes - FK_STORE_FOOTER_BYTES,
                                  s->info.here, s->map.size_bytes, &s->end, path));
    s->info.labelled = s->end.labelled;
    s->info.skipped = s->end.skipped;
    s->info.file_bytes = s->map.size_bytes;
    TRY_DONE(read_directory(s));
    *out = s;
    s = NULL;
done:
    ferkd_store_close(&s);
    return st;
}

ferkd_status ferkd_store_open(ferkd_store **out, const char *path)
{
    ferkd_store *s = NULL;

    TRY(fk_store_open_part(&s, path));
    if (s->info.parts) {
        ferkd_status st =
            fk_fail(FERKD_USAGE,
                    "%s: part %u of %u of a store; put them together with \"ferkd store "
                    "merge\"",
                    path, s->info.part, s->info.parts);
        ferkd_store_close(&s);
        return st;
    }
    *out = s;
    return FERKD_OK;
}

void ferkd_store_close(ferkd_store **store)
{
    if (!*store)
        return;
    fk_map_close(&(*store)->map);
    free((*store)->path);
    free((*store)->start);
    free(*store);
    *store = NULL;
}

const ferkd_store_info *ferkd_store_about(const ferkd_store *s)
{
    return &s->info;
}

const char *ferkd_store_path(const ferkd_store *s)
{
    return s->path;
}

static const uint8_t *block_of(const ferkd_store *s, uint32_t image)
{
    return s->map.bytes + s->start[image - s->info.first];
}

static uint64_t bytes_of(const ferkd_store *s, uint32_t image)
{
    return s->start[image - s->info.first + 1] - s->start[image - s->info.first];
}

static bool is_whole(const ferkd_store *s, uint32_t image)
{
    uint64_t bytes = bytes_of(s, image);
    uint32_t n;

    return fk_codec_check(&s->codec, block_of(s, image), bytes, image, &n) && n == bytes;
}

static ferkd_status checked_block(const ferkd_store *s, uint32_t image, const uint8_t **block)
{
    if (image < s->info.first || image - s->info.first >= s->info.here)
        return fk_fail(FERKD_USAGE, "%s: image %u of %u", s->path, image, s->info.images);
    *block = block_of(s, image);
    if (!is_whole(s, image))
        return fk_fail(FERKD_CORRUPT,
                       "%s: the labels of image %u are damaged; copy the store again", s->path,
                       image);
    return FERKD_OK;
}

ferkd_status ferkd_store_has(const ferkd_store *s, uint32_t image, bool *has)
{
    const uint8_t *block = NULL;

    TRY(checked_block(s, image, &block));
    *has = block[FK_AT_STATUS] == FK_BLOCK_LABELLED;
    return FERKD_OK;
}

uint32_t ferkd_store_truth(const ferkd_store *s, uint32_t image)
{
    uint64_t bytes = bytes_of(s, image);

    return bytes < FK_BLOCK_MIN ? 0 : fk_codec_truth(block_of(s, image));
}

ferkd_status fk_store_raw(const ferkd_store *s, uint32_t image, const uint8_t **block, uint32_t *n)
{
    TRY(checked_block(s, image, block));
    *n = (uint32_t)bytes_of(s, image);
    return FERKD_OK;
}

/* Bit readers look up to eight bytes ahead; behind the blocks are the directory and the footer. */
static const uint8_t *read_limit(const ferkd_store *s)
{
    return s->map.bytes + s->map.size_bytes - FK_READ_PAST;
}

static ferkd_status labelled_block(const ferkd_store *s, uint32_t image, const uint8_t **block)
{
    TRY(checked_block(s, image, block));
    if ((*block)[FK_AT_STATUS] != FK_BLOCK_LABELLED)
        return fk_fail(FERKD_ABSENT, "%s: image %u could not be read when it was labelled", s->path,
                       image);
    return FERKD_OK;
}

ferkd_status ferkd_store_label(const ferkd_store *s, uint32_t image, uint32_t region,
                               ferkd_label_room room, ferkd_soft_label *out)
{
    const uint8_t *block = NULL;

    if (region >= s->info.regions)
        return fk_fail(FERKD_USAGE, "%s: region %u of %u", s->path, region, s->info.regions);
    TRY(labelled_block(s, image, &block));
    fk_codec_labels(&s->codec, block, region + 1, read_limit(s), room, false, out);
    return FERKD_OK;
}

ferkd_status ferkd_store_labels(const ferkd_store *s, uint32_t image, ferkd_label_room room,
                                ferkd_soft_label *out)
{
    const uint8_t *block = NULL;

    TRY(labelled_block(s, image, &block));
    fk_codec_labels(&s->codec, block, s->info.regions, read_limit(s), room, true, out);
    return FERKD_OK;
}

void ferkd_soft_label_expand(const ferkd_soft_label *label, uint32_t classes, float *probs)
{
    float spread = classes > label->k ? label->rest / (float)(classes - label->k) : 0.0f;

    for (uint32_t c = 0; c < classes; c++)
        probs[c] = spread;
    for (uint32_t k = 0; k < label->k; k++)
        probs[label->index[k]] = label->prob[k];
}

ferkd_region ferkd_store_region(const ferkd_store *store, uint32_t image, uint32_t region,
                                const ferkd_soft_label *label, uint32_t width, uint32_t height)
{
    const ferkd_store_info *info = ferkd_store_about(store);

    return info->has_boxes ? label->region
                           : ferkd_region_at(&info->sampler, image, region, width, height);
}

#define SIDE 4096u /* of the square that stands for an image whose size is not known */

void ferkd_store_place(const ferkd_store *store, uint32_t image, uint32_t width, uint32_t height,
                       ferkd_soft_label *labels)
{
    const ferkd_store_info *info = ferkd_store_about(store);
    bool known = width && height;

    width = known ? width : info->has_boxes ? 1 : SIDE;
    height = known ? height : info->has_boxes ? 1 : SIDE;
    for (uint32_t r = 0; !known && info->has_boxes && r < info->regions; r++) {
        const ferkd_box *b = &labels[r].region.box;
        width = b->left + b->width > width ? b->left + b->width : width;
        height = b->top + b->height > height ? b->top + b->height : height;
    }
    for (uint32_t r = 0; r < info->regions; r++) {
        ferkd_box b = ferkd_store_region(store, image, r, &labels[r], width, height).box;
        labels[r].area = (float)((double)b.width * b.height / ((double)width * height));
    }
}

void ferkd_soft_label_narrow(const ferkd_soft_label *told, uint32_t classes, ferkd_label_room room,
                             ferkd_soft_label *out)
{
    float named = 0.0f;
    uint32_t k = 0;

    for (uint32_t i = 0; i < told->k; i++) {
        if (told->index[i] >= classes)
            continue;
        room.index[k] = told->index[i];
        room.prob[k++] = told->prob[i];
        named += told->prob[i];
    }
    /* the mass inside is rounded, and the rest is not more than what no class tells */
    float rest = k < classes ? fminf(fmaxf(told->inside - named, 0.0f), told->rest) : 0.0f;
    float all = named + rest;
    if (k == 0) {
        room.index[0] = 0;
        room.prob[0] = 1.0f / (float)classes;
        rest = (float)(classes - 1);
        all = (float)classes;
    }
    for (uint32_t i = 0; i < k; i++)
        room.prob[i] /= all;
    *out = *told;
    out->k = k ? k : 1;
    out->index = room.index;
    out->prob = room.prob;
    out->rest = rest / all;
}

ferkd_status ferkd_store_match(const ferkd_store *s, const ferkd_dataset *dataset)
{
    uint8_t print[16];

    if (ferkd_dataset_images(dataset) != s->info.images)
        return fk_fail(FERKD_USAGE, "%s was made for %u images, %s has %u; label it again", s->path,
                       s->info.images, ferkd_dataset_path(dataset), ferkd_dataset_images(dataset));
    if (ferkd_dataset_classes(dataset) != s->info.classes)
        return fk_fail(FERKD_USAGE, "%s was made for %u classes, %s has %u; label it again",
                       s->path, s->info.classes, ferkd_dataset_path(dataset),
                       ferkd_dataset_classes(dataset));
    ferkd_dataset_fingerprint(dataset, print);
    if (memcmp(print, s->info.dataset_fingerprint, sizeof print) != 0)
        return fk_fail(FERKD_USAGE,
                       "%s was made for other images than those of %s (names, sizes or classes "
                       "differ); label it again",
                       s->path, ferkd_dataset_path(dataset));
    return FERKD_OK;
}

ferkd_status ferkd_store_verify(const ferkd_store *s, uint32_t **bad, uint32_t *n_bad)
{
    uint32_t *list = NULL;
    size_t cap = 0;
    uint32_t n = 0;
    uint64_t hash = 0;

    for (uint32_t i = s->info.first; i < s->info.first + s->info.here; i++) {
        if (is_whole(s, i)) {
            hash = fk_store_roll(hash, block_of(s, i), (uint32_t)bytes_of(s, i));
            continue;
        }
        ferkd_status st = fk_grow(&list, &cap, n + 1, sizeof *list);
        if (st != FERKD_OK) {
            free(list);
            return st;
        }
        list[n++] = i;
    }
    *bad = list;
    *n_bad = n;
    if (n == 0 && hash != s->end.blocks_hash)
        return fk_fail(FERKD_CORRUPT, "%s: its blocks are not those it was sealed with", s->path);
    return FERKD_OK;
}
