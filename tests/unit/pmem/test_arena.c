/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the arenas of a tier keep for reuse, for how long and for whom. Every table has its own
 * tiers, because a tier lives as long as the process.
 */
#include "pmem/arena.h"

#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "pmem/host.h"
#include "pmem/jemalloc.h"
#include "pmem/window.h"
#include "tests/unit/pmem/table_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const char *directory(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return 0;
}

/* A table with one file tier, and one rule that names it for all blocks of at least 64 KiB. */
static berth_tier_id use_tier(const char *name, uint64_t capacity, int64_t decay_ms)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = name, .kind = BERTH_KIND_FILE, .path = directory(),
                           .capacity = capacity, .decay_ms = decay_ms));
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST, .min_size = 64 * KIB), name,
               "dram", NULL);
    draft_install(draft);
    assert_int_not_equal(berth__tier_find(name), BERTH_TIER_NONE);
    return berth__tier_find(name);
}

static void *get(size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;
    void *p = berth__host_alloc(&request, &placed);

    assert_non_null(p);
    return p;
}

static uint64_t reserved(berth_tier_id tier)
{
    return atomic_load(&berth__tier_stats[tier].reserved);
}

/* Bytes of the window of ordinary memory that can be written: what mlockall() makes resident. */
static size_t writable(void)
{
    uintptr_t base = berth__window_base(BERTH_TIER_DRAM);
    uintptr_t end = base + berth__window_used(BERTH_TIER_DRAM);
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t sum = 0;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        uintptr_t first, last;
        char mode[5];

        if (sscanf(line, "%lx-%lx %4s", &first, &last, mode) != 3 || mode[1] != 'w')
            continue;
        first = first < base ? base : first;
        last = last > end ? end : last;
        sum += last > first ? last - first : 0;
    }
    fclose(maps);
    return sum;
}

/* The first blocks: no other test has used the window yet. */
static void little_more_can_be_written_than_is_used(void **state)
{
    char *p, *q;

    (void)state;
    draft_install(berth__draft_new());
    p = memset(get(MIB), 1, MIB);
    q = memset(get(64 * KIB), 2, 64 * KIB);
    assert_true(writable() >= MIB + 64 * KIB);
    assert_true(writable() <= 8 * MIB);
    berth__host_free(p);
    berth__host_free(q);
}

/* What is opened in the one is not open in the other. */
static void tiers_of_ordinary_memory_lie_apart(void **state)
{
    struct berth_table_draft *draft = berth__draft_new();
    char *p[16];

    (void)state;
    draft_tier(draft, TIER(.name = "here", .kind = BERTH_KIND_DRAM));
    draft_tier(draft, TIER(.name = "there", .kind = BERTH_KIND_DRAM));
    draft_rule(draft, RULE(.name = "small", .side = BERTH_SIDE_HOST, .max_size = MIB), "here",
               NULL);
    draft_rule(draft, RULE(.name = "large", .side = BERTH_SIDE_HOST, .min_size = MIB), "there",
               NULL);
    draft_install(draft);
    for (int i = 0; i < 16; i++) {
        size_t size = i % 2 ? 100 * KIB : 3 * MIB;

        p[i] = memset(get(size), i, size);
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(p[i][100 * KIB - 1], i);
        berth__host_free(p[i]);
    }
}

