/* Calibration rules as data; include/ferkd/calibrate.h has the grammar. */
#ifndef FK_RULES_H
#define FK_RULES_H

#include "ferkd/calibrate.h"

#define FK_MAX_RULES      16
#define FK_MAX_CONDITIONS 4
#define FK_MAX_STOPS      8

typedef enum fk_scope { FK_OF_STORE, FK_OF_CLASS, FK_OF_IMAGE } fk_scope;

/* A threshold, which may move during training through `stops` values at equal distances. */
typedef struct fk_bound {
    bool quantile;
    fk_scope scope;
    int stops;
    double at[FK_MAX_STOPS]; /* quantiles: shares, 0..1 */
} fk_bound;

typedef struct fk_condition {
    enum { FK_LESS, FK_MORE, FK_WRONG, FK_RIGHT } kind;

    ferkd_measure measure;
    fk_bound bound;
} fk_condition;

typedef struct fk_rule {
    int n; /* conditions; 0: else */
    fk_condition when[FK_MAX_CONDITIONS];
    ferkd_action action;
    double amount;
    bool by_measure; /* the amount is a measure of the region */
    ferkd_measure amount_of;
} fk_rule;

typedef struct fk_rules {
    int n;
    fk_rule rule[FK_MAX_RULES];
    double temperature;
    bool fit;     /* the temperature is to be found */
    double focus; /* share of a soft label that is told among the data set's classes alone */
} fk_rules;

/* FERKD_USAGE: the sentence shows where the text goes wrong. */
FERKD_CHECK ferkd_status fk_rules_parse(fk_rules *out, const char *text);

/* A bound's value (number or share) at a moment of training, 0..1. */
double fk_bound_at(const fk_bound *b, double moment);

#endif
