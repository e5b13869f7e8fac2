/* Losses and their gradients, optimisers against their formulas, schedules, mixing, safetensors. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/optim.h"
#include "exchange/safetensors.h"
#include "train/loss.h"
#include "train/mix.h"
#include "train/positions.h"
#include "train/schedule.h"

enum { N = 2, C = 4 };

static const float Z[N * C] = {0.3f, -1.2f, 2.0f, 0.1f, -0.5f, 0.4f, 0.2f, 1.5f};
static const float Y[N * C] = {0.1f, 0.2f, 0.6f, 0.1f, 0.0f, 0.0f, 0.25f, 0.75f};
static const float T[N * C] = {1.0f, 0.0f, 2.5f, -1.0f, 0.5f, 0.5f, -0.5f, 2.0f};

static double loss(const float *z, float *dz, int kind)
{
    switch (kind) {
    case 0:
        return fk_soft_cross_entropy(z, Y, N, C, 1.7, dz);
    case 1:
        return fk_distillation(z, Y, T, N, C, 1, 0.3, 2.0, dz);
    case 2:
        return fk_distillation(z, Y, T, N / 2, C, 2, 0.3, 2.0, dz);
    case 3:
        return fk_hard_distillation(z, Y, T, N, C, 1, 0.3, dz);
    default:
        return fk_hard_distillation(z, Y, T, N / 2, C, 2, 0.3, dz);
    }
}

static void gradients_are_those_of_the_losses(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        float z[N * C];
        float dz[N * C];
        float unused[N * C];
        (void)loss(Z, dz, kind);
        for (int i = 0; i < N * C; i++) {
            memcpy(z, Z, sizeof z);
            z[i] = Z[i] + 1e-2f;
            double high = loss(z, unused, kind);
            z[i] = Z[i] - 1e-2f;
            double low = loss(z, unused, kind);
            assert_true(fabs((high - low) / 0.02 - (double)dz[i]) < 1e-4);
        }
    }
}

/* Values by hand: log softmax of equal logits is -log C. */
static void losses_have_known_values(void **state)
{
    float z[C] = {0};
    float y[C];
    float dz[C];

    (void)state;
    fk_label_smoothing(y, C, 2, 0.1);
    assert_true(fabs((double)y[2] - 0.925) < 1e-6 && fabs((double)y[0] - 0.025) < 1e-6);
    assert_true(fabs(fk_soft_cross_entropy(z, y, 1, C, 1.0, dz) - log(4.0)) < 1e-6);
    y[0] = y[2] = y[3] = 0.1f;
    y[1] = 0.7f;
    assert_true(fabs(fk_distillation(z, y, z, 1, C, 1, 0.0, 4.0, dz)) < 1e-9);
}

/* Of one row with two heads each is told what its own loss says; of one head, both are the same logits. */
static void of_two_heads_one_learns_from_the_teacher(void **state)
{
    float dz[N * C];
    float truth[C];
    float said[C];
    const float choice[C] = {0, 0, 1, 0}; /* the largest of T's first row */

    (void)state;
    double hard = fk_soft_cross_entropy(Z, Y, 1, C, 1.0, truth);
    double soft = fk_soft_cross_entropy(Z + C, choice, 1, C, 1.0, said);
    assert_true(fabs(fk_hard_distillation(Z, Y, T, 1, C, 2, 0.3, dz) - 0.3 * hard - 0.7 * soft) <
                1e-9);
    for (int c = 0; c < C; c++) {
        assert_true(fabs((double)dz[c] - 0.3 * (double)truth[c]) < 1e-6);
        assert_true(fabs((double)dz[C + c] - 0.7 * (double)said[c]) < 1e-6);
    }
    soft = fk_distillation(Z + C, Y, T, 1, C, 1, 0.0, 2.0, said);
    assert_true(fabs(fk_distillation(Z, Y, T, 1, C, 2, 0.3, 2.0, dz) - 0.3 * hard - 0.7 * soft) <
                1e-9);
    for (int c = 0; c < C; c++) {
        assert_true(fabs((double)dz[c] - 0.3 * (double)truth[c]) < 1e-6);
        assert_true(fabs((double)dz[C + c] - 0.7 * (double)said[c]) < 1e-6);
    }
}

