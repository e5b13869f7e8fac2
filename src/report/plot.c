/* Axes with round numbers, a legend, and colours that the colour-blind tell apart (Okabe and Ito). */
#include "base/compat.h"

#include "report/plot.h"

#define WIDTH  640
#define HEIGHT 340
#define LEFT   56
#define RIGHT  16
#define TOP    34
#define BOTTOM 48

static const char *const COLORS[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                     "#e69f00", "#56b4e9", "#8a6d1c", "#7f7f7f"};

typedef struct frame {
    double x_low, x_high, y_low, y_high;
} frame;

static double x_of(const frame *a, double x)
{
    return LEFT + (x - a->x_low) / (a->x_high - a->x_low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const frame *a, double y)
{
    return HEIGHT - BOTTOM - (y - a->y_low) / (a->y_high - a->y_low) * (HEIGHT - TOP - BOTTOM);
}

/* --- axes -------------------------------------------------------------------------------------- */

static void stretch(double *low, double *high, double v)
{
    if (!isfinite(v))
        return;
    *low = fmin(*low, v);
    *high = fmax(*high, v);
}

static frame frame_of(const fk_plot *p)
{
    const double far = (double)INFINITY;
    frame a = {far, -far, p->y_from_zero ? 0.0 : far, -far};

    for (size_t s = 0; s < p->n; s++) {
        for (size_t i = 0; i < p->series[s].n; i++) {
            const fk_point *at = &p->series[s].points[i];
            double right = at->x + (p->series[s].kind == FK_BARS ? p->series[s].width : 0.0);
            stretch(&a.x_low, &a.x_high, at->x);
            stretch(&a.x_low, &a.x_high, right);
            stretch(&a.y_low, &a.y_high, at->low);
            stretch(&a.y_low, &a.y_high, at->high);
        }
    }
    if (p->x_low != 0.0 || p->x_high != 0.0) {
        a.x_low = p->x_low;
        a.x_high = p->x_high;
    }
    if (p->y_low != 0.0 || p->y_high != 0.0) {
        a.y_low = p->y_low;
        a.y_high = p->y_high;
    }
    if (!(a.x_high > a.x_low)) {
        a.x_low = isfinite(a.x_low) ? a.x_low - 1.0 : 0.0;
        a.x_high = a.x_low + 2.0;
    }
    if (!(a.y_high > a.y_low)) {
        a.y_low = isfinite(a.y_low) ? a.y_low - 1.0 : 0.0;
        a.y_high = a.y_low + 2.0;
    }
    double room = 0.04 * (a.y_high - a.y_low);
    if (!p->y_from_zero && p->y_low == 0.0 && p->y_high == 0.0)
        a.y_low -= room;
    if (p->y_high == 0.0)
        a.y_high += room;
    return a;
}

/* 1, 2 or 5 times a power of ten: at most eight of them fit. */
static double step_of(double span)
{
    double unit = pow(10.0, floor(log10(span / 8.0)));
    double steps[] = {1.0, 2.0, 5.0, 10.0};

    for (size_t i = 0; i < FK_COUNT(steps); i++) {
        if (span / (steps[i] * unit) <= 8.0)
            return steps[i] * unit;
    }
    return 10.0 * unit;
}

static void write_axes(const fk_plot *p, const frame *a, FILE *f)
{
    double step = step_of(a->y_high - a->y_low);

    for (double v = ceil(a->y_low / step) * step; v <= a->y_high + 1e-9 * step; v += step) {
        (void)fprintf(f, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                      WIDTH - RIGHT, y_of(a, v), y_of(a, v));
        (void)fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 6,
                      y_of(a, v) + 4.0, fabs(v) < 1e-9 * step ? 0.0 : v);
    }
    step = step_of(a->x_high - a->x_low);
    for (double v = ceil(a->x_low / step - 1e-9) * step; v <= a->x_high + 1e-9 * step; v += step) {
        (void)fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                      x_of(a, v), HEIGHT - BOTTOM + 18, fabs(v) < 1e-9 * step ? 0.0 : v);
    }
    (void)fprintf(f,
                  "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>"
                  "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">",
                  LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - 8);
    fk_page_text(f, p->x_name);
    (void)fprintf(f, "</text><text class=\"name\" x=\"%d\" y=\"%d\">", 4, TOP - 10);
    fk_page_text(f, p->y_name);
    (void)fputs("</text>\n", f);
}

/* --- series ------------------------------------------------------------------------------------ */

static void write_band(const frame *a, const fk_series *s, const char *color, FILE *f)
{
    (void)fprintf(f, "<path fill=\"%s\" fill-opacity=\"0.15\" d=\"", color);
    for (size_t i = 0; i < s->n; i++)
        (void)fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', x_of(a, s->points[i].x),
                      y_of(a, s->points[i].high));
    for (size_t i = s->n; i > 0; i--)
        (void)fprintf(f, "L%.1f %.1f", x_of(a, s->points[i - 1].x), y_of(a, s->points[i - 1].low));
    (void)fputs("Z\"/>\n", f);
}

