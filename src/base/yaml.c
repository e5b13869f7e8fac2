/* libyaml's document, behind questions that never fail. */
#include "base/compat.h"

#include "base/yaml.h"

#include <yaml.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

struct fk_yaml {
    yaml_document_t doc;
    char *path;
    bool loaded;
};

/* libyaml asks for a document that it may change, and changes nothing. */
static yaml_document_t *doc_of(const fk_yaml *y)
{
    return (yaml_document_t *)(uintptr_t)&y->doc;
}

ferkd_status fk_yaml_load(fk_yaml **out, const char *path)
{
    uint8_t *text = NULL;
    size_t n = 0;
    fk_yaml *y = NULL;
    yaml_parser_t parser;
    ferkd_status st = FERKD_OK;

    TRY(fk_file_read(&text, &n, path, FK_MAX_YAML_BYTES, false));
    if (!yaml_parser_initialize(&parser)) {
        free(text);
        return fk_fail(FERKD_MEMORY, "%s: no memory to read it", path);
    }
    yaml_parser_set_input_string(&parser, text, n);
    TRY_DONE(fk_calloc(&y, 1, sizeof *y, path));
    TRY_DONE(fk_strdup(&y->path, path));
    y->loaded = yaml_parser_load(&parser, &y->doc) != 0;
    if (!y->loaded) {
        st = fk_fail(FERKD_CORRUPT, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                     parser.problem ? parser.problem : "no YAML");
        goto done;
    }
    *out = y;
    y = NULL;
done:
    yaml_parser_delete(&parser);
    free(text);
    fk_yaml_free(&y);
    return st;
}

void fk_yaml_free(fk_yaml **y)
{
    if (!*y)
        return;
    if ((*y)->loaded)
        yaml_document_delete(&(*y)->doc);
    free((*y)->path);
    free(*y);
    *y = NULL;
}

const fk_yaml_node *fk_yaml_root(const fk_yaml *y)
{
    return yaml_document_get_root_node(doc_of(y));
}

const char *fk_yaml_text(const fk_yaml_node *n)
{
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

bool fk_yaml_is_map(const fk_yaml_node *n)
{
    return n && n->type == YAML_MAPPING_NODE;
}

bool fk_yaml_is_list(const fk_yaml_node *n)
{
    return n && n->type == YAML_SEQUENCE_NODE;
}

size_t fk_yaml_count(const fk_yaml_node *n)
{
    if (fk_yaml_is_map(n))
        return (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
    return fk_yaml_is_list(n) ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start)
                              : 0;
}

const fk_yaml_node *fk_yaml_item(const fk_yaml *y, const fk_yaml_node *list, size_t i)
{
    if (!fk_yaml_is_list(list) || i >= fk_yaml_count(list))
        return NULL;
    return yaml_document_get_node(doc_of(y), list->data.sequence.items.start[i]);
}

const char *fk_yaml_key(const fk_yaml *y, const fk_yaml_node *map, size_t i)
{
    if (!fk_yaml_is_map(map) || i >= fk_yaml_count(map))
        return NULL;
    return fk_yaml_text(yaml_document_get_node(doc_of(y), map->data.mapping.pairs.start[i].key));
}

const fk_yaml_node *fk_yaml_value(const fk_yaml *y, const fk_yaml_node *map, size_t i)
{
    if (!fk_yaml_is_map(map) || i >= fk_yaml_count(map))
        return NULL;
    return yaml_document_get_node(doc_of(y), map->data.mapping.pairs.start[i].value);
}

const fk_yaml_node *fk_yaml_find(const fk_yaml *y, const fk_yaml_node *map, const char *key)
{
    for (size_t i = 0; i < fk_yaml_count(map); i++) {
        const char *k = fk_yaml_key(y, map, i);
        if (k && strcmp(k, key) == 0)
            return fk_yaml_value(y, map, i);
    }
    return NULL;
}

ferkd_status fk_yaml_at(const fk_yaml *y, const fk_yaml_node *n, ferkd_status st)
{
    char text[400];

    (void)snprintf(text, sizeof text, "%.390s", ferkd_last_error());
    return fk_fail(st, "%s:%zu: %s", y->path, (n ? n->start_mark.line : 0) + 1, text);
}
