/* SPDX-License-Identifier: Apache-2.0 */
/* berth doctor PID: what became of the policy's tiers in a process. */
#include "alloc/quantity.h"
#include "alloc/tier_ops.h"
#include "tools/berth/doctor.h"
#include "tools/berth/policy_show.h"
#include "tools/berth/tool.h"

#include <stdlib.h>
#include <string.h>

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const json_t *find(const json_t *list, const char *name)
{
    size_t i;
    json_t *entry;

    json_array_foreach(list, i, entry)
    {
        if (strcmp(string(entry, "name"), name) == 0)
            return entry;
    }
    return NULL;
}

/* What the policy says of the tier and its own description does not tell; NULL: no policy does. */
static char *told_by_policy(const json_t *named)
{
    char decay[BERTH_QUANTITY_TEXT_MAX];
    const char *store = string(named, "segment");
    bool device = strcmp(string(named, "kind"), "dax") == 0;
    char *kept;

    if (!named || strcmp(string(named, "kind"), "device") == 0 ||
        strcmp(string(named, "kind"), "shared") == 0)
        return berth__tool_strdup("");
    kept = store[0] ? berth__tool_format("; persistent blocks in %s%s%s, verify = %s",
                                         string(named, "path"), device ? ", named " : "/", store,
                                         string(named, "verify"))
                    : berth__tool_strdup("");
    store = kept;
    kept = berth__tool_format(
        "; decay = %s%s",
        berth__policy_decay_text((int64_t)json_integer_value(json_object_get(named, "decay_ms")),
                                 decay),
        store);
    free((char *)store);
    return kept;
}

/* What the tier was asked for in vain. */
static char *told_of_spills(const json_t *tier)
{
    uint64_t spills = number(tier, "spilled_blocks"), refusals = number(tier, "refusals");
    char bytes[BERTH_QUANTITY_TEXT_MAX];
    char *refused =
        refusals ? berth__tool_format("; space refused %llu times, the last time: %s",
                                      (unsigned long long)refusals, string(tier, "last_refusal"))
                 : berth__tool_strdup("");
    char *text = spills ? berth__tool_format(
                              "; %llu blocks (%s) found no room%s", (unsigned long long)spills,
                              berth__quantity_format(number(tier, "spilled_bytes"), bytes), refused)
                        : berth__tool_strdup(refused);

    free(refused);
    return text;
}

static void tier_row(struct berth_grid *grid, const json_t *tier, const json_t *named)
{
    char *what = berth__tool_format("tier %s", string(tier, "name"));
    char used[BERTH_QUANTITY_TEXT_MAX], limit[BERTH_QUANTITY_TEXT_MAX];
    uint64_t capacity = number(tier, "capacity");
    char *of = capacity ? berth__tool_format(" of %s", berth__quantity_format(capacity, limit))
                        : berth__tool_strdup("");
    char *spill = told_of_spills(tier);
    char *policy = told_by_policy(named);

    berth__doctor_row(grid, BERTH_FINDING_OK, what, "%s: %s%s; %s%s in use%s", string(tier, "kind"),
                      string(tier, "description"), policy,
                      berth__quantity_format(number(tier, "reserved"), used), of, spill);
    free(what);
    free(of);
    free(policy);
    free(spill);
}

static void missing_row(struct berth_grid *grid, const json_t *tier)
{
    char *what = berth__tool_format("tier %s", string(tier, "name"));

    berth__doctor_row(grid, BERTH_FINDING_ABSENT, what,
                      "%s: it cannot be had in this process: %s; rules go on to their next place",
                      string(tier, "kind"), string(tier, "missing"));
    free(what);
}

void berth__doctor_tiers(struct berth_grid *grid, struct berth_session *session)
{
    json_t *stat = berth__session_request(session, json_pack("{s:s}", "op", "stat"), -1, 1);
    json_t *policy =
        berth__session_request(session, json_pack("{s:s}", "op", "policy.show"), -1, 1);
    const json_t *tiers = json_object_get(stat, "tiers");
    const json_t *named = json_object_get(policy, "tiers");
    size_t i;
    json_t *tier;

    json_array_foreach(named, i, tier)
    {
        const json_t *made = find(tiers, string(tier, "name"));

        if (made)
            tier_row(grid, made, tier);
        else
            missing_row(grid, tier);
    }
    /* Those of earlier policies, as long as blocks live in them. */
    json_array_foreach(tiers, i, tier)
    {
        if (i > BERTH_TIER_DRAM && number(tier, "blocks") > 0 && !find(named, string(tier, "name")))
            tier_row(grid, tier, NULL);
    }
    json_decref(stat);
    json_decref(policy);
}
