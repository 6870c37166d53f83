/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KV cache: keys and values of every position so far. Each layer has one
 * allocation for its keys and one for its values, tagged `kv`, as
 * [kv head][position][number]; they grow by doubling up to the context length.
 * Belongs to one session. Growth moves the rows; nothing keeps pointers across it.
 */
#ifndef BERTH_INFER_KV_CACHE_H
#define BERTH_INFER_KV_CACHE_H

#include "config.h"
#include "failure.h"

#include <stddef.h>
#include <stdint.h>

struct berth_kv_layer {
    float *keys;
    float *values;
};

struct berth_kv_cache {
    size_t layer_count;
    size_t head_count; /* kv heads */
    size_t head_dim;
    size_t capacity; /* positions */
    size_t capacity_max;
    struct berth_kv_layer *layers;
};

/* Room for at least `positions`, at most the context length. */
int berth__kv_cache_init(struct berth_kv_cache *cache, const struct berth_config *config,
                         size_t positions, struct berth_failure *failure);
void berth__kv_cache_done(struct berth_kv_cache *cache);

/* Grows to at least `positions` and keeps the first `used`. Unchanged on failure. */
int berth__kv_cache_reserve(struct berth_kv_cache *cache, size_t used, size_t positions,
                            struct berth_failure *failure);

static inline size_t berth__kv_cache_offset(const struct berth_kv_cache *cache, size_t head,
                                            size_t position)
{
    return (head * cache->capacity + position) * cache->head_dim;
}

#endif
