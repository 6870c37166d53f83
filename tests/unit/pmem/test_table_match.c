/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: plans give the answer that trying each rule in turn gives.
 * Method: seeded random tables and requests, sizes at and beside the bounds; both ways are asked.
 */
#include "alloc/site.h"
#include "pmem/table_match.h"
#include "tests/random_numbers.h"
#include "tests/unit/pmem/table_fixture.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEED UINT64_C(20260726)

static berth_site_id site_in(const char *function)
{
    const void *frame = (const char *)dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), function);

    frame = (const char *)frame + 4;
    return berth__site_intern(&frame, 1);
}

/* Few different sizes, so that ranges meet; the ends of the numbers among them. */
static uint64_t random_size(void)
{
    uint64_t size = random_below(20);

    return size == 19 ? UINT64_MAX : size == 18 ? UINT64_MAX - 1 : size;
}

static void sort_pair(uint64_t *least, uint64_t *most)
{
    if (*least > *most) {
        uint64_t swap = *least;

        *least = *most;
        *most = swap;
    }
}

static const char *const patterns[] = {"",          "libc.so.6!qsort*", "libc.so.6",
                                       "nothing!x", "**>nothing",       "libc.so.6!getenv"};

static struct berth_loaded_table *load_random(unsigned rules, unsigned sites)
{
    static const char *const places[] = {"dram", "device", "slow"};
    struct berth_table_draft *draft = berth__draft_new();
    struct berth_loaded_table *table;
    struct table_bytes bytes;
    char why[BERTH_TABLE_WHY_MAX] = "";

    draft_tier(draft, TIER(.name = "slow", .kind = BERTH_KIND_FILE, .path = "/slow"));
    for (unsigned i = 0; i < sites; i++) {
        struct berth_site_info site = {.name = "s",
                                       .pattern = patterns[1 + random_below(5)],
                                       .tag = (enum berth_tag)random_below(BERTH_TAG_COUNT),
                                       .side = (enum berth_side)(1 + random_below(3)),
                                       .min_size = random_size(),
                                       .max_size = random_size()};

        sort_pair(&site.min_size, &site.max_size);
        assert_int_equal(berth__draft_add_site(draft, &site), 0);
    }
    for (unsigned i = 0; i < rules; i++) {
        struct berth_rule_info rule = {.name = "r",
                                       .side = (enum berth_side)(1 + random_below(3)),
                                       .tags = 1 + (unsigned)random_below(BERTH_TAGS_ALL),
                                       .pattern = patterns[random_below(6)],
                                       .thread = random_below(4) ? "" : "test*",
                                       .min_size = random_size(),
                                       .max_size = random_size(),
                                       .sequence_last = UINT64_MAX,
                                       .place_count = 1 + (unsigned)random_below(3)};

        if (random_below(4) == 0) {
            rule.sequence_first = random_below(3);
            rule.sequence_last = rule.sequence_first + random_below(3);
        }
        sort_pair(&rule.min_size, &rule.max_size);
        assert_int_equal(berth__draft_add_rule(draft, &rule, places), 0);
    }
    bytes = draft_bytes(draft);
    berth__table_load(bytes.bytes, bytes.size, "test", NULL, &table, why, sizeof(why));
    assert_string_equal(why, "");
    free(bytes.bytes);
    return table;
}

static void compare_answers(struct berth_loaded_table *table, const struct berth_request *request)
{
    struct berth_decision planned = {.rule = BERTH_RULE_NONE, .tag = request->tag};
    struct berth_decision in_turn = planned;

    berth__table_match(table, request, &planned);
    berth__table_match_in_turn(table, request, &in_turn);
    if (planned.rule != in_turn.rule || planned.tag != in_turn.tag ||
        planned.place_count != in_turn.place_count ||
        memcmp(planned.places, in_turn.places, planned.place_count) != 0)
        fail_msg("size %zu, tag %d: planned rule %u tag %d, in turn rule %u tag %d", request->size,
                 (int)request->tag, planned.rule, (int)planned.tag, in_turn.rule, (int)in_turn.tag);
}

