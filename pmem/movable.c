/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/movable.h"

#include "alloc/log.h"
#include "alloc/sandbox.h"
#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/extent.h"
#include "pmem/gate.h"
#include "pmem/jemalloc.h"
#include "pmem/mapping.h"
#include "pmem/owed.h"
#include "pmem/sysfs.h"
#include "pmem/tier_dax.h"
#include "pmem/tier_huge.h"

#include <errno.h>
#include <sys/mman.h>

/* jemalloc's first size class that has OS pages of its own: 16 KiB. */
#define HELD_MIN ((size_t)16 << 10)

static _Atomic uint64_t small_count;

uint64_t berth__movable_small_count(void)
{
    return atomic_load_explicit(&small_count, memory_order_relaxed);
}

bool berth__movable_has_twin(berth_tier_id tier)
{
    enum berth_tier_kind kind = berth__tier(tier)->kind;

    return kind == BERTH_KIND_FILE || kind == BERTH_KIND_DAX;
}

bool berth__movable_can_be_in(berth_tier_id tier)
{
    enum berth_tier_kind kind = berth__tier(tier)->kind;

    /* Reserved huge pages are mapped in pieces that no other address can have as one. */
    if (berth__tier_huge_serves(berth__tier(tier)))
        return false;
    return berth__movable_has_twin(tier) || kind == BERTH_KIND_DRAM || kind == BERTH_KIND_NUMA;
}

/* vm.max_map_count where it cannot be read: what the kernel begins with. */
#define MAPPINGS_MAX 65530
/* Its own mapping, and one of what is left beside it. */
#define MAPPINGS_OF_BLOCK 2

_Atomic uint64_t berth__movable_remapped_max;

static uint64_t read_mappings_max(void)
{
    int64_t max;

    if (berth__sysfs_number("../proc/sys/vm/max_map_count", &max) < 0 || max <= 0)
        return MAPPINGS_MAX;
    return (uint64_t)max;
}

bool berth__movable_may_remap(void)
{
    uint64_t max = atomic_load_explicit(&berth__movable_remapped_max, memory_order_relaxed);

    if (BERTH_UNLIKELY(max == 0)) {
        max = read_mappings_max() / 2 / MAPPINGS_OF_BLOCK;
        atomic_store_explicit(&berth__movable_remapped_max, max, memory_order_relaxed);
    }
    return berth__residency_remapped_count() < max;
}

size_t berth__movable_granule(berth_tier_id tier)
{
    size_t alignment =
        berth__tier(tier)->kind == BERTH_KIND_DAX ? berth__tier_dax_alignment(tier) : 0;

    return alignment > BERTH_OS_PAGE ? alignment : BERTH_OS_PAGE;
}

/*
 * Puts the home backing behind a block's addresses, which read as zero then. 0 or negative errno,
 * with what was there before still in place.
 */
