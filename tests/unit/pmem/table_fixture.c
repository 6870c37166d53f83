/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pmem/table_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

void draft_rule(struct berth_table_draft *draft, struct berth_rule_info rule, ...)
{
    const char *places[BERTH_TIER_MAX];
    va_list names;

    va_start(names, rule);
    while ((places[rule.place_count] = va_arg(names, const char *)))
        rule.place_count++;
    va_end(names);
    if (rule.side == 0)
        rule.side = BERTH_SIDE_BOTH;
    if (rule.tags == 0)
        rule.tags = BERTH_TAGS_ALL;
    if (rule.max_size == 0)
        rule.max_size = UINT64_MAX;
    if (rule.sequence_last == 0)
        rule.sequence_last = UINT64_MAX;
    assert_int_equal(berth__draft_add_rule(draft, &rule, places), 0);
}

void draft_tier(struct berth_table_draft *draft, struct berth_tier_config tier)
{
    if (tier.fork_copy_max == 0)
        tier.fork_copy_max = UINT64_MAX;
    assert_int_equal(berth__draft_add_tier(draft, &tier, 1), 0);
}

void draft_site(struct berth_table_draft *draft, struct berth_site_info site)
{
    if (site.side == 0)
        site.side = BERTH_SIDE_BOTH;
    if (site.max_size == 0)
        site.max_size = UINT64_MAX;
    assert_int_equal(berth__draft_add_site(draft, &site), 0);
}

struct table_bytes draft_bytes(struct berth_table_draft *draft)
{
    struct table_bytes table;
    char why[BERTH_TABLE_WHY_MAX] = "";
    int r = berth__draft_finish(draft, &table.bytes, &table.size, why, sizeof(why));

    assert_string_equal(why, "");
    assert_int_equal(r, 0);
    berth__draft_free(draft);
    return table;
}

void draft_install(struct berth_table_draft *draft)
{
    struct table_bytes table = draft_bytes(draft);
    char why[BERTH_TABLE_WHY_MAX] = "";
    int r = berth__table_install(table.bytes, table.size, "test", why, sizeof(why));

    assert_string_equal(why, "");
    assert_int_equal(r, 0);
    free(table.bytes);
}

static int commit_nothing(struct berth_tier *tier, void *address, size_t size)
{
    return 0;
}

static const struct berth_tier_ops file_ops = {.commit = commit_nothing};

static int make_file_tier(struct berth_tier *tier, berth_tier_id id,
                          const struct berth_tier_config *config, char *why, size_t why_size)
{
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &file_ops;
    return 0;
}

void fixture_serve_files(void)
{
    berth__tier_set_maker(BERTH_KIND_FILE, make_file_tier);
}
