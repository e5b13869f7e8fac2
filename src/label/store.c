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
    uint64_t blocks_hash;
};

ferkd_status ferkd_store_open(ferkd_store **out, const char *path)
{
    ferkd_status st = FERKD_OK;
    ferkd_store *s = NULL;

    TRY(fk_calloc(&s, 1, sizeof *s, path));
    TRY_DONE(fk_strdup(&s->path, path));
    TRY_DONE(fk_map_open(&s->map, path));
    TRY_DONE(fk_store_header_read(s->map.bytes, s->map.size_bytes, &s->info, &s->codec, path));
    s->info.file_bytes = FK_STORE_HEADER_BYTES + (uint64_t)s->info.images * s->codec.block_bytes +
                         FK_STORE_FOOTER_BYTES;
    if (s->info.file_bytes != s->map.size_bytes) {
        st = fk_fail(FERKD_CORRUPT, "%s: %zu bytes, %" PRIu64 " expected; copy the store again",
                     path, s->map.size_bytes, s->info.file_bytes);
        goto done;
    }
    TRY_DONE(fk_store_footer_read(s->map.bytes + s->map.size_bytes - FK_STORE_FOOTER_BYTES,
                                  &s->info, &s->blocks_hash, path));
    *out = s;
    s = NULL;
done:
    ferkd_store_close(&s);
    return st;
}

void ferkd_store_close(ferkd_store **store)
{
    if (!*store)
        return;
    fk_map_close(&(*store)->map);
    free((*store)->path);
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
    return s->map.bytes + FK_STORE_HEADER_BYTES + (size_t)image * s->codec.block_bytes;
}

static ferkd_status checked_block(const ferkd_store *s, uint32_t image, const uint8_t **block)
{
    if (image >= s->info.images)
        return fk_fail(FERKD_USAGE, "%s: image %u of %u", s->path, image, s->info.images);
    *block = block_of(s, image);
    if (!fk_codec_check(&s->codec, *block, image))
        return fk_fail(FERKD_CORRUPT,
                       "%s: the labels of image %u are damaged; copy the store again", s->path,
                       image);
    return FERKD_OK;
}

ferkd_status ferkd_store_has(const ferkd_store *s, uint32_t image, bool *has)
{
    const uint8_t *block = NULL;

    TRY(checked_block(s, image, &block));
    *has = block[0] == FK_BLOCK_LABELLED;
    return FERKD_OK;
}

uint32_t ferkd_store_truth(const ferkd_store *s, uint32_t image)
{
    return fk_codec_truth(block_of(s, image));
}

static ferkd_status labelled_block(const ferkd_store *s, uint32_t image, const uint8_t **block)
{
    TRY(checked_block(s, image, block));
    if ((*block)[0] != FK_BLOCK_LABELLED)
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
    fk_codec_get(&s->codec, block, region, room, out);
    return FERKD_OK;
}

ferkd_status ferkd_store_labels(const ferkd_store *s, uint32_t image, ferkd_label_room room,
                                ferkd_soft_label *out)
{
    const uint8_t *block = NULL;

    TRY(labelled_block(s, image, &block));
    for (uint32_t r = 0; r < s->info.regions; r++) {
        size_t at = (size_t)r * s->info.topk;
        ferkd_label_room each = {room.index + at, room.prob + at};
        fk_codec_get(&s->codec, block, r, each, &out[r]);
    }
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

    for (uint32_t i = 0; i < s->info.images; i++) {
        const uint8_t *block = block_of(s, i);
        hash = fk_store_roll(hash, &s->codec, block);
        if (fk_codec_check(&s->codec, block, i))
            continue;
        ferkd_status st = fk_grow(&list, &cap, n + 1, sizeof *list);
        if (st != FERKD_OK) {
            free(list);
            return st;
        }
        list[n++] = i;
    }
    *bad = list;
    *n_bad = n;
    if (n == 0 && hash != s->blocks_hash)
        return fk_fail(FERKD_CORRUPT, "%s: its blocks are not those it was sealed with", s->path);
    return FERKD_OK;
}
