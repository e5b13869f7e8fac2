/* Protocol 2 (and what of 3 and 4 costs nothing), as a machine with a stack and a memo. */
#include "base/compat.h"

#include "exchange/pickle.h"

#include "base/bytes.h"
#include "base/mem.h"

#define MAX_VALUES 4000000u
#define MAX_ITEMS  20000000u /* in all containers together */

struct fk_pickle_file {
    fk_pickle **values; /* every value, for freeing */
    size_t n_values, cap_values;
    char **texts; /* those made here */
    size_t n_texts, cap_texts;
    size_t n_items;
    fk_pickle *root;
};

typedef struct machine {
    fk_pickle_file *f;
    const uint8_t *p, *end, *begin;
    const char *path;
    fk_pickle **stack; /* NULL: a mark */
    size_t n, cap;
    fk_pickle **memo;
    size_t cap_memo;
} machine;

static const struct {
    const char *module, *name;
    fk_pickle_global global;
    fk_element element;
} GLOBALS[] = {
    {"torch._utils", "_rebuild_tensor_v2", FK_G_REBUILD_TENSOR_V2, 0},
    {"torch._utils", "_rebuild_parameter", FK_G_REBUILD_PARAMETER, 0},
    {"collections", "OrderedDict", FK_G_ORDERED_DICT, 0},
    {"torch", "DoubleStorage", FK_G_STORAGE, FK_E_F64},
    {"torch", "FloatStorage", FK_G_STORAGE, FK_E_F32},
    {"torch", "HalfStorage", FK_G_STORAGE, FK_E_F16},
    {"torch", "BFloat16Storage", FK_G_STORAGE, FK_E_BF16},
    {"torch", "LongStorage", FK_G_STORAGE, FK_E_I64},
    {"torch", "IntStorage", FK_G_STORAGE, FK_E_I32},
    {"torch", "ShortStorage", FK_G_STORAGE, FK_E_I16},
    {"torch", "CharStorage", FK_G_STORAGE, FK_E_I8},
    {"torch", "ByteStorage", FK_G_STORAGE, FK_E_U8},
    {"torch", "BoolStorage", FK_G_STORAGE, FK_E_BOOL},
    {"numpy._core.multiarray", "_reconstruct", FK_G_RECONSTRUCT, 0},
    {"numpy.core.multiarray", "_reconstruct", FK_G_RECONSTRUCT, 0},
    {"numpy", "ndarray", FK_G_NDARRAY, 0},
    {"numpy", "dtype", FK_G_DTYPE, 0},
    {"_codecs", "encode", FK_G_ENCODE, 0},
    {"__builtin__", "bytes", FK_G_BYTES, 0},
    {"builtins", "bytes", FK_G_BYTES, 0},
};

size_t fk_element_bytes(fk_element e)
{
    static const size_t bytes[FK_E_COUNT] = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};

    return bytes[e];
}

bool fk_pickle_is_text(const fk_pickle *v, const char *text)
{
    return v && v->kind == FK_P_TEXT && v->n_text == strlen(text) &&
           memcmp(v->text, text, v->n_text) == 0;
}

static ferkd_status bad(const machine *m, const char *what)
{
    return fk_fail(FERKD_CORRUPT, "%s: byte %zu of the pickle: %s", m->path,
                   (size_t)(m->p - m->begin), what);
}

/* --- values and the stack ---------------------------------------------------------------------- */

static ferkd_status make(machine *m, fk_pickle_kind kind, fk_pickle **out)
{
    fk_pickle_file *f = m->f;

    if (f->n_values >= MAX_VALUES)
        return fk_fail(FERKD_LIMIT, "%s: more than %u values in the pickle", m->path, MAX_VALUES);
    TRY(fk_grow(&f->values, &f->cap_values, f->n_values + 1, sizeof(fk_pickle *)));
    TRY(fk_calloc(out, 1, sizeof **out, m->path));
    (*out)->kind = kind;
    f->values[f->n_values++] = *out;
    return FERKD_OK;
}

