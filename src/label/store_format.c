/* Header and footer of a store, byte by byte. */
#include "base/compat.h"

#include "label/store_format.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/limits.h"

static const char MAGIC[8] = "FERKDLBL";
static const char END_MAGIC[8] = "FERKDEND";

enum { /* places in the header */
       AT_VERSION = 8,
       AT_HEADER_BYTES = 12,
       AT_SEED = 16,
       AT_IMAGES = 24,
       AT_REGIONS = 28,
       AT_TOPK = 32,
       AT_CLASSES = 36,
       AT_TEACHER_CLASSES = 40,
       AT_FLAGS = 44,
       AT_SAMPLER = 48,
       AT_TEMPERATURE = 88,
       AT_TEACHER_PX = 96,
       AT_FILTER = 100,
       AT_PROB_BITS = 104,
       AT_LABEL_CLASSES = 108, /* 0: as AT_CLASSES */
       AT_DATASET_PRINT = 112,
       AT_TEACHER_PRINT = 128,
       AT_TEACHER = 144,
       AT_DATASET = AT_TEACHER + FK_STORE_TEXT_BYTES,
       AT_PART = 384,
       AT_PARTS = 388,
       AT_FIRST = 392,
       AT_HERE = 396,
       AT_CHECKSUM = FK_STORE_HEADER_BYTES - 8
};

enum { FLAG_IGNORE_EXIF = 1, FLAG_OUTSIDE = 2, FLAG_BOXES = 4, FLAGS_KNOWN = 7 };

static void put_text(uint8_t *p, const char *text)
{
    size_t n = fk_min_size(strlen(text ? text : ""), FK_STORE_TEXT_BYTES - 1);

    memcpy(p, text ? text : "", n);
}

void fk_store_header_write(uint8_t h[FK_STORE_HEADER_BYTES], const ferkd_store_info *i)
{
    const double sampler[5] = {i->sampler.scale_min, i->sampler.scale_max, i->sampler.ratio_min,
                               i->sampler.ratio_max, i->sampler.flip};
    bool outside = i->teacher_classes != i->classes;

    memset(h, 0, FK_STORE_HEADER_BYTES);
    memcpy(h, MAGIC, sizeof MAGIC);
    fk_put_u32(h + AT_VERSION, FK_STORE_VERSION);
    fk_put_u32(h + AT_HEADER_BYTES, FK_STORE_HEADER_BYTES);
    fk_put_u64(h + AT_SEED, i->sampler.seed);
    fk_put_u32(h + AT_IMAGES, i->images);
    fk_put_u32(h + AT_REGIONS, i->regions);
    fk_put_u32(h + AT_TOPK, i->topk);
    fk_put_u32(h + AT_CLASSES, i->classes);
    fk_put_u32(h + AT_TEACHER_CLASSES, i->teacher_classes);
    fk_put_u32(h + AT_FLAGS, (i->ignore_exif ? FLAG_IGNORE_EXIF : 0u) |
                                 (outside ? (uint32_t)FLAG_OUTSIDE : 0u) |
                                 (i->has_boxes ? (uint32_t)FLAG_BOXES : 0u));
    for (int k = 0; k < 5; k++)
        fk_put_f64(h + AT_SAMPLER + 8 * k, sampler[k]);
    fk_put_f64(h + AT_TEMPERATURE, i->temperature);
    fk_put_u32(h + AT_TEACHER_PX, i->teacher_px);
    fk_put_u32(h + AT_FILTER, (uint32_t)i->filter);
    fk_put_u32(h + AT_PROB_BITS, i->prob_bits);
    fk_put_u32(h + AT_LABEL_CLASSES, i->label_classes > i->classes ? i->label_classes : 0);
    fk_put_u32(h + AT_PART, i->part);
    fk_put_u32(h + AT_PARTS, i->parts);
    fk_put_u32(h + AT_FIRST, i->first);
    fk_put_u32(h + AT_HERE, i->here);
    memcpy(h + AT_DATASET_PRINT, i->dataset_fingerprint, 16);
    memcpy(h + AT_TEACHER_PRINT, i->teacher_fingerprint, 16);
    put_text(h + AT_TEACHER, i->teacher);
    put_text(h + AT_DATASET, i->dataset);
    fk_put_u64(h + AT_CHECKSUM, fk_hash64(h, AT_CHECKSUM, 0));
}

