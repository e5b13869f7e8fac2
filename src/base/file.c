/* Reading and writing files so that a crash leaves the old one or the new one. */
#include "base/file.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

#include "base/limits.h"
#include "base/mem.h"

ferkd_status fk_map_open(fk_map *map, const char *path)
{
    ferkd_status st = FERKD_OK;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fk_fail_errno(errno == ENOENT ? FERKD_ABSENT : FERKD_IO, "%s: cannot be opened",
                             path);
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        st = fk_fail(FERKD_IO, "%s: not a regular file", path);
    } else if (info.st_size == 0) {
        *map = (fk_map){(const uint8_t *)"", 0};
    } else {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = fk_fail_errno(FERKD_IO, "%s: cannot be mapped", path);
        else
            *map = (fk_map){p, (size_t)info.st_size};
    }
    (void)close(fd);
    return st;
}

void fk_map_close(fk_map *map)
{
    if (map->size_bytes)
        (void)munmap((void *)(uintptr_t)map->bytes, map->size_bytes);
    *map = (fk_map){0};
}

static ferkd_status read_fd(int fd, uint8_t **buf, size_t *cap, size_t *size, const char *path,
                            size_t max_bytes)
{
    struct stat info;
    size_t got = 0;

    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return fk_fail(FERKD_IO, "%s: not a regular file", path);
    if ((uint64_t)info.st_size > max_bytes)
        return fk_fail(FERKD_LIMIT, "%s: %lld bytes, the limit is %zu", path,
                       (long long)info.st_size, max_bytes);
    TRY(fk_grow(buf, cap, (size_t)info.st_size + 1, 1));
    while (got < (size_t)info.st_size) {
        ssize_t n = read(fd, *buf + got, (size_t)info.st_size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fk_fail_errno(FERKD_IO, "%s: cannot be read", path);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    (*buf)[got] = 0;
    *size = got;
    return FERKD_OK;
}

ferkd_status fk_file_read_into(uint8_t **buf, size_t *cap, size_t *size, const char *path,
                               size_t max_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fk_fail_errno(errno == ENOENT ? FERKD_ABSENT : FERKD_IO, "%s: cannot be opened",
                             path);
    ferkd_status st = read_fd(fd, buf, cap, size, path, max_bytes);
    (void)close(fd);
    return st;
}

/* Unpack packed (freed here) into a new buffer of at most max_bytes. */
static ferkd_status unzip(uint8_t **out, size_t *size, uint8_t *packed, size_t packed_size,
                          const char *path, size_t max_bytes)
{
    ferkd_status st = FERKD_OK;
    uint8_t *plain = NULL;
    size_t cap = 0;
    z_stream z = {.next_in = packed, .avail_in = (uInt)packed_size};
    int code = inflateInit2(&z, 16 + MAX_WBITS);

    while (code == Z_OK) {
        size_t have = z.total_out;
        if (have >= max_bytes) {
            st = fk_fail(FERKD_LIMIT, "%s: unpacks to more than %zu bytes", path, max_bytes);
            break;
        }
        st = fk_grow(&plain, &cap, have + (1u << 20) + 1, 1);
        if (st != FERKD_OK)
            break;
        z.next_out = plain + have;
        z.avail_out = (uInt)fk_min_size(cap - have - 1, 1u << 30);
        code = inflate(&z, Z_NO_FLUSH);
    }
    if (st == FERKD_OK && code != Z_STREAM_END)
        st = fk_fail(FERKD_CORRUPT, "%s: damaged or truncated gzip data; copy it again", path);
    *size = z.total_out;
    (void)inflateEnd(&z);
    free(packed);
    if (st == FERKD_OK) {
        plain[*size] = 0;
        *out = plain;
    } else {
        free(plain);
    }
    return st;
}

ferkd_status fk_file_read(uint8_t **out, size_t *size, const char *path, size_t max_bytes,
                          bool unpack)
{
    uint8_t *bytes = NULL;
    size_t cap = 0;
    ferkd_status st = fk_file_read_into(&bytes, &cap, size, path, max_bytes);

    if (st == FERKD_OK && unpack && *size > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b)
        return unzip(out, size, bytes, *size, path, max_bytes);
    if (st == FERKD_OK)
        *out = bytes;
    else
        free(bytes);
    return st;
}

ferkd_status fk_write_all(int fd, const void *bytes, size_t n, const char *path)
{
    const uint8_t *p = bytes;

    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return fk_fail_errno(FERKD_IO, "%s: cannot be written", path);
        p += w;
        n -= (size_t)w;
    }
    return FERKD_OK;
}

ferkd_status fk_file_publish(int fd, const char *from, const char *to)
{
    char folder[PATH_MAX];

    if (fsync(fd) != 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be synced to the disk", from);
    if (rename(from, to) != 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be renamed to %s", from, to);
    (void)snprintf(folder, sizeof folder, "%s", to);
    int dir = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        (void)fsync(dir); /* not every file system can; the rename itself has happened */
        (void)close(dir);
    }
    return FERKD_OK;
}

ferkd_status fk_file_replace(const char *path, const void *bytes, size_t n)
{
    char *beside = NULL;

    TRY(fk_asprintf(&beside, "%s.part", path));
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ferkd_status st = FERKD_OK;
    if (fd < 0)
        st = fk_fail_errno(FERKD_IO, "%s: cannot be created", beside);
    if (st == FERKD_OK)
        st = fk_write_all(fd, bytes, n, beside);
    if (st == FERKD_OK)
        st = fk_file_publish(fd, beside, path);
    if (fd >= 0)
        (void)close(fd);
    if (st != FERKD_OK)
        (void)unlink(beside);
    free(beside);
    return st;
}

ferkd_status fk_file_append(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

    if (fd < 0)
        return fk_fail_errno(FERKD_IO, "%s: cannot be opened to append", path);
    ferkd_status st = fk_write_all(fd, bytes, n, path);
    (void)close(fd);
    return st;
}

ferkd_status fk_make_folder(const char *path)
{
    char part[PATH_MAX];

    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return fk_fail(FERKD_LIMIT, "%s: the path is too long", path);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char keep = *p;
        *p = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return fk_fail_errno(FERKD_IO, "%s: the folder cannot be made", part);
        *p = keep;
        if (keep == '\0')
            break;
    }
    if (!fk_is_folder(path))
        return fk_fail(FERKD_IO, "%s: there is a file of this name, a folder is needed", path);
    return FERKD_OK;
}

bool fk_is_file(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool fk_is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

uint64_t fk_file_size(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
}

ferkd_status fk_path_join(char **out, const char *folder, const char *name)
{
    size_t n = strlen(folder);

    return fk_asprintf(out, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

uint64_t fk_hash64(const void *bytes, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n, seed);
}

struct fk_hash128_state {
    XXH3_state_t *state;
};

fk_hash128_state *fk_hash128_new(void)
{
    fk_hash128_state *h = calloc(1, sizeof *h);

    if (h)
        h->state = XXH3_createState();
    if (!h || !h->state) {
        free(h);
        return NULL;
    }
    (void)XXH3_128bits_reset(h->state);
    return h;
}

void fk_hash128_add(fk_hash128_state *h, const void *bytes, size_t n)
{
    (void)XXH3_128bits_update(h->state, bytes, n);
}

void fk_hash128_end(fk_hash128_state *h, uint8_t out[16])
{
    XXH128_canonical_t c;

    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(h->state));
    memcpy(out, c.digest, 16);
    (void)XXH3_freeState(h->state);
    free(h);
}
