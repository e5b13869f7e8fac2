/* Every seed of a target, whole, cut at many lengths, and with bytes changed: an ordinary test that
 * needs no fuzzer. usage: fuzz_X path/to/tests */
#include "replay.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 200

static int try_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    static uint8_t bytes[1 << 20];
    uint32_t random = 12345;

    if (!f)
        return 0;
    size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    for (int i = 0; i < ROUNDS; i++) {
        /* memory of exactly the right size, so that ASan sees one byte too many */
        size_t length = i < ROUNDS / 2 ? n - n * (size_t)i / (ROUNDS / 2) : n;
        uint8_t *copy = malloc(length ? length : 1);
        if (!copy)
            return 0;
        memcpy(copy, bytes, length);
        for (int k = 0; i >= ROUNDS / 2 && k < 4 && length; k++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % (k < 2 && length > 256 ? 256 : length)] ^=
                (uint8_t)(1u << (random & 7));
        }
        (void)LLVMFuzzerTestOneInput(copy, length);
        free(copy);
    }
    return 1;
}

int main(int argc, char **argv)
{
    char path[1024];
    int files = 0;
    struct dirent *e;

    (void)snprintf(path, sizeof path, "%s/%s", argc > 1 ? argv[1] : "tests", fuzz_seeds);
    DIR *dir = opendir(path);
    while (dir && (e = readdir(dir)) != NULL) {
        size_t n = strlen(e->d_name);
        size_t m = strlen(fuzz_suffix);
        if (n < m || strcmp(e->d_name + n - m, fuzz_suffix) != 0 || e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "%s/%s/%s", argc > 1 ? argv[1] : "tests", fuzz_seeds,
                       e->d_name);
        files += try_file(path);
    }
    if (dir)
        (void)closedir(dir);
    (void)printf("%d seeds, %d inputs each\n", files, ROUNDS);
    return files == 0;
}
