/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of reuse.cu, and of tests/gpu/programs/pools.cu, as host functions; see
 * tests/fakes/cuda/simk.h.
 */
#include "tests/fakes/cuda/simk.h"

simk_function simk__Z4fillPjjm, simk__Z3mixPjPKjm;

static size_t threads_of(struct simk_dim grid, struct simk_dim block, size_t n)
{
    size_t threads = (size_t)grid.x * block.x;

    return threads < n ? threads : n;
}

void simk__Z4fillPjjm(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                      void **args)
{
    unsigned *values = *(unsigned **)args[0], seed = *(unsigned *)args[1];
    size_t n = threads_of(grid, block, *(size_t *)args[2]);

    for (size_t i = 0; i < n; i++)
        values[i] = (unsigned)i * 2654435761u + seed;
}

void simk__Z3mixPjPKjm(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                       void **args)
{
    unsigned *to = *(unsigned **)args[0];
    const unsigned *from = *(const unsigned **)args[1];
    size_t n = threads_of(grid, block, *(size_t *)args[2]);

    for (size_t i = 0; i < n; i++)
        to[i] = (from[i] ^ (from[i] >> 13)) * 2246822519u;
}
