/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a tier, once made, keeps its number and its backing; capacities are never exceeded by any
 * number of threads; a maker that fails leaves nothing behind. Method: makers of this file's own.
 */
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[256];
static int made;
static int refusal;

static int make(struct berth_tier *tier, berth_tier_id id, const struct berth_tier_config *config,
                char *reason, size_t reason_size)
{
    if (refusal) {
        snprintf(reason, reason_size, "the maker says no");
        return refusal;
    }
    assert_string_equal(tier->name, config->name);
    assert_string_equal(tier->path, config->path);
    assert_int_equal(tier->kind, config->kind);
    assert_int_equal(tier->capacity, config->capacity);
    /* It cannot be seen before it is complete. */
    assert_true(berth__tier_count() <= id);
    assert_null(berth__tier(id));
    tier->sides = BERTH_SIDE_HOST;
    made++;
    return 0;
}

static int ensure(const char *name, enum berth_tier_kind kind, const char *path, uint64_t capacity,
                  berth_tier_id *ret)
{
    struct berth_tier_config config = {
        .name = name, .kind = kind, .path = path, .capacity = capacity};

    why[0] = '\0';
    return berth__tier_ensure(&config, ret, why, sizeof(why));
}

static void built_in_tiers_exist_from_the_start(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;

    (void)state;
    assert_int_equal(berth__tier_count(), 3);
    assert_int_equal(berth__tier_find("device"), BERTH_TIER_DEVICE);
    assert_int_equal(berth__tier_find("pinned"), BERTH_TIER_PINNED);
    assert_int_equal(berth__tier_find("dram"), BERTH_TIER_DRAM);
    assert_int_equal(berth__tier_find("dra"), BERTH_TIER_NONE);
    assert_int_equal(berth__tier_find(""), BERTH_TIER_NONE);
    assert_null(berth__tier(BERTH_TIER_NONE));
    assert_int_equal(berth__tier(BERTH_TIER_DEVICE)->sides, BERTH_SIDE_DEVICE);
    assert_string_equal(berth__tier(BERTH_TIER_DRAM)->path, "");
    assert_int_equal(ensure("dram", BERTH_KIND_DRAM, "", 1 << 20, &id), 0);
    assert_int_equal(id, BERTH_TIER_DRAM);
    assert_int_equal(berth__tier(id)->capacity, 1 << 20);
    assert_int_equal(ensure("dram", BERTH_KIND_FILE, "/tmp", 0, &id), -EEXIST);
}

static void a_kind_that_nobody_makes_is_refused(void **state)
{
    berth_tier_id id = 99;
    unsigned count = berth__tier_count();

    (void)state;
    assert_int_equal(ensure("far", BERTH_KIND_NUMA, "", 0, &id), -ENOTSUP);
    assert_non_null(strstr(why, "numa"));
    assert_int_equal(id, 99);
    assert_int_equal(berth__tier_count(), count);
}

static void a_tier_keeps_its_number_kind_and_path(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    berth_tier_id again = BERTH_TIER_NONE;
    char path[] = "/mnt/a";

    (void)state;
    berth__tier_set_maker(BERTH_KIND_FILE, make);
    assert_int_equal(ensure("slow", BERTH_KIND_FILE, path, 100, &id), 0);
    memset(path, 'x', sizeof(path) - 1);
    assert_string_equal(berth__tier(id)->path, "/mnt/a");
    assert_int_equal(made, 1);
    assert_int_equal(ensure("slow", BERTH_KIND_FILE, "/mnt/a", 200, &again), 0);
    assert_int_equal(again, id);
    assert_int_equal(made, 1);
    assert_int_equal(berth__tier(id)->capacity, 200);
    assert_int_equal(ensure("slow", BERTH_KIND_FILE, "/mnt/b", 300, &again), -EEXIST);
    assert_non_null(strstr(why, "/mnt/a"));
    assert_int_equal(berth__tier(id)->capacity, 200);
}

static void what_a_tier_was_made_with_is_not_changed_in_silence(void **state)
{
    struct berth_tier_config config = {
        .name = "kept", .kind = BERTH_KIND_FILE, .path = "/mnt/k", .fork_copy_max = 7};
    struct berth_tier_config other = config;
    berth_tier_id id = BERTH_TIER_NONE;

    (void)state;
    berth__tier_set_maker(BERTH_KIND_FILE, make);
    assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), 0);
    assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), 0);
    other.fork = BERTH_FORK_SHARE;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another fork,"));
    other = config;
    other.fork_copy_max = 8;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another fork-copy-max,"));
    other = config;
    other.decay_ms = -1;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another decay,"));
    other = config;
    other.nodes = "1";
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another nodes,"));
    other = config;
    other.numa = BERTH_NUMA_PREFERRED;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another numa,"));
    other = config;
    other.huge_pages = BERTH_HUGE_ADVISE;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another huge-pages,"));
    other = config;
    other.verify = BERTH_VERIFY_FULL;
    assert_int_equal(berth__tier_ensure(&other, &id, why, sizeof(why)), -EEXIST);
    assert_non_null(strstr(why, "another verify,"));
}

