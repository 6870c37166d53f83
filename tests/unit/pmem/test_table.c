/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the table in force answers as its rules say, and is replaced without harm to readers.
 * Method: tables are made by the builder and installed; tiers of kind file are fakes that commit
 * nothing, kind dax has no maker. Call paths are made of addresses in the C library.
 */
#include "alloc/options.h"
#include "alloc/site.h"
#include "pmem/gate.h"
#include "tests/unit/pmem/table_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct berth_decision ask(enum berth_side side, size_t size, enum berth_tag tag,
                                 berth_site_id site, uint64_t sequence)
{
    const struct berth_request request = {side, size, tag, site, sequence};
    struct berth_decision decision;

    memset(&decision, 0xa5, sizeof(decision));
    berth__table_decide(&request, &decision);
    return decision;
}

static struct berth_decision ask_host(size_t size, enum berth_tag tag)
{
    return ask(BERTH_SIDE_HOST, size, tag, 0, 0);
}

/* A path of one frame, in a function of the C library's own, whoever else defines one. */
static berth_site_id site_in(const char *function)
{
    static void *libc;
    const void *frame;

    if (!libc)
        libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(libc);
    frame = (const char *)dlsym(libc, function) + 4;

    return berth__site_intern(&frame, 1);
}

/* Installs one table with a tier `slow` and these rules. */
static struct berth_table_draft *new_draft(void)
{
    struct berth_table_draft *draft = berth__draft_new();

    assert_non_null(draft);
    draft_tier(draft, TIER(.name = "slow", .kind = BERTH_KIND_FILE, .path = "/slow"));
    return draft;
}

static void without_a_table_nothing_is_decided(void **state)
{
    struct berth_decision decision = ask_host(1 << 20, BERTH_TAG_KV);

    assert_int_equal(decision.version, 0);
    assert_int_equal(decision.rule, BERTH_RULE_NONE);
    assert_int_equal(decision.tag, BERTH_TAG_KV);
    assert_int_equal(decision.place_count, 0);
    assert_int_equal(berth__table_version(), 0);
    berth__table_count_spill(&decision, BERTH_TIER_DRAM, 1);
}

static void the_first_rule_that_matches_wins(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct berth_decision decision;

    draft_rule(
        draft,
        RULE(.name = "big", .tags = 1 << BERTH_TAG_WEIGHT, .min_size = 65536, .movable = true),
        "slow", "dram", NULL);
    draft_rule(draft, RULE(.name = "all", .max_size = 99999), "dram", NULL);
    draft_install(draft);

    decision = ask_host(65536, BERTH_TAG_WEIGHT);
    assert_int_equal(decision.rule, 0);
    assert_int_equal(decision.place_count, 2);
    assert_int_equal(decision.places[0], berth__tier_find("slow"));
    assert_int_equal(decision.places[1], BERTH_TIER_DRAM);
    assert_true(decision.movable);
    assert_false(ask_host(65535, BERTH_TAG_WEIGHT).movable);
    assert_false(ask_host(100000, BERTH_TAG_UNTAGGED).movable);
    assert_int_equal(ask_host(65535, BERTH_TAG_WEIGHT).rule, 1);
    assert_int_equal(ask_host(65536, BERTH_TAG_KV).rule, 1);
    assert_int_equal(ask_host(99999, BERTH_TAG_UNTAGGED).rule, 1);
    assert_int_equal(ask_host(100000, BERTH_TAG_UNTAGGED).rule, BERTH_RULE_NONE);
    assert_int_equal(ask_host(100000, BERTH_TAG_UNTAGGED).place_count, 0);
}

static void a_rule_speaks_of_the_sides_that_its_places_serve(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct berth_decision decision;

    draft_rule(draft, RULE(.name = "gpu"), "device", NULL);
    draft_rule(draft, RULE(.name = "mixed", .tags = 1 << BERTH_TAG_KV), "slow", "device", NULL);
    draft_rule(draft, RULE(.name = "pinned"), "pinned", "slow", NULL);
    draft_install(draft);

    decision = ask(BERTH_SIDE_DEVICE, 1, BERTH_TAG_KV, 0, 0);
    assert_int_equal(decision.rule, 0);
    assert_int_equal(decision.place_count, 1);
    assert_int_equal(decision.places[0], BERTH_TIER_DEVICE);
    decision = ask_host(1, BERTH_TAG_KV);
    assert_int_equal(decision.rule, 1);
    assert_int_equal(decision.place_count, 1);
    assert_int_equal(decision.places[0], berth__tier_find("slow"));
    /* Nothing makes page-locked memory here. */
    decision = ask_host(1, BERTH_TAG_WEIGHT);
    assert_int_equal(decision.rule, 2);
    assert_int_equal(decision.place_count, 1);
}

