/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: memory that a handle names is accounted as long as anything refers to it, by any order. */
#include "alloc/entry_path.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_handle.h"
#include "alloc/stats.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE (2 * BERTH_MIB)

static uint64_t held(void)
{
    struct berth_cell_reading reading;

    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_UNTAGGED, &reading);
    return reading.held;
}

static void add(enum berth_handle_kind kind, uint64_t value, uint64_t size, const void *context)
{
    const struct berth_foreign reserved = {.size = size, .tier = BERTH_TIER_DEVICE};

    assert_int_equal(berth__foreign_reserve(&reserved), 0);
    berth__foreign_settle(&reserved);
    berth__handle_add(&(struct berth_handle){.kind = kind,
                                             .value = value,
                                             .size = size,
                                             .tier = BERTH_TIER_DEVICE,
                                             .tag = BERTH_TAG_UNTAGGED,
                                             .context = context});
}

static void release(enum berth_handle_kind kind, uint64_t value, bool is_refused)
{
    struct berth_handle_end end;

    berth__handle_begin(kind, value, &end);
    if (is_refused)
        berth__handle_undo(&end);
    else
        berth__handle_end(&end);
}

static void unmap(uintptr_t address, uint64_t size)
{
    berth__handle_unmap_begin(address, size);
    berth__handle_unmap_end(address, size);
}

static void mappings_and_references_keep_memory(void **state)
{
    uint64_t before = held();

    add(BERTH_HANDLE_MEMORY, 7, PAGE, NULL);
    berth__handle_map(7, 16 * PAGE, PAGE);
    berth__handle_map(7, 17 * PAGE, PAGE);
    release(BERTH_HANDLE_MEMORY, 7, true);
    release(BERTH_HANDLE_MEMORY, 7, false);
    assert_int_equal(held() - before, PAGE);
    /* The same memory by another number, found by an address inside. */
    berth__handle_retained(9, 17 * PAGE + 5);
    berth__handle_unmap_begin(16 * PAGE, 2 * PAGE);
    berth__handle_unmap_undo(16 * PAGE, 2 * PAGE);
    unmap(16 * PAGE, 2 * PAGE);
    assert_int_equal(held() - before, PAGE);
    release(BERTH_HANDLE_MEMORY, 9, false);
    assert_int_equal(held() - before, 0);
    /* What is not known changes nothing. */
    release(BERTH_HANDLE_MEMORY, 9, false);
    unmap(16 * PAGE, 2 * PAGE);
    assert_int_equal(held() - before, 0);
}

static void a_number_is_used_again(void **state)
{
    struct berth_handle_end end;
    uint64_t before = held();

    add(BERTH_HANDLE_MEMORY, 7, PAGE, NULL);
    berth__handle_begin(BERTH_HANDLE_MEMORY, 7, &end);
    /* The driver has taken it back, and gives the number to another thread. */
    add(BERTH_HANDLE_MEMORY, 7, 3 * PAGE, NULL);
    berth__handle_end(&end);
    assert_int_equal(held() - before, 3 * PAGE);
    /* Memory that went unseen gives way to what has its number now. */
    add(BERTH_HANDLE_MEMORY, 7, PAGE, NULL);
    assert_int_equal(held() - before, PAGE);
    release(BERTH_HANDLE_MEMORY, 7, false);
    assert_int_equal(held() - before, 0);
}

static void arrays_go_with_their_context(void **state)
{
    uint64_t before = held();
    int contexts[2];

    for (uint64_t i = 0; i < 1000; i++)
        add(BERTH_HANDLE_ARRAY, 5000 - i, 100, &contexts[i % 2]);
    berth__handle_drop(&contexts[0]);
    assert_int_equal(held() - before, 500 * 100);
    for (uint64_t i = 0; i < 1000; i++)
        release(BERTH_HANDLE_ARRAY, 4001 + i, false);
    assert_int_equal(held() - before, 0);
}

#define THREADS 4
#define ROUNDS 2000

static void *churn(void *argument)
{
    uint64_t number = (uint64_t)(uintptr_t)argument;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t value = number * ROUNDS + i;
        uintptr_t address = (uintptr_t)(value + 1) * PAGE;

        add(BERTH_HANDLE_MEMORY, value, PAGE, NULL);
        berth__handle_map(value, address, PAGE);
        release(BERTH_HANDLE_MEMORY, value, i % 3 == 0);
        unmap(address, PAGE);
        if (i % 3 == 0)
            release(BERTH_HANDLE_MEMORY, value, false);
        if (!berth__entry_counts)
            berth__entry_counts_acquire();
        __atomic_fetch_add(&berth__entry_counts->calls[0][0], 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    uint64_t before = held(),
             calls = berth__entry_calls(BERTH_ENTRY_SYMBOL, BERTH_ENTRY_cuMemAlloc_v2);
    pthread_t thread[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, churn, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(held() - before, 0);
    assert_int_equal(berth__entry_calls(BERTH_ENTRY_SYMBOL, BERTH_ENTRY_cuMemAlloc_v2) - calls,
                     THREADS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_and_references_keep_memory),
        cmocka_unit_test(a_number_is_used_again),
        cmocka_unit_test(arrays_go_with_their_context),
        cmocka_unit_test(threads_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