static void a_maker_that_refuses_leaves_nothing(void **state)
{
    berth_tier_id id = 99;
    unsigned count = berth__tier_count();

    (void)state;
    refusal = -ENODEV;
    assert_int_equal(ensure("gone", BERTH_KIND_FILE, "/mnt/c", 0, &id), -ENODEV);
    assert_string_equal(why, "the maker says no");
    assert_int_equal(id, 99);
    assert_int_equal(berth__tier_count(), count);
    assert_int_equal(berth__tier_find("gone"), BERTH_TIER_NONE);
    refusal = 0;
    assert_int_equal(ensure("gone", BERTH_KIND_FILE, "/mnt/d", 0, &id), 0);
    assert_int_equal(id, count);
    assert_string_equal(berth__tier(id)->path, "/mnt/d");
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    char name[BERTH_NAME_MAX + 1];
    berth_tier_id id = 99;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[BERTH_NAME_MAX] = '\0';
    assert_int_equal(ensure(name, BERTH_KIND_FILE, "", 0, &id), -ENAMETOOLONG);
    name[BERTH_NAME_MAX - 1] = '\0';
    assert_int_equal(ensure(name, BERTH_KIND_FILE, "", 0, &id), 0);
    assert_int_equal(berth__tier_find(name), id);
}

#define THREADS 4
#define CAPACITY 100000

static _Atomic uint64_t taken;

static void *take(void *context)
{
    berth_tier_id id = *(berth_tier_id *)context;

    for (unsigned i = 0; i < 100000; i++) {
        if (berth__tier_reserve(id, i % 13) < 0)
            continue;
        atomic_fetch_add(&taken, i % 13);
        if (berth__tier_stats[id].reserved > CAPACITY)
            return context;
        if (i % 3 == 0) {
            atomic_fetch_sub(&taken, i % 13);
            berth__tier_release(id, i % 13);
        }
    }
    return NULL;
}

static void a_capacity_is_never_exceeded(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    pthread_t threads[THREADS];
    uint64_t rest;

    (void)state;
    assert_int_equal(ensure("full", BERTH_KIND_FILE, "", CAPACITY, &id), 0);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, take, &id), 0);
    for (int t = 0; t < THREADS; t++) {
        void *exceeded;

        pthread_join(threads[t], &exceeded);
        assert_null(exceeded);
    }
    assert_int_equal(berth__tier_stats[id].reserved, taken);
    rest = CAPACITY - taken;
    assert_int_equal(berth__tier_reserve(id, rest + 1), -ENOSPC);
    assert_int_equal(berth__tier_reserve(id, UINT64_MAX), -ENOSPC);
    assert_int_equal(berth__tier_reserve(id, rest), 0);
    assert_int_equal(berth__tier_reserve(id, 1), -ENOSPC);
    /* Lowered below what is in use: nothing more until enough was given back. */
    assert_int_equal(ensure("full", BERTH_KIND_FILE, "", 10, &id), 0);
    berth__tier_release(id, CAPACITY - 5);
    assert_int_equal(berth__tier_reserve(id, 6), -ENOSPC);
    assert_int_equal(berth__tier_reserve(id, 5), 0);
}

static void no_limit_still_does_not_wrap(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;

    (void)state;
    assert_int_equal(ensure("endless", BERTH_KIND_FILE, "", 0, &id), 0);
    assert_int_equal(berth__tier_reserve(id, UINT64_MAX), 0);
    assert_int_equal(berth__tier_reserve(id, 1), -ENOSPC);
    berth__tier_release(id, UINT64_MAX);
    assert_int_equal(berth__tier_stats[id].reserved, 0);
    assert_int_equal(berth__tier_stats[id].backend_allocs, 1);
    assert_int_equal(berth__tier_stats[id].backend_frees, 1);
}

/* The last of them: the registry is full then. */
static void there_are_at_most_so_many_tiers(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    char name[32];

    (void)state;
    for (unsigned i = berth__tier_count(); i < BERTH_TIER_MAX; i++) {
        snprintf(name, sizeof(name), "tier%u", i);
        assert_int_equal(ensure(name, BERTH_KIND_FILE, "", 0, &id), 0);
        assert_int_equal(id, i);
    }
    assert_int_equal(ensure("one more", BERTH_KIND_FILE, "", 0, &id), -ENOSPC);
    assert_non_null(strstr(why, "64"));
    assert_int_equal(ensure("slow", BERTH_KIND_FILE, "/mnt/a", 1, &id), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_tiers_exist_from_the_start),
        cmocka_unit_test(a_kind_that_nobody_makes_is_refused),
        cmocka_unit_test(a_tier_keeps_its_number_kind_and_path),
        cmocka_unit_test(what_a_tier_was_made_with_is_not_changed_in_silence),
        cmocka_unit_test(a_maker_that_refuses_leaves_nothing),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(a_capacity_is_never_exceeded),
        cmocka_unit_test(no_limit_still_does_not_wrap),
        cmocka_unit_test(there_are_at_most_so_many_tiers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
