/* Files of torch.save: the values that PyTorch put in (make_torch.py), and nothing ever run. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/file.h"
#include "exchange/torch_file.h"

static void compare(const char *name)
{
    char path[256];
    fk_torch_file *f = NULL;
    uint8_t *text = NULL;
    size_t n;
    size_t lines = 0;
    char *rest = NULL;

    (void)snprintf(path, sizeof path, TEST_SOURCE "/golden/torch/%s.pth", name);
    if (fk_torch_open(&f, path) != FERKD_OK)
        fail_msg("%s", ferkd_last_error());
    (void)snprintf(path, sizeof path, TEST_SOURCE "/golden/torch/%s.txt", name);
    assert_int_equal(fk_file_read(&text, &n, path, 1 << 20, false), FERKD_OK);
    for (char *line = strtok_r((char *)text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        float values[512];
        char shape[64] = "";
        char *words = NULL;
        char *key = strtok_r(line, " ", &words);
        char *want = strtok_r(NULL, " ", &words);
        const fk_torch_tensor *t = fk_torch_find(f, key);
        if (!t)
            fail_msg("%s: %s is missing", name, key);
        assert_string_equal(t->name, key);
        for (int i = 0; i < t->n_dims; i++) {
            size_t at = strlen(shape);
            (void)snprintf(shape + at, sizeof shape - at, "%s%d", i ? "x" : "", (int)t->dims[i]);
        }
        assert_string_equal(*shape ? shape : "-", want);
        assert_true(t->count <= 512);
        fk_torch_values(t, values);
        for (size_t i = 0; i < t->count; i++) {
            char *word = strtok_r(NULL, " ", &words);
            assert_non_null(word);
            assert_true((float)strtod(word, NULL) == values[i]);
        }
        lines++;
    }
    assert_int_equal(lines, fk_torch_count(f));
    free(text);
    fk_torch_close(&f);
}

static void values_are_torchs(void **state)
{
    (void)state;
    compare("state");
    compare("checkpoint");
    compare("views");
    compare("types");
    compare("arrays");
}

static void names_are_found_behind_their_prefix(void **state)
{
    fk_torch_file *f = NULL;

    (void)state;
    assert_int_equal(fk_torch_open(&f, TEST_SOURCE "/golden/torch/checkpoint.pth"), FERKD_OK);
    const fk_torch_tensor *t = fk_torch_find(f, "3.weight");
    assert_non_null(t);
    assert_string_equal(t->name, "state_dict.module.3.weight");
    assert_null(fk_torch_find(f, "weigh"));
    assert_null(fk_torch_find(f, "eight"));
    fk_torch_close(&f);
}

static void nothing_is_run(void **state)
{
    fk_torch_file *f = NULL;

    (void)state;
    assert_int_equal(fk_torch_open(&f, TEST_SOURCE "/golden/torch/evil.pth"), FERKD_UNSUPPORTED);
    assert_non_null(strstr(ferkd_last_error(), "system"));
    assert_non_null(strstr(ferkd_last_error(), "state_dict"));
    assert_int_equal(fk_torch_open(&f, TEST_SOURCE "/golden/torch/state.txt"), FERKD_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_torchs),
        cmocka_unit_test(names_are_found_behind_their_prefix),
        cmocka_unit_test(nothing_is_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
