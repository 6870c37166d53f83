/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: expandable segments serve blocks of all sizes from one range whose memory moves to where it
 * is needed; their account adds up at every point, whatever driver call fails. Method: a driver of
 * a few lines with virtual memory management (pages_mock.h), in which memory that may not be used
 * crashes.
 */
#include "alloc/options.h"
#include "alloc/peer.h"
#include "alloc/pool.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_walk.h"
#include "alloc/range.h"
#include "alloc/tier_ops.h"
#include "pages_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
    pool_set_up(state);
    pages_mock_bind();
    pool_set_option("segments", "expandable");
    return 0;
}

static int tear_down(void **state)
{
    pool_tear_down(state);
    mock_fail_none();
    for (unsigned i = 0; i < 4; i++) {
        berth__pool_drop(mock_context(i));
        berth__peer_drop(mock_context(i));
    }
    /* What a context had is given back with it: nothing of the driver's destroys it. */
    assert_int_equal(pages_mock_pages(), 0);
    assert_int_equal(mock_other_allocations, 0);
    pool_set_option("segments", "own");
    pool_set_option("device-limit", "0");
    return 0;
}

#define EXPAND(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* Uses the block at both ends and in each of its pages. */
static void touch(uintptr_t address, uint64_t size, int value)
{
    for (uint64_t at = 0; at < size; at += MIB(1))
        *(volatile unsigned char *)(address + at) = (unsigned char)value;
    *(volatile unsigned char *)(address + size - 1) = (unsigned char)value;
}

static uintptr_t get_filled(uint64_t size)
{
    uintptr_t address = pool_get(size);

    touch(address, size, 0x5a);
    return address;
}

static void blocks_of_all_sizes_are_neighbours(void **state)
{
    uintptr_t a = get_filled(KIB(4)), b = get_filled(MIB(3)), c = get_filled(MIB(2));
    struct berth_block_view view;

    assert_int_equal(b, a + KIB(4));
    assert_int_equal(c, b + MIB(3));
    assert_int_equal(mock_calls(MOCK_ALLOC), 0);
    assert_int_equal(mock_calls(MOCK_RESERVE), 1);
    assert_int_equal(pages_mock_pages(), 3);
    assert_int_equal(berth__pool_find(b + MIB(1), &view), 0);
    assert_int_equal(view.base, b);
    assert_int_equal(view.requested, MIB(3));
    assert_false(view.is_whole);
    assert_int_equal(view.page_size, MIB(2));
    assert_ptr_equal(view.context, mock_context(0));
    pool_put(a);
    pool_put(b);
    pool_put(c);
    assert_int_equal(berth__pool_cached(0), MIB(6));
    /* All of it is one free block again. */
    assert_int_equal(pool_get(MIB(6)), a);
    pool_put(a);
}

/* Above what was ever live at once, memory moves instead of being asked for. */
static void memory_moves_to_where_it_is_needed(void **state)
{
    uintptr_t a = get_filled(MIB(64)), keep = get_filled(MIB(2)), b = get_filled(MIB(64)), big;

    pool_put(a);
    pool_put(b);
    assert_int_equal(mock_calls(MOCK_CREATE), 65);
    /* Neither hole is large enough; both together are. */
    big = get_filled(MIB(100));
    /* One page may be new: a 64th of 130 MiB. */
    assert_int_equal(mock_calls(MOCK_CREATE), 66);
    assert_int_equal(mock_calls(MOCK_UNMAP), 1);
    assert_int_equal(pages_mock_pages(), 66);
    assert_int_equal(mock_bytes(), MIB(132));
    pool_put(big);
    /* The same again finds its place as it is. */
    assert_int_equal(pool_get(MIB(100)), big);
    assert_int_equal(mock_calls(MOCK_UNMAP), 1);
    assert_int_equal(mock_calls(MOCK_MAP), 65 + 18);
    pool_put(big);
    pool_put(keep);
}

