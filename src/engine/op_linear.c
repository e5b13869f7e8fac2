/* Matrix products of tokens, with what stands around them: the LayerNorm or activation of their input and, of the
 * output, the activation (inference), the weight of each channel (LayerScale, Touvron et al. 2021), stochastic
 * depth and the residual connection. Their products are in bf16 where the processor is faster so (dnnl_product.c). */
#include "base/compat.h"

#include "engine/linear.h"

/* --- what belongs to a step ------------------------------------------------------------------ */

bool fk_is_linear(const fk_node *n)
{
    return n->op == FK_DENSE && n->shape.n >= 3;
}

bool fk_is_patches(const fk_plan *p, const fk_node *n)
{
    const fk_window *w = &n->u.conv.window;
    const fk_shape *in = &p->g->nodes[n->in[0]].shape;
    bool fits = n->op == FK_CONV && n->u.conv.groups == 1 && w->kernel[0] * w->kernel[1] > 1;

    for (int i = 0; i < 2 && fits; i++)
        fits = w->kernel[i] == w->stride[i] && w->dilation[i] == 1 && w->begin[i] == 0 &&
               w->end[i] == 0 && in->d[2 + i] % w->kernel[i] == 0;
    return fits;
}

bool fk_linear_takes(const fk_plan *p, int id)
{
    const fk_node *n = &p->g->nodes[id];
    int user = -1;
    const fk_node *next = fk_only_user(p, id, &user);
    bool can = n->op == FK_LAYERNORM || (n->op == FK_ACT && fk_rows_have_act(n->u.act.kind));

    return can && next && fk_is_linear(next) && p->tensor_of[n->in[0]] >= 0;
}

/* The nodes behind product `id` that its step does, too. */
typedef struct tail {
    int id;       /* whose output the step makes */
    int residual; /* tensor, -1: none */
    int scale;    /* parameter that multiplies each channel, -1: none */
    const fk_node *drop;
    fk_post post;
} tail;

/* x times a constant a channel: the parameter, or -1. */
static int channel_scale(const fk_plan *p, const fk_node *n, int x)
{
    if (n->op != FK_BINARY || n->u.binary.kind != FK_MUL)
        return -1;
    const fk_node *other = &p->g->nodes[n->in[n->in[0] == x ? 1 : 0]];
    if (other->op != FK_CONST)
        return -1;
    size_t channels = (size_t)n->shape.d[n->shape.n - 1];
    const fk_shape *s = &other->shape;
    return fk_shape_equal(&n->shape, &p->g->nodes[x].shape) && s->n >= 1 &&
                   s->d[s->n - 1] == (int64_t)channels && fk_shape_count(s) == (int64_t)channels
               ? other->param[0]
               : -1;
}

/* The tensor that node n adds to x, if it is there already. */
static int added(const fk_plan *p, const fk_node *n, int x)
{
    if (n->op != FK_BINARY || n->u.binary.kind != FK_ADD || n->in[0] == n->in[1])
        return -1;
    int other = p->tensor_of[n->in[n->in[0] == x ? 1 : 0]];
    return other >= 0 && p->tensors[other].param < 0 && p->tensors[other].lazy < 0 &&
                   fk_shape_equal(&p->tensors[other].shape, &p->g->nodes[x].shape)
               ? other
               : -1;
}

static tail absorb_tail(fk_plan *p, int id)
{
    tail t = {.id = id, .residual = -1, .scale = -1};
    int chain[3];
    int n = 0;
    int user = -1;
    int at = id;
    const fk_node *next = fk_only_user(p, at, &user);

    if (!p->o.train && next && next->op == FK_ACT && fk_rows_have_act(next->u.act.kind)) {
        t.post = (fk_post){1, next->u.act.kind, next->u.act.a, next->u.act.b};
        p->absorbed[t.id = user] = true;
        return t;
    }
    int scale = next ? channel_scale(p, next, at) : -1;
    if (scale >= 0) {
        chain[n++] = at = user;
        next = fk_only_user(p, at, &user);
    }
    const fk_node *drop = next && next->op == FK_DROPOUT && next->u.dropout.whole ? next : NULL;
    if (drop) {
        chain[n++] = at = user;
        next = fk_only_user(p, at, &user);
    }
    int residual = next ? added(p, next, at) : -1;
    if (residual < 0)
        return t;
    chain[n++] = user;
    for (int i = 0; i < n; i++)
        p->absorbed[chain[i]] = true;
    t = (tail){.id = user, .residual = residual, .scale = scale};
    t.drop = p->o.train && drop && drop->u.dropout.ratio > 0.0 ? drop : NULL;
    return t;
}

