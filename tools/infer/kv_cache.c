/* SPDX-License-Identifier: Apache-2.0 */
#include "kv_cache.h"

#include "memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The least capacity: even a small model's layer then is of a size that rules can match. */
#define CAPACITY_MIN 512

static size_t layer_bytes(const struct berth_kv_cache *cache, size_t capacity)
{
    return cache->head_count * capacity * cache->head_dim * sizeof(float);
}

static size_t capacity_for(const struct berth_kv_cache *cache, size_t positions)
{
    size_t capacity = cache->capacity > CAPACITY_MIN ? cache->capacity : CAPACITY_MIN;

    while (capacity < positions)
        capacity *= 2;
    return capacity < cache->capacity_max ? capacity : cache->capacity_max;
}

static void layers_free(struct berth_kv_layer *layers, size_t count, size_t bytes)
{
    for (size_t i = 0; layers && i < count; i++) {
        berth__memory_free(BERTH_TAG_KV, layers[i].keys, bytes);
        berth__memory_free(BERTH_TAG_KV, layers[i].values, bytes);
    }
    free(layers);
}

static int layers_alloc(const struct berth_kv_cache *cache, size_t capacity,
                        struct berth_failure *failure, struct berth_kv_layer **ret_layers)
{
    size_t bytes = layer_bytes(cache, capacity);
    struct berth_kv_layer *layers = calloc(cache->layer_count, sizeof(layers[0]));

    for (size_t i = 0; layers && i < cache->layer_count; i++) {
        layers[i].keys = berth__memory_alloc(BERTH_TAG_KV, bytes);
        layers[i].values = berth__memory_alloc(BERTH_TAG_KV, bytes);
        if (!layers[i].keys || !layers[i].values) {
            layers_free(layers, cache->layer_count, bytes);
            layers = NULL;
        }
    }
    if (!layers)
        return berth__failure_no_memory(failure, "KV cache", 2ULL * bytes * cache->layer_count);
    *ret_layers = layers;
    return 0;
}

int berth__kv_cache_init(struct berth_kv_cache *cache, const struct berth_config *config,
                         size_t positions, struct berth_failure *failure)
{
    struct berth_kv_cache fresh = {
        .layer_count = config->layer_count,
        .head_count = config->kv_head_count,
        .head_dim = config->head_dim,
        .capacity_max = config->context_max,
    };
    int r;

    fresh.capacity = capacity_for(&fresh, positions);
    r = layers_alloc(&fresh, fresh.capacity, failure, &fresh.layers);
    if (r == 0)
        *cache = fresh;
    return r;
}

void berth__kv_cache_done(struct berth_kv_cache *cache)
{
    layers_free(cache->layers, cache->layer_count, layer_bytes(cache, cache->capacity));
    cache->layers = NULL;
}

static void rows_move(const struct berth_kv_cache *cache, float *to, size_t capacity,
                      const float *from, size_t used)
{
    for (size_t head = 0; head < cache->head_count; head++)
        memcpy(to + head * capacity * cache->head_dim,
               from + berth__kv_cache_offset(cache, head, 0),
               used * cache->head_dim * sizeof(float));
}

int berth__kv_cache_reserve(struct berth_kv_cache *cache, size_t used, size_t positions,
                            struct berth_failure *failure)
{
    struct berth_kv_layer *layers;
    size_t capacity;
    int r;

    if (positions <= cache->capacity)
        return 0;
    capacity = capacity_for(cache, positions);
    r = layers_alloc(cache, capacity, failure, &layers);
    if (r < 0)
        return r;
    for (size_t i = 0; i < cache->layer_count; i++) {
        rows_move(cache, layers[i].keys, capacity, cache->layers[i].keys, used);
        rows_move(cache, layers[i].values, capacity, cache->layers[i].values, used);
    }
    berth__kv_cache_done(cache);
    cache->layers = layers;
    cache->capacity = capacity;
    return 0;
}
