/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host blocks under a table: where they go, what is counted, what happens when a tier is full.
 * Every table has its own tiers, because a tier lives as long as the process.
 */
#include "pmem/host.h"

#include "alloc/describe.h"
#include "alloc/site.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "pmem/gate.h"
#include "pmem/jemalloc.h"
#include "tests/unit/pmem/table_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* A table with one file tier, and one rule for all blocks of at least `least` that names it. */
static berth_tier_id use_tier(const char *name, uint64_t capacity, uint64_t least, unsigned tags)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = name, .kind = BERTH_KIND_FILE, .path = directory(),
                           .capacity = capacity, .decay_ms = 0));
    draft_rule(draft,
               RULE(.name = "rule", .side = BERTH_SIDE_HOST, .min_size = least, .tags = tags), name,
               "dram", NULL);
    draft_install(draft);
    assert_int_not_equal(berth__tier_find(name), BERTH_TIER_NONE);
    return berth__tier_find(name);
}

static void *get(size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_alloc(&request, &placed);
}

static void *change(void *p, size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_realloc(p, &request, &placed);
}

static struct berth_block_info describe(const void *p)
{
    struct berth_block_info info;

    memset(&info, 0, sizeof(info));
    assert_int_equal(berth__host_describe(p, &info), 0);
    return info;
}

static struct berth_cell_reading cell(berth_tier_id tier, enum berth_tag tag)
{
    struct berth_cell_reading reading;

    berth__stats_read(tier, tag, &reading);
    return reading;
}

static void a_rule_places_blocks_in_its_tier(void **state)
{
    berth_tier_id tier = use_tier("a", 0, 64 * KIB, 1u << BERTH_TAG_WEIGHT);
    struct berth_block_info info;
    char *p, *q;

    (void)state;
    berth__tag_push(BERTH_TAG_WEIGHT);
    p = get(100000);
    berth__tag_pop();
    q = get(100000);
    info = describe(p + 99999);
    assert_ptr_equal(info.base, p);
    assert_int_equal(info.requested, 100000);
    assert_true(info.held >= 100000);
    assert_int_equal(info.tag, BERTH_TAG_WEIGHT);
    assert_string_equal(info.tier, "a");
    assert_string_equal(info.rule, "rule");
    assert_int_equal(cell(tier, BERTH_TAG_WEIGHT).requested, 100000);
    assert_int_equal(cell(tier, BERTH_TAG_WEIGHT).held, info.held);
    assert_int_equal(cell(tier, BERTH_TAG_WEIGHT).blocks, 1);
    info = describe(q);
    assert_string_equal(info.tier, "dram");
    assert_string_equal(info.rule, "");
    berth__host_free(p);
    assert_int_equal(cell(tier, BERTH_TAG_WEIGHT).blocks, 0);
    assert_int_equal(cell(tier, BERTH_TAG_WEIGHT).requested, 0);
    assert_int_equal(berth__host_describe(p, &info), -2);
    berth__host_free(q);
}

static void small_blocks_are_placed_and_told_apart(void **state)
{
    berth_tier_id tier = use_tier("small", 0, 0, 0);
    char *block[1000];
    size_t total = 0;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        size_t size = i * 5;

        berth__tag_push((enum berth_tag)(i % 5));
        block[i] = get(size);
        berth__tag_pop();
        memset(block[i], (int)i, size);
        total += size;
    }
    for (size_t i = 0; i < 1000; i++) {
        struct berth_block_info info = describe(block[i] + i * 5 / 2);

        assert_ptr_equal(info.base, block[i]);
        assert_int_equal(info.requested, i * 5);
        assert_int_equal(info.tag, i % 5);
        assert_string_equal(info.tier, "small");
    }
    for (int tag = 0; tag < 5; tag++)
        total -= cell(tier, (enum berth_tag)tag).requested;
    assert_int_equal(total, 0);
    for (size_t i = 0; i < 1000; i++)
        berth__host_free(block[i]);
    for (int tag = 0; tag < 5; tag++)
        assert_int_equal(cell(tier, (enum berth_tag)tag).held, 0);
}

