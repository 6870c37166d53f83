/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reservation, its windows and its page map. Each test runs in a child, because a process has
 * one reservation for life.
 */
#include "pmem/gate.h"
#include "pmem/huge_advice.h"
#include "pmem/jemalloc.h"
#include "pmem/window.h"
#include "tests/unit/pmem/child_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define TIER_A ((berth_tier_id)3)
#define TIER_B ((berth_tier_id)4)
#define MIB ((size_t)1 << 20)

static void check_nothing_at_start(void)
{
    int local = 0;

    CHECK(berth__plain.window_size == 0);
    CHECK(!berth__gate_owns(&local) && !berth__gate_owns(NULL));
}

static void nothing_is_reserved_at_start(void **state)
{
    (void)state;
    in_child(check_nothing_at_start);
}

static void check_windows(void)
{
    char *a, *b, *dram;
    int local;

    CHECK(berth__window_ready(BERTH_TIER_DRAM) && !berth__window_ready(TIER_A));
    CHECK(berth__window_open(TIER_A, 100 * MIB) == 0 && berth__window_open(TIER_B, MIB) == 0);
    dram = berth__window_carve(BERTH_TIER_DRAM, MIB, BERTH_OS_PAGE);
    a = berth__window_carve(TIER_A, MIB, BERTH_OS_PAGE);
    b = berth__window_carve(TIER_B, MIB, BERTH_OS_PAGE);
    CHECK(dram && a && b);
    CHECK(berth__gate_owns(dram) && berth__gate_owns(a) && berth__gate_owns(b));
    CHECK(!berth__gate_owns(&local) && !berth__gate_owns(NULL));
    CHECK(berth__window_tier(dram) == BERTH_TIER_DRAM);
    CHECK(berth__window_tier(a) == TIER_A && berth__window_tier(a + MIB - 1) == TIER_A);
    CHECK(berth__window_tier(b) == TIER_B);
    CHECK((uintptr_t)a == berth__window_base(TIER_A) && berth__window_used(TIER_A) == MIB);
    CHECK(berth__window_carved(a + MIB - 1) && !berth__window_carved(a + MIB));
    CHECK(berth__window_size(TIER_A) >= 200 * MIB);
}

static void check_beginning(void)
{
    uintptr_t before;
    size_t size;
    char *p;

    CHECK(berth__window_open(TIER_A, 100 * MIB) == 0 && berth__window_open(TIER_B, MIB) == 0);
    before = berth__window_base(TIER_A);
    size = berth__window_size(TIER_A);
    berth__window_begin_huge(TIER_A);
    CHECK(berth__window_base(TIER_A) % BERTH_HUGE_PAGE == 0);
    CHECK(berth__window_base(TIER_A) - before < BERTH_HUGE_PAGE);
    CHECK(berth__window_base(TIER_A) + berth__window_size(TIER_A) == before + size);
    p = berth__window_carve(TIER_A, MIB, BERTH_OS_PAGE);
    CHECK((uintptr_t)p == berth__window_base(TIER_A) && berth__window_tier(p) == TIER_A);
    /* Not where there are blocks. */
    CHECK(berth__window_carve(TIER_B, MIB, BERTH_OS_PAGE));
    before = berth__window_base(TIER_B);
    berth__window_begin_huge(TIER_B);
    CHECK(berth__window_base(TIER_B) == before);
}

static void a_window_may_begin_at_a_huge_page(void **state)
{
    (void)state;
    in_child(check_beginning);
}

static void an_address_leads_to_its_tier(void **state)
{
    (void)state;
    in_child(check_windows);
}

