/* SPDX-License-Identifier: Apache-2.0 */
#include "activations.h"

#include "memory.h"

#include <errno.h>
#include <string.h>

/* Parts begin on cache lines, so that threads never share a line between parts. */
static size_t part_bytes(size_t numbers)
{
    return (numbers * sizeof(float) + BERTH_MEMORY_ALIGN - 1) & ~(BERTH_MEMORY_ALIGN - 1);
}

int berth__activations_init(struct berth_activations *activations,
                            const struct berth_config *config, struct berth_failure *failure)
{
    struct berth_activations fresh = {.tokens = BERTH_BATCH_TOKENS_MAX};
    size_t q = config->head_count * config->head_dim, kv = config->kv_head_count * config->head_dim;
    size_t half = config->head_dim / 2, tokens;
    char *at;

    if (fresh.tokens > config->context_max)
        fresh.tokens = config->context_max;
    tokens = fresh.tokens;
    {
        const struct {
            float **part;
            size_t numbers;
        } parts[] = {
            {&fresh.stream, tokens * config->hidden},
            {&fresh.normed, tokens * config->hidden},
            {&fresh.queries, tokens * q},
            {&fresh.keys, tokens * kv},
            {&fresh.values, tokens * kv},
            {&fresh.attended, tokens * q},
            {&fresh.gate, tokens * config->intermediate},
            {&fresh.up, tokens * config->intermediate},
            {&fresh.cosines, tokens * half},
            {&fresh.sines, tokens * half},
            {&fresh.logits, config->vocab},
        };
        size_t count = sizeof(parts) / sizeof(parts[0]);

        for (size_t i = 0; i < count; i++)
            fresh.size_bytes += part_bytes(parts[i].numbers);
        fresh.memory = berth__memory_alloc(BERTH_TAG_ACTIVATION, fresh.size_bytes);
        if (!fresh.memory)
            return berth__failure_no_memory(failure, "activations", fresh.size_bytes);
        at = fresh.memory;
        for (size_t i = 0; i < count; i++) {
            *parts[i].part = (float *)(void *)at;
            at += part_bytes(parts[i].numbers);
        }
    }
    *activations = fresh;
    return 0;
}

void berth__activations_done(struct berth_activations *activations)
{
    berth__memory_free(BERTH_TAG_ACTIVATION, activations->memory, activations->size_bytes);
    activations->memory = NULL;
}
