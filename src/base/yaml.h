/* YAML documents as trees: scalars, lists, maps, each with its line. */
#ifndef FK_YAML_H
#define FK_YAML_H

#include "base/compat.h"

typedef struct fk_yaml fk_yaml;
typedef struct yaml_node_s fk_yaml_node; /* libyaml's; owned by the document */

/* FERKD_CORRUPT names file and line. An empty document has no root. */
FERKD_CHECK ferkd_status fk_yaml_load(fk_yaml **out, const char *path);
void fk_yaml_free(fk_yaml **y);
const fk_yaml_node *fk_yaml_root(const fk_yaml *y); /* or NULL */

/* Each function below may be asked of any node, and of NULL. */
const char *fk_yaml_text(const fk_yaml_node *n); /* of a scalar; else NULL */
bool fk_yaml_is_map(const fk_yaml_node *n);
bool fk_yaml_is_list(const fk_yaml_node *n);
size_t fk_yaml_count(const fk_yaml_node *n); /* elements, or pairs */
const fk_yaml_node *fk_yaml_item(const fk_yaml *y, const fk_yaml_node *list, size_t i);
const char *fk_yaml_key(const fk_yaml *y, const fk_yaml_node *map, size_t i); /* or NULL: no text */
const fk_yaml_node *fk_yaml_value(const fk_yaml *y, const fk_yaml_node *map, size_t i);
const fk_yaml_node *fk_yaml_find(const fk_yaml *y, const fk_yaml_node *map, const char *key);

/* Prefix this thread's sentence with the place of a node. */
ferkd_status fk_yaml_at(const fk_yaml *y, const fk_yaml_node *n, ferkd_status st);

#endif