static void holes_are_filled_before_the_range_grows(void **state)
{
    uintptr_t a = get_filled(MIB(40)), keep = get_filled(KIB(512)), c;

    pool_put(a);
    assert_int_equal(berth__pool_release_cached(0), MIB(40));
    assert_int_equal(pages_mock_pages(), 1);
    c = get_filled(MIB(20));
    assert_true(c < keep + MIB(64));
    pool_put(c);
    c = get_filled(MIB(40));
    assert_true(c < keep + MIB(64));
    pool_put(c);
    pool_put(keep);
}

/* What the thread keeps does not make a gap look too small; else a larger one would be cut. */
static void small_blocks_of_the_thread_are_joined_for_a_large_one(void **state)
{
    uintptr_t a = get_filled(MIB(1)), small = get_filled(KIB(4)), b = get_filled(MIB(1)),
              keep = get_filled(MIB(2)), c = get_filled(MIB(4)), end = get_filled(MIB(2)), large;

    pool_put(c);
    pool_put(a);
    pool_put(small);
    pool_put(b);
    large = get_filled(MIB(2));
    assert_int_equal(large, a);
    pool_put(large);
    pool_put(keep);
    pool_put(end);
}

/* For a request that finds a block of just its size they are left where they are. */
static void small_blocks_of_the_thread_stay_where_a_block_fits(void **state)
{
    uintptr_t a = get_filled(MIB(1)), keep = get_filled(MIB(2)), small = get_filled(KIB(4)),
              large = get_filled(MIB(3)), other = get_filled(MIB(2)), b = get_filled(KIB(68)),
              end = get_filled(MIB(2));

    pool_put(a);
    pool_put(small);
    pool_put(large);
    pool_put(b);
    assert_int_equal(get_filled(MIB(1)), a);
    /* The pool has less room where `b` was, and would take that first. */
    assert_int_equal(get_filled(KIB(4)), small);
    pool_put(a);
    pool_put(small);
    pool_put(keep);
    pool_put(other);
    pool_put(end);
}

/* A gap that fits is used although its memory has gone, and a larger one has all of its own. */
static void the_smallest_gap_is_used_with_memory_or_without(void **state)
{
    uintptr_t a = get_filled(MIB(10)), keep = get_filled(MIB(2)), b = get_filled(MIB(20)),
              other = get_filled(MIB(2)), end, c;

    pool_put(a);
    /* It does not fit there, and takes the pages along. */
    end = get_filled(MIB(14));
    assert_true(end > other);
    assert_true(mock_calls(MOCK_UNMAP) > 0);
    pool_put(b);
    c = get_filled(MIB(10));
    assert_int_equal(c, a);
    pool_put(c);
    assert_int_equal(get_filled(MIB(20)), b);
    pool_put(b);
    pool_put(end);
    pool_put(other);
    pool_put(keep);
}

/* Where the driver moves no memory, a larger gap that has memory serves as well. */
static void a_free_block_serves_where_no_memory_moves(void **state)
{
    uintptr_t a = get_filled(MIB(10)), keep = get_filled(MIB(2)), b = get_filled(MIB(20)),
              other = get_filled(MIB(2)), end, c;

    pool_put(a);
    end = get_filled(MIB(14));
    pool_put(b);
    mock_fail(MOCK_ACCESS, 1, 999);
    c = get_filled(MIB(10));
    mock_fail_none();
    assert_in_range(c, b, b + MIB(10));
    pool_put(c);
    pool_put(end);
    pool_put(other);
    pool_put(keep);
}

static void what_is_cached_is_given_back_by_pages(void **state)
{
    uintptr_t a = get_filled(MIB(8)), b = get_filled(MIB(1)), c = get_filled(MIB(8));

    pool_put(a);
    pool_put(c);
    assert_int_equal(berth__pool_release_some(0, MIB(3)), MIB(4));
    pool_assert_adds_up();
    assert_int_equal(berth__pool_release_cached(0), MIB(12));
    pool_assert_adds_up();
    assert_int_equal(pages_mock_pages(), 1);
    /* The block in the middle has kept its bytes. */
    assert_int_equal(*(unsigned char *)(b + MIB(1) - 1), 0x5a);
    pool_put(b);
    assert_int_equal(berth__pool_release_cached(0), MIB(2));
    assert_int_equal(mock_bytes(), 0);
}

