/* A store grows as PATH.part and appears whole: the footer is written last, then the file is synced
 * and renamed. kill -9 at any instant loses at most the chunk under way. */
#include "base/compat.h"

#include "label/store_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "label/store_format.h"

struct fk_store_writer {
    int fd;
    char *path;
    char *part;
    ferkd_store_info info;
    fk_codec codec;
    uint32_t next;
    uint32_t labelled, skipped;
    uint64_t blocks_hash;
    uint64_t bytes;     /* written so far */
    uint8_t *directory; /* [info.here] u32 */
};

static void count_block(fk_store_writer *w, const uint8_t *block, uint32_t n)
{
    w->blocks_hash = fk_store_roll(w->blocks_hash, block, n);
    if (block[FK_AT_STATUS] == FK_BLOCK_LABELLED)
        w->labelled++;
    else
        w->skipped++;
    fk_put_u32(w->directory + (size_t)(w->next - w->info.first) * 4, n);
    w->bytes += n;
    w->next++;
}

/* In what does the header found differ from the one wanted? */
static ferkd_status refuse(const char *path, const ferkd_store_info *found,
                           const ferkd_store_info *want)
{
    const char *what = "sampler or teacher settings";

    if (memcmp(found->dataset_fingerprint, want->dataset_fingerprint, 16) != 0)
        what = "data set";
    else if (memcmp(found->teacher_fingerprint, want->teacher_fingerprint, 16) != 0)
        what = "teacher";
    else if (found->sampler.seed != want->sampler.seed)
        what = "seed";
    else if (found->regions != want->regions)
        what = "number of regions";
    else if (found->topk != want->topk)
        what = "top-k";
    else if (found->part != want->part || found->parts != want->parts)
        what = "part of the images";
    return fk_fail(FERKD_USAGE,
                   "%s: was begun with another %s; give another name, or --overwrite to start anew",
                   path, what);
}

/* Compare an existing file's header with ours, names apart. */
static ferkd_status compare_header(const uint8_t *bytes, size_t n, const char *path,
                                   const ferkd_store_info *want)
{
    ferkd_store_info found;
    fk_codec codec;
    uint8_t a[FK_STORE_HEADER_BYTES];
    uint8_t b[FK_STORE_HEADER_BYTES];

    TRY(fk_store_header_read(bytes, n, &found, &codec, path));
    ferkd_store_info ours = *want;
    ours.dataset = found.dataset; /* the folder may have moved; the fingerprint decides */
    ours.teacher = found.teacher;
    fk_store_header_write(a, &found);
    fk_store_header_write(b, &ours);
    return memcmp(a, b, sizeof a) == 0 ? FERKD_OK : refuse(path, &found, want);
}

/* How many whole, undamaged blocks follow each other from `at` on. */
static uint32_t count_whole(const fk_store_writer *w, const fk_map *map)
{
    uint64_t at = FK_STORE_HEADER_BYTES;
    uint32_t whole = 0;
    uint32_t n;

    while (whole < w->info.here && fk_codec_check(&w->codec, map->bytes + at, map->size_bytes - at,
                                                  w->info.first + whole, &n)) {
        at += n;
        whole++;
    }
    return whole;
}

/* Keep the whole blocks of the part file, in whole chunks, and cut off the rest. */
static ferkd_status resume(fk_store_writer *w, uint32_t chunk)
{
    fk_map map = {0};
    ferkd_status st = FERKD_OK;

    TRY(fk_map_open(&map, w->part));
    TRY_DONE(compare_header(map.bytes, map.size_bytes, w->part, &w->info));
    uint32_t whole = count_whole(w, &map);
    if (whole < w->info.here)
        whole -= whole % chunk;
    w->bytes = FK_STORE_HEADER_BYTES;
    while (w->next < w->info.first + whole)
        count_block(w, map.bytes + w->bytes, fk_u32le(map.bytes + w->bytes + FK_AT_LENGTH));
    off_t end = (off_t)w->bytes;
    if (ftruncate(w->fd, end) != 0 || lseek(w->fd, end, SEEK_SET) < 0)
        st = fk_fail_errno(FERKD_IO, "%s: cannot be cut back to its last whole block", w->part);
done:
    fk_map_close(&map);
    return st;
}