/* Sums over all tiers, because blocks may spill. */
static uint64_t all_requested(uint64_t *ret_blocks)
{
    uint64_t requested = 0;

    *ret_blocks = 0;
    for (unsigned id = 0; id < berth__tier_count(); id++) {
        for (int tag = 0; tag < BERTH_TAG_COUNT; tag++) {
            struct berth_cell_reading reading = cell((berth_tier_id)id, (enum berth_tag)tag);

            requested += reading.requested;
            *ret_blocks += reading.blocks;
        }
    }
    return requested;
}

static void churn(unsigned steps)
{
    static char *block[200];
    static size_t size[200];
    unsigned random = 7;
    uint64_t requested = 0, blocks = 0, counted;

    for (unsigned step = 0; step < steps; step++) {
        unsigned slot = (random = random * 1103515245 + 12345) >> 8;
        size_t want = ((random >> 4) % (step % 20 ? 5000 : 500000)) + 1;

        slot %= 200;
        if (!block[slot]) {
            block[slot] = get(want);
            blocks++;
        } else if (step % 3) {
            block[slot] = change(block[slot], want);
        } else {
            berth__host_free(block[slot]);
            block[slot] = NULL;
            blocks--;
        }
        requested -= size[slot];
        size[slot] = block[slot] ? want : 0;
        requested += size[slot];
        if (step % 500 == 0) {
            assert_int_equal(all_requested(&counted), requested);
            assert_int_equal(counted, blocks);
        }
    }
    for (int i = 0; i < 200; i++) {
        if (block[i])
            berth__host_free(block[i]);
        block[i] = NULL;
        size[i] = 0;
    }
    assert_int_equal(all_requested(&counted), 0);
    assert_int_equal(counted, 0);
}

static void the_account_is_exact(void **state)
{
    (void)state;
    use_tier("exact", 0, 0, 0);
    churn(20000);
}

static void the_account_is_exact_while_a_tier_is_full(void **state)
{
    berth_tier_id tier = use_tier("narrow", 3 * MIB, 0, 0);

    (void)state;
    churn(20000);
    assert_true(berth__tier_stats[tier].spilled_blocks > 0);
    assert_true(berth__tier_stats[tier].reserved <= 3 * MIB);
}

static void a_full_tier_spills_to_the_next_place(void **state)
{
    berth_tier_id tier = use_tier("full", 2 * MIB, 0, 0);
    char *block[20];
    unsigned here = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        block[i] = get(256 * KIB);
        assert_non_null(block[i]);
        memset(block[i], i, 256 * KIB);
        here += strcmp(describe(block[i]).tier, "full") == 0;
        assert_string_equal(describe(block[i]).rule, "rule");
    }
    /* A block takes its size and one OS page more, so that starts can be spread. */
    assert_int_equal(here, 7);
    assert_int_equal(berth__tier_stats[tier].spilled_blocks, 13);
    assert_int_equal(berth__tier_stats[tier].spilled_bytes, 13 * 256 * KIB);
    assert_true(berth__tier_stats[tier].reserved <= 2 * MIB);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(block[i][256 * KIB - 1], i);
        berth__host_free(block[i]);
    }
    assert_int_equal(berth__tier_stats[tier].reserved, 0);
}

static void *fill_and_leave(void *tier_name)
{
    char *small[200];
    char *large = get(5 * MIB);
    const char *tier = describe(large).tier;
    bool there = strcmp(tier, tier_name) == 0;

    berth__host_free(large);
    for (int i = 0; i < 200; i++)
        small[i] = get(8 * KIB);
    for (int i = 0; i < 200; i++)
        berth__host_free(small[i]);
    return there ? tier_name : NULL;
}