static void plans_answer_as_rules_tried_in_turn(void **state)
{
    const berth_site_id sites[] = {0, site_in("qsort"), site_in("getenv"), UINT32_MAX};

    random_start(SEED);
    for (unsigned round = 0; round < 300; round++) {
        struct berth_loaded_table *table =
            load_random((unsigned)random_below(40), (unsigned)random_below(80));

        for (unsigned i = 0; i < 400; i++) {
            struct berth_request request = {
                .side = random_below(2) ? BERTH_SIDE_HOST : BERTH_SIDE_DEVICE,
                .size = random_size(),
                .tag = (enum berth_tag)random_below(BERTH_TAG_COUNT),
                .site = sites[random_below(4)],
                .sequence = random_below(6),
            };

            compare_answers(table, &request);
        }
        berth__table_unload(table);
    }
}

#define SITES 600
#define THREADS 4

struct meeting {
    struct berth_loaded_table *table;
    berth_site_id site[SITES];
    struct berth_decision expected[SITES];
    pthread_barrier_t start;
};

/* All threads meet the same sites in the same order, so that they fill the same rows at once. */
static void *meet_sites(void *argument)
{
    struct meeting *meeting = argument;

    pthread_barrier_wait(&meeting->start);
    for (unsigned i = 0; i < SITES; i++) {
        const struct berth_request request = {
            .side = BERTH_SIDE_HOST, .size = i % 20, .site = meeting->site[i]};
        struct berth_decision decision = {.rule = BERTH_RULE_NONE};

        berth__table_match(meeting->table, &request, &decision);
        if (decision.rule != meeting->expected[i].rule || decision.tag != meeting->expected[i].tag)
            return argument;
    }
    return NULL;
}

static void threads_that_meet_new_sites_agree(void **state)
{
    static struct meeting meeting;
    const char *libc = dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "qsort");
    pthread_t thread[THREADS];

    random_start(SEED);
    meeting.table = load_random(100, 100);
    for (unsigned i = 0; i < SITES; i++) {
        const void *frame = libc + i * 8;
        struct berth_request request = {.side = BERTH_SIDE_HOST, .size = i % 20};

        request.site = meeting.site[i] = berth__site_intern(&frame, 1);
        meeting.expected[i].rule = BERTH_RULE_NONE;
        berth__table_match_in_turn(meeting.table, &request, &meeting.expected[i]);
    }
    pthread_barrier_init(&meeting.start, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, meet_sites, &meeting), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        void *wrong;

        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    pthread_barrier_destroy(&meeting.start);
    berth__table_unload(meeting.table);
}

/* Too many rules for a plan; and as many as a plan may have. */
static void very_many_rules_are_answered_too(void **state)
{
    static const unsigned counts[] = {BERTH_PLAN_ENTRIES_MAX + 1, 2000};

    for (unsigned round = 0; round < 2; round++) {
        struct berth_table_draft *draft = berth__draft_new();
        struct berth_loaded_table *table;
        struct table_bytes bytes;
        char why[BERTH_TABLE_WHY_MAX] = "";

        for (unsigned i = 1; i <= counts[round]; i++)
            draft_rule(draft, RULE(.name = "r", .min_size = 3 * i, .max_size = 3 * i + 1), "dram",
                       NULL);
        bytes = draft_bytes(draft);
        berth__table_load(bytes.bytes, bytes.size, "test", NULL, &table, why, sizeof(why));
        assert_string_equal(why, "");
        for (size_t size = 0; size < 9000; size += 7) {
            const struct berth_request request = {.side = BERTH_SIDE_HOST, .size = size};
            struct berth_decision decision = {.rule = BERTH_RULE_NONE};
            bool between = size < 3 || size % 3 == 2 || size / 3 > counts[round];

            berth__table_match(table, &request, &decision);
            assert_int_equal(decision.rule, between ? BERTH_RULE_NONE : size / 3 - 1);
        }
        berth__table_unload(table);
        free(bytes.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_answer_as_rules_tried_in_turn),
        cmocka_unit_test(threads_that_meet_new_sites_agree),
        cmocka_unit_test(very_many_rules_are_answered_too),
    };

    printf("seed %llu\n", (unsigned long long)SEED);
    fixture_serve_files();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