static void a_tier_that_cannot_be_had_is_passed_over(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct berth_decision decision;

    draft_tier(draft, TIER(.name = "absent", .kind = BERTH_KIND_DAX, .path = "/dev/dax0.0"));
    draft_rule(draft, RULE(.name = "a", .tags = 1 << BERTH_TAG_KV), "absent", "slow", NULL);
    draft_rule(draft, RULE(.name = "b", .tags = 1 << BERTH_TAG_WEIGHT), "absent", NULL);
    draft_rule(draft, RULE(.name = "c"), "slow", NULL);
    draft_install(draft);

    decision = ask_host(1, BERTH_TAG_KV);
    assert_int_equal(decision.place_count, 1);
    assert_int_equal(decision.places[0], berth__tier_find("slow"));
    /* The rule still matches: the next one is not meant for its blocks. */
    decision = ask_host(1, BERTH_TAG_WEIGHT);
    assert_int_equal(decision.rule, 1);
    assert_int_equal(decision.place_count, 0);
}

static unsigned lines_of(FILE *from)
{
    unsigned lines = 0;
    int c;

    rewind(from);
    while ((c = getc(from)) != EOF)
        lines += c == '\n';
    return lines;
}

/* A table that an agent sends every second must not fill the log. */
static void a_missing_tier_is_said_again_only_after_a_table_without_it(void **state)
{
    static const bool has[] = {true, true, false, true};
    static const unsigned said[] = {1, 1, 1, 2};
    FILE *to = tmpfile();
    int kept = dup(STDERR_FILENO);
    unsigned lines[4];

    assert_non_null(to);
    for (unsigned i = 0; i < 4; i++) {
        struct berth_table_draft *draft = new_draft();

        if (has[i])
            draft_tier(draft, TIER(.name = "gone", .kind = BERTH_KIND_DAX, .path = "/dev/dax1.0"));
        dup2(fileno(to), STDERR_FILENO);
        draft_install(draft);
        dup2(kept, STDERR_FILENO);
        lines[i] = lines_of(to);
    }
    close(kept);
    fclose(to);
    assert_memory_equal(lines, said, sizeof(said));
}

static void a_site_section_tags_what_the_thread_did_not(void **state)
{
    berth_site_id site = site_in("qsort"), other = site_in("getenv");
    struct berth_table_draft *draft = new_draft();

    draft_site(draft, SITE(.name = "q", .pattern = "libc.so.6!qsort*", .tag = BERTH_TAG_WEIGHT,
                           .max_size = 1000));
    draft_site(draft, SITE(.name = "c", .pattern = "libc.so.6", .tag = BERTH_TAG_ACTIVATION));
    draft_rule(draft, RULE(.name = "w", .tags = 1 << BERTH_TAG_WEIGHT), "slow", NULL);
    draft_install(draft);

    assert_int_equal(ask(BERTH_SIDE_HOST, 1000, BERTH_TAG_UNTAGGED, site, 0).tag, BERTH_TAG_WEIGHT);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1000, BERTH_TAG_UNTAGGED, site, 0).rule, 0);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1001, BERTH_TAG_UNTAGGED, site, 0).tag,
                     BERTH_TAG_ACTIVATION);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1000, BERTH_TAG_UNTAGGED, other, 0).tag,
                     BERTH_TAG_ACTIVATION);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1000, BERTH_TAG_UNTAGGED, 0, 0).tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1000, BERTH_TAG_KV, site, 0).tag, BERTH_TAG_KV);
}

