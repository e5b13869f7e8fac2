/* Numbers in names. */
#include "base/compat.h"

#include "net/layers.h"

#include <ctype.h>

#define NONE (-1L)

/* A block: "stages.1.blocks.2." is (1, 2), "blocks.3." (3, 0), and so is what leads to the first of a stage
 * ("stages.1.downsample."). */
typedef struct block {
    long first, second;
} block;

/* The number that a part of a name is, or NONE. */
static long number_of(const char *part, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)part[i]))
            return NONE;
    }
    return n ? strtol(part, NULL, 10) : NONE;
}

/* The number that it ends in ("layer2"), or NONE. */
static long ending_of(const char *part, size_t n)
{
    size_t at = n;

    while (at > 0 && isdigit((unsigned char)part[at - 1]))
        at--;
    return at < n ? strtol(part + at, NULL, 10) : NONE;
}

static block block_of(const char *name)
{
    block b = {NONE, 0};
    bool word = false; /* "blocks" stood between the numbers */

    if (strncmp(name, "stem", 4) == 0)
        return b;
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        long v = number_of(p, n);
        if (b.first != NONE) {
            if (v != NONE)
                b.second = v;
            if (v != NONE || word || strncmp(p, "blocks.", 7) != 0)
                return b;
            word = true;
        } else if (v != NONE) {
            b.first = v;
        } else if (p[n] == '.' && isdigit((unsigned char)p[n + 1])) {
            b.first = ending_of(p, n);
        }
        p += n + (p[n] == '.');
    }
    return b;
}

static int by_names(const fk_graph *g, int *layer)
{
    block last = {NONE, NONE};
    int n = 0;

    for (size_t i = 0; i < g->n_params; i++) {
        block b = block_of(g->params[i].name);
        if (b.first != NONE && (b.first != last.first || b.second != last.second)) {
            n++;
            last = b;
        }
        layer[i] = n; /* without a number: the stem, or with the block before it */
    }
    return n;
}

static int by_order(const fk_graph *g, int *layer)
{
    int n = -1;

    for (size_t i = 0; i < g->n_params; i++) {
        n += g->params[i].kind == FK_WEIGHT || n < 0;
        layer[i] = n;
    }
    return n;
}

static bool of_head(const fk_param *p)
{
    return p->head || strncmp(p->name, "head.", 5) == 0;
}

int fk_graph_layers(const fk_graph *g, int *layer)
{
    int n = by_names(g, layer);

    if (n < 2)
        n = by_order(g, layer);
    bool apart = false;
    for (size_t i = 0; i < g->n_params; i++)
        apart = apart || (!of_head(&g->params[i]) && layer[i] == n);
    n += apart; /* the head is a layer of its own */
    for (size_t i = 0; i < g->n_params; i++)
        layer[i] = of_head(&g->params[i]) ? n : layer[i];
    return n;
}
