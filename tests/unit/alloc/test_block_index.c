/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the index finds every block that is in it and no other, through growth and removals, and a
 * reader without the lock never gets a block that does not start where it asked. Method: seeded
 * against an array; threads that look up while others change the table.
 */
#include "alloc/block_index.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BLOCKS 20000
#define READERS 2
#define ROUNDS 60000

static struct berth_slab slab;
static struct berth_block *blocks[BLOCKS];
static bool present[BLOCKS];
static uint64_t seed = 0x1dec5;
static atomic_bool done;

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uintptr_t address_of(unsigned i)
{
    return ((uintptr_t)i + 1) * (uintptr_t)BERTH_GRANULE * 3;
}

static void put_in(unsigned i)
{
    blocks[i] = berth__block_new(&slab, NULL);
    assert_non_null(blocks[i]);
    berth__block_set(blocks[i], address_of(i), BERTH_BLOCK_LIVE);
    berth__block_index_insert(blocks[i]);
    present[i] = true;
}

static void take_out(unsigned i)
{
    berth__block_index_remove(blocks[i]);
    berth__block_delete(&slab, blocks[i]);
    present[i] = false;
}

static void change_some(void)
{
    unsigned i = (unsigned)(draw(&seed) % BLOCKS);

    if (present[i])
        take_out(i);
    else
        put_in(i);
}

static void what_is_in_is_found_and_nothing_else(void **state)
{
    assert_null(berth__block_index_peek(512));
    for (int round = 0; round < ROUNDS; round++) {
        unsigned asked = (unsigned)(draw(&seed) % BLOCKS);

        change_some();
        assert_ptr_equal(berth__block_index_peek(address_of(asked)),
                         present[asked] ? blocks[asked] : NULL);
        assert_ptr_equal(berth__block_index_find(address_of(asked)),
                         present[asked] ? blocks[asked] : NULL);
        assert_null(berth__block_index_find(address_of(asked) + BERTH_GRANULE));
    }
}

/* A block may move on after it was found; that it starts elsewhere at once would be a miss. */
static void *read_on(void *argument)
{
    uint64_t state = (uintptr_t)argument + 77;
    uintptr_t wrong = 0;

    while (!atomic_load(&done)) {
        /* The first ones stay where they are. */
        uintptr_t address = address_of((unsigned)(draw(&state) % 100));
        struct berth_block *block = berth__block_index_peek(address);

        if (block && berth__block_address(block) != address)
            wrong++;
        block = berth__block_index_find(address);
        if (!block || berth__block_address(block) != address)
            wrong++;
    }
    return (void *)wrong;
}

static void readers_without_the_lock_get_no_other_block(void **state)
{
    pthread_t thread[READERS];

    for (unsigned i = 0; i < BLOCKS; i++)
        if (present[i])
            take_out(i);
    for (unsigned i = 0; i < 100; i++)
        put_in(i);
    atomic_store(&done, false);
    for (uintptr_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_on, (void *)i), 0);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned i = 100 + (unsigned)(draw(&seed) % (BLOCKS - 100));

        if (present[i])
            take_out(i);
        else
            put_in(i);
    }
    atomic_store(&done, true);
    for (unsigned i = 0; i < READERS; i++) {
        void *wrong;

        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_is_found_and_nothing_else),
        cmocka_unit_test(readers_without_the_lock_get_no_other_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