/* Each thread has an arena of its own, which keeps for ever what the thread has freed. */
static void what_a_thread_has_freed_is_room_for_all(void **state)
{
    struct berth_table_draft *draft = berth__draft_new();
    static char name[] = "kept";

    (void)state;
    draft_tier(draft, TIER(.name = name, .kind = BERTH_KIND_FILE, .path = directory(),
                           .capacity = 6 * MIB, .decay_ms = -1));
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST), name, "dram", NULL);
    draft_install(draft);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        void *there;

        assert_int_equal(pthread_create(&thread, NULL, fill_and_leave, name), 0);
        assert_int_equal(pthread_join(thread, &there), 0);
        assert_ptr_equal(there, name);
    }
    assert_int_equal(berth__tier_stats[berth__tier_find(name)].spilled_blocks, 0);
}

/* Also: jemalloc's metadata is not in the tier. */
static void what_is_freed_goes_back_to_the_tier(void **state)
{
    berth_tier_id tier = use_tier("back", 0, 0, 0);
    char *p = get(5 * MIB);

    (void)state;
    memset(p, 1, 5 * MIB);
    assert_true(berth__tier_stats[tier].reserved >= 5 * MIB);
    assert_true(berth__tier_stats[tier].reserved <= 5 * MIB + MIB);
    berth__host_free(p);
    assert_int_equal(berth__tier_stats[tier].reserved, 0);
    p = get(100);
    assert_true(berth__tier_stats[tier].reserved <= 64 * KIB);
    berth__host_free(p);
}

static void memory_that_comes_back_reads_as_zero(void **state)
{
    struct berth_host_request request = {.alignment = 1, .zero = true};
    bool placed;

    (void)state;
    use_tier("zero", 0, 0, 0);
    for (request.size = 100; request.size < 4 * MIB; request.size *= 3) {
        for (int round = 0; round < 3; round++) {
            char *p = berth__host_alloc(&request, &placed);

            assert_non_null(p);
            assert_true(placed);
            for (size_t i = 0; i < request.size; i++)
                if (p[i])
                    fail_msg("byte %zu of %zu is not zero", i, request.size);
            memset(p, 0xff, request.size);
            berth__host_free(p);
        }
    }
}

static void a_resized_block_keeps_tier_and_tag(void **state)
{
    char *p;

    (void)state;
    use_tier("keeps", 64 * MIB, 64 * KIB, 1u << BERTH_TAG_KV);
    berth__tag_push(BERTH_TAG_KV);
    p = get(100 * KIB);
    berth__tag_pop();
    memset(p, 9, 100 * KIB);
    for (size_t size = 200 * KIB; size < 20 * MIB; size *= 2) {
        p = change(p, size);
        assert_string_equal(describe(p).tier, "keeps");
        assert_int_equal(describe(p).tag, BERTH_TAG_KV);
        assert_int_equal(describe(p).requested, size);
        assert_int_equal(p[100 * KIB - 1], 9);
    }
    p = change(p, 70 * KIB);
    assert_string_equal(describe(p).tier, "keeps");
    /* Too large for its tier: it moves, and is still what it was. */
    p = change(p, 80 * MIB);
    assert_string_equal(describe(p).tier, "dram");
    assert_int_equal(describe(p).tag, BERTH_TAG_KV);
    assert_int_equal(p[70 * KIB - 1], 9);
    berth__host_free(p);
}

static void resizing_crosses_the_threshold(void **state)
{
    berth_tier_id tier = use_tier("crosses", 0, 64 * KIB, 0);
    char *p = berth_je_malloc(1000);

    (void)state;
    memset(p, 5, 1000);
    p = change(p, 100 * KIB);
    assert_string_equal(describe(p).tier, "crosses");
    assert_int_equal(p[999], 5);
    p = change(p, 2000);
    assert_false(berth__gate_owns(p));
    assert_int_equal(p[999], 5);
    assert_int_equal(cell(tier, BERTH_TAG_UNTAGGED).blocks, 0);
    berth_je_free(p);
}

