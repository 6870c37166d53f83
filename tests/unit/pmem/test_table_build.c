/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a table that was made can be opened and changed; one that was damaged is refused for the
 * right reason.
 * Method: each damage changes one field of a valid table and repairs the checksum.
 */
#include "tests/unit/pmem/table_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct table_bytes make_table(void)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft,
               TIER(.name = "slow", .kind = BERTH_KIND_FILE, .path = "/slow", .capacity = 1 << 30));
    draft_tier(draft, TIER(.name = "cxl", .kind = BERTH_KIND_NUMA, .path = "", .nodes = "1-2",
                           .numa = BERTH_NUMA_PREFERRED, .huge_pages = BERTH_HUGE_ADVISE));
    draft_tier(draft, TIER(.name = "kept", .kind = BERTH_KIND_FILE, .path = "/kept",
                           .segment = "model", .verify = BERTH_VERIFY_FULL));
    draft_site(draft, SITE(.name = "load", .pattern = "a!b", .tag = BERTH_TAG_WEIGHT));
    draft_rule(draft,
               RULE(.name = "w", .tags = 1 << BERTH_TAG_WEIGHT, .min_size = 65536, .movable = true),
               "slow", "dram", NULL);
    draft_rule(draft, RULE(.name = "rest", .pattern = "c!d"), "dram", NULL);
    assert_int_equal(berth__draft_add_option(draft, "site-depth", "9"), 0);
    return draft_bytes(draft);
}

static struct berth_table_view open_table(const struct table_bytes *table)
{
    struct berth_table_view view;
    char why[BERTH_TABLE_WHY_MAX] = "";

    berth__table_open(table->bytes, table->size, &view, why, sizeof(why));
    assert_string_equal(why, "");
    return view;
}

static void what_was_added_is_read_back(void **state)
{
    struct table_bytes table = make_table();
    struct berth_table_view view = open_table(&table);
    struct berth_tier_config tier;
    struct berth_rule_info rule;
    struct berth_site_info site;

    berth__table_tier_info(&view, 0, &tier, NULL);
    assert_string_equal(tier.name, "slow");
    assert_string_equal(tier.path, "/slow");
    assert_int_equal(tier.capacity, 1 << 30);
    assert_string_equal(tier.nodes, "");
    berth__table_tier_info(&view, 1, &tier, NULL);
    assert_string_equal(tier.nodes, "1-2");
    assert_int_equal(tier.numa, BERTH_NUMA_PREFERRED);
    assert_int_equal(tier.huge_pages, BERTH_HUGE_ADVISE);
    berth__table_tier_info(&view, 2, &tier, NULL);
    assert_string_equal(tier.segment, "model");
    assert_int_equal(tier.verify, BERTH_VERIFY_FULL);
    berth__table_site_info(&view, 0, &site);
    assert_string_equal(site.pattern, "a!b");
    assert_int_equal(site.tag, BERTH_TAG_WEIGHT);
    berth__table_rule_info(&view, 0, &rule);
    assert_string_equal(rule.name, "w");
    assert_int_equal(rule.place_count, 2);
    assert_true(rule.movable);
    assert_string_equal(berth__table_place_name(&view, 0, 0), "slow");
    assert_int_equal(berth__table_place_kind(&view, 0, 0), BERTH_KIND_FILE);
    assert_string_equal(berth__table_place_name(&view, 0, 1), "dram");
    assert_string_equal(berth__table_place_name(&view, 1, 0), "dram");
    assert_true(berth__table_bytes_host_rule(table.bytes, table.size));
    assert_false(berth__table_bytes_host_rule(table.bytes, table.size - 1));
    free(table.bytes);
}

/* Sets 32 bits at `offset`, and asserts the reason for which the table is then refused. */
static void assert_refused(size_t offset, uint32_t value, const char *reason)
{
    struct table_bytes table = make_table();
    struct berth_table_header *header = table.bytes;
    struct berth_table_view view;
    char why[BERTH_TABLE_WHY_MAX] = "";

    memcpy((char *)table.bytes + offset, &value, sizeof(value));
    header->checksum = berth__table_checksum(table.bytes, table.size);
    assert_int_equal(berth__table_open(table.bytes, table.size, &view, why, sizeof(why)), -EINVAL);
    if (!strstr(why, reason))
        fail_msg("refused because \"%s\"; expected \"%s\"", why, reason);
    free(table.bytes);
}

#define HEADER(field) offsetof(struct berth_table_header, field)

