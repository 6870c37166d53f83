/* SPDX-License-Identifier: Apache-2.0 */
/* pmem/table.h for a build without the table: nothing is ever decided. */
#include "pmem/table.h"

#include <errno.h>
#include <stdio.h>

void berth__table_decide(const struct berth_request *request, struct berth_decision *ret)
{
    *ret = (struct berth_decision){.rule = BERTH_RULE_NONE, .tag = request->tag};
}

void berth__table_count_spill(const struct berth_decision *decision, berth_tier_id tier,
                              size_t size)
{
    (void)decision;
    (void)tier;
    (void)size;
}

int berth__table_install(const void *bytes, size_t size, const char *origin, char *why,
                         size_t why_size)
{
    (void)bytes;
    (void)size;
    (void)origin;
    snprintf(why, why_size, "this build has no mapping tables");
    return -EINVAL;
}

uint64_t berth__table_version(void)
{
    return 0;
}

bool berth__table_has_host_rule(void)
{
    return false;
}

const char *berth__table_rule_name(uint64_t version, uint32_t rule, char buffer[BERTH_NAME_MAX])
{
    (void)version;
    (void)rule;
    buffer[0] = '\0';
    return buffer;
}