/* A value that shares the text of another. */
static ferkd_status make_text(machine *m, fk_pickle_kind kind, const fk_pickle *from,
                              fk_pickle **out)
{
    fk_pickle *v = NULL;

    TRY(make(m, kind, &v));
    v->text = from->text;
    v->n_text = from->n_text;
    *out = v;
    return FERKD_OK;
}

static ferkd_status push(machine *m, fk_pickle *v)
{
    if (m->n >= MAX_VALUES)
        return fk_fail(FERKD_LIMIT, "%s: a pickle too deep", m->path);
    TRY(fk_grow(&m->stack, &m->cap, m->n + 1, sizeof(fk_pickle *)));
    m->stack[m->n++] = v;
    return FERKD_OK;
}

static ferkd_status push_new(machine *m, fk_pickle_kind kind, fk_pickle **out)
{
    TRY(make(m, kind, out));
    return push(m, *out);
}

static ferkd_status push_int(machine *m, fk_pickle_kind kind, int64_t i)
{
    fk_pickle *v;

    TRY(push_new(m, kind, &v));
    v->i = i;
    return FERKD_OK;
}

static ferkd_status push_text(machine *m, fk_pickle_kind kind, const uint8_t *text, size_t n)
{
    fk_pickle *v;

    TRY(push_new(m, kind, &v));
    v->text = (const char *)text;
    v->n_text = n;
    return FERKD_OK;
}

static ferkd_status pop(machine *m, fk_pickle **out)
{
    if (m->n == 0 || !m->stack[m->n - 1])
        return bad(m, "an empty stack");
    *out = m->stack[--m->n];
    return FERKD_OK;
}

static ferkd_status append(machine *m, fk_pickle *to, fk_pickle *v)
{
    if (++m->f->n_items > MAX_ITEMS)
        return fk_fail(FERKD_LIMIT, "%s: more than %u items in the pickle", m->path, MAX_ITEMS);
    TRY(fk_grow(&to->items, &to->cap, to->n + 1, sizeof(fk_pickle *)));
    to->items[to->n++] = v;
    return FERKD_OK;
}

/* How many values stand above the last mark. */
static ferkd_status above_mark(const machine *m, size_t *count)
{
    size_t at = m->n;

    *count = 0;
    while (at > 0 && m->stack[at - 1])
        at--;
    if (at == 0)
        return bad(m, "no mark");
    *count = m->n - at;
    return FERKD_OK;
}

/* The top `count` values become items of a new container; a mark below them goes where there is one. */
static ferkd_status collect(machine *m, fk_pickle_kind kind, size_t count, bool marked)
{
    fk_pickle *v;

    if (m->n < count + marked)
        return bad(m, "an empty stack");
    TRY(make(m, kind, &v));
    for (size_t i = 0; i < count; i++) {
        fk_pickle *item = m->stack[m->n - count + i];
        if (!item)
            return bad(m, "a mark within a tuple");
        TRY(append(m, v, item));
    }
    m->n -= count + marked;
    return push(m, v);
}

/* The values above the mark are added to the container below it. */
static ferkd_status extend(machine *m, fk_pickle_kind kind)
{
    size_t count;

    TRY(above_mark(m, &count));
    if (m->n < count + 2 || !m->stack[m->n - count - 2] ||
        m->stack[m->n - count - 2]->kind != kind || (kind == FK_P_DICT && count % 2))
        return bad(m, "items for something else");
    fk_pickle *to = m->stack[m->n - count - 2];
    for (size_t i = 0; i < count; i++)
        TRY(append(m, to, m->stack[m->n - count + i]));
    m->n -= count + 1;
    return FERKD_OK;
}

