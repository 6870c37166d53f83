/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention: each query head looks at all positions up to its own. Query heads that
 * share a kv head are taken together, so that keys and values are read once for all
 * of them. The softmax is formed tile by tile with a running maximum, in the order
 * of positions: no buffer grows with the context and no result depends on threads.
 */
#ifndef BERTH_INFER_ATTENTION_H
#define BERTH_INFER_ATTENTION_H

#include "kernels.h"
#include "kv_cache.h"

#include <stddef.h>

struct berth_attention {
    const struct berth_kernels *kernels;
    const struct berth_kv_cache *cache;
    const struct berth_kv_layer *layer;
    const float *queries; /* [token][head][number] */
    float *output;        /* the same shape */
    size_t head_count;
    size_t position; /* of the first token */
};

/* The pieces that one token's work divides into. */
size_t berth__attention_pieces(const struct berth_attention *attention);

/* Works on pieces [begin, end), numbered token by token; a berth_range_fn. */
void berth__attention_run(void *attention, size_t begin, size_t end);

#endif