static void a_block_that_cannot_grow_stays(void **state)
{
    char *p;

    (void)state;
    use_tier("stays", 0, 64 * KIB, 0);
    p = get(100 * KIB);
    memset(p, 3, 100 * KIB);
    assert_null(change(p, (size_t)1 << 62));
    assert_string_equal(describe(p).tier, "stays");
    assert_int_equal(p[100 * KIB - 1], 3);
    assert_int_equal(describe(p).requested, 100 * KIB);
    berth__host_free(p);
}

static void dram_moves_into_a_rule_that_it_grows_into(void **state)
{
    char *p;

    (void)state;
    use_tier("grows", 0, MIB, 0);
    p = get(100 * KIB);
    assert_string_equal(describe(p).tier, "dram");
    memset(p, 4, 100 * KIB);
    p = change(p, 2 * MIB);
    assert_string_equal(describe(p).tier, "grows");
    assert_int_equal(p[100 * KIB - 1], 4);
    berth__host_free(p);
}

/* As xallocx() does it: in place, to whatever size can be had. */
static void resizing_in_place_keeps_the_account(void **state)
{
    berth_tier_id tier = use_tier("place", 0, 64 * KIB, 0);
    char *p = get(MIB);
    size_t held;

    (void)state;
    for (size_t size = 200 * KIB; size < 8 * MIB; size += 300 * KIB) {
        held = berth__host_resize(p, size, size / 4, size & MIB ? MALLOCX_ZERO : 0);
        assert_int_equal(held, describe(p).held);
        assert_int_equal(cell(tier, BERTH_TAG_UNTAGGED).held, held);
        assert_int_equal(cell(tier, BERTH_TAG_UNTAGGED).requested, describe(p).requested);
        assert_true(describe(p).requested <= held);
    }
    berth__host_free(p);
    assert_int_equal(cell(tier, BERTH_TAG_UNTAGGED).held, 0);
    assert_int_equal(cell(tier, BERTH_TAG_UNTAGGED).requested, 0);
}

static void totals_leave_out_what_is_counted_one_by_one(void **state)
{
    struct berth_host_totals before, after;
    char *p;

    (void)state;
    use_tier("totals", 0, 64 * KIB, 0);
    p = get(MIB);
    berth__host_free(p);
    berth__host_totals(&before);
    p = get(50 * MIB);
    berth__host_totals(&after);
    assert_true(after.small_held < before.small_held + MIB);
    berth__host_free(p);
    p = berth_je_malloc(30 * MIB);
    berth__host_totals(&after);
    assert_true(after.small_held >= before.small_held + 30 * MIB);
    berth_je_free(p);
}

/* jemalloc has 4093 tcaches: a thread beyond them goes without, and places its blocks all the same.
 */
static void *place_without_tcache(void *argument)
{
    char *p = get(100);

    (void)argument;
    memset(p, 1, 100);
    assert_string_equal(describe(p).tier, "crowded");
    berth__host_free(p);
    return NULL;
}

static void without_tcaches_small_blocks_still_come(void **state)
{
    static unsigned tcache[5000];
    size_t size = sizeof(tcache[0]);
    unsigned count = 0;
    pthread_t thread;

    (void)state;
    use_tier("crowded", 0, 0, 0);
    while (count < 5000 && berth_je_mallctl("tcache.create", &tcache[count], &size, NULL, 0) == 0)
        count++;
    assert_true(count < 4094);
    assert_int_equal(pthread_create(&thread, NULL, place_without_tcache, NULL), 0);
    pthread_join(thread, NULL);
    while (count-- > 0)
        berth_je_mallctl("tcache.destroy", NULL, NULL, &tcache[count], sizeof(tcache[count]));
}

#ifdef __SANITIZE_THREAD__
#define THREADS_IN_TURN 500
#else
#define THREADS_IN_TURN 10000
#endif

