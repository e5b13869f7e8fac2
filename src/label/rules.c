/* A reader of calibration rules: words, numbers and five signs. */
#include "base/compat.h"

#include "label/rules.h"

typedef struct reader {
    const char *text, *p;
} reader;

static ferkd_status fault(const reader *r, const char *wanted)
{
    return fk_fail(
        FERKD_USAGE,
        "calibration rules: %s is needed at \"%.24s\"; \"max < 5%%: discard; max < 10%%: "
        "smooth 0.1; else: keep\" is an example",
        wanted, *r->p ? r->p : "(the end)");
}

static void skip_space(reader *r)
{
    r->p += strspn(r->p, " \t\r\n");
}

static bool take(reader *r, const char *sign)
{
    size_t n = strlen(sign);

    skip_space(r);
    if (strncmp(r->p, sign, n) != 0)
        return false;
    r->p += n;
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

static bool take_word(reader *r, const char *word)
{
    size_t n = strlen(word);

    skip_space(r);
    if (strncmp(r->p, word, n) != 0 || is_letter(r->p[n]))
        return false;
    r->p += n;
    return true;
}

static bool take_measure(reader *r, ferkd_measure *m)
{
    for (ferkd_measure i = 0; i < FERKD_MEASURES; i++) {
        if (take_word(r, ferkd_measure_name(i))) {
            *m = i;
            return true;
        }
    }
    return false;
}

/* "0.25", and not the first dot of "1..2" as a part of it. */
static bool take_number(reader *r, double *out)
{
    char digits[32];
    size_t n = 0;

    skip_space(r);
    while (n + 1 < sizeof digits &&
           ((r->p[n] >= '0' && r->p[n] <= '9') || (r->p[n] == '.' && r->p[n + 1] != '.'))) {
        digits[n] = r->p[n];
        n++;
    }
    digits[n] = '\0';
    char *end;
    *out = strtod(digits, &end);
    if (n == 0 || *end)
        return false;
    r->p += n;
    return true;
}

/* --- a condition ------------------------------------------------------------------------------- */

static ferkd_status read_stop(reader *r, fk_bound *b)
{
    double v;

    if (b->stops == FK_MAX_STOPS)
        return fault(r, "at most 8 values between \"..\"; an end");
    if (!take_number(r, &v))
        return fault(r, "a threshold (0.15, or the quantile 5%)");
    bool percent = take(r, "%");
    if (b->stops && percent != b->quantile)
        return fault(r, "the same kind of value on both sides of \"..\"");
    if (percent && v > 100.0)
        return fault(r, "a quantile of at most 100%");
    b->quantile = percent;
    b->at[b->stops++] = percent ? v / 100.0 : v;
    return FERKD_OK;
}

static ferkd_status read_bound(reader *r, fk_bound *b)
{
    do
        TRY(read_stop(r, b));
    while (take(r, ".."));
    if (!take_word(r, "of"))
        return FERKD_OK;
    if (!b->quantile)
        return fault(r, "a quantile (5%) before \"of\"; not a number");
    if (take_word(r, "class"))
        b->scope = FK_OF_CLASS;
    else if (take_word(r, "image"))
        b->scope = FK_OF_IMAGE;
    else if (!take_word(r, "store"))
        return fault(r, "\"store\", \"class\" or \"image\"");
    return FERKD_OK;
}

static ferkd_status read_condition(reader *r, fk_rule *rule)
{
    if (rule->n == FK_MAX_CONDITIONS)
        return fault(r, "\":\" after at most four conditions");
    fk_condition *c = &rule->when[rule->n++];
    if (take_word(r, "wrong")) {
        c->kind = FK_WRONG;
        return FERKD_OK;
    }
    if (take_word(r, "right")) {
        c->kind = FK_RIGHT;
        return FERKD_OK;
    }
    if (!take_measure(r, &c->measure))
        return fault(r, "max, top, inside, truth, entropy, margin, area, wrong, right or else");
    if (take(r, "<"))
        c->kind = FK_LESS;
    else if (take(r, ">"))
        c->kind = FK_MORE;
    else
        return fault(r, "\"<\" or \">\"");
    return read_bound(r, &c->bound);
}

/* --- an action --------------------------------------------------------------------------------- */

static ferkd_status read_amount(reader *r, fk_rule *rule, bool needed, bool measure_allowed)
{
    if (take_number(r, &rule->amount)) {
        if (rule->amount > 1.0)
            return fault(r, "an amount of at most 1");
        return FERKD_OK;
    }
    if (measure_allowed && take_measure(r, &rule->amount_of)) {
        rule->by_measure = true;
        if (rule->amount_of == FERKD_ENTROPY)
            return fault(r, "a measure from 0 to 1 (not entropy)");
        return FERKD_OK;
    }
    return needed ? fault(r, measure_allowed ? "a number from 0 to 1, or a measure"
                                             : "a number from 0 to 1")
                  : FERKD_OK;
}

static ferkd_status read_action(reader *r, fk_rule *rule)
{
    static const struct {
        const char *word;
        ferkd_action action;
        bool takes, needs, measure;
    } actions[] = {
        {"discard", FERKD_DISCARD, false, false, false},
        {"keep", FERKD_KEEP, false, false, false},
        {"hard", FERKD_SMOOTH, false, false, false},
        {"smooth", FERKD_SMOOTH, true, true, false},
        {"teacher", FERKD_TEACHER, true, false, false},
        {"mix", FERKD_MIX, true, true, true},
        {"blur", FERKD_BLUR, true, true, true},
    };

    for (size_t i = 0; i < FK_COUNT(actions); i++) {
        if (!take_word(r, actions[i].word))
            continue;
        rule->action = actions[i].action;
        return actions[i].takes ? read_amount(r, rule, actions[i].needs, actions[i].measure)
                                : FERKD_OK;
    }
    return fault(r, "discard, keep, hard, smooth, teacher, mix or blur");
}

/* --- rules ------------------------------------------------------------------------------------- */

static ferkd_status read_temperature(reader *r, fk_rules *out)
{
    out->fit = take_word(r, "fit");
    if (!out->fit &&
        (!take_number(r, &out->temperature) || out->temperature < 0.05 || out->temperature > 100.0))
        return fault(r, "a temperature from 0.05 to 100, or \"fit\",");
    return FERKD_OK;
}

static ferkd_status read_focus(reader *r, fk_rules *out)
{
    if (!take_number(r, &out->focus) || out->focus > 1.0)
        return fault(r, "a share from 0 to 1");
    return FERKD_OK;
}

static ferkd_status read_rule(reader *r, fk_rules *out)
{
    if (take_word(r, "temperature"))
        return read_temperature(r, out);
    if (take_word(r, "focus"))
        return read_focus(r, out);
    if (out->n == FK_MAX_RULES)
        return fault(r, "an end after 16 rules");
    fk_rule *rule = &out->rule[out->n++];
    if (!take_word(r, "else")) {
        do
            TRY(read_condition(r, rule));
        while (take_word(r, "and"));
    }
    if (!take(r, ":"))
        return fault(r, rule->n ? "\"and\" or \":\"" : "\":\"");
    return read_action(r, rule);
}

ferkd_status fk_rules_parse(fk_rules *out, const char *text)
{
    reader r = {text, text};

    *out = (fk_rules){.temperature = 1.0};
    do {
        skip_space(&r);
        if (*r.p == '\0' && r.p != text)
            break; /* a last ";" */
        TRY(read_rule(&r, out));
    } while (take(&r, ";"));
    skip_space(&r);
    return *r.p ? fault(&r, "\";\" or the end") : FERKD_OK;
}

double fk_bound_at(const fk_bound *b, double moment)
{
    double x = fmin(fmax(moment, 0.0), 1.0) * (b->stops - 1);
    int i = fk_min_int((int)x, b->stops - 1);
    double f = x - i;

    return f > 0.0 ? b->at[i] + (b->at[i + 1] - b->at[i]) * f : b->at[i];
}