static fk_graph *two_params(void)
{
    fk_graph *g = NULL;
    float v[3] = {1.0f, -2.0f, 0.5f};
    int id;

    assert_int_equal(fk_graph_new(&g, "g"), FERKD_OK);
    fk_node in = {.op = FK_INPUT,
                  .name = "in",
                  .shape = fk_shape_of(4, (int64_t)1, (int64_t)1, (int64_t)1, (int64_t)1)};
    assert_int_equal(fk_graph_add(g, &in, &id), FERKD_OK);
    assert_int_equal(fk_graph_param(g, "w", fk_shape_of(1, (int64_t)3), FK_WEIGHT, v, &id),
                     FERKD_OK);
    assert_int_equal(fk_graph_param(g, "b", fk_shape_of(1, (int64_t)3), FK_BIAS, v, &id), FERKD_OK);
    assert_int_equal(fk_graph_finish(g, 0), FERKD_OK);
    return g;
}

/* Three steps, by the formula of torch.optim.SGD: lr 0.1, momentum 0.9, Nesterov,
 * decay 0.01 on w; gradient 0.5 throughout. */
static void sgd_is_torchs(void **state)
{
    fk_graph *g = two_params();
    fk_optim s;
    fk_optim_options o = {.kind = FK_SGD, .momentum = 0.9, .nesterov = true, .decay = 0.01};
    float *grads = calloc(g->n_trained, sizeof *grads);
    double w = 1.0;
    double b = 1.0;
    double mw = 0;
    double mb = 0;

    (void)state;
    assert_int_equal(fk_optim_init(&s, g, &o), FERKD_OK);
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < g->n_trained; i++)
            grads[i] = 0.5f;
        (void)fk_optim_step(&s, g, grads, 0.1, 1.0);
        double dw = 0.5 + 0.01 * w;
        mw = t ? 0.9 * mw + dw : dw;
        mb = t ? 0.9 * mb + 0.5 : 0.5;
        w -= 0.1 * (dw + 0.9 * mw);
        b -= 0.1 * (0.5 + 0.9 * mb);
    }
    assert_true(fabs((double)fk_graph_values(g, 0)[0] - w) < 1e-5);
    assert_true(fabs((double)fk_graph_values(g, 1)[0] - b) < 1e-5);
    fk_optim_fini(&s);
    fk_graph_free(&g);
    free(grads);
}

/* A stem, three blocks and a head, one number each; the rates are those of timm's layer decay, 0.5 to the layers above,
 * and ten times as much for the head. */
static void deeper_layers_move_less(void **state)
{
    static const char *const names[] = {"stem.weight", "blocks.0.w", "blocks.0.b",
                                        "blocks.1.w",  "blocks.2.w", "head.weight"};
    static const double rates[] = {0.0625, 0.125, 0.125, 0.25, 0.5, 10.0};
    fk_optim_options o = {.kind = FK_SGD, .layer_decay = 0.5, .head_rate = 10.0};
    fk_graph *g = NULL;
    fk_optim s;
    float zero = 0.0f;
    int id;

    (void)state;
    assert_int_equal(fk_graph_new(&g, "g"), FERKD_OK);
    fk_node in = {.op = FK_INPUT, .name = "in", .shape = fk_shape_of(2, (int64_t)1, (int64_t)1)};
    assert_int_equal(fk_graph_add(g, &in, &id), FERKD_OK);
    for (size_t i = 0; i < FK_COUNT(names); i++) {
        assert_int_equal(
            fk_graph_param(g, names[i], fk_shape_of(1, (int64_t)1), FK_WEIGHT, &zero, &id),
            FERKD_OK);
        g->params[id].head = strcmp(names[i], "head.weight") == 0;
    }
    assert_int_equal(fk_graph_finish(g, 0), FERKD_OK);
    float *grads = calloc(g->n_trained, sizeof *grads);
    assert_int_equal(fk_optim_init(&s, g, &o), FERKD_OK);
    for (size_t i = 0; i < g->n_trained; i++)
        grads[i] = 1.0f;
    (void)fk_optim_step(&s, g, grads, 0.1, 1.0);
    for (size_t i = 0; i < FK_COUNT(names); i++)
        assert_true(fabs((double)fk_graph_values(g, (int)i)[0] + 0.1 * rates[i]) < 1e-7);
    fk_optim_fini(&s);
    fk_graph_free(&g);
    free(grads);
}

