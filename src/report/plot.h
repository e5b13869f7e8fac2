/* Plots as SVG within an HTML page: lines with bands, points, bars. */
#ifndef FK_PLOT_H
#define FK_PLOT_H

#include "base/compat.h"

typedef struct fk_point {
    double x, y;
    double low, high; /* a band around y; both equal y: none */
} fk_point;

typedef struct fk_series {
    const char *name; /* in the legend; NULL: not there */

    enum { FK_LINES, FK_POINTS, FK_BARS } kind;

    int color;    /* an index; series of one index look alike */
    double width; /* bars: from x to x + width */
    const fk_point *points;
    size_t n;
} fk_series;

typedef struct fk_plot {
    const char *title, *x_name, *y_name;
    const fk_series *series;
    size_t n;
    double x_low, x_high, y_low, y_high; /* all zero: as the points ask for */
    bool y_from_zero;
} fk_plot;

void fk_plot_write(const fk_plot *p, FILE *f);

/* The page around it: one file, nothing loaded from elsewhere, dark where the reader's screen is. */
void fk_page_begin(FILE *f, const char *title);
void fk_page_end(FILE *f);
/* Text with &, < and > escaped. */
void fk_page_text(FILE *f, const char *text);

#endif
