/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: threads with contexts of their own choice allocate, fill, check and free blocks of all
 * sizes on a device that is too small for them, and free each other's blocks. Seeded; the seed is
 * printed. Goal: contents stay, blocks never overlap, the account adds up whenever nobody is in a
 * call, and what the driver gave is given back.
 */
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_obtain.h"
#include "alloc/stats.h"
#include "device_mock.h"
#include "seeded.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define SLOTS 64
#define ROUNDS 12
#define STEPS 1500
#define CAPACITY ((uint64_t)48 << 20)

struct slot {
    pthread_mutex_t lock;
    uintptr_t address;
    uint64_t size;
    unsigned char fill;
};

static struct slot slots[SLOTS];
static pthread_barrier_t barrier;

/* The ends of each OS page tell whether two blocks overlap; filling all of it is slow. */
static void fill(const struct slot *slot)
{
    for (uint64_t at = 0; at < slot->size; at += 512)
        *(volatile unsigned char *)(slot->address + at) = slot->fill;
    *(volatile unsigned char *)(slot->address + slot->size - 1) = slot->fill;
}

static void check_fill(const struct slot *slot)
{
    for (uint64_t at = 0; at < slot->size; at += 512)
        CHECK(*(volatile unsigned char *)(slot->address + at) == slot->fill);
    CHECK(*(volatile unsigned char *)(slot->address + slot->size - 1) == slot->fill);
}

static void slot_empty(struct slot *slot)
{
    struct berth_block_view view;

    CHECK(berth__pool_find(slot->address + slot->size / 2, &view) == 0);
    CHECK(view.base == slot->address && view.requested == slot->size);
    check_fill(slot);
    CHECK(berth__pool_free(slot->address) == 0);
    slot->address = 0;
}

static void slot_fill(struct slot *slot, uint64_t *seed)
{
    struct berth_pool_request request = {
        .size = 1 + draw(seed) % ((uint64_t)1 << (4 + draw(seed) % 20)),
        .tag = (enum berth_tag)(draw(seed) % BERTH_TAG_COUNT),
    };
    int r = berth__pool_alloc(&request, &slot->address);

    CHECK(r == 0 || r == -ENOMEM);
    if (r < 0)
        return;
    slot->size = request.size;
    slot->fill = (unsigned char)draw(seed);
    fill(slot);
    if (draw(seed) % 50 == 0)
        berth__pool_set_sync_memops(slot->address, true);
}

/* As cuMemGetInfo does. What others do meanwhile may be seen or not, but no more than there is. */
static void ask(uint64_t *seed)
{
    struct berth_obtainable here;

    berth__pool_obtainable(0, BERTH_TIER_DEVICE, &here);
    CHECK(here.of_tier <= here.reserved && here.pieces <= CAPACITY && here.gap <= CAPACITY);
    berth__pool_promise(0, draw(seed) % CAPACITY);
}

static void check_account(void)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[BERTH_TIER_DEVICE];
    struct berth_pool_audit audit;
    struct berth_cell_reading cell;
    uint64_t held = 0, cached = berth__stats_cached(BERTH_TIER_DEVICE);

    berth__pool_audit(&audit);
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        berth__stats_read(BERTH_TIER_DEVICE, (enum berth_tag)tag, &cell);
        held += cell.held;
    }
    CHECK(berth__pools_are_valid());
    CHECK(audit.held == held && audit.cached == cached);
    CHECK(stats->reserved == held + cached && stats->reserved == mock_bytes());
}

/* In each other round larger blocks serve again, and the oldest go back, before the pool grows. */
static void keep_spare(bool is_any)
{
    char why[BERTH_OPTION_WHY_MAX];

    CHECK(berth__option_set("spare", 5, is_any ? "200" : "0", is_any ? 3 : 1, BERTH_ORIGIN_COMMAND,
                            why) == 0);
}

static void *work(void *argument)
{
    uint64_t number = (uint64_t)(uintptr_t)argument;
    uint64_t seed = seed_base * 31 + number + 1;

    for (int round = 0; round < ROUNDS; round++) {
        for (int step = 0; step < STEPS; step++) {
            struct slot *slot = &slots[draw(&seed) % SLOTS];

            mock_set_current(mock_context((unsigned)(draw(&seed) % 3)));
            pthread_mutex_lock(&slot->lock);
            if (slot->address)
                slot_empty(slot);
            else
                slot_fill(slot, &seed);
            pthread_mutex_unlock(&slot->lock);
            if (draw(&seed) % 500 == 0)
                berth__pool_release_cached(0);
            if (draw(&seed) % 200 == 0)
                ask(&seed);
        }
        pthread_barrier_wait(&barrier);
        if (number == 0) {
            check_account();
            keep_spare(round % 2 == 1);
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];

    seed_base = argc > 1 ? strtoull(argv[1], NULL, 0) : 20261120;
    printf("seed %llu\n", (unsigned long long)seed_base);
    mock_reset(CAPACITY);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    mock_set_current(mock_context(0));
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].address)
            slot_empty(&slots[i]);
    berth__pool_release_cached(0);
    berth__pool_release_cached(1);
    check_account();
    CHECK(mock_bytes() == 0);
    printf("%llu driver allocations for %d steps\n", (unsigned long long)mock_calls(MOCK_ALLOC),
           THREADS * ROUNDS * STEPS);
    return 0;
}