static void adamw_clips_and_averages(void **state)
{
    fk_graph *g = two_params();
    fk_optim s;
    fk_optim_options o = {.kind = FK_ADAMW,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .decay = 0.1,
                          .clip = 1.0,
                          .ema = 0.5};
    float *grads = calloc(g->n_trained, sizeof *grads);

    (void)state;
    assert_int_equal(fk_optim_init(&s, g, &o), FERKD_OK);
    grads[0] = 30.0f;
    grads[1] = 40.0f;
    assert_true(fabs(fk_optim_step(&s, g, grads, 0.01, 1.0) - 50.0) < 1e-3);
    /* the first step of Adam moves by lr whatever the size; decay 0.1 lr w beside it */
    assert_true(fabs((double)fk_graph_values(g, 0)[0] - (1.0 - 0.01 - 0.01 * 0.1)) < 1e-4);
    /* EMA warms up: min(0.5, 2/11) of the old value stays */
    double keep = 2.0 / 11.0;
    assert_true(fabs((double)s.ema[0] - (keep * 1.0 + (1 - keep) * 0.989)) < 1e-4);
    fk_optim_fini(&s);
    fk_graph_free(&g);
    free(grads);
}

static void schedules_go_where_they_say(void **state)
{
    ferkd_recipe r;

    (void)state;
    assert_int_equal(ferkd_recipe_init(&r), FERKD_OK);
    r.epochs = 10;
    assert_true(fabs(fk_highest_rate(&r, true, 64, 1000) - 0.1) < 1e-9);
    assert_true(fabs(fk_highest_rate(&r, true, 256, 1000) - 0.1) < 1e-9);
    assert_true(fabs(fk_highest_rate(&r, true, 64, 30) - 0.01) < 1e-9);
    assert_true(fabs(fk_highest_rate(&r, true, 16, 150) - 0.0125) < 1e-9);
    assert_false(fk_uses_adamw(&r));
    assert_int_equal(ferkd_recipe_set(&r, "init", "runs/a"), FERKD_OK);
    assert_true(fk_uses_adamw(&r));
    r.lr = 0.01; /* which is said of SGD */
    assert_false(fk_uses_adamw(&r));
    r.lr = -1.0;
    assert_true(fabs(fk_highest_rate(&r, true, 64, 1000) - 0.0003) < 1e-9);
    assert_true(fabs(fk_highest_rate(&r, false, 64, 1000) - 0.00003) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "optimizer", "sgd"), FERKD_OK);
    assert_false(fk_uses_adamw(&r));
    assert_true(fabs(fk_highest_rate(&r, true, 64, 1000) - 0.03) < 1e-9);
    assert_true(fabs(fk_highest_rate(&r, false, 64, 1000) - 0.0003) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "freeze", "true"), FERKD_OK);
    assert_true(fabs(fk_highest_rate(&r, true, 64, 1000) - 0.1) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "optimizer", "adamw"), FERKD_OK);
    assert_true(fabs(fk_highest_rate(&r, true, 16, 30) - 0.001) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "schedule", "cosine"), FERKD_OK);
    r.lr = 1.0;
    assert_true(fabs(fk_highest_rate(&r, true, 16, 30) - 1.0) < 1e-9);
    r.warmup_epochs = 1;
    assert_true(fk_learning_rate(&r, r.lr, 0, 100) < 0.02);
    assert_true(fabs(fk_learning_rate(&r, r.lr, 100, 100) - 1.0) < 1e-9);
    assert_true(fk_learning_rate(&r, r.lr, 999, 100) < 1e-4);
    assert_int_equal(ferkd_recipe_set(&r, "schedule", "one-cycle"), FERKD_OK);
    assert_true(fabs(fk_learning_rate(&r, r.lr, 0, 100) - 0.04) < 1e-9);
    assert_true(fabs(fk_learning_rate(&r, r.lr, 300, 100) - 1.0) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "schedule", "step"), FERKD_OK);
    r.step_epochs = 5;
    assert_true(fabs(fk_learning_rate(&r, r.lr, 600, 100) - 0.1) < 1e-9);
    assert_int_equal(ferkd_recipe_set(&r, "shedule", "step"), FERKD_USAGE);
    assert_non_null(strstr(ferkd_last_error(), "schedule"));
    ferkd_recipe_fini(&r);
}