/* More patterns than one word of a row has bits. */
static void every_one_of_many_patterns_is_told_apart(void **state)
{
    berth_site_id site = site_in("qsort"), other = site_in("getenv");
    struct berth_table_draft *draft = new_draft();
    char name[32];

    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "r%u", i);
        draft_rule(draft,
                   RULE(.name = name, .min_size = i + 1, .max_size = i + 1,
                        .pattern = i % 3 == 0 ? "libc.so.6!qsort*" : "libc.so.6!getenv"),
                   "slow", NULL);
    }
    draft_install(draft);
    for (int round = 0; round < 2; round++)
        for (unsigned i = 0; i < 200; i++) {
            uint32_t of_site = ask(BERTH_SIDE_HOST, i + 1, 0, site, 0).rule;
            uint32_t of_other = ask(BERTH_SIDE_HOST, i + 1, 0, other, 0).rule;

            assert_int_equal(of_site, i % 3 == 0 ? i : BERTH_RULE_NONE);
            assert_int_equal(of_other, i % 3 != 0 ? i : BERTH_RULE_NONE);
        }
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, 0, 0).rule, BERTH_RULE_NONE);
    /* A number that no path has: no pattern matches it, however far up the cache must go. */
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, UINT32_MAX, 0).rule, BERTH_RULE_NONE);
}

static void threads_and_sequences_are_matched(void **state)
{
    struct berth_table_draft *draft = new_draft();

    draft_rule(draft, RULE(.name = "load", .thread = "lo?d-*"), "slow", NULL);
    draft_rule(draft, RULE(.name = "warm", .sequence_first = 2, .sequence_last = 4), "slow", NULL);
    draft_install(draft);

    prctl(PR_SET_NAME, "load-12", 0, 0, 0);
    assert_int_equal(ask_host(1, 0).rule, 0);
    prctl(PR_SET_NAME, "load", 0, 0, 0);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, 0, 1).rule, BERTH_RULE_NONE);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, 0, 2).rule, 1);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, 0, 4).rule, 1);
    assert_int_equal(ask(BERTH_SIDE_HOST, 1, 0, 0, 5).rule, BERTH_RULE_NONE);
}

static void the_gate_follows_the_smallest_host_rule(void **state)
{
    struct berth_table_draft *draft = new_draft();

    draft_rule(draft, RULE(.name = "gpu"), "device", NULL);
    draft_rule(draft, RULE(.name = "m", .min_size = 8192), "slow", NULL);
    draft_rule(draft, RULE(.name = "s", .min_size = 4096), "slow", NULL);
    draft_rule(draft, RULE(.name = "l", .min_size = 16384), "slow", NULL);
    draft_install(draft);
    assert_int_equal(berth__gate.threshold, 4096);
    assert_int_equal(berth__gate.site_threshold, SIZE_MAX);

    draft = new_draft();
    draft_rule(draft, RULE(.name = "w", .min_size = 1 << 20, .pattern = "libx"), "slow", NULL);
    draft_install(draft);
    assert_int_equal(berth__gate.threshold, 65536);
    assert_int_equal(berth__gate.site_threshold, 65536);
    assert_int_equal(berth__gate.device_site_threshold, SIZE_MAX);

    draft = new_draft();
    draft_rule(draft, RULE(.name = "gpu", .pattern = "libx"), "device", NULL);
    draft_install(draft);
    assert_int_equal(berth__gate.site_threshold, SIZE_MAX);
    assert_int_equal(berth__gate.device_site_threshold, 65536);

    draft = new_draft();
    assert_int_equal(berth__draft_add_option(draft, "record-threshold", "1M"), 0);
    draft_rule(draft, RULE(.name = "gpu"), "device", NULL);
    draft_install(draft);
    assert_int_equal(berth__gate.threshold, 1 << 20);
    assert_int_equal(berth__gate.site_threshold, SIZE_MAX);

    /* What no table sets any more is as it was. */
    draft_install(new_draft());
    assert_int_equal(berth__option(BERTH_OPTION_RECORD_THRESHOLD), 65536);
    assert_int_equal(berth__option_origin(BERTH_OPTION_RECORD_THRESHOLD), BERTH_ORIGIN_DEFAULT);
    assert_int_equal(berth__gate.threshold, 65536);
}