/* Read-only, as programs do to code that they have made; other blocks come beside them. */
static void what_a_program_protects_stays_so(void **state)
{
    enum { COUNT = 1200 };
    const size_t size = 128 * KIB;
    static char *p[COUNT];
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    struct berth_table_draft *draft = berth__draft_new();
    struct berth_host_request request = {.size = size, .alignment = 4 * KIB};
    int written = 0;
    bool placed;

    (void)state;
    draft_tier(draft, TIER(.name = "code", .kind = BERTH_KIND_DRAM));
    draft_rule(draft, RULE(.name = "code", .side = BERTH_SIDE_HOST, .min_size = 64 * KIB), "code",
               NULL);
    draft_install(draft);
    assert_true(zero >= 0);
    for (int i = 0; i < COUNT; i++) {
        p[i] = berth__host_alloc(&request, &placed);
        assert_non_null(p[i]);
        assert_int_equal(mprotect(p[i], size, PROT_READ), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        written += read(zero, p[i], 1) == 1;
        assert_int_equal(mprotect(p[i], size, PROT_READ | PROT_WRITE), 0);
        berth__host_free(p[i]);
    }
    close(zero);
    assert_int_equal(written, 0);
}

static void decay_never_keeps_what_is_freed(void **state)
{
    berth_tier_id tier = use_tier("never", 0, BERTH_DECAY_NEVER);

    (void)state;
    berth__host_free(get(96 * MIB));
    assert_true(reserved(tier) >= 96 * MIB);
}

static void a_long_decay_keeps_what_is_freed(void **state)
{
    berth_tier_id tier = use_tier("long", 0, 600000);

    (void)state;
    berth__host_free(get(96 * MIB));
    assert_true(reserved(tier) >= 96 * MIB);
}

static void an_endless_decay_keeps_what_is_freed(void **state)
{
    berth_tier_id tier = use_tier("endless", 0, INT64_MAX);

    (void)state;
    berth__host_free(get(96 * MIB));
    assert_true(reserved(tier) >= 96 * MIB);
}

static void the_usual_decay_keeps_no_large_piece(void **state)
{
    berth_tier_id tier = use_tier("usual", 0, 10000);

    (void)state;
    berth__host_free(get(32 * MIB));
    assert_true(reserved(tier) >= 32 * MIB);
    berth__host_free(get(96 * MIB));
    assert_true(reserved(tier) < 64 * MIB);
}

/* Nobody asks for anything any more, nor frees: time alone is what gives memory back. */
static void memory_of_an_idle_program_goes_back(void **state)
{
    berth_tier_id kept = use_tier("kept", 0, BERTH_DECAY_NEVER), idle;
    time_t end = time(NULL) + 60;

    (void)state;
    berth__host_free(get(32 * MIB));
    idle = use_tier("idle", 0, 100);
    berth__host_free(get(32 * MIB));
    assert_true(reserved(idle) >= 32 * MIB);
    do
        assert_in_range(berth__arena_tend(), 1, 10000);
    while (reserved(idle) > MIB && time(NULL) < end);
    assert_true(reserved(idle) <= MIB);
    assert_true(reserved(kept) >= 32 * MIB);
}

/* A short decay is no reason to wake a program that does nothing ten times a second. */
static void an_idle_program_is_looked_at_less_and_less(void **state)
{
    time_t end = time(NULL) + 60;
    int often, seldom;

    (void)state;
    use_tier("short", 0, 100);
    berth__host_free(get(MIB));
    often = berth__arena_tend();
    assert_in_range(often, 1, 100);
    do
        seldom = berth__arena_tend();
    while (seldom < 2 * often && time(NULL) < end);
    assert_in_range(seldom, 2 * often, 10000);
    berth__host_free(get(MIB));
    assert_int_equal(berth__arena_tend(), often);
}

/* The program goes on with small blocks alone, which no tier sees. */
static void small_calls_have_memory_go_back(void **state)
{
    berth_tier_id tier = use_tier("calls", 0, 100);
    time_t end = time(NULL) + 60;

    (void)state;
    berth__host_free(get(32 * MIB));
    assert_true(reserved(tier) >= 32 * MIB);
    do
        berth_je_free(berth_je_malloc(KIB));
    while (reserved(tier) > MIB && time(NULL) < end);
    assert_true(reserved(tier) <= MIB);
}

/* A vector that grows, again and again: what is kept for the next one adds little to the peak. */
static void kept_pieces_add_little_to_the_peak(void **state)
{
    const berth_tier_id tier = BERTH_TIER_DRAM;
    struct berth_cell *cells = berth__tier_stats[tier].cell;
    uint64_t most = 0;

    (void)state;
    draft_install(berth__draft_new());
    berth__arena_trim();
    /* What other tests had at once. */
    for (int tag = 0; tag < BERTH_TAG_COUNT; tag++)
        atomic_store(&cells[tag].peak_held, 0);
    for (int round = 0; round < 200; round++) {
        void *old = get(64 * KIB);

        for (size_t size = 128 * KIB; size <= 16 * MIB; size *= 2) {
            void *p = get(size);

            if (reserved(tier) > most)
                most = reserved(tier);
            berth__host_free(old);
            old = p;
        }
        berth__host_free(old);
    }
    assert_true(most >= 24 * MIB);
    assert_true(most <= 40 * MIB);
}

/* Free neighbours become one piece, whatever was asked for before. */
static void small_pieces_serve_a_large_block(void **state)
{
    enum { COUNT = 30 };
    const berth_tier_id tier = BERTH_TIER_DRAM;
    void *p[COUNT];
    uint64_t before;

    (void)state;
    draft_install(berth__draft_new());
    for (int i = 0; i < COUNT; i++)
        p[i] = get(MIB);
    before = reserved(tier);
    for (int i = 0; i < COUNT; i++)
        berth__host_free(p[i]);
    /* But for less than what goes back at once. */
    p[0] = get((COUNT - 2) * MIB);
    assert_true(reserved(tier) < before + 8 * MIB);
    berth__host_free(p[0]);
}

/* Once is not enough: a program that frees much need not ask for it again. */
static void large_pieces_are_kept_for_who_needs_them_again(void **state)
{
    const berth_tier_id tier = BERTH_TIER_DRAM;

    (void)state;
    draft_install(berth__draft_new());
    berth__host_free(get(40 * MIB));
    assert_true(reserved(tier) < 40 * MIB);
    for (int i = 0; i < 40; i++)
        berth__host_free(get(40 * MIB));
    assert_true(reserved(tier) >= 40 * MIB);
}

/* A kept piece that is too small for what is wanted now is not resident beside it. */
static void pieces_that_do_not_suit_go_back(void **state)
{
    void *live = get(16 * MIB);
    void *p = get(48 * MIB);

    (void)state;
    assert_true(reserved(BERTH_TIER_DRAM) < (16 + 48 + 16) * MIB);
    berth__host_free(p);
    assert_true(reserved(BERTH_TIER_DRAM) >= (16 + 48) * MIB);
    berth__host_free(live);
}

/* Before its memory decays, if it has not done so within the last second. */
static void who_gives_nearly_all_back_is_left_little(void **state)
{
    time_t end = time(NULL) + 60;

    (void)state;
    do
        berth__host_free(get(52 * MIB));
    while (reserved(BERTH_TIER_DRAM) >= 52 * MIB && time(NULL) < end);
    assert_true(reserved(BERTH_TIER_DRAM) < 16 * MIB);
}

/* Addresses taken in steps are nothing of a tier, however small it is. */
static void addresses_take_no_capacity(void **state)
{
    berth_tier_id tier = use_tier("tiny", MIB, 600000);
    void *p = get(512 * KIB);

    (void)state;
    assert_int_equal(berth__window_tier(p), tier);
    assert_true(reserved(tier) <= MIB);
    berth__host_free(p);
}

struct other {
    size_t size;
    berth_tier_id found;
};

static void *get_and_free(void *argument)
{
    struct other *other = argument;
    void *p = get(other->size);

    other->found = berth__window_tier(p);
    berth__host_free(p);
    return NULL;
}

static berth_tier_id on_another_thread(size_t size)
{
    struct other other = {.size = size};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, get_and_free, &other), 0);
    pthread_join(thread, NULL);
    return other.found;
}

