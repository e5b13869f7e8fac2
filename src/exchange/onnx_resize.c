/* Resize and Upsample: along each axis a product by a constant matrix, whose row of an output pixel says how much of each
 * input pixel it takes (ONNX's specification of Resize, opset 19). */
#include "base/compat.h"

#include "exchange/onnx_import.h"

/* Where output pixel i lies among the input's, in pixels. */
static double place(const fk_reader *r, double i, double scale, double in, double out)
{
    bool old = fk_import_is(r, "Upsample") || r->opset < 11;

    if (old || fk_import_word(r, "coordinate_transformation_mode", "asymmetric"))
        return i / scale;
    if (fk_import_word(r, "coordinate_transformation_mode", "align_corners"))
        return in * scale > 1 ? i * (in - 1) / (in * scale - 1) : 0.0;
    if (fk_import_word(r, "coordinate_transformation_mode", "pytorch_half_pixel"))
        return out > 1 ? (i + 0.5) / scale - 0.5 : 0.0;
    if (fk_import_word(r, "coordinate_transformation_mode", "half_pixel_symmetric")) {
        double adjust = out / (scale * in);
        return in / 2.0 * (1.0 - adjust) + (i + 0.5) / scale - 0.5;
    }
    return (i + 0.5) / scale - 0.5;
}

static double nearest(const fk_reader *r, double x)
{
    if (fk_import_word(r, "nearest_mode", "floor") || fk_import_is(r, "Upsample"))
        return floor(x);
    if (fk_import_word(r, "nearest_mode", "ceil"))
        return ceil(x);
    if (fk_import_word(r, "nearest_mode", "round_prefer_ceil"))
        return floor(x + 0.5);
    return ceil(x - 0.5); /* round_prefer_floor */
}

static double cubic(double a, double d)
{
    d = fabs(d);
    if (d < 1.0)
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    return d < 2.0 ? ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a : 0.0;
}

/* One row of weights; pixels beyond the border count as those on it. */
static void fill_row(const fk_reader *r, double x, int64_t in, float *row)
{
    double taps[4] = {1.0};
    int64_t first = (int64_t)floor(x);
    int n = 1;

    if (fk_import_word(r, "mode", "linear") || fk_import_word(r, "mode", "bilinear")) {
        taps[1] = x - floor(x);
        taps[0] = 1.0 - taps[1];
        n = 2;
    } else if (fk_import_word(r, "mode", "cubic")) {
        double a = (double)fk_attr_float(r, "cubic_coeff_a", -0.75f);
        for (n = 0; n < 4; n++)
            taps[n] = cubic(a, x - (double)(first - 1 + n));
        first--;
    } else {
        first = (int64_t)nearest(r, x);
    }
    for (int k = 0; k < n; k++) {
        int64_t at = first + k;
        at = at < 0 ? 0 : at >= in ? in - 1 : at;
        row[at] += (float)taps[k];
    }
}

/* x along its last axis from `in` to `out` pixels. */
static ferkd_status resize_last(fk_reader *r, int *x, int64_t in, int64_t out, double scale)
{
    fk_shape shape = fk_shape_of(2, out, in);
    int from = *x;
    fk_node n = FK_NODE(.op = FK_DENSE, .name = fk_import_name(r), .in = &from, .n_in = 1);
    fk_constant *w = NULL;

    TRY(fk_constant_new(&w, true, &shape));
    for (int64_t i = 0; i < out; i++)
        fill_row(r, place(r, (double)i, scale, (double)in, (double)out), in, w->f + i * in);
    ferkd_status st = fk_import_param_of(r, w, fk_import_name(r), FK_BUFFER, &n.param[0]);
    fk_constant_free(w);
    TRY(st);
    return fk_graph_add(r->g, &n, x);
}

/* Numbers from input i, as many as there are axes. */
static ferkd_status numbers(const fk_reader *r, size_t i, double *out, int64_t *n)
{
    bool bad;
    const fk_constant *c = fk_input_constant(r, i, &bad);

    *n = 0;
    if (bad)
        return fk_reader_refuse(r, "sizes that are computed while running");
    if (!c)
        return FERKD_OK;
    *n = fk_shape_count(&c->shape);
    if (*n > FK_MAX_DIMS)
        return fk_reader_refuse(r, "too many dimensions");
    for (int64_t k = 0; k < *n; k++)
        out[k] = fk_constant_get(c, k);
    return FERKD_OK;
}

typedef struct target {
    fk_shape shape;
    double scale[FK_MAX_DIMS];
} target;

static ferkd_status find_target(const fk_reader *r, const fk_shape *in, target *t)
{
    bool up = fk_import_is(r, "Upsample") || r->opset < 11;
    double scales[FK_MAX_DIMS];
    double sizes[FK_MAX_DIMS] = {0};
    int64_t axes[FK_MAX_DIMS];
    int64_t n_scales;
    int64_t n_sizes = 0;
    int n_axes;

    TRY(numbers(r, up ? 1 : 2, scales, &n_scales));
    if (!up)
        TRY(numbers(r, 3, sizes, &n_sizes));
    TRY(fk_ints(r, "axes", SIZE_MAX, axes, FK_MAX_DIMS, &n_axes));
    int64_t given = n_sizes ? n_sizes : n_scales;
    if (given != (n_axes ? n_axes : in->n))
        return fk_reader_refuse(r, "one scale or size an axis is needed");
    t->shape = *in;
    for (int i = 0; i < in->n; i++)
        t->scale[i] = 1.0;
    for (int i = 0; i < given; i++) {
        int axis;
        TRY(fk_axis(r, n_axes ? axes[i] : i, in->n, &axis));
        double d = (double)in->d[axis];
        double out = n_sizes ? sizes[i] : floor(d * scales[i]);
        if (!(out >= 1.0) || out > 65536.0)
            return fk_reader_refuse(r, "a size out of range");
        t->shape.d[axis] = (int64_t)out;
        t->scale[axis] = n_sizes ? out / d : scales[i];
    }
    return FERKD_OK;
}

ferkd_status fk_import_resize(fk_reader *r)
{
    target t;
    int x;

    TRY(fk_import_input(r, 0, &x));
    fk_shape in = fk_import_shape(r, x);
    TRY(find_target(r, &in, &t));
    if (fk_attr_int(r, "antialias", 0) || fk_attr_int(r, "exclude_outside", 0) ||
        fk_import_word(r, "coordinate_transformation_mode", "tf_crop_and_resize") ||
        (fk_attr(r, "keep_aspect_ratio_policy") &&
         !fk_import_word(r, "keep_aspect_ratio_policy", "stretch")))
        return fk_reader_refuse(r, "antialias, exclude_outside, cropping or a kept aspect ratio");
    for (int axis = 0; axis < in.n; axis++) {
        int turn[FK_MAX_DIMS] = {0, 1, 2, 3, 4, 5};
        if (t.shape.d[axis] == in.d[axis] && t.scale[axis] == 1.0)
            continue;
        turn[axis] = in.n - 1;
        turn[in.n - 1] = axis;
        TRY(fk_import_permute(r, &x, turn));
        TRY(resize_last(r, &x, in.d[axis], t.shape.d[axis], t.scale[axis]));
        TRY(fk_import_permute(r, &x, turn));
    }
    return fk_import_alias(r, x);
}
