/* SPDX-License-Identifier: Apache-2.0 */
#include "attention.h"

#include <math.h>
#include <string.h>

/* Positions per tile and query heads per piece: scores and sums stay in the first cache. */
#define TILE_POSITIONS 64
#define PIECE_HEADS 8

/* The running softmax of one query head. */
struct head_state {
    float maximum;
    float total;
};

static size_t group_heads(const struct berth_attention *attention)
{
    return attention->head_count / attention->cache->head_count;
}

static size_t group_pieces(const struct berth_attention *attention)
{
    return (group_heads(attention) + PIECE_HEADS - 1) / PIECE_HEADS;
}

size_t berth__attention_pieces(const struct berth_attention *attention)
{
    return attention->cache->head_count * group_pieces(attention);
}

/* Turns scores into shares in place; returns what the sum so far is to be multiplied by. */
static float shares_form(struct head_state *state, float *scores, size_t count, float scale)
{
    float maximum = state->maximum, keep, total = 0;

    for (size_t i = 0; i < count; i++) {
        scores[i] *= scale;
        if (scores[i] > maximum)
            maximum = scores[i];
    }
    keep = expf(state->maximum - maximum);
    for (size_t i = 0; i < count; i++) {
        scores[i] = expf(scores[i] - maximum);
        total += scores[i];
    }
    state->maximum = maximum;
    state->total = state->total * keep + total;
    return keep;
}

/* `heads` query heads from the first one at `queries`, against one kv head. */
static void heads_attend(const struct berth_attention *attention, const float *queries,
                         float *output, size_t heads, const float *keys, const float *values,
                         size_t positions)
{
    const struct berth_kernels *kernels = attention->kernels;
    size_t dim = attention->cache->head_dim;
    float scale = 1 / sqrtf((float)dim), scores[PIECE_HEADS * TILE_POSITIONS];
    struct head_state states[PIECE_HEADS];

    memset(output, 0, heads * dim * sizeof(float));
    for (size_t h = 0; h < heads; h++)
        states[h] = (struct head_state){-INFINITY, 0};
    for (size_t at = 0; at < positions; at += TILE_POSITIONS) {
        size_t count = positions - at < TILE_POSITIONS ? positions - at : TILE_POSITIONS;

        kernels->matmul[BERTH_DTYPE_F32](scores, TILE_POSITIONS, keys + at * dim, count, dim,
                                         queries, dim, heads);
        for (size_t h = 0; h < heads; h++) {
            float *shares = scores + h * TILE_POSITIONS;
            float keep = shares_form(&states[h], shares, count, scale);

            kernels->blend(output + h * dim, dim, keep, shares, values + at * dim, dim, count);
        }
    }
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < dim; i++)
            output[h * dim + i] /= states[h].total;
    }
}

void berth__attention_run(void *arg, size_t begin, size_t end)
{
    const struct berth_attention *attention = arg;
    const struct berth_kv_cache *cache = attention->cache;
    size_t group = group_heads(attention), pieces = group_pieces(attention);

    for (size_t item = begin; item < end; item++) {
        size_t part = item % pieces, kv_head = item / pieces % cache->head_count;
        size_t token = item / pieces / cache->head_count;
        size_t heads =
            group - part * PIECE_HEADS < PIECE_HEADS ? group - part * PIECE_HEADS : PIECE_HEADS;
        size_t head = kv_head * group + part * PIECE_HEADS;
        size_t offset = (token * attention->head_count + head) * cache->head_dim;
        size_t row = berth__kv_cache_offset(cache, kv_head, 0);

        heads_attend(attention, attention->queries + offset, attention->output + offset, heads,
                     attention->layer->keys + row, attention->layer->values + row,
                     attention->position + token + 1);
    }
}
