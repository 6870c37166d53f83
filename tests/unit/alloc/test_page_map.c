/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the page map finds the segment of every address, at any place of the 64-bit space, changes
 * nothing when it refuses, and readers are right while writers work. Method: seeded random ranges
 * against a plain list.
 */
#include "alloc/block_slab.h"
#include "alloc/page_map.h"
#include "alloc/segment.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define RANGES 64

static uint64_t seed = 0x5eed;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void finds_interior_addresses_and_no_others(void **state)
{
    struct berth_segment segment = {0}, *other = NULL;
    uintptr_t base = (uintptr_t)0x7f0000000000;
    uint64_t size = ((uint64_t)3 << 30) + 512;

    assert_null(berth__page_map_find(base));
    assert_int_equal(berth__page_map_insert(base, size, &segment, &other), 0);
    assert_ptr_equal(berth__page_map_find(base), &segment);
    assert_ptr_equal(berth__page_map_find(base + size - 1), &segment);
    assert_null(berth__page_map_find(base + size));
    assert_null(berth__page_map_find(base - 1));
    berth__page_map_remove(base, size, &segment);
    assert_null(berth__page_map_find(base));
    assert_null(berth__page_map_find(base + size - 1));
}

static void serves_both_ends_of_the_address_space(void **state)
{
    struct berth_segment low = {0}, high = {0}, *other = NULL;
    uintptr_t top = UINTPTR_MAX - 1023;

    assert_int_equal(berth__page_map_insert(0, 512, &low, &other), 0);
    assert_int_equal(berth__page_map_insert(top, 1024, &high, &other), 0);
    assert_ptr_equal(berth__page_map_find(0), &low);
    assert_ptr_equal(berth__page_map_find(UINTPTR_MAX), &high);
    assert_null(berth__page_map_find(512));
    assert_null(berth__page_map_find(top - 1));
    assert_int_equal(berth__page_map_insert(top, 2048, &high, &other), -EINVAL);
    berth__page_map_remove(0, 512, &low);
    berth__page_map_remove(top, 1024, &high);
    assert_null(berth__page_map_find(UINTPTR_MAX));
}

static void refuses_overlap_and_changes_nothing(void **state)
{
    struct berth_segment first = {0}, second = {0}, *other = NULL;
    uintptr_t base = (uintptr_t)0x200000000;

    assert_int_equal(berth__page_map_insert(base, 4096, &first, &other), 0);
    assert_int_equal(berth__page_map_insert(base - 8192, 8192 + 512, &second, &other), -EEXIST);
    assert_ptr_equal(other, &first);
    assert_null(berth__page_map_find(base - 8192));
    assert_ptr_equal(berth__page_map_find(base), &first);
    /* A range that spans whole nodes in which the other lies. */
    assert_int_equal(berth__page_map_insert(0x100000000, (uint64_t)8 << 30, &second, &other),
                     -EEXIST);
    assert_null(berth__page_map_find(0x100000000));
    assert_null(berth__page_map_find(base + 4096));
    berth__page_map_remove(base, 4096, &second);
    assert_ptr_equal(berth__page_map_find(base), &first);
    berth__page_map_remove(base, 4096, &first);
}

static void *no_pages(size_t size)
{
    return NULL;
}

static void host_memory_exhaustion_changes_nothing(void **state)
{
    void *(*map)(size_t) = berth__slab_map;
    struct berth_segment segment = {0}, *other = NULL;
    uintptr_t base = (uintptr_t)0x123400000000 - 512;

    berth__slab_map = no_pages;
    assert_int_equal(berth__page_map_insert(base, 4096, &segment, &other), -ENOMEM);
    berth__slab_map = map;
    assert_null(berth__page_map_find(base));
    assert_null(berth__page_map_find(base + 512));
}

static void agrees_with_a_list(void **state)
{
    static struct berth_segment segments[RANGES];
    bool present[RANGES] = {false};

    for (int round = 0; round < 4000; round++) {
        unsigned i = (unsigned)(draw() % RANGES), hit = RANGES;
        struct berth_segment *segment = &segments[i], *other = NULL;
        uintptr_t probe;
        int r;

        if (present[i]) {
            berth__page_map_remove(segment->base, segment->size, segment);
            present[i] = false;
            continue;
        }
        segment->base = (uintptr_t)((draw() % 4096) << (9 + draw() % 22));
        segment->size = (1 + draw() % 64) << (9 + draw() % 20);
        for (unsigned k = 0; k < RANGES; k++)
            if (present[k] && segments[k].base < segment->base + segment->size &&
                segment->base < segments[k].base + segments[k].size)
                hit = k;
        r = berth__page_map_insert(segment->base, segment->size, segment, &other);
        assert_int_equal(r, hit == RANGES ? 0 : -EEXIST);
        present[i] = r == 0;
        probe = segment->base + (uintptr_t)(draw() % segment->size);
        other = NULL;
        for (unsigned k = 0; k < RANGES; k++)
            if (present[k] && probe - segments[k].base < segments[k].size)
                other = &segments[k];
        assert_ptr_equal(berth__page_map_find(probe), other);
    }
    for (unsigned i = 0; i < RANGES; i++)
        if (present[i])
            berth__page_map_remove(segments[i].base, segments[i].size, &segments[i]);
}

static atomic_bool stop;

static void *churn(void *argument)
{
    struct berth_segment segment = {0}, *other = NULL;
    uintptr_t base = (uintptr_t)0x300000000 + ((uintptr_t)1 << 20);

    for (int i = 0; i < 20000; i++) {
        uint64_t size = (uint64_t)512 << (i % 16);

        if (berth__page_map_insert(base, size, &segment, &other) == 0)
            berth__page_map_remove(base, size, &segment);
    }
    atomic_store(&stop, true);
    return NULL;
}

static void readers_are_right_while_a_neighbour_changes(void **state)
{
    struct berth_segment stable = {0}, *other = NULL;
    uintptr_t base = (uintptr_t)0x300000000;
    pthread_t thread;

    assert_int_equal(berth__page_map_insert(base, (uint64_t)1 << 20, &stable, &other), 0);
    pthread_create(&thread, NULL, churn, NULL);
    while (!atomic_load(&stop)) {
        assert_ptr_equal(berth__page_map_find(base + 0xfffff), &stable);
        assert_ptr_not_equal(berth__page_map_find(base + ((uintptr_t)1 << 20)), &stable);
    }
    pthread_join(thread, NULL);
    berth__page_map_remove(base, (uint64_t)1 << 20, &stable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_interior_addresses_and_no_others),
        cmocka_unit_test(serves_both_ends_of_the_address_space),
        cmocka_unit_test(refuses_overlap_and_changes_nothing),
        cmocka_unit_test(host_memory_exhaustion_changes_nothing),
        cmocka_unit_test(agrees_with_a_list),
        cmocka_unit_test(readers_are_right_while_a_neighbour_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
