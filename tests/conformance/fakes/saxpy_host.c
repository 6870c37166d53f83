/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of saxpy.cu as host functions (see simk.h). */
#include "tests/fakes/cuda/simk.h"

simk_function simk__Z5saxpyfPKfPfi, simk__Z5shiftIdEvPT_S0_m;
extern int simv_launches_seen;
int simv_launches_seen;

void simk__Z5saxpyfPKfPfi(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                          void **args)
{
    float a = *(float *)args[0];
    const float *x = *(const float **)args[1];
    float *y = *(float **)args[2];
    int n = *(int *)args[3];

    for (unsigned b = 0; b < grid.x; b++)
        for (unsigned t = 0; t < block.x; t++) {
            int i = (int)(b * block.x + t);

            if (i < n)
                y[i] = a * x[i] + y[i];
        }
}

void simk__Z5shiftIdEvPT_S0_m(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                              void **args)
{
    double *values = *(double **)args[0], by = *(double *)args[1];
    size_t n = *(size_t *)args[2];

    for (size_t i = 0; i < n && i < (size_t)grid.x * block.x; i++)
        values[i] += by;
}
