/* Recipes from a part of a YAML document, and as text. */
#ifndef FK_RECIPE_H
#define FK_RECIPE_H

#include "base/yaml.h"
#include "ferkd/train.h"

/* Set the keys of a map; maps within it are groups. depth: 0. */
FERKD_CHECK ferkd_status fk_recipe_take(ferkd_recipe *r, const fk_yaml *y, const fk_yaml_node *map,
                                        int depth);
/* As YAML; the caller frees. */
FERKD_CHECK ferkd_status fk_recipe_text(const ferkd_recipe *r, char **out);

#endif
