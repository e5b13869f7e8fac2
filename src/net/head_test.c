/* Heads: found behind what follows them, replaced for other classes, a bias that is added becomes their own. */
#include "base/compat.h"

#include <setjmp.h>

#include <cmocka.h>

#include "net/head.h"

enum { IN = 4, OUT = 3 };

static const float W[OUT * IN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const float B[OUT] = {0.5f, -0.5f, 0.25f};

static int add(fk_graph *g, fk_node n)
{
    int id = -1;

    for (int k = 0; k < FK_MAX_PARAMS; k++)
        n.param[k] = n.param[k] ? n.param[k] - 1 : -1; /* given one too high, 0: none */
    assert_int_equal(fk_graph_add(g, &n, &id), FERKD_OK);
    return id;
}

/* input [2, 4] -> dense without a bias -> + constant -> reshape to [2, 3] -> softmax, and a dead node. */
static fk_graph *make(void)
{
    fk_graph *g = NULL;
    int w;
    int b;

    assert_int_equal(fk_graph_new(&g, "g"), FERKD_OK);
    assert_int_equal(
        fk_graph_param(g, "w", fk_shape_of(2, (int64_t)OUT, (int64_t)IN), FK_WEIGHT, W, &w),
        FERKD_OK);
    assert_int_equal(fk_graph_param(g, "w", fk_shape_of(1, (int64_t)OUT), FK_BUFFER, B, &b),
                     FERKD_OK);
    int x = add(
        g,
        (fk_node){.op = FK_INPUT, .name = "x", .shape = fk_shape_of(2, (int64_t)2, (int64_t)IN)});
    int c = add(g, (fk_node){.op = FK_CONST, .name = "c", .param = {b + 1}});
    int d = add(g, (fk_node){.op = FK_DENSE, .name = "d", .in = &x, .n_in = 1, .param = {w + 1}});
    (void)add(g,
              (fk_node){.op = FK_ACT, .name = "dead", .in = &x, .n_in = 1, .u.act.kind = FK_RELU});
    int s = add(
        g,
        (fk_node){
            .op = FK_BINARY, .name = "s", .in = (int[]){c, d}, .n_in = 2, .u.binary.kind = FK_ADD});
    int r = add(g, (fk_node){.op = FK_RESHAPE,
                             .name = "r",
                             .in = &s,
                             .n_in = 1,
                             .shape = fk_shape_of(2, (int64_t)2, (int64_t)OUT)});
    int y = add(g, (fk_node){.op = FK_SOFTMAX, .name = "y", .in = &r, .n_in = 1, .u.axis.axis = 1});
    assert_int_equal(fk_graph_finish(g, y), FERKD_OK);
    return g;
}

static void the_same_classes_keep_the_weights(void **state)
{
    fk_graph *g = make();
    bool anew = true;

    (void)state;
    assert_int_equal(fk_graph_rehead(&g, OUT, 1, &anew), FERKD_OK);
    assert_false(anew);
    assert_int_equal(g->n_nodes, 3); /* input, dense, reshape */
    assert_int_equal(g->nodes[g->output].op, FK_RESHAPE);
    const fk_node *head = &g->nodes[fk_graph_head(g)];
    assert_int_equal(head->op, FK_DENSE);
    assert_memory_equal(fk_graph_values(g, head->param[0]), W, sizeof W);
    assert_memory_equal(fk_graph_values(g, head->param[1]), B, sizeof B);
    assert_int_equal(g->params[head->param[1]].kind, FK_BIAS);
    assert_true(g->params[head->param[0]].head && g->params[head->param[1]].head);
    assert_string_not_equal(g->params[0].name, g->params[1].name);
    fk_graph_free(&g);
}

static void other_classes_start_anew(void **state)
{
    fk_graph *g = make();
    bool anew = false;

    (void)state;
    assert_int_equal(fk_graph_rehead(&g, 7, 1, &anew), FERKD_OK);
    assert_true(anew);
    const fk_node *head = &g->nodes[fk_graph_head(g)];
    const float *w = fk_graph_values(g, head->param[0]);
    assert_int_equal(g->params[head->param[0]].shape.d[0], 7);
    assert_int_equal(g->nodes[g->output].shape.d[1], 7);
    for (int i = 0; i < 7 * IN; i++)
        assert_true(w[i] != 0.0f && fabsf(w[i]) <= 0.5f); /* 1 / sqrt(4) */
    assert_true(fk_graph_values(g, head->param[1])[3] == 0.0f);
    fk_graph_free(&g);
}

static void a_graph_without_a_head_is_refused(void **state)
{
    fk_graph *g = NULL;
    bool anew;

    (void)state;
    assert_int_equal(fk_graph_new(&g, "g"), FERKD_OK);
    int x = add(
        g,
        (fk_node){.op = FK_INPUT, .name = "x", .shape = fk_shape_of(2, (int64_t)2, (int64_t)IN)});
    assert_int_equal(fk_graph_finish(g, x), FERKD_OK);
    assert_int_equal(fk_graph_rehead(&g, 2, 1, &anew), FERKD_UNSUPPORTED);
    fk_graph_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_classes_keep_the_weights),
        cmocka_unit_test(other_classes_start_anew),
        cmocka_unit_test(a_graph_without_a_head_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