static void batches_shrink_for_few_images(void **state)
{
    ferkd_recipe r;

    (void)state;
    assert_int_equal(ferkd_recipe_init(&r), FERKD_OK);
    r.epochs = 10;
    assert_int_equal(fk_batch(&r, 9469), 64);
    assert_int_equal(fk_batch(&r, 3840), 64); /* 600 steps */
    assert_int_equal(fk_batch(&r, 3839), 32);
    assert_int_equal(fk_batch(&r, 600), 16);
    assert_int_equal(fk_batch(&r, 200), 16);
    assert_int_equal(fk_batch(&r, 15), 8); /* no more than there are */
    r.regions_per_image = 32;
    assert_int_equal(fk_batch(&r, 200), 32);
    r.regions_per_image = 1;
    r.accumulate = 2;
    assert_int_equal(fk_batch(&r, 3840), 32);
    r.batch = 48;
    assert_int_equal(fk_batch(&r, 9), 48);
    ferkd_recipe_fini(&r);
}

static void sizes_grow_in_steps(void **state)
{
    ferkd_recipe r = {.size = 128, .size_start = 64, .epochs = 12};

    (void)state;
    assert_int_equal(fk_size_at(&r, 0), 64);
    assert_int_equal(fk_size_at(&r, 2), 64);
    assert_int_equal(fk_size_at(&r, 3), 96);
    assert_int_equal(fk_size_at(&r, 6), 128);
    assert_int_equal(fk_size_at(&r, 11), 128);
    r.size_start = 0;
    assert_int_equal(fk_size_at(&r, 0), 128);
}

static void mixing_goes_on_and_off(void **state)
{
    char none[] = "none";
    char automatic[] = "auto";
    char cutmix[] = "cutmix";
    char ferkd[] = "ferkd";
    char funmatch[] = "funmatch";
    ferkd_recipe r = {.mix = none, .method = ferkd};

    (void)state;
    assert_false(fk_mix_is_on(&r, 0));
    r.mix = automatic;
    assert_false(fk_mix_is_on(&r, 0));
    r.method = funmatch;
    assert_true(fk_mix_is_on(&r, 0));
    r.mix = cutmix;
    r.mix_off_epoch = 3;
    assert_true(fk_mix_is_on(&r, 2));
    assert_false(fk_mix_is_on(&r, 3));
}

static void mixing_keeps_area_and_lambda(void **state)
{
    ferkd_recipe r;
    float a[16 * 16];
    float b[16 * 16];

    (void)state;
    assert_int_equal(ferkd_recipe_init(&r), FERKD_OK);
    assert_int_equal(ferkd_recipe_set(&r, "mix", "both"), FERKD_OK);
    for (uint32_t i = 0; i < 500; i++) {
        fk_rng rng = fk_rng_at(1, FK_RNG_TEST, i, 0);
        fk_mix m = fk_mix_draw(&r, &rng, 16);
        double sum = 0;
        float ya[2] = {1, 0};
        float yb[2] = {0, 1};
        for (int k = 0; k < 16 * 16; k++) {
            a[k] = 1.0f;
            b[k] = 0.0f;
        }
        fk_mix_inputs(&m, a, b, 1, 16, false);
        fk_mix_targets(&m, ya, yb, 2);
        for (int k = 0; k < 16 * 16; k++)
            sum += (double)a[k];
        assert_true(fabs(sum / 256 - (double)m.lambda) < 1e-4);
        assert_true(fabs((double)ya[0] - (double)m.lambda) < 1e-6);
        assert_true(fabs((double)ya[0] + (double)ya[1] - 1) < 1e-6);
    }
    ferkd_recipe_fini(&r);
}

