/* Bicubic, a = -0.5, wider where the image gets smaller; rows, then columns. */
#include "base/compat.h"

#include "train/positions.h"

#include "base/file.h"
#include "base/mem.h"

static size_t root_of(size_t n)
{
    size_t r = (size_t)lrint(sqrt((double)n));

    return r * r == n ? r : 0;
}

/* Are both, but for `extra` tokens, square images of tokens? */
static bool is_grid(size_t tokens, size_t extra, size_t *side)
{
    *side = tokens > extra ? root_of(tokens - extra) : 0;
    return *side > 0;
}

bool fk_positions_fit(const fk_param *p, size_t there, fk_position_fit *fit)
{
    bool channels_first = p->shape.n == 4;
    size_t planes = channels_first ? (size_t)p->shape.d[1] : 1;
    size_t width = channels_first ? 1 : (size_t)p->shape.d[p->shape.n - 1];
    size_t each = planes * width;

    if (!fk_ends_with(p->name, "pos_embed") || there % each)
        return false;
    *fit = (fk_position_fit){.width = width, .planes = planes};
    for (fit->extra = 0; fit->extra < (channels_first ? 1 : 3); fit->extra++) {
        for (fit->more = 0; fit->more <= (fit->extra == 0 && !channels_first); fit->more++) {
            if (is_grid(p->count / each, fit->extra, &fit->new_side) &&
                is_grid(there / each, fit->extra + fit->more, &fit->side))
                return true;
        }
    }
    return false;
}

static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a : 0.0;
}

/* Weights of the `from` pixels for pixel `at` of `to`: float[from]. */
static void weights_of(size_t at, size_t from, size_t to, double *weight)
{
    double scale = (double)from / (double)to;
    double wide = fmax(scale, 1.0);
    double center = scale * ((double)at + 0.5);
    double sum = 0.0;
    long first = fmax(floor(center - 2.0 * wide + 0.5), 0.0);
    long end = fmin(floor(center + 2.0 * wide + 0.5), (double)from);

    memset(weight, 0, from * sizeof *weight);
    for (long i = first; i < end; i++)
        sum += weight[i] = cubic(((double)i - center + 0.5) / wide);
    for (long i = first; i < end; i++)
        weight[i] /= sum;
}

/* n values a pixel, `lines` lines of `from` pixels that are step values apart, to lines of `to` pixels. */
static void resize_axis(const double *in, size_t from, size_t to, size_t n, double *weight,
                        double *out)
{
    for (size_t at = 0; at < to; at++) {
        weights_of(at, from, to, weight);
        memset(out + at * n, 0, n * sizeof *out);
        for (size_t i = 0; i < from; i++) {
            for (size_t k = 0; k < n && (weight[i] < 0.0 || weight[i] > 0.0); k++)
                out[at * n + k] += weight[i] * in[i * n + k];
        }
    }
}

ferkd_status fk_resize_positions(const float *from, size_t side, float *to, size_t new_side,
                                 size_t extra, size_t width)
{
    size_t row = side * width;
    double *in = NULL;
    double *tall = NULL; /* [new_side][side][width] */
    double *line = NULL; /* [new_side][width] */
    double *weight = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(fk_calloc(&in, side * row, sizeof *in, "positions"));
    TRY_DONE(fk_calloc(&tall, new_side * row, sizeof *tall, "positions"));
    TRY_DONE(fk_calloc(&line, new_side * width, sizeof *line, "positions"));
    TRY_DONE(fk_calloc(&weight, side, sizeof *weight, "positions"));
    memcpy(to, from, extra * width * sizeof *to);
    for (size_t i = 0; i < side * row; i++)
        in[i] = (double)from[extra * width + i];
    resize_axis(in, side, new_side, row, weight, tall);
    for (size_t y = 0; y < new_side; y++) {
        resize_axis(tall + y * row, side, new_side, width, weight, line);
        for (size_t i = 0; i < new_side * width; i++)
            to[(extra + y * new_side) * width + i] = (float)line[i];
    }
done:
    free(in);
    free(tall);
    free(line);
    free(weight);
    return st;
}

ferkd_status fk_fit_positions(const fk_position_fit *fit, const float *there, float *here)
{
    size_t from = (fit->extra + fit->side * fit->side) * fit->width;
    size_t to = (fit->extra + fit->new_side * fit->new_side) * fit->width;

    there += fit->more * fit->width;
    for (size_t i = 0; i < fit->planes; i++)
        TRY(fk_resize_positions(there + i * from, fit->side, here + i * to, fit->new_side,
                                fit->extra, fit->width));
    return FERKD_OK;
}
