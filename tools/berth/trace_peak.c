/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_peak.h"

#include "alloc/quantity.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define GAP_SMALL ((uint64_t)64 << 10)
#define GAP_MEDIUM BERTH_MIB

static void add_free(struct berth_trace_peak *peak, const struct berth_segment_row *segment,
                     const struct berth_block_row *block)
{
    if (block->is_cached)
        peak->threads += block->size;
    else if (segment->is_planned)
        peak->plan_free += block->size;
    else if (segment->use == BERTH_USE_WHOLE)
        peak->idle_alone += block->size;
    else if (block->size == segment->size)
        peak->idle += block->size;
    else if (block->address + block->size == segment->base + segment->size)
        peak->ends += block->size;
    else if (block->size <= GAP_SMALL)
        peak->gaps_small += block->size;
    else if (block->size <= GAP_MEDIUM)
        peak->gaps_medium += block->size;
    else
        peak->gaps_large += block->size;
}

static int add_segment(void *context, const struct berth_segment_row *segment,
                       const struct berth_block_row *blocks)
{
    struct berth_trace_peak *peak = context;
    bool is_alone = segment->use == BERTH_USE_WHOLE;

    if (segment->use == BERTH_USE_FOREIGN)
        return 0;
    peak->segments++;
    peak->segments_alone += is_alone;
    for (uint32_t i = 0; i < segment->blocks; i++) {
        const struct berth_block_row *block = &blocks[i];

        if (block->use == BERTH_USE_FREE) {
            add_free(peak, segment, block);
        } else if (block->use == BERTH_USE_LIVE) {
            peak->live += block->requested;
            *(is_alone ? &peak->alone : &peak->rounding) += block->size - block->requested;
        } else {
            peak->waiting += block->size;
        }
    }
    return 0;
}

void berth__trace_peak_look(const struct berth_trace_driver *driver, struct berth_trace_peak *peak)
{
    /* Threads that reach a peak at once would add to one sum. */
    static pthread_mutex_t one_looks = PTHREAD_MUTEX_INITIALIZER;
    struct berth_trace_usage usage;

    pthread_mutex_lock(&one_looks);
    berth__trace_driver_usage(driver, &usage);
    if (usage.reserved > peak->reserved) {
        *peak = (struct berth_trace_peak){.reserved = usage.reserved};
        driver->pool_walk(add_segment, peak);
    }
    pthread_mutex_unlock(&one_looks);
}

void berth__trace_peak_print(const struct berth_trace_peak *peak)
{
    printf(",\"peak\":{\"segments\":%" PRIu64 ",\"segments_alone\":%" PRIu64, peak->segments,
           peak->segments_alone);
#define X(name, what) printf(",\"%s\":%" PRIu64, #name, peak->name);
    BERTH_TRACE_PEAK_PARTS(X)
#undef X
    putchar('}');
}