static ferkd_status set_item(machine *m)
{
    fk_pickle *value = NULL;
    fk_pickle *key = NULL;

    TRY(pop(m, &value));
    TRY(pop(m, &key));
    if (m->n == 0 || !m->stack[m->n - 1] || m->stack[m->n - 1]->kind != FK_P_DICT)
        return bad(m, "an item for something else");
    TRY(append(m, m->stack[m->n - 1], key));
    return append(m, m->stack[m->n - 1], value);
}

static ferkd_status append_one(machine *m)
{
    fk_pickle *value = NULL;

    TRY(pop(m, &value));
    if (m->n == 0 || !m->stack[m->n - 1] || m->stack[m->n - 1]->kind != FK_P_LIST)
        return bad(m, "an element for something else");
    return append(m, m->stack[m->n - 1], value);
}

/* --- globals ----------------------------------------------------------------------------------- */

static bool line(machine *m, const uint8_t **text, size_t *n)
{
    const uint8_t *end = memchr(m->p, '\n', (size_t)(m->end - m->p));

    if (!end)
        return false;
    *text = m->p;
    *n = (size_t)(end - m->p);
    m->p = end + 1;
    return true;
}

static ferkd_status push_global(machine *m, const uint8_t *module, size_t n_module,
                                const uint8_t *name, size_t n_name)
{
    for (size_t i = 0; i < FK_COUNT(GLOBALS); i++) {
        fk_pickle *v;
        if (strlen(GLOBALS[i].module) != n_module || strlen(GLOBALS[i].name) != n_name ||
            memcmp(GLOBALS[i].module, module, n_module) != 0 ||
            memcmp(GLOBALS[i].name, name, n_name) != 0)
            continue;
        TRY(push_new(m, FK_P_GLOBAL, &v));
        v->global = GLOBALS[i].global;
        v->i = GLOBALS[i].element;
        return FERKD_OK;
    }
    return fk_fail(FERKD_UNSUPPORTED,
                   "%s: it asks for \"%.*s.%.*s\", which is not run; save a state_dict: "
                   "torch.save(model.state_dict(), path)",
                   m->path, (int)fk_min_size(n_module, 60), (const char *)module,
                   (int)fk_min_size(n_name, 60), (const char *)name);
}

/* Latin-1: each code point of the text is a byte. */
static ferkd_status encode(machine *m, const fk_pickle *text, fk_pickle **out)
{
    fk_pickle_file *f = m->f;
    char *bytes = NULL;
    size_t n = 0;

    TRY(fk_grow(&f->texts, &f->cap_texts, f->n_texts + 1, sizeof(char *)));
    bytes = calloc(text->n_text + 1, 1);
    if (!bytes)
        return fk_fail(FERKD_MEMORY, "%s: no memory for its bytes", m->path);
    f->texts[f->n_texts++] = bytes;
    for (size_t i = 0; i < text->n_text; i++) {
        uint8_t c = (uint8_t)text->text[i];
        if (c >= 0x80) {
            if ((c != 0xc2 && c != 0xc3) || i + 1 == text->n_text)
                return bad(m, "bytes that are no latin-1");
            c = (uint8_t)((c & 3) << 6 | ((uint8_t)text->text[++i] & 0x3f));
        }
        bytes[n++] = (char)c;
    }
    const fk_pickle made = {.text = bytes, .n_text = n};
    return make_text(m, FK_P_BYTES, &made, out);
}

static bool is_kind(const fk_pickle *v, fk_pickle_kind kind)
{
    return v && v->kind == kind;
}

static ferkd_status rebuild_tensor(machine *m, const fk_pickle *args, fk_pickle **out)
{
    if (args->n < 4 || !is_kind(args->items[0], FK_P_STORAGE) ||
        !is_kind(args->items[1], FK_P_INT) || !is_kind(args->items[2], FK_P_TUPLE) ||
        !is_kind(args->items[3], FK_P_TUPLE) || args->items[2]->n != args->items[3]->n)
        return bad(m, "a tensor that makes no sense");
    TRY(make(m, FK_P_TENSOR, out));
    for (size_t i = 0; i < 4; i++)
        TRY(append(m, *out, args->items[i]));
    return FERKD_OK;
}

