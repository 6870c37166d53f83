/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A projection: products of the same input with up to three weights, as one job of
 * the thread pool. Rows are what the pool divides, so every sum is formed by one
 * thread in one order.
 */
#ifndef BERTH_INFER_PROJECTION_H
#define BERTH_INFER_PROJECTION_H

#include "kernels.h"
#include "model.h"
#include "thread_pool.h"

#include <stddef.h>

#define BERTH_PROJECTION_PARTS_MAX 3

struct berth_projection {
    const struct berth_kernels *kernels;
    const struct berth_linear *linears[BERTH_PROJECTION_PARTS_MAX];
    float *outputs[BERTH_PROJECTION_PARTS_MAX]; /* [token][rows of the linear] */
    size_t parts;
    const float *input; /* [token][cols] */
    size_t tokens;
};

/* Each output is its product (plus bias). */
void berth__projection_run(struct berth_projection *projection, struct berth_thread_pool *pool);

/* Two parts of equal shape, gate and up: the first output becomes silu(gate) * up. */
void berth__projection_run_gated(struct berth_projection *projection,
                                 struct berth_thread_pool *pool);

#endif