/* 10000 threads in turn use one tier: the tcaches of the dead must be given back. */
static void threads_leave_no_tcache_behind(void **state)
{
    size_t size = sizeof(unsigned);
    unsigned first, last;

    (void)state;
    use_tier("crowded", 0, 0, 0);
    assert_int_equal(berth_je_mallctl("tcache.create", &first, &size, NULL, 0), 0);
    for (int i = 0; i < THREADS_IN_TURN; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, place_without_tcache, NULL), 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(berth_je_mallctl("tcache.create", &last, &size, NULL, 0), 0);
    assert_true(last <= first + 4);
    berth_je_mallctl("tcache.destroy", NULL, NULL, &first, sizeof(first));
    berth_je_mallctl("tcache.destroy", NULL, NULL, &last, sizeof(last));
}

static struct berth_site_total at_site(berth_site_id site)
{
    struct berth_site_total total = {0};

    assert_true(berth__site_account_total(site, &total));
    return total;
}

static void sites_are_accounted_until_the_free(void **state)
{
    const void *frame = (const void *)sites_are_accounted_until_the_free;
    berth_site_id site = berth__site_intern(&frame, 1);
    struct berth_host_request request = {.size = 100000, .alignment = 1, .site = site};
    berth_tier_id tier = use_tier("sited", 0, 64 * KIB, 1u << BERTH_TAG_KV);
    struct berth_site_reading reading;
    bool placed;
    void *p, *q;

    (void)state;
    berth__tag_push(BERTH_TAG_KV);
    p = berth__host_alloc(&request, &placed);
    berth__tag_pop();
    q = berth__host_alloc(&request, &placed);
    assert_true(berth__site_account_cell(site, 0, &reading));
    assert_int_equal(reading.tier, tier);
    assert_int_equal(reading.tag, BERTH_TAG_KV);
    assert_int_equal(reading.requested, 100000);
    assert_true(berth__site_account_cell(site, 1, &reading));
    assert_int_equal(reading.tier, BERTH_TIER_DRAM);
    assert_int_equal(reading.requested, 100000);
    assert_false(berth__site_account_cell(site, 2, &reading));
    /* In place, and out of its place: both leave the account as it was found. */
    berth__host_resize(q, 200000, 0, 0);
    request.size = 10 * MIB;
    q = berth__host_realloc(q, &request, &placed);
    assert_int_equal(at_site(site).requested, 100000 + 10 * MIB);
    assert_int_equal(at_site(site).blocks, 2);
    request.size = 100;
    q = berth__host_realloc(q, &request, &placed);
    assert_int_equal(at_site(site).blocks, 1);
    berth__host_free(p);
    assert_int_equal(at_site(site).blocks, 0);
    assert_int_equal(at_site(site).held, 0);
    assert_true(at_site(site).peak_held >= 10 * MIB);
    berth_je_free(q);
}

static void *get_sample(size_t size, berth_site_id site, uint64_t sample)
{
    struct berth_host_request request = {
        .size = size, .alignment = 1, .sample = sample, .sample_site = site};
    bool placed;

    return berth__host_alloc(&request, &placed);
}