static int restore_home(void *p, size_t held)
{
    int saved_errno = errno;
    /* As the window's other pieces are, so that the kernel makes one mapping of neighbours. */
    void *q = mmap(p, held, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    int r = q == MAP_FAILED ? -errno : 0;

    errno = saved_errno;
    return r;
}

/* Maps the twin's pages at `at` too, in place of what is there. 0 or negative errno. */
static int map_twin(void *twin, size_t held, void *at)
{
    int saved_errno = errno;
    /* An old size of 0 makes a second mapping of the same pages, for which no descriptor is needed
     * (mremap(2)); the kernel allows it for shared mappings. */
    void *q = mremap(twin, 0, held, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    int r = q == MAP_FAILED ? -errno : 0;

    errno = saved_errno;
    return r;
}

/* A block of a tier's own arenas; NULL also when jemalloc answers from elsewhere. */
static void *alloc_of(berth_home_id home, size_t size, size_t alignment, bool zero)
{
    void *p = berth__arena_alloc(home, size, alignment, zero);

    if (!p || (berth__gate_owns(p) && berth__window_home(p) == home))
        return p;
    berth__arena_free(home, p, berth__arena_held(p));
    return NULL;
}

int berth__movable_take_nodes(berth_tier_id tier, void *address, size_t size)
{
    struct berth_tier *of = berth__tier(tier);
    int r;

    if (of->kind != BERTH_KIND_NUMA)
        return 0;
    r = of->ops->map(of, address, size);
    return r < 0 ? r : of->ops->commit(of, address, size);
}

static void *alloc_twin(berth_tier_id tier, size_t held, size_t alignment, bool zero)
{
    size_t granule = berth__movable_granule(tier);
    void *twin = alloc_of(tier, held, alignment > granule ? alignment : granule, zero);

    /* What lies in several mappings of a device cannot be mapped again as one. */
    if (twin && berth__tier(tier)->kind == BERTH_KIND_DAX &&
        berth__mapping_check_whole(twin, held) < 0) {
        berth__arena_free(tier, twin, held);
        return NULL;
    }
    return twin;
}

void *berth__movable_alloc_twin(berth_tier_id tier, size_t held, bool zero)
{
    return alloc_twin(tier, held, BERTH_OS_PAGE, zero);
}

/* Takes the tier's memory for a block at home; *ret_twin is NULL for what has none. */
static int enter_tier(berth_tier_id tier, void *p, size_t held, size_t alignment, bool zero,
                      void **ret_twin)
{
    void *twin = NULL;
    int r;

    if (!berth__movable_has_twin(tier)) {
        r = berth__tier_reserve(tier, held);
        if (r == 0 && berth__tier(tier)->kind == BERTH_KIND_NUMA) {
            /* Pages of an earlier use are where they are. */
            r = restore_home(p, held);
            if (r == 0)
                r = berth__movable_take_nodes(tier, p, held);
            if (r < 0)
                berth__tier_release(tier, held);
        }
        return r;
    }
    twin = alloc_twin(tier, held, alignment, zero);
    if (!twin)
        return -ENOSPC;
    r = map_twin(twin, held, p);
    if (r < 0) {
        berth__arena_free(tier, twin, held);
        return r;
    }
    *ret_twin = twin;
    return 0;
}

/* Frees a block's addresses, behind which there is something else. False: it stays there. */
static bool free_home(void *p, size_t held)
{
    static _Atomic int said;

    if (berth__owed_free(p, held) == 0)
        return true;
    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_MOVE,
                    "the memory behind a freed block cannot be put back, and is lost");
    return false;
}

/* Far from home from the start: the home backing is not touched, and does not count. */
static void *alloc_far(berth_tier_id tier, size_t size, size_t alignment, bool zero)
{
    void *twin = NULL;
    size_t held;
    void *p;
    int r;

    berth__extent_exceed(true);
    p = alloc_of(BERTH_HOME_MOVABLE, size, alignment,
                 zero && berth__tier(tier)->kind == BERTH_KIND_DRAM);
    berth__extent_exceed(false);
    if (!p)
        return NULL;
    held = berth__arena_held(p);
    r = enter_tier(tier, p, held, alignment, zero, &twin);
    berth__tier_release(BERTH_TIER_DRAM, held);
    if (r < 0) {
        free_home(p, held);
        return NULL;
    }
    berth__residence_add(p, held, tier | BERTH_RESIDENCE_LIVE | BERTH_RESIDENCE_REMAPPED, twin);
    return p;
}

void *berth__movable_alloc(berth_tier_id tier, size_t size, size_t alignment, bool zero)
{
    size_t granule;
    void *p;

    /* There nothing moves, and what keeps account of it may not be begun. */
    if (berth__sandbox_is_on())
        return NULL;
    if (size < BERTH_OS_PAGE) {
        atomic_fetch_add_explicit(&small_count, 1, memory_order_relaxed);
        return NULL;
    }
    if (!berth__movable_can_be_in(tier) || !berth__residency_open() ||
        (tier != BERTH_TIER_DRAM && !berth__movable_may_remap()))
        return NULL;
    if (!berth__owed_settle() && tier != BERTH_TIER_DRAM)
        return NULL;
    if (size < HELD_MIN)
        size = HELD_MIN;
    granule = berth__movable_granule(tier);
    if (alignment < granule)
        alignment = granule;
    if (size > PTRDIFF_MAX - granule)
        return NULL;
    /* Size classes from four times the granule on are multiples of it; below, some are. */
    size = (size + granule - 1) & ~(granule - 1);
    while (berth_je_nallocx(size, 0) & (granule - 1))
        size += granule;
    if (tier != BERTH_TIER_DRAM)
        return alloc_far(tier, size, alignment, zero);
    p = berth__arena_alloc(BERTH_HOME_MOVABLE, size, alignment, zero);
    if (p && BERTH_LIKELY(berth__gate_owns(p)) && berth__is_movable(p))
        berth__residence_add(p, berth__arena_held(p), BERTH_TIER_DRAM | BERTH_RESIDENCE_LIVE, NULL);
    return p;
}

void berth__movable_leave_tier(berth_tier_id tier, void *twin, size_t held)
{
    if (twin)
        berth__arena_free(tier, twin, held);
    else
        berth__tier_release(tier, held);
}

bool berth__movable_renew_twin(berth_tier_id tier, void *twin, size_t held)
{
    static _Atomic int said;
    struct berth_tier *of = berth__tier(tier);

    if (of->ops->decommit(of, twin, held) < 0 || of->ops->commit(of, twin, held) == 0)
        return true;
    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_MOVE,
                    "tier %s has become full while a block left it; part of it is not used again",
                    of->name);
    return false;
}