/* --- compiling ------------------------------------------------------------------------------- */

/* Weights and bias times the scale of their channel. */
static void scale_weights(fk_plan *p, fk_step *s)
{
    fk_linear z = fk_linear_of(p, s);
    const float *w = fk_graph_values(p->g, s->node->param[0]);
    const float *c = fk_graph_values(p->g, s->scale_param);
    int bias = s->node->param[1];
    float *to = fk_buffer_at(p, s->buffers[FK_LINEAR_SCALED]);

    for (size_t j = 0; j < z.out; j++) {
        for (size_t i = 0; i < z.in; i++)
            to[j * z.in + i] = c[j] * w[j * z.in + i];
        to[z.in * z.out + j] = bias >= 0 ? c[j] * fk_graph_values(p->g, bias)[j] : 0.0f;
    }
}

/* For products by tiles. */
static void pack_parts(const fk_plan *p, const fk_step *s)
{
    const float *weights = fk_linear_weights(p, s);

    for (int back = 0; back < 2; back++) {
        int to = s->buffers[back ? FK_LINEAR_PACKED_BACK : FK_LINEAR_PACKED];
        if (to >= 0)
            fk_product_pack(s->products[back ? FK_LINEAR_DATA : FK_LINEAR_FORWARD], weights,
                            fk_buffer_at(p, to));
    }
}

static ferkd_status refresh(fk_plan *p, fk_step *s)
{
    if (s->scale_param >= 0)
        scale_weights(p, s);
    if (!fk_linear_is_half(s))
        pack_parts(p, s);
    else if (!p->o.lean)
        TRY(fk_run(p, s, FK_LINEAR_PACK));
    return s->prims[FK_LINEAR_PACK_BACK].prim && !p->o.lean ? fk_run(p, s, FK_LINEAR_PACK_BACK)
                                                            : FERKD_OK;
}

/* Are weights packed once for tiles, not by each product? Six bytes for each, twice in training: not where they are many or memory
 * is scarce, and so large a slice makes little of it. */
static bool packs_parts(const fk_plan *p, const fk_linear *z)
{
    return !p->o.lean && !fk_linear_is_large(z);
}

/* The products, for whole slices and for the last one. */
static ferkd_status make_products(fk_plan *p, fk_step *s, const fk_linear *z, bool half,
                                  bool finish)
{
    size_t rest = z->rows % z->slice ? z->rows % z->slice : z->slice;

    bool forward = !half && fk_tiles_pay(z->slice, z->out, z->in);
    bool weight = !half && fk_tiles_pay(z->out, z->in, z->slice);
    bool data = !half && fk_tiles_pay(z->slice, z->in, z->out);
    bool packed = packs_parts(p, z);
    bool begins =
        forward && s->residual < 0; /* with the bias; else what is added has to be there */

    for (int i = 0; i < (rest == z->slice ? 1 : 2); i++) {
        size_t m = i ? rest : z->slice;
        fk_product_args forward_args = {.m = m,
                                        .n = z->out,
                                        .k = z->in,
                                        .turn_b = !half,
                                        .packed = half || (forward && packed),
                                        .tiles = forward,
                                        .add = fk_linear_is_direct(p, s) && !begins,
                                        .half = half};
        if (finish) {
            forward_args.finish = true;
            forward_args.row = s->node->param[1] >= 0;
            forward_args.post = s->post;
        }
        fk_product_args weight_args = {.m = z->out,
                                       .n = z->in,
                                       .k = m,
                                       .turn_a = true,
                                       .add = true,
                                       .half = half,
                                       .tiles = weight};
        fk_product_args data_args = {.m = m,
                                     .n = z->in,
                                     .k = z->out,
                                     .packed = half || (data && packed),
                                     .half = half,
                                     .tiles = data};
        TRY(fk_product_new(p->dn, &s->products[FK_LINEAR_FORWARD + i], &forward_args, p->threads));
        if (!p->o.train)
            continue;
        TRY(fk_product_new(p->dn, &s->products[FK_LINEAR_WEIGHT + i], &weight_args, p->threads));
        TRY(fk_product_new(p->dn, &s->products[FK_LINEAR_DATA + i], &data_args, p->threads));
    }
    return FERKD_OK;
}

