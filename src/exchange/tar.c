/* tar by libarchive: our files whole or not at all, others' with limits. */
#include "exchange/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

enum { READ_BYTES = 1 << 18 };

struct fk_tar_writer {
    struct archive *archive;
    struct archive_entry *entry;
    char *path, *part;
    int fd;
    ferkd_status st; /* of our own writing, which libarchive reports in its words only */
};

struct fk_tar_reader {
    struct archive *archive;
    char *path, *name;
    uint8_t *bytes;
    size_t cap;
};

/* --- writing ----------------------------------------------------------------------------------- */

static la_ssize_t put(struct archive *a, void *ctx, const void *bytes, size_t n)
{
    fk_tar_writer *t = ctx;

    (void)a;
    t->st = fk_write_all(t->fd, bytes, n, t->part);
    return t->st == FERKD_OK ? (la_ssize_t)n : -1;
}

static ferkd_status wrong(const fk_tar_writer *t)
{
    return t->st != FERKD_OK
               ? t->st
               : fk_fail(FERKD_IO, "%s: %s", t->part, archive_error_string(t->archive));
}

ferkd_status fk_tar_create(fk_tar_writer **out, const char *path)
{
    fk_tar_writer *t = NULL;
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&t, 1, sizeof *t, path));
    t->fd = -1;
    TRY_DONE(fk_strdup(&t->path, path));
    TRY_DONE(fk_asprintf(&t->part, "%s.part", path));
    t->archive = archive_write_new();
    t->entry = archive_entry_new();
    t->fd = open(t->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (!t->archive || !t->entry)
        st = fk_fail(FERKD_MEMORY, "%s: no memory to write it", path);
    else if (t->fd < 0)
        st = fk_fail_errno(FERKD_IO, "%s: cannot be created", t->part);
    else if (archive_write_set_format_pax_restricted(t->archive) != ARCHIVE_OK ||
             archive_write_open(t->archive, t, NULL, put, NULL) != ARCHIVE_OK)
        st = wrong(t);
    if (st != FERKD_OK)
        goto done;
    *out = t;
    t = NULL;
done:
    fk_tar_discard(&t);
    return st;
}

ferkd_status fk_tar_add(fk_tar_writer *t, const char *name, const void *bytes, size_t n)
{
    archive_entry_clear(t->entry);
    archive_entry_set_pathname(t->entry, name);
    archive_entry_set_filetype(t->entry, AE_IFREG);
    archive_entry_set_perm(t->entry, 0644);
    archive_entry_set_size(t->entry, (la_int64_t)n);
    if (archive_write_header(t->archive, t->entry) != ARCHIVE_OK ||
        archive_write_data(t->archive, bytes, n) != (la_ssize_t)n)
        return wrong(t);
    return FERKD_OK;
}

ferkd_status fk_tar_commit(fk_tar_writer *t)
{
    if (archive_write_close(t->archive) != ARCHIVE_OK)
        return wrong(t);
    TRY(fk_file_publish(t->fd, t->part, t->path));
    free(t->part);
    t->part = NULL;
    return FERKD_OK;
}

void fk_tar_discard(fk_tar_writer **writer)
{
    fk_tar_writer *t = *writer;

    if (!t)
        return;
    if (t->archive)
        (void)archive_write_free(t->archive);
    archive_entry_free(t->entry);
    if (t->fd >= 0) {
        (void)close(t->fd);
        if (t->part)
            (void)unlink(t->part);
    }
    free(t->path);
    free(t->part);
    free(t);
    *writer = NULL;
}

/* --- reading ----------------------------------------------------------------------------------- */

static ferkd_status damaged(const fk_tar_reader *t)
{
    const char *why = archive_error_string(t->archive);

    return fk_fail(FERKD_CORRUPT, "%s: %s", t->path, why ? why : "no tar file");
}

ferkd_status fk_tar_open(fk_tar_reader **out, const char *path)
{
    fk_tar_reader *t = NULL;
    ferkd_status st = FERKD_OK;

    if (!fk_is_file(path))
        return fk_fail(FERKD_ABSENT, "%s: no such file", path);
    TRY(fk_calloc(&t, 1, sizeof *t, path));
    TRY_DONE(fk_strdup(&t->path, path));
    t->archive = archive_read_new();
    if (!t->archive) {
        st = fk_fail(FERKD_MEMORY, "%s: no memory to read it", path);
        goto done;
    }
    (void)archive_read_support_format_tar(t->archive);
    (void)archive_read_support_filter_gzip(t->archive);
    (void)archive_read_support_filter_xz(t->archive);
    (void)archive_read_support_filter_zstd(t->archive);
    if (archive_read_open_filename(t->archive, path, READ_BYTES) != ARCHIVE_OK) {
        st = damaged(t);
        goto done;
    }
    *out = t;
    t = NULL;
done:
    fk_tar_close(&t);
    return st;
}

/* What it says of its size may be a lie: read until its end. */
static ferkd_status read_member(fk_tar_reader *t, size_t *n)
{
    for (*n = 0;;) {
        if (*n > FK_MAX_IMAGE_BYTES)
            return fk_fail(FERKD_LIMIT, "%s: %s is larger than any image", t->path, t->name);
        TRY(fk_grow(&t->bytes, &t->cap, *n + READ_BYTES, 1));
        la_ssize_t got = archive_read_data(t->archive, t->bytes + *n, READ_BYTES);
        if (got < 0)
            return damaged(t);
        if (got == 0)
            return FERKD_OK;
        *n += (size_t)got;
    }
}

ferkd_status fk_tar_next(fk_tar_reader *t, const char **name, const uint8_t **bytes, size_t *n)
{
    struct archive_entry *e = NULL;
    const char *path = NULL;

    do {
        int r = archive_read_next_header(t->archive, &e);
        if (r == ARCHIVE_EOF) {
            *name = NULL;
            return FERKD_OK;
        }
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return damaged(t);
        path = archive_entry_pathname(e);
    } while (archive_entry_filetype(e) != AE_IFREG || !path);
    free(t->name);
    t->name = NULL;
    TRY(fk_strdup(&t->name, path));
    TRY(read_member(t, n));
    *name = t->name;
    *bytes = t->bytes;
    return FERKD_OK;
}

void fk_tar_close(fk_tar_reader **reader)
{
    fk_tar_reader *t = *reader;

    if (!t)
        return;
    if (t->archive)
        (void)archive_read_free(t->archive);
    free(t->path);
    free(t->name);
    free(t->bytes);
    free(t);
    *reader = NULL;
}
