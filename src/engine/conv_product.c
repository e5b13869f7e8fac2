/* The gradient of a convolution's weights as one matrix product, for bf16 with channels last: what the kernel saw at each
 * pixel of the output is a row (a patch), dW = dY^T patches. oneDNN's convolution kernels for it are made for
 * many pixels and few weights; its products are several times as fast where it is the other way round, and always for 1x1,
 * where the input is the patches. */
#include "base/compat.h"

#include "engine/step.h"

/* Weights so few that oneDNN's product of them, which threads share by its rows and columns, has work for one. */
#define FEW (64 << 10)

typedef struct patches {
    size_t pixels, row; /* of the output, in all images; elements that each saw */
} patches;

static patches patches_of(const fk_conv_args *a)
{
    return (patches){(size_t)(a->dst.d[0] * a->dst.d[2] * a->dst.d[3]),
                     (size_t)(a->weights.d[1] * a->weights.d[2] * a->weights.d[3])};
}

static bool is_half_last(const fk_md *md, const fk_shape *shape)
{
    return fk_md_is_last(md, shape) && fk_md_half(md);
}

static bool is_1x1(const fk_conv_args *a)
{
    const fk_window *w = &a->window;

    return w->kernel[0] == 1 && w->kernel[1] == 1 && w->begin[0] == 0 && w->begin[1] == 0 &&
           w->end[0] == 0 && w->end[1] == 0;
}

bool fk_is_weights_product(const fk_conv_args *a)
{
    if (!a->half || a->bias || a->groups != 1 || !is_half_last(a->src_md, &a->src) ||
        !is_half_last(a->dst_md, &a->dst))
        return false;
    return is_1x1(a) || patches_of(a).pixels <= 4 * (size_t)a->weights.d[0];
}

size_t fk_weights_parts(const fk_conv_args *a, size_t threads)
{
    patches p = patches_of(a);
    size_t count = (size_t)a->weights.d[0] * p.row;

    return is_1x1(a) && count <= FEW && p.pixels % threads == 0 ? threads : 1;
}

size_t fk_patches_bytes(const fk_conv_args *a)
{
    patches p = patches_of(a);

    if (is_1x1(a) && a->window.stride[0] == 1 && a->window.stride[1] == 1)
        return 0;
    return p.pixels * p.row * sizeof(uint16_t);
}

/* [O, I, h, w] as the product has it: rows of patches. */
static ferkd_status gradient_layout(const fk_shape *w, fk_md **out)
{
    int64_t strides[4] = {w->d[1] * w->d[2] * w->d[3], 1, w->d[3] * w->d[1], w->d[1]};

    return w->d[2] * w->d[3] == 1 ? fk_md_weights(out, w, 1) : fk_md_strided(out, 4, w->d, strides);
}

/* Matrices of bf16, rows x columns, one behind the other; turned: their transposes. */
static ferkd_status matrix(fk_md **out, size_t parts, size_t rows, size_t columns, bool turned)
{
    fk_shape shape = fk_shape_of(3, (int64_t)parts, (int64_t)rows, (int64_t)columns);
    fk_md *md = NULL;

    TRY(turned ? fk_md_transposed(&md, &shape) : fk_md_plain(&md, &shape));
    ferkd_status st = fk_md_as(out, md, true);
    fk_md_free(md);
    return st;
}

ferkd_status fk_pd_weights_product(fk_dn *dn, const fk_conv_args *a, size_t parts, fk_pd **pd,
                                   fk_md **gradient)
{
    patches p = patches_of(a);
    size_t out = (size_t)a->weights.d[0];
    fk_shape result = fk_shape_of(3, (int64_t)parts, (int64_t)out, (int64_t)p.row);
    fk_md *dy = NULL;
    fk_md *x = NULL;
    fk_md *dw = NULL;
    ferkd_status st = FERKD_OK;

    TRY_DONE(matrix(&dy, parts, p.pixels / parts, out, true));
    TRY_DONE(matrix(&x, parts, p.pixels / parts, p.row, false));
    TRY_DONE(fk_md_plain(&dw, &result));
    TRY_DONE(fk_pd_matmul(dn, pd, &(fk_matmul_args){.a = dy, .b = x, .dst = dw}));
    st = gradient_layout(&a->weights, gradient);
done:
    fk_md_free(dy);
    fk_md_free(x);
    fk_md_free(dw);
    return st;
}

/* The patches of one row of the output; what is outside the image is 0. */
static void take_row(const fk_shape *in, const fk_shape *out, const fk_window *w,
                     const uint16_t *image, int64_t y, uint16_t *to)
{
    size_t channels = (size_t)in->d[1];

    for (int64_t x = 0; x < out->d[3]; x++) {
        for (int64_t k = 0; k < w->kernel[0] * w->kernel[1]; k++, to += channels) {
            int64_t iy = y * w->stride[0] - w->begin[0] + k / w->kernel[1] * w->dilation[0];
            int64_t ix = x * w->stride[1] - w->begin[1] + k % w->kernel[1] * w->dilation[1];
            if (iy < 0 || ix < 0 || iy >= in->d[2] || ix >= in->d[3])
                memset(to, 0, channels * sizeof *to);
            else
                memcpy(to, image + (size_t)(iy * in->d[3] + ix) * channels, channels * sizeof *to);
        }
    }
}

void fk_take_patches(const fk_plan *p, const fk_step *s, void *to)
{
    const fk_shape *in = &p->tensors[s->in[0]].shape;
    const fk_shape *out = &p->tensors[s->out].shape;
    const fk_window *w = &s->node->u.conv.window;
    const uint16_t *x = fk_data_operand(p, s->in[0]).data;
    int64_t rows = out->d[0] * out->d[2];
    size_t image = (size_t)(in->d[1] * in->d[2] * in->d[3]);
    size_t row = (size_t)(out->d[3] * in->d[1] * w->kernel[0] * w->kernel[1]);

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        take_row(in, out, w, x + (size_t)(r / out->d[2]) * image, r % out->d[2],
                 (uint16_t *)to + (size_t)r * row);
}