static void write_series(const frame *a, const fk_series *s, FILE *f)
{
    const char *color = COLORS[(size_t)s->color % FK_COUNT(COLORS)];
    bool band = false;

    for (size_t i = 0; i < s->n; i++)
        band = band || s->points[i].high > s->points[i].low;
    if (s->kind == FK_LINES && band)
        write_band(a, s, color, f);
    if (s->kind == FK_LINES) {
        (void)fprintf(f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", color);
        for (size_t i = 0; i < s->n; i++)
            (void)fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', x_of(a, s->points[i].x),
                          y_of(a, s->points[i].y));
        (void)fputs("\"/>\n", f);
    }
    for (size_t i = 0; i < s->n; i++) {
        const fk_point *p = &s->points[i];
        double x = x_of(a, p->x);
        if (s->kind == FK_POINTS && p->high > p->low)
            (void)fprintf(f,
                          "<line stroke=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
                          "y2=\"%.1f\"/>\n",
                          color, x, x, y_of(a, p->low), y_of(a, p->high));
        if (s->kind == FK_POINTS || (s->kind == FK_LINES && s->n < 40))
            (void)fprintf(f,
                          "<circle fill=\"%s\" fill-opacity=\"%s\" cx=\"%.1f\" cy=\"%.1f\" "
                          "r=\"%s\"/>\n",
                          color, s->n > 100 ? "0.5" : "1", x, y_of(a, p->y),
                          s->n > 100 ? "2" : "3");
        if (s->kind == FK_BARS)
            (void)fprintf(f,
                          "<rect fill=\"%s\" x=\"%.2f\" width=\"%.2f\" y=\"%.1f\" "
                          "height=\"%.1f\"/>\n",
                          color, x, fmax(x_of(a, p->x + s->width) - x - 0.5, 0.5), y_of(a, p->y),
                          y_of(a, p->low) - y_of(a, p->y));
    }
}

static void write_legend(const fk_plot *p, FILE *f)
{
    (void)fputs("<figcaption>", f);
    for (size_t s = 0; s < p->n; s++) {
        if (!p->series[s].name)
            continue;
        (void)fprintf(f, "<span><i style=\"background:%s\"></i>",
                      COLORS[(size_t)p->series[s].color % FK_COUNT(COLORS)]);
        fk_page_text(f, p->series[s].name);
        (void)fputs("</span> ", f);
    }
    (void)fputs("</figcaption>", f);
}

void fk_plot_write(const fk_plot *p, FILE *f)
{
    frame a = frame_of(p);

    (void)fputs("<figure><h3>", f);
    fk_page_text(f, p->title);
    (void)fprintf(f, "</h3><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    fk_page_text(f, p->title);
    (void)fputs("\">\n", f);
    write_axes(p, &a, f);
    for (size_t s = 0; s < p->n; s++)
        write_series(&a, &p->series[s], f);
    (void)fputs("</svg>\n", f);
    write_legend(p, f);
    (void)fputs("</figure>\n", f);
}

/* --- the page ---------------------------------------------------------------------------------- */

void fk_page_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            (void)fputs("&amp;", f);
        else if (*text == '<')
            (void)fputs("&lt;", f);
        else if (*text == '>')
            (void)fputs("&gt;", f);
        else if (*text == '"')
            (void)fputs("&quot;", f);
        else
            (void)fputc(*text, f);
    }
}

void fk_page_begin(FILE *f, const char *title)
{
    (void)fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                f);
    fk_page_text(f, title);
    (void)fputs(
        "</title>\n<style>\n"
        ":root{color-scheme:light dark;--fg:#1b1b1b;--dim:#666;--line:#ddd;--bg:#fff}\n"
        "@media(prefers-color-scheme:dark){:root{--fg:#e8e8e8;--dim:#a0a0a0;--line:#3a3a3a;"
        "--bg:#161616}}\n"
        "body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);"
        "max-width:1360px;margin:2rem auto;padding:0 1rem}\n"
        "h1{font-size:1.6rem;margin:0 0 .3rem}h2{margin:2rem 0 .5rem;font-size:1.2rem}"
        "h3{margin:0 0 .2rem;font-size:.95rem;font-weight:600}\n"
        "p{max-width:70ch}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
        "th,td{padding:.25rem .8rem;border-bottom:1px solid var(--line);text-align:right}"
        "th:first-child,td:first-child{text-align:left}th{color:var(--dim);font-weight:600}\n"
        "td.better{font-weight:700}code,pre{font:13px ui-monospace,monospace}"
        "pre{white-space:pre-wrap;overflow-wrap:anywhere}\n"
        ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1.5rem}\n"
        "figure{margin:0}figcaption{font-size:13px;color:var(--dim)}"
        "figcaption span{margin-right:1em;white-space:nowrap}"
        "figcaption i{display:inline-block;width:.8em;height:.8em;border-radius:2px;"
        "margin-right:.35em;vertical-align:-.05em}\n"
        "svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--dim)}"
        "svg .name{fill:var(--fg)}svg .grid{stroke:var(--line)}svg .axis{stroke:var(--dim)}\n"
        "details summary{cursor:pointer;color:var(--dim)}\n"
        "</style></head><body>\n",
        f);
}

void fk_page_end(FILE *f)
{
    (void)fputs("</body></html>\n", f);
}