static void a_bad_table_leaves_the_old_one_in_force(void **state)
{
    uint64_t version = berth__table_version();
    struct berth_table_draft *draft = berth__draft_new();
    char why[BERTH_TABLE_WHY_MAX] = "";
    struct table_bytes table;

    assert_int_equal(berth__table_install("nonsense", 8, "x", why, sizeof(why)), -EINVAL);
    assert_string_not_equal(why, "");
    assert_int_equal(berth__table_install("", 0, "x", why, sizeof(why)), -EINVAL);

    /* A running program cannot move its tier. */
    draft_tier(draft, TIER(.name = "slow", .kind = BERTH_KIND_FILE, .path = "/elsewhere"));
    assert_int_equal(berth__draft_add_option(draft, "record-threshold", "2M"), 0);
    table = draft_bytes(draft);
    assert_int_equal(berth__table_install(table.bytes, table.size, "x", why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "its path cannot change"));
    assert_int_equal(berth__option(BERTH_OPTION_RECORD_THRESHOLD), 65536);
    assert_int_equal(berth__table_version(), version);
    free(table.bytes);
}

static void matches_and_spills_are_counted_for_the_version_in_force(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct berth_rule_counts counts;
    struct berth_decision decision;
    char name[BERTH_NAME_MAX];

    draft_rule(draft, RULE(.name = "w"), "slow", NULL);
    draft_install(draft);
    ask_host(10, 0);
    decision = ask_host(32, 0);
    berth__table_count_spill(&decision, BERTH_TIER_DRAM, 32);
    assert_int_equal(berth__table_rule_counts(decision.version, 0, &counts), 0);
    assert_int_equal(counts.matched_blocks, 2);
    assert_int_equal(counts.matched_bytes, 42);
    assert_int_equal(counts.spilled_blocks, 1);
    assert_int_equal(counts.spilled_bytes, 32);
    assert_string_equal(berth__table_rule_name(decision.version, 0, name), "w");
    assert_string_equal(berth__table_rule_name(decision.version, 1, name), "");
    assert_int_equal(berth__table_rule_counts(decision.version, 1, &counts), -ESTALE);

    draft_install(new_draft());
    assert_int_equal(berth__table_rule_counts(decision.version, 0, &counts), -ESTALE);
    assert_string_equal(berth__table_rule_name(decision.version, 0, name), "");
    berth__table_count_spill(&decision, BERTH_TIER_DRAM, 32);
    assert_int_equal(berth__table_rule_counts(berth__table_version(), 0, &counts), -ESTALE);
}

static void the_table_in_force_can_be_copied(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct table_bytes copy;
    uint64_t version;
    char text[5];

    draft_rule(draft, RULE(.name = "copied"), "slow", NULL);
    draft_install(draft);
    assert_int_equal(berth__table_copy(NULL, 0, &copy.size, &version), -ENOSPC);
    copy.bytes = malloc(copy.size);
    assert_int_equal(berth__table_copy(copy.bytes, copy.size, &copy.size, &version), 0);
    assert_int_equal(version, berth__table_version());
    assert_true(berth__table_bytes_host_rule(copy.bytes, copy.size));
    assert_int_equal(berth__table_origin(version, text, sizeof(text)), 0);
    assert_string_equal(text, "test");
    assert_int_equal(berth__table_origin(version - 1, text, sizeof(text)), -ESTALE);
    free(copy.bytes);
}

/* What a call in a function of the C library's own returns to. */
static const void *call_in(const char *function)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

    assert_non_null(libc);
    return (const char *)dlsym(libc, function) + 4;
}

static void the_least_size_is_told_by_the_call(void **state)
{
    const size_t most = 64 << 10;
    struct berth_table_draft *draft = new_draft();

    draft_site(draft, SITE(.name = "q", .pattern = "libc.so.6!qsort*", .tag = BERTH_TAG_WEIGHT,
                           .min_size = 100));
    draft_site(draft, SITE(.name = "deep", .pattern = "libc.so.6!qsort* > x", .tag = BERTH_TAG_KV));
    draft_rule(draft, RULE(.name = "w", .tags = 1u << BERTH_TAG_WEIGHT, .min_size = 50), "slow",
               NULL);
    draft_rule(draft, RULE(.name = "k", .tags = 1u << BERTH_TAG_KV), "slow", NULL);
    draft_rule(draft, RULE(.name = "d", .side = BERTH_SIDE_DEVICE), "device", NULL);
    draft_rule(draft, RULE(.name = "p", .pattern = "libc.so.6!getenv", .min_size = 7), "slow",
               NULL);
    draft_install(draft);
    assert_int_equal(berth__table_least_size(call_in("qsort"), most), 100);
    assert_int_equal(berth__table_least_size(call_in("getenv"), most), 7);
    assert_int_equal(berth__table_least_size(call_in("getenv"), 5), 5);
    assert_int_equal(berth__table_least_size(call_in("labs"), most), most);
    assert_int_equal(berth__table_least_size((const void *)0x10, most), most);
    draft = new_draft();
    draft_rule(draft, RULE(.name = "all", .min_size = 3), "slow", NULL);
    draft_install(draft);
    assert_int_equal(berth__table_least_size(call_in("labs"), most), 3);
}