static uint64_t walked_bytes;
static unsigned walked_runs;

static int walk(void *context, const struct berth_segment_row *segment,
                const struct berth_block_row *blocks)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < segment->blocks; i++) {
        assert_int_equal(blocks[i].address, segment->base + bytes);
        bytes += blocks[i].size;
    }
    assert_int_equal(bytes, segment->size);
    walked_bytes += bytes;
    walked_runs++;
    return 0;
}

static void walkers_see_runs_that_have_memory(void **state)
{
    uintptr_t a = get_filled(MIB(8)), b = get_filled(MIB(1)), c = get_filled(MIB(7)),
              d = get_filled(MIB(2));

    pool_put(a);
    pool_put(c);
    berth__pool_release_cached(0);
    walked_bytes = 0;
    walked_runs = 0;
    assert_int_equal(berth__pool_walk(walk, NULL), 0);
    assert_int_equal(walked_bytes, mock_bytes());
    assert_int_equal(walked_runs, 2);
    pool_put(b);
    pool_put(d);
}

static void a_full_device_is_helped_by_free_pages(void **state)
{
    uintptr_t a, b, c, keep[4];

    mock_set_capacity(MIB(64));
    a = get_filled(MIB(20));
    keep[0] = get_filled(KIB(64));
    b = get_filled(MIB(20));
    keep[1] = get_filled(KIB(64));
    c = get_filled(MIB(20));
    pool_put(a);
    pool_put(c);
    a = get_filled(MIB(38));
    pool_put(a);
    pool_put(b);
    a = 0;
    assert_int_equal(pool_try_alloc(MIB(80), &a), -ENOMEM);
    assert_int_equal(a, 0);
    a = get_filled(MIB(58));
    pool_put(a);
    pool_put(keep[0]);
    pool_put(keep[1]);
}

static void a_limit_bounds_the_pages(void **state)
{
    uintptr_t a, b = 0;

    pool_set_option("device-limit", "16M");
    a = get_filled(MIB(10));
    assert_int_equal(pool_try_alloc(MIB(8), &b), -EDQUOT);
    b = get_filled(MIB(6));
    pool_put(a);
    pool_put(b);
    assert_int_equal(mock_bytes(), MIB(16));
}

static void peers_reach_all_pages_then_and_later(void **state)
{
    uintptr_t a = get_filled(MIB(6)), b;

    assert_int_equal(berth__peer_add(mock_context(0), mock_context(2), 1), 0);
    assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
    assert_int_equal(pages_mock_open(1), 3);
    b = get_filled(MIB(8));
    assert_int_equal(pages_mock_open(1), 7);
    berth__peer_remove(mock_context(0), mock_context(2));
    assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
    assert_int_equal(pages_mock_open(1), 0);
    assert_int_equal(pages_mock_open(0), 7);
    /* A context's range that is made later knows its peers. */
    assert_int_equal(berth__peer_add(mock_context(1), mock_context(2), 1), 0);
    mock_set_current(mock_context(1));
    pool_put(get_filled(MIB(2)));
    assert_int_equal(pages_mock_open(1), 1);
    mock_fail(MOCK_ACCESS, 1, 4);
    assert_int_equal(berth__peer_add(mock_context(0), mock_context(3), 1), 0);
    assert_int_equal(berth__device_result(berth__pool_open_to_peers(mock_context(0))), 4);
    pool_put(a);
    pool_put(b);
}

static enum mock_call awaited;
static uintptr_t got_inside;

/* Another thread ends the access of a peer while pages are on their way that it was let into. */
static void leave_inside(enum mock_call call)
{
    if (call != awaited)
        return;
    mock_during = NULL;
    berth__peer_remove(mock_context(0), mock_context(2));
    assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
}

