/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/extent.h"

#include "alloc/birth.h"
#include "alloc/sandbox.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "pmem/huge_advice.h"
#include "pmem/residency.h"
#include "pmem/window.h"

#include <errno.h>

static __thread bool commit_failed;
static __thread bool addresses_only;
static __thread bool exceeds;
static __thread size_t had; /* of new memory since it began */

void berth__extent_begin(void)
{
    commit_failed = false;
    had = 0;
}

size_t berth__extent_had(void)
{
    return had;
}

void berth__extent_take_addresses(bool on)
{
    addresses_only = on;
}

void berth__extent_exceed(bool on)
{
    exceeds = on;
}

static berth_home_id home_of(extent_hooks_t *hooks)
{
    return ((struct berth_extent_hooks *)(void *)hooks)->home;
}

static berth_tier_id tier_of(extent_hooks_t *hooks)
{
    return berth__home_tier(home_of(hooks));
}

/*
 * Memory of a window is had and given back by system calls that a sandbox may forbid: in ordinary
 * memory, too, where jemalloc's own arenas serve what these do not.
 */
static bool is_shut(void)
{
    return BERTH_UNLIKELY(berth__sandbox_is_on());
}

/* jemalloc's hooks say true for failure. */
static bool commit_range(berth_tier_id id, void *address, size_t size)
{
    struct berth_tier *tier = berth__tier(id);

    if (addresses_only)
        return false;
    if (is_shut())
        goto err;
    if (exceeds)
        berth__tier_reserve_beyond(id, size);
    else if (berth__tier_reserve(id, size) < 0)
        goto err;
    if (tier->ops->commit(tier, address, size) < 0)
        goto err_release;
    had += size;
    return false;

err_release:
    berth__tier_release(id, size);
err:
    commit_failed = true;
    return true;
}

/* Whether the capacity could take `size` more; jemalloc then asks again for just what it needs. */
static bool has_capacity(berth_tier_id id, const struct berth_tier *tier, size_t size)
{
    uint64_t capacity = atomic_load_explicit(&tier->capacity, memory_order_relaxed);
    uint64_t reserved = atomic_load_explicit(&berth__tier_stats[id].reserved, memory_order_relaxed);

    return capacity == 0 || exceeds || (reserved <= capacity && size <= capacity - reserved);
}

static bool decommit_range(berth_tier_id id, void *address, size_t size)
{
    struct berth_tier *tier = berth__tier(id);

    if (addresses_only)
        return false;
    if (is_shut() || tier->ops->decommit(tier, address, size) < 0)
        return true;
    berth__tier_release(id, size);
    return false;
}

/*
 * Huge pages lie at multiples of their size: a step that begins between two wastes its ends. One
 * that has none, as each extent's own in a limited process, would only waste what lies before the
 * next; reserved pages are mapped whole, whatever the size.
 */
static size_t step_alignment(const struct berth_tier *tier, size_t size, size_t alignment)
{
    bool has_huge = tier->huge_pages == BERTH_HUGE_ALWAYS ||
                    (tier->huge_pages == BERTH_HUGE_ADVISE && size >= BERTH_HUGE_PAGE);
    size_t least = has_huge ? BERTH_HUGE_PAGE : BERTH_OS_PAGE;

    return alignment < least ? least : alignment;
}

static bool is_reached(extent_hooks_t *hooks, const void *p, size_t size)
{
    return home_of(hooks) != BERTH_HOME_MOVABLE || berth__residency_reach(p, size);
}

static void *extent_alloc(extent_hooks_t *hooks, void *new_address, size_t size, size_t alignment,
                          bool *zero, bool *commit, unsigned arena)
{
    berth_tier_id id = tier_of(hooks);
    struct berth_tier *tier = berth__tier(id);
    void *p;
    int r;

    (void)arena;
    /* To grow an extent where it lies is for jemalloc's retained extents; new ones lie elsewhere.
     */
    if (new_address || commit_failed || is_shut() ||
        (!addresses_only && !has_capacity(id, tier, size)))
        return NULL;
    p = berth__window_carve(home_of(hooks), size, step_alignment(tier, size, alignment));
    if (!p)
        return NULL;
    r = is_reached(hooks, p, size) ? tier->ops->map(tier, p, size) : -ENOMEM;
    if (r < 0 || (*commit && commit_range(id, p, size))) {
        if (r != -ESTALE)
            berth__window_uncarve(home_of(hooks), p, size);
        return NULL;
    }
    *zero = true;
    return p;
}

/* Refused: the addresses stay jemalloc's, which then decommits and retains them. */
static bool extent_dalloc(extent_hooks_t *hooks, void *address, size_t size, bool committed,
                          unsigned arena)
{
    (void)hooks;
    (void)address;
    (void)size;
    (void)committed;
    (void)arena;
    return true;
}

static void extent_destroy(extent_hooks_t *hooks, void *address, size_t size, bool committed,
                           unsigned arena)
{
    (void)arena;
    if (committed)
        decommit_range(tier_of(hooks), address, size);
}

static bool extent_commit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
                          size_t length, unsigned arena)
{
    (void)size;
    (void)arena;
    if (!addresses_only)
        atomic_fetch_add_explicit(&((struct berth_extent_hooks *)(void *)hooks)->had, length,
                                  memory_order_relaxed);
    return commit_range(tier_of(hooks), (char *)address + offset, length);
}

/* Pieces that go back one after the other, as a program frees what it has, are one round. */
static void count_piece(struct berth_extent_hooks *hooks)
{
    uint64_t now = berth__birth_now();

    if (atomic_load_explicit(&hooks->had, memory_order_relaxed) < BERTH_EXTENT_PIECE)
        return;
    atomic_store_explicit(&hooks->had, 0, memory_order_relaxed);
    if (now - atomic_load_explicit(&hooks->period_begin, memory_order_relaxed) >
        BERTH_EXTENT_PERIOD_NS) {
        atomic_store_explicit(&hooks->period_begin, now, memory_order_relaxed);
        atomic_store_explicit(&hooks->rounds, 0, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&hooks->rounds, 1, memory_order_relaxed);
}

static bool extent_decommit(extent_hooks_t *hooks, void *address, size_t size, size_t offset,
                            size_t length, unsigned arena)
{
    (void)size;
    (void)arena;
    if (BERTH_UNLIKELY(length >= BERTH_EXTENT_PIECE && !addresses_only))
        count_piece((struct berth_extent_hooks *)(void *)hooks);
    return decommit_range(tier_of(hooks), (char *)address + offset, length);
}

static bool extent_split(extent_hooks_t *hooks, void *address, size_t size, size_t size_a,
                         size_t size_b, bool committed, unsigned arena)
{
    (void)hooks;
    (void)address;
    (void)size;
    (void)size_a;
    (void)size_b;
    (void)committed;
    (void)arena;
    return false;
}

static bool extent_merge(extent_hooks_t *hooks, void *address_a, size_t size_a, void *address_b,
                         size_t size_b, bool committed, unsigned arena)
{
    (void)hooks;
    (void)address_a;
    (void)size_a;
    (void)address_b;
    (void)size_b;
    (void)committed;
    (void)arena;
    return false;
}

const extent_hooks_t berth__extent_hooks = {
    .alloc = extent_alloc,
    .dalloc = extent_dalloc,
    .destroy = extent_destroy,
    .commit = extent_commit,
    .decommit = extent_decommit,
    .split = extent_split,
    .merge = extent_merge,
};