static enum berth_verdict judge(uint32_t rule, size_t size, enum berth_tag tag, berth_site_id site)
{
    struct berth_request request = {
        .side = BERTH_SIDE_HOST, .size = size, .tag = tag, .site = site};
    enum berth_verdict verdict = BERTH_VERDICT_COUNT;

    assert_int_equal(berth__table_judge_rule(berth__table_version(), rule, &request, &verdict), 0);
    return verdict;
}

static void each_rule_is_judged_by_itself(void **state)
{
    struct berth_table_draft *draft = new_draft();
    struct berth_request request = {.side = BERTH_SIDE_DEVICE, .size = 5, .site = site_in("qsort")};
    enum berth_verdict verdict;

    draft_site(draft, SITE(.name = "q", .pattern = "libc.so.6!qsort*", .tag = BERTH_TAG_WEIGHT,
                           .side = BERTH_SIDE_HOST, .min_size = 10));
    draft_rule(draft,
               RULE(.name = "w", .tags = 1u << BERTH_TAG_WEIGHT, .min_size = 10, .max_size = 20),
               "slow", NULL);
    draft_rule(draft, RULE(.name = "d", .side = BERTH_SIDE_DEVICE), "device", NULL);
    draft_rule(draft, RULE(.name = "p", .pattern = "libc.so.6!getenv"), "slow", NULL);
    draft_rule(draft, RULE(.name = "t", .thread = "x"), "slow", NULL);
    draft_rule(draft, RULE(.name = "s", .sequence_first = 1), "slow", NULL);
    draft_install(draft);
    assert_int_equal(judge(0, 15, BERTH_TAG_WEIGHT, 0), BERTH_VERDICT_MATCHES);
    assert_int_equal(judge(0, BERTH_SIZE_UNKNOWN, BERTH_TAG_WEIGHT, 0), BERTH_VERDICT_MATCHES);
    assert_int_equal(judge(0, 9, BERTH_TAG_WEIGHT, 0), BERTH_VERDICT_TOO_SMALL);
    assert_int_equal(judge(0, 21, BERTH_TAG_WEIGHT, 0), BERTH_VERDICT_TOO_LARGE);
    assert_int_equal(judge(0, 15, BERTH_TAG_KV, 0), BERTH_VERDICT_TAG);
    assert_int_equal(judge(1, 15, BERTH_TAG_KV, 0), BERTH_VERDICT_SIDE);
    assert_int_equal(judge(2, 15, 0, 0), BERTH_VERDICT_NO_SITE);
    assert_int_equal(judge(2, 15, 0, site_in("qsort")), BERTH_VERDICT_SITE);
    assert_int_equal(judge(2, 15, 0, site_in("getenv")), BERTH_VERDICT_MATCHES);
    assert_int_equal(judge(3, 15, 0, 0), BERTH_VERDICT_THREAD);
    assert_int_equal(judge(4, 15, 0, 0), BERTH_VERDICT_SEQUENCE);
    assert_int_equal(berth__table_judge_section(berth__table_version(), 0, &request, &verdict), 0);
    assert_int_equal(verdict, BERTH_VERDICT_SIDE);
    request.side = BERTH_SIDE_HOST;
    assert_int_equal(berth__table_judge_section(berth__table_version(), 0, &request, &verdict), 0);
    assert_int_equal(verdict, BERTH_VERDICT_TOO_SMALL);
    assert_int_equal(berth__table_judge_section(berth__table_version(), 1, &request, &verdict),
                     -ENOENT);
    assert_int_equal(berth__table_judge_rule(berth__table_version() - 1, 0, &request, &verdict),
                     -ESTALE);
}