static void a_peer_that_leaves_meanwhile_is_left_out(void **state)
{
    const enum mock_call calls[] = {MOCK_CREATE, MOCK_MAP, MOCK_ACCESS};
    uintptr_t keep = get_filled(MIB(2)), block;

    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(berth__peer_add(mock_context(0), mock_context(2), 1), 0);
        assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
        assert_int_equal(pages_mock_open(1), 1);
        awaited = calls[i];
        mock_during = leave_inside;
        block = get_filled(MIB(8));
        mock_during = NULL;
        assert_int_equal(pages_mock_open(1), 0);
        pool_put(block);
        berth__pool_release_cached(0);
    }
    pool_put(keep);
}

/* Another thread asks for what only pages that move could give. */
static void ask_inside(enum mock_call call)
{
    if (call != awaited)
        return;
    mock_during = NULL;
    got_inside = get_filled(MIB(100));
}

static void no_page_moves_while_a_peer_is_let_in(void **state)
{
    uintptr_t a = get_filled(MIB(64)), keep = get_filled(MIB(2)), b = get_filled(MIB(64));

    pool_put(a);
    pool_put(b);
    assert_int_equal(berth__peer_add(mock_context(0), mock_context(2), 1), 0);
    awaited = MOCK_ACCESS;
    mock_during = ask_inside;
    assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
    mock_during = NULL;
    assert_int_not_equal(got_inside, 0);
    assert_int_equal(mock_calls(MOCK_UNMAP), 0);
    assert_int_equal(pages_mock_open(1), pages_mock_pages());
    berth__peer_remove(mock_context(0), mock_context(2));
    assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
    pool_put(got_inside);
    pool_put(keep);
}

static void peers_are_counted_by_context(void **state)
{
    assert_int_equal(berth__peer_add(mock_context(0), mock_context(2), 1), 0);
    assert_int_equal(berth__peer_add(mock_context(0), mock_context(3), 1), 0);
    assert_int_equal(berth__peer_devices(mock_context(0)), 2);
    berth__peer_remove(mock_context(0), mock_context(2));
    assert_int_equal(berth__peer_devices(mock_context(0)), 2);
    berth__peer_drop(mock_context(3));
    assert_int_equal(berth__peer_devices(mock_context(0)), 0);
    assert_int_equal(berth__peer_add(mock_context(0), mock_context(3), 64), -ERANGE);
}

static void a_destroyed_context_gives_its_pages_back(void **state)
{
    uintptr_t a = get_filled(MIB(10)), b;

    pool_put(get_filled(MIB(30)));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    assert_int_equal(pages_mock_pages(), 0);
    assert_int_equal(mock_other_allocations, 0);
    assert_int_equal(berth__pool_free(a), BERTH_POOL_FORWARD);
    mock_create(mock_context(0));
    b = get_filled(MIB(4));
    pool_put(b);
}

/* While pages are moving no lock is held: this would never return. */
static enum mock_call moving;
static unsigned served;
static void serve_inside(enum mock_call call)
{
    struct berth_pool_request request = {.size = KIB(8)};
    uintptr_t address = 0;

    if (call != moving)
        return;
    mock_during = NULL;
    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    touch(address, KIB(8), 1);
    assert_int_equal(berth__pool_free(address), 0);
    served++;
    mock_during = serve_inside;
}

static void others_are_served_while_pages_move(void **state)
{
    static const enum mock_call calls[] = {MOCK_CREATE, MOCK_MAP, MOCK_UNMAP, MOCK_RELEASE,
                                           MOCK_ACCESS};
    uintptr_t small = get_filled(KIB(16)), a, b;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        moving = calls[i];
        served = 0;
        mock_during = serve_inside;
        a = get_filled(MIB(12));
        b = get_filled(MIB(2));
        pool_put(a);
        a = get_filled(MIB(16));
        pool_put(a);
        berth__pool_release_cached(0);
        mock_during = NULL;
        pool_assert_adds_up();
        assert_true(served > 0);
        pool_put(b);
    }
    pool_put(small);
}

/* The context is destroyed by another thread while its pages move. */
static void drop_inside(enum mock_call call)
{
    if (call != moving)
        return;
    mock_during = NULL;
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
}