static void check_carving(void)
{
    uintptr_t last = 0;

    CHECK(berth__window_open(TIER_A, 100 * MIB) == 0);
    for (size_t alignment = BERTH_OS_PAGE; alignment <= 64 * MIB; alignment <<= 1) {
        char *p = berth__window_carve(TIER_A, 3 * BERTH_OS_PAGE, alignment);
        struct berth_page *page;

        CHECK(p && ((uintptr_t)p & (alignment - 1)) == 0 && (uintptr_t)p >= last);
        last = (uintptr_t)p + 3 * BERTH_OS_PAGE;
        page = berth__window_page(p + 2 * BERTH_OS_PAGE);
        CHECK(page == berth__window_page(p) + 2);
        atomic_store(&page->word[0], 1);
        atomic_store(&page->word[1], 2);
    }
    /* Half the window is not skipped for one block, nor more. */
    for (size_t alignment = (size_t)1 << (62 - __builtin_clzl(berth__window_size(TIER_A)));
         alignment != 0; alignment <<= 1)
        CHECK(!berth__window_carve(TIER_A, BERTH_OS_PAGE, alignment));
    CHECK(!berth__window_carve(TIER_A, berth__window_size(TIER_A), BERTH_OS_PAGE));
    CHECK(!berth__window_carve(TIER_A, SIZE_MAX - BERTH_OS_PAGE + 1, BERTH_OS_PAGE));
    CHECK(!berth__window_carve(TIER_B, MIB, BERTH_OS_PAGE));
    CHECK(berth__window_carve(TIER_A, MIB, BERTH_OS_PAGE));
}

static void carving_aligns_and_ends(void **state)
{
    (void)state;
    in_child(check_carving);
}

static void check_many_tiers(void)
{
    unsigned opened = 0;

    CHECK(berth__window_ready(BERTH_TIER_DRAM));
    for (unsigned id = 3; id < BERTH_TIER_MAX; id++)
        opened += berth__window_open((berth_tier_id)id, MIB) == 0;
    CHECK(opened == BERTH_TIER_MAX - 3);
    for (unsigned id = 3; id < BERTH_TIER_MAX; id++)
        CHECK(berth__window_carve((berth_tier_id)id, MIB, BERTH_OS_PAGE));
}

/* How many it leaves depends on where the kernel put the program. */
static void skip_under_thread_sanitizer(void)
{
#ifdef __SANITIZE_THREAD__
    print_message("ThreadSanitizer may leave too few addresses for the test\n");
    skip();
#endif
}

static void every_tier_of_a_process_gets_a_window(void **state)
{
    (void)state;
    skip_under_thread_sanitizer();
    in_child(check_many_tiers);
}

/* As on a machine whose memory and filesystems are all larger than every window. */
static void check_many_large_tiers(void)
{
    for (unsigned id = 3; id < BERTH_TIER_MAX; id++) {
        CHECK(berth__window_open((berth_tier_id)id, UINT64_MAX) == 0);
        CHECK(berth__window_carve((berth_tier_id)id, MIB, BERTH_OS_PAGE));
    }
}

static void tiers_of_any_size_leave_room_for_others(void **state)
{
    (void)state;
    skip_under_thread_sanitizer();
    in_child(check_many_large_tiers);
}

static void check_greed(void)
{
    CHECK(berth__window_open(TIER_A, (uint64_t)1 << 60) == 0);
    CHECK(berth__window_size(TIER_A) <= berth__plain.window_size / 8);
    CHECK(berth__window_open(TIER_B, MIB) == 0 && berth__window_size(TIER_B) >= MIB);
}

static void no_tier_takes_every_address(void **state)
{
    (void)state;
    skip_under_thread_sanitizer();
    in_child(check_greed);
}