/* Even versions place in `slow`, odd ones in `dram`: an answer must be of one table. */
static void *decide_without_end(void *stop)
{
    berth_tier_id slow = berth__tier_find("slow");
    berth_site_id site = site_in("qsort");
    uint64_t last = 0;

    while (!atomic_load((atomic_bool *)stop)) {
        struct berth_decision decision = ask(BERTH_SIDE_HOST, 4096, 0, site, 0);

        if (decision.place_count != 1 || decision.version < last ||
            decision.places[0] != (decision.version % 2 == 0 ? slow : BERTH_TIER_DRAM))
            return stop;
        last = decision.version;
    }
    return NULL;
}

static void install_for(uint64_t version)
{
    struct berth_table_draft *draft = new_draft();

    draft_rule(draft, RULE(.name = "r", .pattern = "libc.so.6!qsort*"),
               version % 2 == 0 ? "slow" : "dram", NULL);
    draft_install(draft);
    assert_int_equal(berth__table_version(), version);
}

static void readers_go_on_while_tables_are_replaced(void **state)
{
    pthread_t readers[3];
    atomic_bool stop = false;
    uint64_t version = berth__table_version();

    install_for(++version);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, decide_without_end, &stop), 0);
    for (int i = 0; i < 300; i++)
        install_for(++version);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) {
        void *mixed;

        pthread_join(readers[i], &mixed);
        assert_null(mixed);
    }
}

static void *install_without_end(void *stop)
{
    uint64_t version = berth__table_version();

    while (!atomic_load((atomic_bool *)stop))
        install_for(++version);
    return NULL;
}

/* Of a child that does next to nothing. */
#define PATIENCE_S 30

/* In a child, which ends. */
static void install_in_child(const struct table_bytes *table, berth_site_id site)
{
    uint64_t version = berth__table_version();
    char why[BERTH_TABLE_WHY_MAX];
    bool right = true;

    alarm(PATIENCE_S);
    for (int i = 0; i < 2; i++)
        right &= berth__table_install(table->bytes, table->size, "child", why, sizeof(why)) == 0;
    _exit(right && ask(BERTH_SIDE_HOST, 1, 0, site, 0).version == version + 2 ? 0 : 1);
}

/*
 * The child's copy is of a moment between two installs, whatever the parent was doing. What the
 * child needs was made before: a sanitizer's malloc() may be locked in a child for ever.
 */
static void a_forked_child_decides_and_installs(void **state)
{
    struct berth_table_draft *draft = new_draft();
    berth_site_id site = site_in("qsort");
    struct table_bytes table;
    pthread_t installer, reader;
    atomic_bool stop = false;
    bool right = true;

    draft_rule(draft, RULE(.name = "r", .pattern = "libc.so.6!qsort*"), "dram", NULL);
    table = draft_bytes(draft);
    install_for(berth__table_version() + 1);
    assert_int_equal(pthread_create(&installer, NULL, install_without_end, &stop), 0);
    assert_int_equal(pthread_create(&reader, NULL, decide_without_end, &stop), 0);
    for (int i = 0; i < 40 && right; i++) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            install_in_child(&table, site);
        right = waitpid(pid, &status, 0) == pid && status == 0;
    }
    atomic_store(&stop, true);
    pthread_join(installer, NULL);
    pthread_join(reader, NULL);
    free(table.bytes);
    assert_true(right);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_table_nothing_is_decided),
        cmocka_unit_test(the_first_rule_that_matches_wins),
        cmocka_unit_test(a_rule_speaks_of_the_sides_that_its_places_serve),
        cmocka_unit_test(a_tier_that_cannot_be_had_is_passed_over),
        cmocka_unit_test(a_missing_tier_is_said_again_only_after_a_table_without_it),
        cmocka_unit_test(a_site_section_tags_what_the_thread_did_not),
        cmocka_unit_test(every_one_of_many_patterns_is_told_apart),
        cmocka_unit_test(threads_and_sequences_are_matched),
        cmocka_unit_test(the_gate_follows_the_smallest_host_rule),
        cmocka_unit_test(a_bad_table_leaves_the_old_one_in_force),
        cmocka_unit_test(matches_and_spills_are_counted_for_the_version_in_force),
        cmocka_unit_test(the_table_in_force_can_be_copied),
        cmocka_unit_test(the_least_size_is_told_by_the_call),
        cmocka_unit_test(each_rule_is_judged_by_itself),
        cmocka_unit_test(readers_go_on_while_tables_are_replaced),
        cmocka_unit_test(a_forked_child_decides_and_installs),
    };

    fixture_serve_files();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