static void a_context_may_go_while_pages_move(void **state)
{
    static const enum mock_call calls[] = {MOCK_CREATE, MOCK_MAP, MOCK_UNMAP, MOCK_RELEASE,
                                           MOCK_ACCESS};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct berth_pool_request request = {.size = MIB(16)};
        bool is_release = calls[i] == MOCK_RELEASE || calls[i] == MOCK_UNMAP;
        uintptr_t address = 0, a, b;
        int r = 0;

        a = get_filled(MIB(12));
        b = get_filled(MIB(2));
        pool_put(a);
        moving = calls[i];
        mock_during = drop_inside;
        if (is_release)
            berth__pool_release_cached(0);
        else
            r = berth__pool_alloc(&request, &address);
        assert_null(mock_during);
        assert_int_equal(r, is_release ? 0 : BERTH_POOL_FORWARD);
        assert_int_equal(berth__pool_free(b), BERTH_POOL_FORWARD);
        assert_int_equal(pages_mock_pages(), 0);
        assert_int_equal(mock_other_allocations, 0);
        mock_create(mock_context(0));
        pool_assert_adds_up();
    }
}

static void without_virtual_memory_blocks_have_their_own(void **state)
{
    uintptr_t a, b;

    berth__driver.cuMemAddressReserve = NULL;
    a = get_filled(MIB(4));
    b = get_filled(KIB(4));
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    pool_put(a);
    pool_put(b);
    assert_int_equal(mock_calls(MOCK_CREATE), 0);
}

/* A workload that grows, moves, gives back and frees; whatever it is refused it does without. */
static unsigned refused;
static void work(void)
{
    static const uint64_t sizes[] = {MIB(20),  KIB(4),  MIB(7), MIB(30),
                                     KIB(700), MIB(11), 512,    MIB(41)};
    uintptr_t block[8] = {0};

    refused = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) {
            int r = pool_try_alloc(sizes[(i + round * 3) % 8], &block[i]);

            if (r != 0) {
                assert_true(r < 0);
                refused++;
            } else {
                touch(block[i], sizes[(i + round * 3) % 8], i);
            }
        }
        for (int i = 0; i < 8; i += 2)
            if (block[i])
                pool_put(block[i]);
        for (int i = 0; i < 8; i += 2)
            block[i] = 0;
        if (round == 1)
            berth__pool_release_some(0, MIB(10));
        pool_assert_adds_up();
        for (int i = 0; i < 8; i += 2) {
            if (pool_try_alloc(MIB(24) + (uint64_t)i * MIB(1), &block[i]) == 0)
                touch(block[i], MIB(24), i);
        }
        for (int i = 0; i < 8; i++)
            if (block[i])
                pool_put(block[i]);
        memset(block, 0, sizeof(block));
    }
    berth__pool_release_cached(0);
    pool_assert_adds_up();
}

/* Each call of each function fails in turn, with a code that says "no memory" and with another. */
static void whatever_fails_the_account_adds_up(void **state)
{
    static const enum mock_call calls[] = {
        MOCK_ATTRIBUTE, MOCK_GRANULARITY, MOCK_TOTAL, MOCK_RESERVE, MOCK_CREATE,
        MOCK_RELEASE,   MOCK_MAP,         MOCK_UNMAP, MOCK_ACCESS,
    };
    unsigned tried = 0;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (int code = 2; code <= 999; code += 997) {
            for (unsigned nth = 1;; nth += nth < 8 ? 1 : 7) {
                uint64_t before;

                tear_down(state);
                set_up(state);
                mock_fail(calls[i], nth, code);
                work();
                tried++;
                /* One failure is made up for: by moving, or by an allocation of its own. */
                assert_int_equal(refused, 0);
                before = mock_calls(calls[i]);
                mock_fail_none();
                if (before < nth)
                    break;
                work();
                assert_int_equal(refused, 0);
                assert_true(pages_mock_pages() <= 2);
            }
        }
    }
    print_message("%u failures\n", tried);
}

