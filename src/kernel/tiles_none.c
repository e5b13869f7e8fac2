/* Where the processor's family or the compiler knows no tiles. */
#include "kernel/tiles.h"

bool fk_tiles_here(void)
{
    return false;
}

bool fk_tiles_pay(size_t m, size_t n, size_t k)
{
    (void)m, (void)n, (void)k;
    return false;
}

size_t fk_tiles_room(size_t m, size_t n, size_t k)
{
    (void)m, (void)n, (void)k;
    return 0;
}

size_t fk_tiles_packed_bytes(size_t n, size_t k)
{
    (void)n, (void)k;
    return 0;
}

void fk_tiles_pack(const fk_gemm_args *g, void *to)
{
    (void)g, (void)to;
}

void fk_tiles_gemm(const fk_gemm_args *g, void *room)
{
    (void)g, (void)room;
}

size_t fk_tiles_rows(const fk_tiles_images *x)
{
    (void)x;
    return 0;
}

void fk_tiles_pixels(const fk_tiles_product *g, void *room)
{
    (void)g, (void)room;
}

void fk_tiles_weights(const fk_tiles_images *dy, const fk_tiles_images *x, float *dw, bool add,
                      fk_tiles_range out, fk_tiles_range in, void *room)
{
    (void)dy, (void)x, (void)dw, (void)add, (void)out, (void)in, (void)room;
}