/* The weights in bf16 for a product, and what makes them so. Where memory is scarce they exist while the step runs. */
static ferkd_status pack_weights(fk_plan *p, fk_step *s, const fk_linear *z, bool back)
{
    const fk_md *packed = fk_product_b(s->products[back ? FK_LINEAR_DATA : FK_LINEAR_FORWARD]);
    int buffer = back ? FK_LINEAR_PACKED_BACK : FK_LINEAR_PACKED;
    fk_ref from = {FK_REF_VALUES, s->node->param[0]};
    fk_shape weights = fk_shape_of(2, (int64_t)z->out, (int64_t)z->in);
    fk_pd *pd = NULL;
    fk_md *md = NULL;

    if (s->scale_param >= 0)
        from = (fk_ref){FK_REF_BUFFER, FK_LINEAR_SCALED};
    TRY(fk_step_buffer(p, s, buffer, fk_md_bytes(packed),
                       !p->o.lean ? FK_LIFE_ALWAYS
                       : back     ? FK_LIFE_BACKWARD
                                  : FK_LIFE_FORWARD));
    TRY(back ? fk_md_plain(&md, &weights) : fk_md_transposed(&md, &weights));
    ferkd_status st = fk_pd_reorder(p->dn, &pd, md, packed);
    fk_md_free(md);
    TRY(st);
    return fk_step_prim(p, s, back ? FK_LINEAR_PACK_BACK : FK_LINEAR_PACK, pd,
                        "weights of a product",
                        (fk_arg[]){{FK_SRC, from}, {FK_DST, {FK_REF_BUFFER, buffer}}}, 2);
}

/* Places for the weights as tiles want them. */
static ferkd_status add_parts(fk_plan *p, fk_step *s, const fk_linear *z)
{
    if (fk_product_packed(s->products[FK_LINEAR_FORWARD]))
        TRY(fk_step_buffer(p, s, FK_LINEAR_PACKED, fk_tiles_packed_bytes(z->out, z->in),
                           FK_LIFE_ALWAYS));
    if (s->products[FK_LINEAR_DATA] && fk_product_packed(s->products[FK_LINEAR_DATA]))
        TRY(fk_step_buffer(p, s, FK_LINEAR_PACKED_BACK, fk_tiles_packed_bytes(z->in, z->out),
                           FK_LIFE_ALWAYS));
    return FERKD_OK;
}

/* In bf16 where that is how this processor multiplies, and oneDNN has such products. */
static ferkd_status add_products(fk_plan *p, fk_step *s)
{
    fk_linear z = fk_linear_of(p, s);
    bool half = p->half_conv;
    bool finish = half && fk_data_type_half(p, s->out) && s->residual < 0 && !s->drop;
    ferkd_status st = make_products(p, s, &z, half, finish);

    while (st == FERKD_UNSUPPORTED && half) { /* first without what stands behind, then in f32 */
        fk_step_drop_products(s);
        half = finish;
        finish = false;
        st = make_products(p, s, &z, half, finish);
    }
    TRY(st);
    TRY(fk_step_buffer(p, s, FK_LINEAR_ROOM,
                       p->threads * fk_step_product_room(s, FK_LINEAR_FORWARD, 2),
                       FK_LIFE_FORWARD));
    if (p->o.train)
        TRY(fk_step_buffer(p, s, FK_LINEAR_ROOM_BACK,
                           p->threads * fk_step_product_room(s, FK_LINEAR_WEIGHT, 4),
                           FK_LIFE_BACKWARD));
    if (!half)
        return add_parts(p, s, &z);
    TRY(pack_weights(p, s, &z, false));
    return p->o.train ? pack_weights(p, s, &z, true) : FERKD_OK;
}

static ferkd_status add_buffers(fk_plan *p, fk_step *s)
{
    fk_linear z = fk_linear_of(p, s);
    size_t scratch = p->threads * fk_linear_scratch(&z) * sizeof(float);

    s->refresh = refresh;
    TRY(fk_step_buffer(p, s, FK_LINEAR_SCRATCH, scratch, FK_LIFE_FORWARD));
    if (s->scale_param >= 0)
        TRY(fk_step_buffer(p, s, FK_LINEAR_SCALED, (z.in + 1) * z.out * sizeof(float),
                           FK_LIFE_ALWAYS));
    TRY(add_products(p, s));
    if (!p->o.train)
        return FERKD_OK;
    if (s->drop)
        TRY(fk_step_buffer(p, s, FK_LINEAR_FACTORS, (size_t)s->node->shape.d[0] * sizeof(float),
                           FK_LIFE_BOTH));
    TRY(fk_step_buffer(p, s, FK_LINEAR_SCRATCH_BACK, scratch, FK_LIFE_BACKWARD));
    return fk_step_buffer(p, s, FK_LINEAR_PARTS, p->threads * fk_linear_part(&z) * sizeof(float),
                          FK_LIFE_BACKWARD);
}