static void limit_addresses(rlim_t bytes)
{
    struct rlimit limit = {bytes, bytes};

    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void check_little_room(void)
{
    limit_addresses((rlim_t)4 << 30);
    CHECK(berth__window_open(TIER_A, 10 * MIB) == 0);
    CHECK(berth__plain.window_size <= (size_t)1 << 30);
    CHECK(berth__window_carve(TIER_A, 10 * MIB, BERTH_OS_PAGE));
}

static void skip_under_sanitizers(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    print_message("a sanitizer needs more addresses than the test allows\n");
    skip();
#endif
}

static void a_limit_shrinks_the_reservation(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_child(check_little_room);
}

/* The kernel puts the next mapping into the highest hole, which then is one of ours. */
static void check_late_limit(void)
{
    uintptr_t base, size;
    char *a, *dram, *p;

    CHECK(berth__window_open(TIER_A, 10 * MIB) == 0);
    a = berth__window_carve(TIER_A, 10 * MIB, BERTH_OS_PAGE);
    dram = berth__window_carve(BERTH_TIER_DRAM, MIB, BERTH_OS_PAGE);
    CHECK(a && dram);
    base = berth__plain.window_base;
    size = berth__plain.window_size;
    close(2);
    berth__window_limit((uint64_t)1 << 30);
    limit_addresses((rlim_t)1 << 30);
    p = mmap((void *)(base + size / 2), 10 * MIB, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((uintptr_t)p - base < size && !berth__gate_owns(p));
    CHECK(berth__gate_owns(a) && berth__gate_owns(a + 10 * MIB - 1));
    CHECK(!berth__gate_owns(a + 10 * MIB) && berth__gate_owns(dram));
    CHECK(berth__window_tier(a) == TIER_A && berth__window_page(a + 10 * MIB - 1)->word[0] == 0);
    CHECK(berth__window_used(TIER_A) == 10 * MIB);
    CHECK(!berth__window_carve(TIER_A, BERTH_OS_PAGE, BERTH_OS_PAGE));
    CHECK(berth__window_open(TIER_B, MIB) == -ENOSPC);
    berth__window_limit((uint64_t)1 << 30);
    CHECK(berth__window_used(TIER_A) == 10 * MIB && berth__gate_owns(a));
}

static void a_later_limit_takes_what_is_not_used(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_child(check_late_limit);
}

/* A limit that nobody told Berth of: the first mapping that fails finds out. */
static void check_unseen_limit(void)
{
    CHECK(berth__window_open(TIER_A, 10 * MIB) == 0);
    limit_addresses((rlim_t)2 << 30);
    CHECK(mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    for (int i = 0; i < 25600; i++)
        CHECK(berth_je_malloc(4096));
    CHECK(!berth__window_carve(TIER_A, BERTH_OS_PAGE, BERTH_OS_PAGE));
}

static void small_blocks_find_a_limit_that_was_not_seen(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_child(check_unseen_limit);
}

static void check_no_room(void)
{
    int saved = dup(2);

    limit_addresses((rlim_t)200 << 20);
    close(2);
    CHECK(berth__window_open(TIER_A, MIB) == -ENOMEM);
    CHECK(!berth__window_ready(BERTH_TIER_DRAM) && berth__plain.window_size == 0);
    CHECK(!berth__window_carve(BERTH_TIER_DRAM, MIB, BERTH_OS_PAGE));
    dup2(saved, 2);
}

static void without_addresses_there_are_no_windows(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_child(check_no_room);
}

static pthread_barrier_t start;

static void *carve_many(void *argument)
{
    char **ret = argument;

    pthread_barrier_wait(&start);
    for (int i = 0; i < 200; i++)
        ret[i] =
            berth__window_carve(berth__window_ready(BERTH_TIER_DRAM) ? BERTH_TIER_DRAM : TIER_A,
                                5 * BERTH_OS_PAGE, BERTH_OS_PAGE);
    return NULL;
}

static void check_threads(void)
{
    static char *got[4][200];
    pthread_t thread[4];

    pthread_barrier_init(&start, NULL, 4);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, carve_many, got[i]) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 200; k++) {
            struct berth_page *page = got[i][k] ? berth__window_page(got[i][k]) : NULL;

            CHECK(page && atomic_fetch_add(&page->word[0], 1) == 0);
        }
    }
    CHECK(berth__window_used(BERTH_TIER_DRAM) == 800 * 5 * BERTH_OS_PAGE);
}

static void threads_make_one_reservation(void **state)
{
    (void)state;
    in_child(check_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_reserved_at_start),
        cmocka_unit_test(a_window_may_begin_at_a_huge_page),
        cmocka_unit_test(an_address_leads_to_its_tier),
        cmocka_unit_test(carving_aligns_and_ends),
        cmocka_unit_test(every_tier_of_a_process_gets_a_window),
        cmocka_unit_test(tiers_of_any_size_leave_room_for_others),
        cmocka_unit_test(no_tier_takes_every_address),
        cmocka_unit_test(a_limit_shrinks_the_reservation),
        cmocka_unit_test(a_later_limit_takes_what_is_not_used),
        cmocka_unit_test(small_blocks_find_a_limit_that_was_not_seen),
        cmocka_unit_test(without_addresses_there_are_no_windows),
        cmocka_unit_test(threads_make_one_reservation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
