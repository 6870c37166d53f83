/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_fixture.h"

#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "device_mock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint64_t held_in_cells(void)
{
    struct berth_cell_reading cell;
    uint64_t held = 0;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        berth__stats_read(BERTH_TIER_DEVICE, (enum berth_tag)tag, &cell);
        held += cell.held;
    }
    return held;
}

void pool_assert_adds_up(void)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[BERTH_TIER_DEVICE];
    struct berth_pool_audit audit;

    berth__pool_audit(&audit);
    assert_true(berth__pools_are_valid());
    assert_int_equal(audit.held, held_in_cells());
    assert_int_equal(audit.cached, berth__stats_cached(BERTH_TIER_DEVICE));
    assert_int_equal(audit.reserved, stats->reserved);
    assert_int_equal(audit.reserved, audit.held + audit.cached + audit.waiting + audit.kept);
    assert_int_equal(audit.reserved, mock_bytes());
    assert_int_equal(audit.segments, mock_allocations());
    assert_int_equal(mock_depth() > 1, 0);
}

void pool_set_thread_cache(const char *size)
{
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(
        berth__option_set("thread-cache", 12, size, strlen(size), BERTH_ORIGIN_ENVIRONMENT, why),
        0);
}

int pool_set_up(void **state)
{
    berth__option_unset(BERTH_OPTION_THREAD_CACHE, BERTH_ORIGIN_ENVIRONMENT);
    for (unsigned i = 0; i < 4; i++)
        berth__pool_drop(mock_context(i));
    mock_reset(GIB(1));
    mock_set_current(mock_context(0));
    berth__tier(BERTH_TIER_DEVICE)->capacity = 0;
    atomic_store(&berth__device_captures, 0);
    return 0;
}

int pool_tear_down(void **state)
{
    pool_assert_adds_up();
    return 0;
}

int pool_try_alloc(uint64_t size, uintptr_t *ret)
{
    struct berth_pool_request request = {.size = size, .tag = BERTH_TAG_WEIGHT};
    int r = berth__pool_alloc(&request, ret);

    pool_assert_adds_up();
    return r;
}

uintptr_t pool_get(uint64_t size)
{
    uintptr_t address = 0;

    assert_int_equal(pool_try_alloc(size, &address), 0);
    assert_int_equal(address % 512, 0);
    return address;
}

void pool_put(uintptr_t address)
{
    assert_int_equal(berth__pool_free(address), 0);
    pool_assert_adds_up();
}

int pool_try_alloc_in(berth_tier_id tier, uint64_t size, uintptr_t *ret)
{
    struct berth_pool_request request = {.size = size, .tier = tier};

    return berth__pool_alloc(&request, ret);
}