static void begin_step(fk_plan *p, fk_step *s)
{
    s->kind = FK_KIND_DENSE;
    s->takes_two = true;
    s->forward = fk_linear_forward;
    s->backward = fk_linear_backward;
    fk_step_keep(p, s->in[0], s);
}

/* The image row-major or with channels last, whichever it has; the output with channels last: rows. */
ferkd_status fk_compile_patches(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *last = NULL;
    int in = p->tensor_of[n->in[0]];
    fk_shape shape = p->tensors[in].shape;

    TRY(fk_md_last(&last, &shape, false));
    bool has = fk_md_equal(last, p->tensors[in].md);
    fk_md_free(last);
    if (!has)
        TRY(fk_want_plain(p, in, &in));
    TRY(fk_step_new(p, &s, n, 1));
    s->in[0] = in;
    TRY(fk_md_last(&last, &n->shape, p->o.train && p->o.half));
    TRY(fk_step_output(p, s, last, &n->shape, id));
    begin_step(p, s);
    return add_buffers(p, s);
}

/* In inference, the product whose output is tensor `in`, if step s alone reads it, both take the same rows at a time, and no step
 * between them could write over what the product reads. */
static fk_step *find_feeder(const fk_plan *p, const fk_step *s, int in)
{
    const fk_tensor *t = &p->tensors[in];
    int user;
    fk_step *f = t->step >= 0 ? p->steps[t->step] : NULL;

    if (p->o.train || p->o.lean || !f || f->out != in || !f->node || !fk_is_linear(f->node) ||
        f->feeder || f->residual >= 0 || !fk_only_user(p, t->node, &user))
        return NULL;
    for (int k = f->number + 1; k < s->number; k++) {
        if (p->steps[k]->node)
            return NULL;
    }
    fk_linear a = fk_linear_of(p, f);
    fk_linear b = fk_linear_of(p, s);
    return a.rows == b.rows && a.slice == b.slice && a.out == b.in ? f : NULL;
}

static ferkd_status fed_elsewhere(fk_plan *p, fk_step *s)
{
    (void)p;
    (void)s;
    return FERKD_OK;
}

/* Step s makes the feeder's rows as it reads them: what is between both products has no memory. */
static void take_feeder(fk_plan *p, fk_step *s, fk_step *f)
{
    static const int USED[] = {FK_LINEAR_SCRATCH, FK_LINEAR_ROOM};

    s->feeder = f;
    s->in[0] = f->in[0];
    f->forward = fed_elsewhere;
    p->buffers[p->tensors[f->out].data].bytes = 0;
    for (size_t i = 0; i < FK_COUNT(USED); i++) {
        if (f->buffers[USED[i]] >= 0)
            p->buffers[f->buffers[USED[i]]].last = s->number;
    }
}

ferkd_status fk_compile_linear(fk_plan *p, const fk_node *n, int id)
{
    fk_step *s = NULL;
    fk_md *md = NULL;
    const fk_node *before = NULL;
    int from = n->in[0];
    int in;

    if (p->tensor_of[from] < 0) {
        before = &p->g->nodes[from];
        from = before->in[0];
    }
    TRY(fk_want_rows(p, p->tensor_of[from], &in));
    tail t = absorb_tail(p, id);
    if (t.residual >= 0)
        TRY(fk_want_rows(p, t.residual, &t.residual));
    TRY(fk_step_new(p, &s, n, t.residual >= 0 ? 2 : 1));
    s->in[0] = in;
    if (t.residual >= 0)
        s->in[1] = s->residual = t.residual;
    s->passes = t.residual >= 0 ? 1 : -1;
    s->before = before;
    s->drop = t.drop;
    s->scale_param = t.scale;
    s->post = t.post;
    TRY(fk_rows_md(p, &n->shape, t.residual < 0 ? t.id : -1, &md));
    TRY(fk_step_output(p, s, md, &n->shape, t.id));
    begin_step(p, s);
    TRY(add_buffers(p, s));
    fk_step *feeder = find_feeder(p, s, in);
    if (feeder)
        take_feeder(p, s, feeder);
    return FERKD_OK;
}