static ferkd_status begin(fk_store_writer *w)
{
    uint8_t header[FK_STORE_HEADER_BYTES];

    if (ftruncate(w->fd, 0) != 0 || lseek(w->fd, 0, SEEK_SET) < 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be emptied", w->part);
    fk_store_header_write(header, &w->info);
    w->bytes = sizeof header;
    return fk_write_all(w->fd, header, sizeof header, w->part);
}

static ferkd_status open_part(fk_store_writer *w, uint32_t chunk, bool overwrite)
{
    struct stat info;

    w->fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be created", w->part);
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0)
        return fk_fail(FERKD_USAGE, "%s: another ferkd is writing this store; wait for it to end",
                       w->part);
    if (fstat(w->fd, &info) != 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be read", w->part);
    if (overwrite || info.st_size < FK_STORE_HEADER_BYTES) /* nothing in it yet to lose */
        return begin(w);
    return resume(w, chunk);
}

ferkd_status fk_store_match_settings(const ferkd_store *store, const ferkd_store_info *want)
{
    uint8_t header[FK_STORE_HEADER_BYTES];
    ferkd_store_info ours = *want;

    ours.here = want->here ? want->here : want->images;
    ours.prob_bits = want->prob_bits ? want->prob_bits : ferkd_store_about(store)->prob_bits;
    fk_store_header_write(header, ferkd_store_about(store));
    return compare_header(header, sizeof header, ferkd_store_path(store), &ours);
}

/* Is there a sealed store already? *done says whether it is ours. */
static ferkd_status look_at_sealed(const char *path, const ferkd_store_info *want, bool *done)
{
    ferkd_store *sealed = NULL;

    TRY(fk_store_open_part(&sealed, path));
    ferkd_status st = fk_store_match_settings(sealed, want);
    *done = st == FERKD_OK;
    ferkd_store_close(&sealed);
    return st;
}

ferkd_status fk_store_writer_open(fk_store_writer **out, const char *path,
                                  const ferkd_store_info *info, uint32_t chunk, bool overwrite)
{
    ferkd_status st = FERKD_OK;
    fk_store_writer *w = NULL;
    bool done = false;

    *out = NULL;
    TRY(fk_calloc(&w, 1, sizeof *w, path));
    w->fd = -1;
    w->info = *info;
    w->info.here = info->here ? info->here : info->images;
    w->next = info->first;
    TRY_DONE(fk_codec_of(&w->codec, info));
    w->info.prob_bits = w->codec.prob_bits;
    w->info.label_classes = w->codec.classes;
    if (fk_is_file(path) && !overwrite)
        TRY_DONE(look_at_sealed(path, &w->info, &done));
    if (done)
        goto done;
    TRY_DONE(fk_strdup(&w->path, path));
    TRY_DONE(fk_asprintf(&w->part, "%s.part", path));
    TRY_DONE(fk_calloc(&w->directory, w->info.here, 4, w->part));
    TRY_DONE(open_part(w, chunk, overwrite));
    *out = w;
    w = NULL;
done:
    fk_store_writer_close(&w);
    return st;
}

ferkd_store_info fk_store_info_imported(const ferkd_dataset *data, uint32_t regions, uint32_t topk,
                                        const char *teacher)
{
    ferkd_store_info info = {.images = ferkd_dataset_images(data),
                             .regions = regions,
                             .topk = topk,
                             .classes = ferkd_dataset_classes(data),
                             .teacher_classes = ferkd_dataset_classes(data),
                             .label_classes = ferkd_dataset_classes(data),
                             .prob_bits = 16,
                             .has_boxes = true,
                             .sampler = ferkd_sampler_defaults(),
                             .teacher_px = 224,
                             .filter = FERKD_BICUBIC,
                             .temperature = 1.0,
                             .ignore_exif = ferkd_dataset_ignores_exif(data),
                             .teacher = teacher,
                             .dataset = ferkd_dataset_path(data)};

    ferkd_dataset_fingerprint(data, info.dataset_fingerprint);
    return info;
}

const fk_codec *fk_store_writer_codec(const fk_store_writer *w)
{
    return &w->codec;
}

uint32_t fk_store_writer_next(const fk_store_writer *w)
{
    return w->next;
}

uint32_t fk_store_writer_skipped(const fk_store_writer *w)
{
    return w->skipped;
}

ferkd_status fk_store_writer_append(fk_store_writer *w, const uint8_t *block, uint32_t n)
{
    assert(w->next < w->info.first + w->info.here);
    TRY(fk_write_all(w->fd, block, n, w->part));
    count_block(w, block, n);
    return FERKD_OK;
}

ferkd_status fk_store_writer_commit(fk_store_writer *w)
{
    uint8_t footer[FK_STORE_FOOTER_BYTES];
    size_t directory = (size_t)w->info.here * 4;

    if (w->next != w->info.first + w->info.here)
        return fk_fail(FERKD_BUG, "%s: sealed at image %u of %u", w->part, w->next, w->info.images);
    fk_store_end end = {.labelled = w->labelled,
                        .skipped = w->skipped,
                        .blocks_hash = w->blocks_hash,
                        .directory_hash = fk_hash64(w->directory, directory, 2),
                        .file_bytes = w->bytes + directory + sizeof footer};
    fk_store_footer_write(footer, &end);
    TRY(fk_write_all(w->fd, w->directory, directory, w->part));
    TRY(fk_write_all(w->fd, footer, sizeof footer, w->part));
    return fk_file_publish(w->fd, w->part, w->path);
}

void fk_store_writer_close(fk_store_writer **writer)
{
    fk_store_writer *w = *writer;

    if (!w)
        return;
    if (w->fd >= 0)
        (void)close(w->fd);
    free(w->path);
    free(w->part);
    free(w->directory);
    free(w);
    *writer = NULL;
}