static ferkd_status call(machine *m, const fk_pickle *what, const fk_pickle *args, fk_pickle **out)
{
    switch (what->global) {
    case FK_G_REBUILD_TENSOR_V2:
        return rebuild_tensor(m, args, out);
    case FK_G_REBUILD_PARAMETER:
        if (args->n < 1 || !is_kind(args->items[0], FK_P_TENSOR))
            return bad(m, "a parameter that is no tensor");
        *out = args->items[0];
        return FERKD_OK;
    case FK_G_ORDERED_DICT:
        if (args->n)
            return bad(m, "an OrderedDict of something");
        return make(m, FK_P_DICT, out);
    case FK_G_RECONSTRUCT:
        return make(m, FK_P_ARRAY, out);
    case FK_G_DTYPE:
        if (args->n < 1 || !is_kind(args->items[0], FK_P_TEXT))
            return bad(m, "a dtype that makes no sense");
        return make_text(m, FK_P_DTYPE, args->items[0], out);
    case FK_G_ENCODE:
        if (args->n != 2 || !is_kind(args->items[0], FK_P_TEXT) ||
            !fk_pickle_is_text(args->items[1], "latin1"))
            return bad(m, "bytes in another encoding");
        return encode(m, args->items[0], out);
    case FK_G_BYTES:
        return args->n ? bad(m, "bytes of something") : make(m, FK_P_BYTES, out);
    case FK_G_STORAGE:
    case FK_G_NDARRAY:
    case FK_G_COUNT:
        break;
    }
    return bad(m, "a call of what is not called");
}

static ferkd_status reduce(machine *m)
{
    fk_pickle *args = NULL;
    fk_pickle *what = NULL;
    fk_pickle *result = NULL;

    TRY(pop(m, &args));
    TRY(pop(m, &what));
    if (args->kind != FK_P_TUPLE || what->kind != FK_P_GLOBAL)
        return bad(m, "a call of what is no function");
    TRY(call(m, what, args, &result));
    return push(m, result);
}

/* State for what was made: an array gets its content; of dtypes and dictionaries it is not needed. */
static ferkd_status build(machine *m)
{
    fk_pickle *state = NULL;

    TRY(pop(m, &state));
    fk_pickle *to = m->n ? m->stack[m->n - 1] : NULL;
    if (is_kind(to, FK_P_DICT))
        return FERKD_OK;
    if (is_kind(to, FK_P_DTYPE))
        return is_kind(state, FK_P_TUPLE) && state->n > 1 &&
                       !fk_pickle_is_text(state->items[1], ">")
                   ? FERKD_OK
                   : bad(m, "a dtype of other byte order");
    if (!is_kind(to, FK_P_ARRAY) || to->n || !is_kind(state, FK_P_TUPLE) || state->n != 5 ||
        !is_kind(state->items[1], FK_P_TUPLE) || !is_kind(state->items[2], FK_P_DTYPE) ||
        !is_kind(state->items[3], FK_P_BOOL) || !is_kind(state->items[4], FK_P_BYTES))
        return bad(m, "state for something else");
    for (size_t i = 1; i < 5; i++)
        TRY(append(m, to, state->items[i]));
    return FERKD_OK;
}

static ferkd_status persistent(machine *m)
{
    fk_pickle *id = NULL;
    fk_pickle *v = NULL;

    TRY(pop(m, &id));
    if (!is_kind(id, FK_P_TUPLE) || id->n != 5 || !fk_pickle_is_text(id->items[0], "storage") ||
        !is_kind(id->items[1], FK_P_GLOBAL) || id->items[1]->global != FK_G_STORAGE ||
        !is_kind(id->items[2], FK_P_TEXT) || !is_kind(id->items[4], FK_P_INT))
        return bad(m, "a storage that makes no sense");
    TRY(push_new(m, FK_P_STORAGE, &v));
    for (size_t i = 0; i < 5; i++)
        TRY(append(m, v, id->items[i]));
    return FERKD_OK;
}