static void read_fields(const uint8_t *h, ferkd_store_info *i)
{
    *i = (ferkd_store_info){
        .version = fk_u32le(h + AT_VERSION),
        .images = fk_u32le(h + AT_IMAGES),
        .regions = fk_u32le(h + AT_REGIONS),
        .topk = fk_u32le(h + AT_TOPK),
        .classes = fk_u32le(h + AT_CLASSES),
        .teacher_classes = fk_u32le(h + AT_TEACHER_CLASSES),
        .sampler = {.seed = fk_u64le(h + AT_SEED),
                    .scale_min = fk_f64le(h + AT_SAMPLER),
                    .scale_max = fk_f64le(h + AT_SAMPLER + 8),
                    .ratio_min = fk_f64le(h + AT_SAMPLER + 16),
                    .ratio_max = fk_f64le(h + AT_SAMPLER + 24),
                    .flip = fk_f64le(h + AT_SAMPLER + 32)},
        .teacher_px = fk_u32le(h + AT_TEACHER_PX),
        .filter = (ferkd_filter)fk_u32le(h + AT_FILTER),
        .temperature = fk_f64le(h + AT_TEMPERATURE),
        .ignore_exif = fk_u32le(h + AT_FLAGS) & FLAG_IGNORE_EXIF,
        .has_boxes = fk_u32le(h + AT_FLAGS) & FLAG_BOXES,
        .prob_bits = fk_u32le(h + AT_PROB_BITS),
        .part = fk_u32le(h + AT_PART),
        .parts = fk_u32le(h + AT_PARTS),
        .first = fk_u32le(h + AT_FIRST),
        .here = fk_u32le(h + AT_HERE),
        .label_classes = fk_u32le(h + AT_LABEL_CLASSES),
        .teacher = (const char *)h + AT_TEACHER,
        .dataset = (const char *)h + AT_DATASET,
    };
    i->label_classes = i->label_classes ? i->label_classes : i->classes;
    memcpy(i->dataset_fingerprint, h + AT_DATASET_PRINT, 16);
    memcpy(i->teacher_fingerprint, h + AT_TEACHER_PRINT, 16);
}

static bool sampler_is_sane(const ferkd_sampler *s)
{
    return s->scale_min > 0 && s->scale_min <= s->scale_max && s->scale_max <= 1 &&
           s->ratio_min > 0 && s->ratio_min <= s->ratio_max && s->ratio_max < 1e6 && s->flip >= 0 &&
           s->flip <= 1;
}

ferkd_status fk_store_header_read(const uint8_t *h, size_t n, ferkd_store_info *info,
                                  fk_codec *codec, const char *path)
{
    if (n < FK_STORE_HEADER_BYTES || memcmp(h, MAGIC, sizeof MAGIC) != 0)
        return fk_fail(FERKD_CORRUPT, "%s: not a label store; make one with \"ferkd label\"", path);
    if (fk_u32le(h + AT_VERSION) != FK_STORE_VERSION)
        return fk_fail(FERKD_UNSUPPORTED, "%s: store format %u, this build reads %d; upgrade ferkd",
                       path, fk_u32le(h + AT_VERSION), FK_STORE_VERSION);
    if (fk_u64le(h + AT_CHECKSUM) != fk_hash64(h, AT_CHECKSUM, 0))
        return fk_fail(FERKD_CORRUPT, "%s: the header is damaged; copy the store again", path);
    read_fields(h, info);
    if (fk_u32le(h + AT_HEADER_BYTES) != FK_STORE_HEADER_BYTES ||
        !sampler_is_sane(&info->sampler) || info->images == 0 || info->images > FK_MAX_IMAGES ||
        !(info->temperature > 0) || h[AT_TEACHER + FK_STORE_TEXT_BYTES - 1] ||
        h[AT_DATASET + FK_STORE_TEXT_BYTES - 1])
        return fk_fail(FERKD_CORRUPT, "%s: the header makes no sense; copy the store again", path);
    bool part = info->parts > 0;
    if (info->prob_bits == 0 || info->here == 0 || info->here > info->images ||
        info->first > info->images - info->here ||
        (part ? info->part < 1 || info->part > info->parts
              : info->part || info->first || info->here != info->images))
        return fk_fail(FERKD_CORRUPT, "%s: the header makes no sense; copy the store again", path);
    if (info->label_classes < info->classes || info->classes < 2 ||
        (fk_u32le(h + AT_FLAGS) & ~(uint32_t)FLAGS_KNOWN))
        return fk_fail(FERKD_CORRUPT, "%s: the header makes no sense; copy the store again", path);
    return fk_codec_of(codec, info);
}

/* Magic, images labelled, images skipped, hash of all blocks, bytes of the file, hash of the directory, 8 bytes
 * of zeros, checksum. */
void fk_store_footer_write(uint8_t f[FK_STORE_FOOTER_BYTES], const fk_store_end *end)
{
    memset(f, 0, FK_STORE_FOOTER_BYTES);
    memcpy(f, END_MAGIC, sizeof END_MAGIC);
    fk_put_u32(f + 8, end->labelled);
    fk_put_u32(f + 12, end->skipped);
    fk_put_u64(f + 16, end->blocks_hash);
    fk_put_u64(f + 24, end->file_bytes);
    fk_put_u64(f + 32, end->directory_hash);
    fk_put_u64(f + 48, fk_hash64(f, 48, 1));
}

ferkd_status fk_store_footer_read(const uint8_t *f, uint32_t here, uint64_t size, fk_store_end *end,
                                  const char *path)
{
    *end = (fk_store_end){.labelled = fk_u32le(f + 8),
                          .skipped = fk_u32le(f + 12),
                          .blocks_hash = fk_u64le(f + 16),
                          .file_bytes = fk_u64le(f + 24),
                          .directory_hash = fk_u64le(f + 32)};
    if (memcmp(f, END_MAGIC, sizeof END_MAGIC) != 0 || fk_u64le(f + 48) != fk_hash64(f, 48, 1) ||
        end->file_bytes != size || (uint64_t)end->labelled + end->skipped != here)
        return fk_fail(FERKD_CORRUPT,
                       "%s: its end is missing or damaged; finish it with the same \"ferkd label\" "
                       "command, or copy it again",
                       path);
    return FERKD_OK;
}

uint64_t fk_store_roll(uint64_t hash, const uint8_t *block, uint32_t n)
{
    return fk_hash64(block + n - 4, 4, hash);
}