/* Small blocks that stand for many, until they are freed or resized. */
static void samples_are_estimates(void **state)
{
    const void *frame = (const void *)samples_are_estimates;
    berth_site_id site = berth__site_intern(&frame, 1);
    struct berth_host_request request = {.size = 200, .alignment = 1};
    struct berth_cell_reading before, after;
    struct berth_site_reading reading;
    struct berth_block_detail detail;
    bool placed;
    void *p, *q;

    (void)state;
    use_tier("beside", 0, 64 * KIB, 1u << BERTH_TAG_KV);
    berth__stats_read(BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED, &before);
    p = get_sample(100, site, 1000 * BERTH_SAMPLE_ONE);
    q = get_sample(100, site, 1000 * BERTH_SAMPLE_ONE);
    assert_true(berth__gate_owns(p));
    assert_true(berth__site_account_cell(site, 0, &reading));
    assert_int_equal(reading.samples, 2);
    assert_int_equal(reading.requested, 200000);
    assert_int_equal(reading.blocks, 2000);
    assert_false(berth__site_account_cell(site, 1, &reading));
    assert_int_equal(berth__host_detail((char *)p + 99, &detail), 0);
    assert_int_equal(detail.sample, 1000 * BERTH_SAMPLE_ONE);
    assert_int_equal(detail.rule, BERTH_RULE_NONE);
    /* By itself it is one block. */
    berth__stats_read(BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED, &after);
    assert_int_equal(after.requested - before.requested, 200);
    memset(p, 7, 100);
    p = berth__host_realloc(p, &request, &placed);
    assert_false(berth__gate_owns(p));
    assert_int_equal(((char *)p)[99], 7);
    assert_int_equal(at_site(site).blocks, 1000);
    request.sample = 10 * BERTH_SAMPLE_ONE;
    request.sample_site = site;
    p = berth__host_realloc(p, &request, &placed);
    assert_true(berth__gate_owns(p));
    assert_int_equal(((char *)p)[99], 7);
    assert_int_equal(at_site(site).requested, 100000 + 2000);
    /* One that grows out of the small sizes is what it is. */
    request = (struct berth_host_request){.size = 100000, .alignment = 1, .site = site};
    q = berth__host_realloc(q, &request, &placed);
    assert_int_equal(at_site(site).requested, 100000 + 2000);
    assert_true(berth__site_account_cell(site, 1, &reading));
    assert_int_equal(reading.samples, 0);
    assert_int_equal(reading.blocks, 1);
    berth__host_free(p);
    berth__host_free(q);
    assert_int_equal(at_site(site).held, 0);
    assert_int_equal(at_site(site).blocks, 0);
    berth__stats_read(BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED, &after);
    assert_int_equal(after.held, before.held);
}

/* A rule for small blocks goes first. */
static void what_a_rule_places_is_no_sample(void **state)
{
    const void *frame = (const void *)what_a_rule_places_is_no_sample;
    berth_site_id site = berth__site_intern(&frame, 1);
    berth_tier_id tier = use_tier("taken", 0, 64, 0);
    struct berth_block_detail detail;
    void *p;

    (void)state;
    p = get_sample(100, site, 1000 * BERTH_SAMPLE_ONE);
    assert_int_equal(berth__host_detail(p, &detail), 0);
    assert_int_equal(detail.tier, tier);
    assert_int_equal(detail.sample, 0);
    berth__host_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_estimates),
        cmocka_unit_test(what_a_rule_places_is_no_sample),
        cmocka_unit_test(a_rule_places_blocks_in_its_tier),
        cmocka_unit_test(small_blocks_are_placed_and_told_apart),
        cmocka_unit_test(sites_are_accounted_until_the_free),
        cmocka_unit_test(the_account_is_exact),
        cmocka_unit_test(the_account_is_exact_while_a_tier_is_full),
        cmocka_unit_test(a_full_tier_spills_to_the_next_place),
        cmocka_unit_test(what_a_thread_has_freed_is_room_for_all),
        cmocka_unit_test(what_is_freed_goes_back_to_the_tier),
        cmocka_unit_test(memory_that_comes_back_reads_as_zero),
        cmocka_unit_test(a_resized_block_keeps_tier_and_tag),
        cmocka_unit_test(resizing_crosses_the_threshold),
        cmocka_unit_test(a_block_that_cannot_grow_stays),
        cmocka_unit_test(dram_moves_into_a_rule_that_it_grows_into),
        cmocka_unit_test(resizing_in_place_keeps_the_account),
        cmocka_unit_test(totals_leave_out_what_is_counted_one_by_one),
        cmocka_unit_test(without_tcaches_small_blocks_still_come),
        cmocka_unit_test(threads_leave_no_tcache_behind),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