/* --- opcodes ----------------------------------------------------------------------------------- */

static ferkd_status take(machine *m, size_t n, const uint8_t **out)
{
    *out = m->p;
    if ((size_t)(m->end - m->p) < n)
        return bad(m, "cut short");
    m->p += n;
    return FERKD_OK;
}

static ferkd_status remember(machine *m, uint32_t at)
{
    if (m->n == 0 || !m->stack[m->n - 1] || at >= MAX_VALUES)
        return bad(m, "nothing to remember");
    size_t before = m->cap_memo;
    TRY(fk_grow(&m->memo, &m->cap_memo, (size_t)at + 1, sizeof(fk_pickle *)));
    for (size_t i = before; i < m->cap_memo; i++)
        m->memo[i] = NULL;
    m->memo[at] = m->stack[m->n - 1];
    return FERKD_OK;
}

static ferkd_status recall(machine *m, uint32_t at)
{
    if (at >= m->cap_memo || !m->memo[at])
        return bad(m, "nothing was remembered there");
    return push(m, m->memo[at]);
}

/* A long of up to eight bytes, little-endian, two's complement. */
static ferkd_status push_long(machine *m)
{
    const uint8_t *b;
    uint64_t v = 0;

    TRY(take(m, 1, &b));
    size_t n = b[0];
    if (n > 8)
        return bad(m, "a number of more than 64 bits");
    TRY(take(m, n, &b));
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)b[i] << (8 * i);
    if (n && n < 8 && b[n - 1] & 0x80)
        v |= ~0ull << (8 * n);
    return push_int(m, FK_P_INT, (int64_t)v);
}

static ferkd_status push_float(machine *m)
{
    const uint8_t *b;
    uint64_t bits = 0;
    fk_pickle *v = NULL;

    TRY(take(m, 8, &b));
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | b[i];
    TRY(push_new(m, FK_P_FLOAT, &v));
    memcpy(&v->f, &bits, sizeof bits);
    return FERKD_OK;
}

static ferkd_status push_sized(machine *m, fk_pickle_kind kind, size_t n)
{
    const uint8_t *b;

    TRY(take(m, n, &b));
    return push_text(m, kind, b, n);
}

static ferkd_status global_lines(machine *m)
{
    const uint8_t *module;
    const uint8_t *name;
    size_t n_module;
    size_t n_name;

    if (!line(m, &module, &n_module) || !line(m, &name, &n_name))
        return bad(m, "cut short");
    return push_global(m, module, n_module, name, n_name);
}

static ferkd_status tuple_to_mark(machine *m, fk_pickle_kind kind)
{
    size_t count;

    TRY(above_mark(m, &count));
    return collect(m, kind, count, true);
}

/* Opcodes with an argument of bytes. *known: was it one? */
static ferkd_status step_with_argument(machine *m, uint8_t op, bool *known)
{
    const uint8_t *b;

    *known = true;
    switch (op) {
    case 0x80: /* protocol */
        TRY(take(m, 1, &b));
        return b[0] <= 4 ? FERKD_OK
                         : fk_fail(FERKD_UNSUPPORTED, "%s: pickle protocol %u", m->path, b[0]);
    case 'X':
        TRY(take(m, 4, &b));
        return push_sized(m, FK_P_TEXT, fk_u32le(b));
    case 'B':
        TRY(take(m, 4, &b));
        return push_sized(m, FK_P_BYTES, fk_u32le(b));
    case 'C':
        TRY(take(m, 1, &b));
        return push_sized(m, FK_P_BYTES, b[0]);
    case 'K':
        TRY(take(m, 1, &b));
        return push_int(m, FK_P_INT, b[0]);
    case 'M':
        TRY(take(m, 2, &b));
        return push_int(m, FK_P_INT, fk_u16le(b));
    case 'J':
        TRY(take(m, 4, &b));
        return push_int(m, FK_P_INT, (int32_t)fk_u32le(b));
    case 'q':
        TRY(take(m, 1, &b));
        return remember(m, b[0]);
    case 'r':
        TRY(take(m, 4, &b));
        return remember(m, fk_u32le(b));
    case 'h':
        TRY(take(m, 1, &b));
        return recall(m, b[0]);
    case 'j':
        TRY(take(m, 4, &b));
        return recall(m, fk_u32le(b));
    default:
        *known = false;
        return FERKD_OK;
    }
}

