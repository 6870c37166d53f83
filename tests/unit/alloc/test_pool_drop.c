/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: threads allocate blocks and free them lazily, their own and each other's, while another
 * one drops all memory of the context again and again, as a reset of the device does. Seeded; the
 * seed is printed. Goal: whoever has just taken blocks of a batch that has passed neither keeps nor
 * finds one that was dropped meanwhile, the account adds up at the end, and a sanitizer sees no
 * race. The points of the simulated driver pass at the second question.
 */
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/stats.h"
#include "device_mock.h"
#include "seeded.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 3
#define DROPS 300
#define STEPS 1500 /* between two drops, of all threads */
#define SLOTS 64
#define YIELDS 20
#define CAPACITY ((uint64_t)4 << 30)

static _Atomic uintptr_t slots[SLOTS];
static _Atomic uint64_t steps;
static atomic_bool is_over;

static berth_cu_result event_create(berth_cu_event *event, unsigned flags)
{
    *event = calloc(1, sizeof(atomic_int));
    return flags == 2 && *event ? BERTH_CU_SUCCESS : BERTH_CU_OUT_OF_MEMORY;
}

static berth_cu_result event_record(berth_cu_context context, berth_cu_event event)
{
    atomic_store((atomic_int *)(void *)event, 1);
    return context ? BERTH_CU_SUCCESS : BERTH_CU_INVALID_VALUE;
}

/* Slow, so that batches are often in somebody's hands when the context goes. */
static berth_cu_result event_query(berth_cu_event event)
{
    for (unsigned i = 0; i < YIELDS; i++)
        sched_yield();
    return atomic_fetch_sub((atomic_int *)(void *)event, 1) > 0 ? BERTH_CU_NOT_READY
                                                                : BERTH_CU_SUCCESS;
}

/* A block that was dropped is not the pool's any more; one that is cannot be freed twice. */
static void step(uint64_t *seed)
{
    static const uint64_t sizes[] = {512, 4096, 65536, 300000, (uint64_t)3 << 20};
    const struct berth_pool_request request = {
        .size = sizes[draw(seed) % (sizeof(sizes) / sizeof(sizes[0]))],
    };
    _Atomic uintptr_t *slot = &slots[draw(seed) % SLOTS];
    uintptr_t block = 0;

    if (berth__pool_alloc(&request, &block) != 0)
        return;
    block = atomic_exchange(slot, block);
    if (block)
        berth__pool_free(block);
}

static void *work(void *argument)
{
    uint64_t seed = seed_base * 31 + (uint64_t)(uintptr_t)argument + 1;

    mock_set_current(mock_context(0));
    while (!atomic_load(&is_over)) {
        step(&seed);
        atomic_fetch_add(&steps, 1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[BERTH_TIER_DEVICE];
    pthread_t threads[THREADS];

    seed_base = argc > 1 ? strtoull(argv[1], NULL, 0) : 20261120;
    printf("seed %llu\n", (unsigned long long)seed_base);
    mock_reset(CAPACITY);
    berth__driver.cuEventCreate = event_create;
    berth__driver.cuEventQuery = event_query;
    berth__driver.cuCtxRecordEvent = event_record;
    CHECK(berth__options_parse("free=lazy", BERTH_ORIGIN_ENVIRONMENT, NULL, NULL) == 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (uint64_t drop = 1; drop <= DROPS; drop++) {
        while (atomic_load(&steps) < drop * STEPS)
            sched_yield();
        berth__pool_doubt_begin();
        mock_destroy(mock_context(0));
        berth__pool_drop(mock_context(0));
        mock_create(mock_context(0));
        berth__pool_doubt_end();
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(berth__pools_are_valid());
    berth__pool_drop(mock_context(0));
    CHECK(berth__pools_are_valid());
    CHECK(atomic_load(&stats->reserved) == 0 && berth__stats_cached(BERTH_TIER_DEVICE) == 0);
    printf("%llu steps, %llu points\n", (unsigned long long)atomic_load(&steps),
           (unsigned long long)atomic_load(&berth__lazy_counts.points));
    return 0;
}