void berth__movable_finish_free(void *p, size_t held, uint32_t word)
{
    berth_tier_id tier = (berth_tier_id)(word & BERTH_RESIDENCE_TIER);
    void *twin = (void *)atomic_load(&berth__residence(p)->twin);

    berth__residence_remove(p);
    if (word & BERTH_RESIDENCE_REMAPPED) {
        if (tier == BERTH_TIER_DRAM)
            berth__tier_release(tier, held);
        if (free_home(p, held) && tier != BERTH_TIER_DRAM)
            berth__movable_leave_tier(tier, twin, held);
        return;
    }
    if (tier != BERTH_TIER_DRAM) {
        berth__tier_reserve_beyond(BERTH_TIER_DRAM, held);
        berth__movable_leave_tier(tier, twin, held);
    }
    berth__arena_free(BERTH_HOME_MOVABLE, p, held);
}

void berth__movable_free(void *p, size_t held)
{
    struct berth_residence *entry = berth__residence(p);
    uint32_t word = atomic_load_explicit(&entry->word, memory_order_relaxed);

    if (word & BERTH_RESIDENCE_MOVING) {
        berth__residence_unlock(entry, (word & ~BERTH_RESIDENCE_LIVE) | BERTH_RESIDENCE_FREED);
        return;
    }
    berth__residence_unlock(entry, word & ~BERTH_RESIDENCE_LIVE);
    berth__movable_finish_free(p, held, word & ~BERTH_RESIDENCE_LOCKED);
}

berth_tier_id berth__movable_hold(const void *p)
{
    struct berth_residence *entry = berth__residence(p);
    uint32_t word = berth__residence_lock(entry);

    return (berth_tier_id)(word & BERTH_RESIDENCE_TIER);
}

void berth__movable_let_go(const void *p)
{
    struct berth_residence *entry = berth__residence(p);

    berth__residence_unlock(entry, atomic_load_explicit(&entry->word, memory_order_relaxed));
}

bool berth__movable_can_resize(const void *p)
{
    uint32_t word = atomic_load_explicit(&berth__residence(p)->word, memory_order_relaxed);

    return !(word & (BERTH_RESIDENCE_MOVING | BERTH_RESIDENCE_REMAPPED)) &&
           (word & BERTH_RESIDENCE_TIER) == BERTH_TIER_DRAM;
}

void berth__movable_resized(const void *p, size_t held)
{
    atomic_store_explicit(&berth__residence(p)->pages, (uint32_t)(held >> BERTH_OS_PAGE_SHIFT),
                          memory_order_relaxed);
}

int berth__movable_follow_copies(void)
{
    for (const void *p = NULL; berth__residency_next_twin(&p);
         p = (const char *)p + BERTH_OS_PAGE) {
        struct berth_residence *entry = berth__residence(p);
        uint32_t word = atomic_load(&entry->word);
        void *twin = (void *)atomic_load(&entry->twin);
        size_t held = (size_t)atomic_load(&entry->pages) << BERTH_OS_PAGE_SHIFT;
        const struct berth_tier *tier = berth__tier((berth_tier_id)(word & BERTH_RESIDENCE_TIER));
        int r;

        if (!twin || !(word & BERTH_RESIDENCE_LIVE) || tier->fork == BERTH_FORK_SHARE)
            continue;
        /* Linux 6.17 looks whether there is room for more before it makes some (RLIMIT_AS). There
         * is no other thread that could take the addresses. */
        munmap((void *)p, held);
        r = map_twin(twin, held, (void *)p);
        if (r < 0)
            return r;
    }
    return 0;
}