static void a_damaged_header_is_refused(void **state)
{
    assert_refused(HEADER(magic), 1, "is not a compiled table");
    assert_refused(HEADER(format), 1, "its format is 1");
    assert_refused(HEADER(header_size), 0, "compile the policy again");
    assert_refused(HEADER(size), 99, "it was cut or extended");
    assert_refused(HEADER(tiers.offset), 8, "tiers lie outside");
    assert_refused(HEADER(tiers.count), UINT32_MAX, "tiers lie outside");
    assert_refused(HEADER(sites.count), 0, "rules lie outside");
    assert_refused(HEADER(rules.count), 0x10000000, "rules lie outside");
    assert_refused(HEADER(strings.count), 3, "bytes that belong to nothing");
}

static void a_damaged_entry_is_refused(void **state)
{
    struct table_bytes table = make_table();
    const struct berth_table_header *header = table.bytes;
    size_t tier = header->tiers.offset, site = header->sites.offset, rule = header->rules.offset;
    size_t option = header->options.offset, place = header->places.offset;
    size_t string = header->strings.offset, size = table.size;

#define TIER_AT(field) (tier + offsetof(struct berth_tier_entry, field))
#define SITE_AT(field) (site + offsetof(struct berth_site_entry, field))
#define RULE_AT(field) (rule + offsetof(struct berth_rule_entry, field))
    free(table.bytes);
    assert_refused(TIER_AT(name), (uint32_t)size, "name of tier 0 lies outside");
    assert_refused(TIER_AT(name), 0, "the name is empty");
    assert_refused(TIER_AT(path), UINT32_MAX, "path of tier slow lies outside");
    assert_refused(TIER_AT(kind), BERTH_KIND_COUNT, "has kind 8");
    assert_refused(TIER_AT(kind), BERTH_KIND_NONE, "has kind 0");
    assert_refused(TIER_AT(fork), 2, "fork rule 2");
    assert_refused(TIER_AT(decay_ms) + 4, 0x80000000, "decay that cannot be");
    assert_refused(TIER_AT(from), (uint32_t)size, "segment of tier slow lies outside");
    assert_refused(TIER_AT(segment), (uint32_t)size, "segment of tier slow lies outside");
    assert_refused(TIER_AT(offset), 100, "offset or size that cannot be");
    assert_refused(TIER_AT(piece_size), 513, "offset or size that cannot be");
    assert_refused(TIER_AT(nodes), (uint32_t)size, "nodes of tier slow lie outside");
    assert_refused(TIER_AT(nodes), 1, "nodes of tier slow: 'slow' names no nodes");
    assert_refused(TIER_AT(numa), BERTH_NUMA_COUNT, "has numa 2");
    assert_refused(TIER_AT(huge_pages), BERTH_HUGE_COUNT, "huge-pages 3");
    assert_refused(TIER_AT(verify), BERTH_VERIFY_COUNT, "verify 2");
    assert_refused(SITE_AT(tag), BERTH_TAG_COUNT, "tag or side");
    assert_refused(SITE_AT(side), 0, "tag or side");
    assert_refused(SITE_AT(pattern), (uint32_t)size, "call path of load lies outside");
    assert_refused(SITE_AT(pattern), 0, "call path of load:");
    assert_refused(RULE_AT(side), 4, "tag or side");
    assert_refused(RULE_AT(tags), 0, "tag or side");
    assert_refused(RULE_AT(tags), 1 << BERTH_TAG_COUNT, "tag or side");
    assert_refused(RULE_AT(thread), (uint32_t)size, "thread of rule w lies outside");
    assert_refused(RULE_AT(movable), 2, "rule w is movable in a way");
    assert_refused(RULE_AT(zero), 1, "rule w is movable in a way");
    assert_refused(RULE_AT(place_first), 2, "places outside");
    assert_refused(RULE_AT(place_first), UINT32_MAX, "places outside");
    assert_refused(RULE_AT(place_count), 0, "places outside");
    assert_refused(RULE_AT(place_count), UINT32_MAX, "places outside");
    assert_refused(place, 3, "a place that is no tier");
    assert_refused(place, BERTH_PLACE_BUILTIN | 3, "a place that is no tier");
    assert_refused(option, (uint32_t)size, "option 0 lies outside");
    assert_refused(string, 0x41414141, "strings do not end");
    assert_refused(size - 4, 0x41414141, "strings do not end");
}