/* The same in pairs, on a device that is nearly full, so that the failures meet the ladder. */
static void pairs_of_failures_leave_nothing_behind(void **state)
{
    static const enum mock_call calls[] = {MOCK_CREATE, MOCK_RELEASE, MOCK_MAP, MOCK_UNMAP,
                                           MOCK_ACCESS};
    unsigned natural;

    mock_set_capacity(MIB(128));
    work();
    natural = refused;
    for (unsigned a = 0; a < 5; a++)
        for (unsigned b = 0; b < 5; b++)
            for (unsigned nth = 1; nth < 60; nth += 11) {
                tear_down(state);
                set_up(state);
                mock_set_capacity(MIB(128));
                mock_fail(calls[a], nth, 2);
                if (a != b)
                    mock_fail(calls[b], nth / 2 + 1, 999);
                work();
                mock_fail_none();
                work();
                assert_int_equal(refused, natural);
            }
}

struct worker {
    pthread_t thread;
    unsigned seed;
};

static void *work_alone(void *context)
{
    struct worker *worker = context;
    uintptr_t block[16] = {0};
    uint64_t size[16] = {0};

    mock_set_current(mock_context(0));
    for (int i = 0; i < 3000; i++) {
        unsigned at = (unsigned)rand_r(&worker->seed) % 16;

        if (block[at]) {
            unsigned char *bytes = (unsigned char *)block[at];

            assert_int_equal(bytes[0], at + 1);
            assert_int_equal(bytes[size[at] - 1], at + 1);
            assert_int_equal(berth__pool_free(block[at]), 0);
            block[at] = 0;
        } else {
            struct berth_pool_request request = {.tag = BERTH_TAG_KV};

            size[at] = 512u << rand_r(&worker->seed) % 15;
            size[at] += size[at] / 3;
            request.size = size[at];
            if (berth__pool_alloc(&request, &block[at]) == 0) {
                ((unsigned char *)block[at])[0] = (unsigned char)(at + 1);
                ((unsigned char *)block[at])[size[at] - 1] = (unsigned char)(at + 1);
            }
        }
        if (i % 64 == 0)
            berth__pool_release_some(0, MIB(4));
    }
    for (int i = 0; i < 16; i++)
        if (block[i])
            assert_int_equal(berth__pool_free(block[i]), 0);
    return NULL;
}

static void threads_grow_and_shrink_it_together(void **state)
{
    struct worker workers[4];

    for (unsigned i = 0; i < 4; i++) {
        workers[i].seed = i + 1;
        pthread_create(&workers[i].thread, NULL, work_alone, &workers[i]);
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(berth__peer_add(mock_context(0), mock_context(2), 1), 0);
        assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
        berth__peer_remove(mock_context(0), mock_context(2));
        assert_int_equal(berth__pool_open_to_peers(mock_context(0)), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
    assert_int_equal(pages_mock_open(1), 0);
    assert_int_equal(pages_mock_open(0), pages_mock_pages());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXPAND(blocks_of_all_sizes_are_neighbours),
        EXPAND(memory_moves_to_where_it_is_needed),
        EXPAND(holes_are_filled_before_the_range_grows),
        EXPAND(small_blocks_of_the_thread_are_joined_for_a_large_one),
        EXPAND(small_blocks_of_the_thread_stay_where_a_block_fits),
        EXPAND(the_smallest_gap_is_used_with_memory_or_without),
        EXPAND(a_free_block_serves_where_no_memory_moves),
        EXPAND(what_is_cached_is_given_back_by_pages),
        EXPAND(walkers_see_runs_that_have_memory),
        EXPAND(a_full_device_is_helped_by_free_pages),
        EXPAND(a_limit_bounds_the_pages),
        EXPAND(peers_reach_all_pages_then_and_later),
        EXPAND(a_peer_that_leaves_meanwhile_is_left_out),
        EXPAND(no_page_moves_while_a_peer_is_let_in),
        EXPAND(peers_are_counted_by_context),
        EXPAND(a_destroyed_context_gives_its_pages_back),
        EXPAND(others_are_served_while_pages_move),
        EXPAND(a_context_may_go_while_pages_move),
        EXPAND(without_virtual_memory_blocks_have_their_own),
        EXPAND(whatever_fails_the_account_adds_up),
        EXPAND(pairs_of_failures_leave_nothing_behind),
        EXPAND(threads_grow_and_shrink_it_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
