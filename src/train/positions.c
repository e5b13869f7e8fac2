/* Bicubic, a = -0.5, wider where the image gets smaller; rows, then columns. */
#include "base/compat.h"

#include "train/positions.h"

#include "base/mem.h"

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