static void a_draft_that_makes_no_sense_is_refused(void **state)
{
    struct berth_table_draft *draft = berth__draft_new();
    char why[BERTH_TABLE_WHY_MAX];
    void *bytes = &draft;
    size_t size;

    draft_rule(draft, RULE(.name = "r"), "nowhere", NULL);
    assert_int_equal(berth__draft_finish(draft, &bytes, &size, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "place 'nowhere' is no tier"));
    assert_ptr_equal(bytes, &draft);
    berth__draft_free(draft);

    draft = berth__draft_new();
    draft_tier(draft, TIER(.name = "dram", .kind = BERTH_KIND_FILE, .path = "/x"));
    assert_int_equal(berth__draft_finish(draft, &bytes, &size, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "built-in"));
    berth__draft_free(draft);
}

static void a_patch_changes_what_it_names_and_nothing_else(void **state)
{
    static const char *const places[] = {"dram", "slow"};
    const uint64_t least = 4096, most = 1 << 20, capacity = 12345;
    const struct berth_table_change changes[] = {
        {.rule = "w", .places = places, .place_count = 2, .min_size = &least},
        {.rule = "w", .max_size = &most},
        {.tier = "slow", .capacity = &capacity},
    };
    struct table_bytes table = make_table(), patched;
    char why[BERTH_TABLE_WHY_MAX];
    struct berth_table_view view;
    struct berth_tier_config tier;
    struct berth_rule_info rule;

    assert_int_equal(berth__table_patch(table.bytes, table.size, changes, 3, &patched.bytes,
                                        &patched.size, why, sizeof(why)),
                     0);
    view = open_table(&patched);
    berth__table_rule_info(&view, 0, &rule);
    assert_int_equal(rule.min_size, least);
    assert_int_equal(rule.max_size, most);
    assert_string_equal(berth__table_place_name(&view, 0, 0), "dram");
    assert_string_equal(berth__table_place_name(&view, 0, 1), "slow");
    assert_true(rule.movable);
    berth__table_rule_info(&view, 1, &rule);
    assert_string_equal(rule.pattern, "c!d");
    assert_string_equal(berth__table_place_name(&view, 1, 0), "dram");
    berth__table_tier_info(&view, 0, &tier, NULL);
    assert_int_equal(tier.capacity, capacity);
    assert_string_equal(tier.path, "/slow");
    assert_int_equal(view.header->options.count, 1);
    free(patched.bytes);

    /* None at all gives the same bytes but for the pool's order. */
    assert_int_equal(berth__table_patch(table.bytes, table.size, NULL, 0, &patched.bytes,
                                        &patched.size, why, sizeof(why)),
                     0);
    assert_int_equal(patched.size, table.size);
    free(patched.bytes);
    free(table.bytes);
}

static void assert_patch_refused(struct berth_table_change change, int error, const char *reason)
{
    struct table_bytes table = make_table();
    char why[BERTH_TABLE_WHY_MAX] = "";
    void *patched = &table;
    size_t size;

    assert_int_equal(
        berth__table_patch(table.bytes, table.size, &change, 1, &patched, &size, why, sizeof(why)),
        error);
    assert_ptr_equal(patched, &table);
    if (!strstr(why, reason))
        fail_msg("refused because \"%s\"; expected \"%s\"", why, reason);
    free(table.bytes);
}

static void a_patch_that_cannot_be_is_refused(void **state)
{
    static const char *const nowhere[] = {"nowhere"};
    const uint64_t size = 1;
    const uint64_t most = 65535;

    assert_patch_refused((struct berth_table_change){0}, -EINVAL, "both or neither");
    assert_patch_refused((struct berth_table_change){.rule = "w", .tier = "slow"}, -EINVAL,
                         "both or neither");
    assert_patch_refused((struct berth_table_change){.rule = "x"}, -ENOENT, "no rule 'x'");
    assert_patch_refused((struct berth_table_change){.tier = "x"}, -ENOENT, "no tier 'x'");
    assert_patch_refused((struct berth_table_change){.rule = "w", .capacity = &size}, -EINVAL,
                         "cannot have a capacity");
    assert_patch_refused((struct berth_table_change){.tier = "slow", .min_size = &size}, -EINVAL,
                         "cannot have places or sizes");
    assert_patch_refused((struct berth_table_change){.rule = "w", .places = nowhere}, -EINVAL,
                         "no place");
    assert_patch_refused(
        (struct berth_table_change){.rule = "w", .places = nowhere, .place_count = 1}, -EINVAL,
        "'nowhere' is no tier");
    assert_patch_refused((struct berth_table_change){.rule = "w", .max_size = &most}, -EINVAL,
                         "begins above its end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_read_back),
        cmocka_unit_test(a_damaged_header_is_refused),
        cmocka_unit_test(a_damaged_entry_is_refused),
        cmocka_unit_test(a_draft_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_patch_changes_what_it_names_and_nothing_else),
        cmocka_unit_test(a_patch_that_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