/* torch.nn.functional.interpolate(v, mode="bicubic", antialias=True) of the values 7 i mod 11 - 5. */
static void positions_are_resized_as_torch_does(void **state)
{
    static const float LARGER[25] = {-6.345674f, -2.829203f, 2.075472f,  -0.170939f, -2.226415f,
                                     -1.684877f, -0.166685f, 1.694030f,  -0.762308f, -2.607857f,
                                     5.301887f,  3.776119f,  1.000000f,  -1.776120f, -3.301887f,
                                     5.137566f,  3.401871f,  0.305970f,  -2.492203f, -3.995916f,
                                     4.226415f,  2.700648f,  -0.075472f, -2.851591f, -4.377358f};
    static const float SMALLER[9] = {-1.185325f, 0.363793f, 1.610414f,  -1.714061f, 0.078659f,
                                     0.585187f,  0.387455f, -0.819678f, -1.141302f};
    float v[26 * 2];
    float out[26 * 2];

    (void)state;
    for (int way = 0; way < 2; way++) {
        size_t from = way ? 5 : 3;
        size_t to = way ? 3 : 5;
        for (size_t i = 0; i <= from * from;
             i++) { /* a class token, then the image; two channels */
            v[2 * i] = i ? (float)((7 * (i - 1)) % 11) - 5.0f : 42.0f;
            v[2 * i + 1] = -v[2 * i];
        }
        assert_int_equal(fk_resize_positions(v, from, out, to, 1, 2), FERKD_OK);
        assert_float_equal(out[0], 42.0f, 0.0f);
        for (size_t i = 0; i < to * to; i++) {
            float want = way ? SMALLER[i] : LARGER[i];
            assert_float_equal(out[2 * (i + 1)], want, 2e-5f);
            assert_float_equal(out[2 * (i + 1) + 1], -want, 2e-5f);
        }
    }
}

/* Channels first (SReT): each plane by itself, as one channel of the others. */
static void positions_of_planes_are_resized_each(void **state)
{
    fk_param last = {
        .name = (char *)(uintptr_t) "pos_embed", .shape = {3, {1, 16, 2}}, .count = 32};
    fk_param first = {
        .name = (char *)(uintptr_t) "pos_embed", .shape = {4, {1, 2, 4, 4}}, .count = 32};
    fk_position_fit fit;
    float there[2 * 64];
    float rows[2 * 64];
    float by_plane[32];
    float by_row[32];

    (void)state;
    for (int i = 0; i < 64; i++) {
        for (int c = 0; c < 2; c++)
            there[c * 64 + i] = rows[2 * i + c] = (float)(i * (5 + c) % 17);
    }
    assert_true(fk_positions_fit(&first, 128, &fit));
    assert_int_equal(fit.planes, 2);
    assert_int_equal(fk_fit_positions(&fit, there, by_plane), FERKD_OK);
    assert_true(fk_positions_fit(&last, 128, &fit));
    assert_int_equal(fk_fit_positions(&fit, rows, by_row), FERKD_OK);
    for (int i = 0; i < 16; i++) {
        for (int c = 0; c < 2; c++)
            assert_float_equal(by_plane[c * 16 + i], by_row[2 * i + c], 0.0f);
    }
    assert_false(fk_positions_fit(&first, 130, &fit));
    first.name = (char *)(uintptr_t) "weight";
    assert_false(fk_positions_fit(&first, 128, &fit));
}

static void safetensors_refuses_nonsense(void **state)
{
    static const char *const BAD[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
        "{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
        "[1]",
        "{\"a\"",
    };
    uint8_t bytes[512];
    fk_safetensors *f = NULL;

    (void)state;
    for (size_t i = 0; i < FK_COUNT(BAD); i++) {
        size_t n = strlen(BAD[i]);
        memset(bytes, 0, sizeof bytes);
        bytes[0] = (uint8_t)n;
        memcpy(bytes + 8, BAD[i], n);
        assert_int_equal(fk_safetensors_parse(&f, bytes, 8 + n + 4, "x"), FERKD_CORRUPT);
    }
    memset(bytes, 0xff, 16);
    assert_int_equal(fk_safetensors_parse(&f, bytes, 16, "x"), FERKD_CORRUPT);
    memset(bytes, 0, 16);
    bytes[0] = 2;
    memcpy(bytes + 8, "{}", 2);
    assert_int_equal(fk_safetensors_parse(&f, bytes, 10, "x"), FERKD_OK);
    fk_safetensors_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_losses),
        cmocka_unit_test(losses_have_known_values),
        cmocka_unit_test(of_two_heads_one_learns_from_the_teacher),
        cmocka_unit_test(sgd_is_torchs),
        cmocka_unit_test(deeper_layers_move_less),
        cmocka_unit_test(adamw_clips_and_averages),
        cmocka_unit_test(schedules_go_where_they_say),
        cmocka_unit_test(batches_shrink_for_few_images),
        cmocka_unit_test(sizes_grow_in_steps),
        cmocka_unit_test(mixing_goes_on_and_off),
        cmocka_unit_test(mixing_keeps_area_and_lambda),
        cmocka_unit_test(positions_are_resized_as_torch_does),
        cmocka_unit_test(positions_of_planes_are_resized_each),
        cmocka_unit_test(safetensors_refuses_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