static void what_one_thread_keeps_fills_no_tier_for_another(void **state)
{
    berth_tier_id tier = use_tier("full", 16 * MIB, 600000);

    (void)state;
    berth__host_free(get(12 * MIB));
    assert_true(reserved(tier) >= 12 * MIB);
    assert_int_equal(on_another_thread(10 * MIB), tier);
    /* The same thread, for a size that what it keeps does not serve. */
    assert_int_equal(berth__window_tier(get(14 * MIB)), tier);
}

static void a_thread_leaves_no_ordinary_memory_behind(void **state)
{
    cpu_set_t cpus;
    uint64_t before;

    (void)state;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0 || CPU_COUNT(&cpus) < 2) {
        print_message("on one processor all threads share an arena\n");
        skip();
    }
    draft_install(berth__draft_new());
    berth__host_free(get(MIB));
    before = reserved(BERTH_TIER_DRAM);
    assert_int_equal(on_another_thread(8 * MIB), BERTH_TIER_DRAM);
    assert_int_equal(reserved(BERTH_TIER_DRAM), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_more_can_be_written_than_is_used),
        cmocka_unit_test(tiers_of_ordinary_memory_lie_apart),
        cmocka_unit_test(what_a_program_protects_stays_so),
        cmocka_unit_test(decay_never_keeps_what_is_freed),
        cmocka_unit_test(a_long_decay_keeps_what_is_freed),
        cmocka_unit_test(an_endless_decay_keeps_what_is_freed),
        cmocka_unit_test(the_usual_decay_keeps_no_large_piece),
        cmocka_unit_test(memory_of_an_idle_program_goes_back),
        cmocka_unit_test(an_idle_program_is_looked_at_less_and_less),
        cmocka_unit_test(large_pieces_are_kept_for_who_needs_them_again),
        cmocka_unit_test(small_calls_have_memory_go_back),
        cmocka_unit_test(small_pieces_serve_a_large_block),
        cmocka_unit_test(pieces_that_do_not_suit_go_back),
        cmocka_unit_test(who_gives_nearly_all_back_is_left_little),
        cmocka_unit_test(addresses_take_no_capacity),
        cmocka_unit_test(what_one_thread_keeps_fills_no_tier_for_another),
        cmocka_unit_test(a_thread_leaves_no_ordinary_memory_behind),
        cmocka_unit_test(kept_pieces_add_little_to_the_peak),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
