/* One line of cases.txt as a graph, with the inputs and weights of the golden script's formula. */
#ifndef CASE_H
#define CASE_H

#include "net/graph.h"

typedef struct ops_case {
    char name[64];
    fk_graph *g;
    size_t n_inputs; /* floats */
} ops_case;

/* FERKD_ABSENT at a line without a case. */
FERKD_CHECK ferkd_status ops_case_parse(ops_case *c, const char *line);
/* n floats in [-1, 1): murmur3's finaliser of a counter. */
void ops_values(float *out, size_t n, uint32_t salt);

#endif
