/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_fixture.h"

#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_walk.h"
#include "alloc/site.h"
#include "alloc/site_account.h"
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

/* The site of every block that the tests here ask for. */
static berth_site_id the_site(void)
{
    const void *frame = (const void *)the_site;

    return berth__site_intern(&frame, 1);
}

static int add_sited(void *context, const struct berth_segment_row *segment,
                     const struct berth_block_row *blocks)
{
    struct berth_site_total *sum = context;

    for (uint32_t i = 0; i < segment->blocks; i++) {
        sum->frees += blocks[i].use == BERTH_USE_WAITING;
        if (blocks[i].use != BERTH_USE_LIVE || blocks[i].site == 0)
            continue;
        sum->held += blocks[i].size;
        sum->requested += blocks[i].requested;
        sum->blocks++;
    }
    return 0;
}

/*
 * The account by call site says what a walk over the blocks says, which does not tell blocks that
 * are being freed, and still count, from those that wait.
 */
static void assert_site_adds_up(void)
{
    struct berth_site_total total = {0}, sum = {0};

    if (!berth__site_account_total(the_site(), &total))
        return;
    assert_int_equal(berth__pool_walk(add_sited, &sum), 0);
    assert_in_range(total.blocks, sum.blocks, sum.blocks + sum.frees);
    assert_int_equal(total.allocs - total.frees, total.blocks);
    if (sum.frees == 0) {
        assert_int_equal(total.held, sum.held);
        assert_int_equal(total.requested, sum.requested);
    }
    assert_true(total.peak_held >= total.held);
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
    assert_site_adds_up();
}

void pool_set_option(const char *name, const char *value)
{
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(
        berth__option_set(name, strlen(name), value, strlen(value), BERTH_ORIGIN_COMMAND, why), 0);
}

void pool_set_thread_cache(const char *size)
{
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(
        berth__option_set("thread-cache", 12, size, strlen(size), BERTH_ORIGIN_ENVIRONMENT, why),
        0);
}

unsigned pool_calls_to_a_check = 1;

/* After a call. */
static void check_some(void)
{
    static unsigned calls;

    if (++calls % pool_calls_to_a_check == 0)
        pool_assert_adds_up();
}

int pool_set_up(void **state)
{
    pool_calls_to_a_check = 1;
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
    struct berth_pool_request request = {.size = size, .tag = BERTH_TAG_WEIGHT, .site = the_site()};
    int r = berth__pool_alloc(&request, ret);

    check_some();
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
    check_some();
}

int pool_try_alloc_in(berth_tier_id tier, uint64_t size, uintptr_t *ret)
{
    struct berth_pool_request request = {.size = size, .tier = tier, .site = the_site()};

    return berth__pool_alloc(&request, ret);
}

int pool_reserve_foreign(berth_tier_id tier, uint64_t size)
{
    const struct berth_foreign foreign = {.size = size, .tier = tier, .tag = BERTH_TAG_UNTAGGED};
    int r = berth__foreign_reserve(&foreign);

    if (r == 0)
        berth__foreign_settle(&foreign);
    return r;
}

struct berth_pool_audit pool_audit(void)
{
    struct berth_pool_audit answer;

    berth__pool_audit(&answer);
    return answer;
}

uint64_t pool_driver_calls(void)
{
    return mock_calls(MOCK_ALLOC) + mock_calls(MOCK_FREE);
}

static bool (*device_is_busy)(void);

static berth_cu_result event_make(berth_cu_event *event, unsigned flags)
{
    *event = (berth_cu_event)event;
    return BERTH_CU_SUCCESS;
}

static berth_cu_result event_record(berth_cu_context context, berth_cu_event event)
{
    return BERTH_CU_SUCCESS;
}

static berth_cu_result event_query(berth_cu_event event)
{
    return device_is_busy() ? BERTH_CU_NOT_READY : BERTH_CU_SUCCESS;
}

void pool_set_busy(bool (*is_busy)(void))
{
    device_is_busy = is_busy;
    berth__driver.cuEventCreate = event_make;
    berth__driver.cuEventQuery = event_query;
    berth__driver.cuCtxRecordEvent = event_record;
}
