/* A folder of class folders, in torchvision's order: classes and files by code point, folders below a
 * class in the order of their whole paths, a folder's own files before those of folders below. */
#include "base/compat.h"

#include "data/dataset.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/mem.h"

#define MAX_DEPTH 32

static const char *const EXTENSIONS[] = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                         ".pgm", ".tif",  ".tiff", ".webp"};

typedef struct names {
    char **at;
    size_t n, cap;
} names;

static int by_code_point(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static ferkd_status names_add(names *list, const char *text)
{
    TRY(fk_grow(&list->at, &list->cap, list->n + 1, sizeof *list->at));
    TRY(fk_strdup(&list->at[list->n], text));
    list->n++;
    return FERKD_OK;
}

static void names_fini(names *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->at[i]);
    free(list->at);
    *list = (names){0};
}

static void names_sort(names *list)
{
    if (list->n)
        qsort(list->at, list->n, sizeof *list->at, by_code_point);
}

static bool is_image_name(const char *name)
{
    for (size_t i = 0; i < FK_COUNT(EXTENSIONS); i++) {
        if (fk_ends_with(name, EXTENSIONS[i]))
            return true;
    }
    return false;
}

/* The entries of root/below, folders and files apart (links followed). */
static ferkd_status list_folder(const char *root, const char *below, names *folders, names *files)
{
    char path[PATH_MAX];
    struct dirent *e;
    ferkd_status st = FERKD_OK;

    (void)snprintf(path, sizeof path, "%s/%s", root, below);
    DIR *dir = opendir(path);
    if (!dir)
        return fk_fail_errno(FERKD_IO, "%s: the folder cannot be read", path);
    while (st == FERKD_OK && (e = readdir(dir)) != NULL) {
        struct stat info;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(dir), e->d_name, &info, 0) != 0)
            continue; /* a broken link, or gone again */
        if (S_ISDIR(info.st_mode) && folders)
            st = names_add(folders, e->d_name);
        else if (S_ISREG(info.st_mode) && files && is_image_name(e->d_name))
            st = names_add(files, e->d_name);
    }
    (void)closedir(dir);
    return st;
}

/* Every folder at and below root/below, as paths relative to root. */
static ferkd_status collect_folders(const char *root, const char *below, names *out, int depth)
{
    names inner = {0};
    ferkd_status st = FERKD_OK;

    if (depth > MAX_DEPTH)
        return fk_fail(FERKD_LIMIT, "%s/%s: folders more than %d deep; is there a loop of links?",
                       root, below, MAX_DEPTH);
    TRY(names_add(out, below));
    TRY_DONE(list_folder(root, below, &inner, NULL));
    for (size_t i = 0; i < inner.n; i++) {
        char path[PATH_MAX];
        if ((size_t)snprintf(path, sizeof path, "%s/%s", below, inner.at[i]) >= sizeof path)
            continue; /* no system call could open it */
        TRY_DONE(collect_folders(root, path, out, depth + 1));
    }
done:
    names_fini(&inner);
    return st;
}

static ferkd_status add_item(ferkd_dataset *d, size_t *cap, size_t *label_cap, const char *folder,
                             const char *file, uint32_t label)
{
    char path[PATH_MAX];
    struct stat info;
    fk_item item = {0};

    if (d->images >= FK_MAX_IMAGES - 1)
        return fk_fail(FERKD_LIMIT, "%s: more than %llu images", d->path, FK_MAX_IMAGES);
    TRY(fk_grow(&d->items, cap, (size_t)d->images + 1, sizeof *d->items));
    TRY(fk_grow(&d->labels, label_cap, (size_t)d->images + 1, sizeof *d->labels));
    (void)snprintf(path, sizeof path, "%s/%s/%s", d->path, folder, file);
    item.size = stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
    TRY(fk_asprintf(&item.name, "%s/%s", folder, file));
    d->items[d->images] = item;
    d->labels[d->images] = (uint16_t)label;
    d->images++;
    return FERKD_OK;
}

static ferkd_status read_class(ferkd_dataset *d, size_t *cap, size_t *label_cap, uint32_t label)
{
    names folders = {0};
    names files = {0};
    ferkd_status st = FERKD_OK;
    uint32_t before = d->images;

    TRY_DONE(collect_folders(d->path, d->class_names[label], &folders, 0));
    names_sort(&folders);
    for (size_t f = 0; f < folders.n; f++) {
        names_fini(&files);
        TRY_DONE(list_folder(d->path, folders.at[f], NULL, &files));
        names_sort(&files);
        for (size_t i = 0; i < files.n; i++)
            TRY_DONE(add_item(d, cap, label_cap, folders.at[f], files.at[i], label));
    }
    if (d->images == before)
        st = fk_fail(FERKD_ABSENT, "%s/%s: a class without images; remove the folder or fill it",
                     d->path, d->class_names[label]);
done:
    names_fini(&folders);
    names_fini(&files);
    return st;
}

ferkd_status fk_folder_read(ferkd_dataset *d)
{
    names classes = {0};
    size_t cap = 0;
    size_t label_cap = 0;
    ferkd_status st = list_folder(d->path, "", &classes, NULL);

    if (st == FERKD_OK && classes.n == 0)
        st = fk_fail(FERKD_ABSENT,
                     "%s: no class folders in it; put the images of each class in a folder of its "
                     "own",
                     d->path);
    if (st == FERKD_OK && classes.n > FK_MAX_CLASSES)
        st = fk_fail(FERKD_LIMIT, "%s: %zu classes, the limit is %u", d->path, classes.n,
                     FK_MAX_CLASSES);
    if (st != FERKD_OK) {
        names_fini(&classes);
        return st;
    }
    names_sort(&classes);
    d->kind = "folder";
    d->channels = 3;
    d->class_names = classes.at;
    d->classes = (uint32_t)classes.n;
    for (uint32_t c = 0; c < d->classes; c++)
        TRY(read_class(d, &cap, &label_cap, c));
    return FERKD_OK;
}