static ferkd_status step(machine *m, uint8_t op)
{
    fk_pickle *v = NULL;
    bool known;

    TRY(step_with_argument(m, op, &known));
    if (known)
        return FERKD_OK;
    switch (op) {
    case 0x8a:
        return push_long(m);
    case 'G':
        return push_float(m);
    case 'c':
        return global_lines(m);
    case ']':
        return push_new(m, FK_P_LIST, &v);
    case ')':
        return push_new(m, FK_P_TUPLE, &v);
    case '}':
        return push_new(m, FK_P_DICT, &v);
    case 'N':
        return push_new(m, FK_P_NONE, &v);
    case 0x88:
    case 0x89:
        return push_int(m, FK_P_BOOL, op == 0x88);
    case '(':
        return push(m, NULL);
    case 't':
        return tuple_to_mark(m, FK_P_TUPLE);
    case 'l':
        return tuple_to_mark(m, FK_P_LIST);
    case 0x85:
    case 0x86:
    case 0x87:
        return collect(m, FK_P_TUPLE, op - 0x84u, false);
    case 'e':
        return extend(m, FK_P_LIST);
    case 'u':
        return extend(m, FK_P_DICT);
    case 'a':
        return append_one(m);
    case 's':
        return set_item(m);
    case 'R':
        return reduce(m);
    case 'b':
        return build(m);
    case 'Q':
        return persistent(m);
    case '0':
        return pop(m, &v);
    case '2':
        TRY(pop(m, &v));
        TRY(push(m, v));
        return push(m, v);
    default:
        return fk_fail(FERKD_UNSUPPORTED, "%s: byte %zu of the pickle: opcode 0x%02x is not read",
                       m->path, (size_t)(m->p - m->begin) - 1, op);
    }
}

static ferkd_status run(machine *m)
{
    for (;;) {
        const uint8_t *op;
        TRY(take(m, 1, &op));
        if (*op == '.')
            return pop(m, &m->f->root);
        TRY(step(m, *op));
    }
}

ferkd_status fk_pickle_read(fk_pickle_file **out, const uint8_t *bytes, size_t n, const char *path)
{
    machine m = {.p = bytes, .begin = bytes, .end = bytes + n, .path = path};
    ferkd_status st = FERKD_OK;

    TRY(fk_calloc(&m.f, 1, sizeof *m.f, path));
    TRY_DONE(run(&m));
    *out = m.f;
    m.f = NULL;
done:
    free(m.stack);
    free(m.memo);
    fk_pickle_free(&m.f);
    return st;
}

void fk_pickle_free(fk_pickle_file **file)
{
    fk_pickle_file *f = *file;

    if (!f)
        return;
    for (size_t i = 0; i < f->n_values; i++) {
        free(f->values[i]->items);
        free(f->values[i]);
    }
    for (size_t i = 0; i < f->n_texts; i++)
        free(f->texts[i]);
    free(f->values);
    free(f->texts);
    free(f);
    *file = NULL;
}

const fk_pickle *fk_pickle_root(const fk_pickle_file *f)
{
    return f->root;
}
