/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_use.h"

#include "alloc/stats.h"
#include "pmem/extent.h"

#define PEAK_SHARE 32

uint64_t berth__tier_held(berth_tier_id id, uint64_t *ret_frees)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[id];
    uint64_t held = 0;

    *ret_frees = 0;
    for (int tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        held += atomic_load_explicit(&stats->cell[tag].held, memory_order_relaxed);
        *ret_frees += atomic_load_explicit(&stats->cell[tag].frees, memory_order_relaxed);
    }
    return held;
}

struct berth_tier_use berth__tier_use(berth_tier_id id, uint64_t more)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[id];
    uint64_t reserved = atomic_load_explicit(&stats->reserved, memory_order_relaxed);
    struct berth_tier_use use = {0};
    uint64_t frees;

    use.held = berth__tier_held(id, &frees) + more;
    use.idle = reserved > use.held ? reserved - use.held : 0;
    for (int tag = 0; tag < BERTH_TAG_COUNT; tag++)
        use.peak += atomic_load_explicit(&stats->cell[tag].peak_held, memory_order_relaxed);
    if (use.peak < use.held)
        use.peak = use.held;
    return use;
}

bool berth__tier_use_is_beyond(const struct berth_tier_use *use, uint64_t more)
{
    bool is_piece = more >= BERTH_EXTENT_PIECE;

    if (is_piece && use->idle > BERTH_EXTENT_PIECE)
        return true;
    return use->held + use->idle > use->peak + use->peak / PEAK_SHARE + BERTH_USE_IDLE_MIN &&
           use->idle > (is_piece ? BERTH_USE_IDLE_MIN : 2 * use->held);
}
