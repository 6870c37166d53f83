/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/cuda_driver_tag.h"

#include "alloc/options.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "hooks/callsite.h"
#include "pmem/gate.h"
#include "pmem/table.h"

#include <errno.h>

/* Places before `device` that cannot serve a device block here are counted as passed over. */
static void count_spills(const struct berth_decision *decision, uint64_t size)
{
    for (unsigned i = 0; i < decision->place_count; i++) {
        if (decision->places[i] == BERTH_TIER_DEVICE)
            return;
        berth__stats_spill(decision->places[i], size);
        berth__table_count_spill(decision, decision->places[i], size);
    }
}

void berth__cuda_request(uint64_t size, const void *return_address, struct berth_pool_request *ret)
{
    bool is_recorded = size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD);
    struct berth_request request = {
        .side = BERTH_SIDE_DEVICE,
        .size = size,
        .tag = berth__tag_current(),
    };
    struct berth_decision decision;

    *ret = (struct berth_pool_request){.size = size, .tag = request.tag, .rule = BERTH_RULE_NONE};
    if (is_recorded)
        request.sequence = berth__thread.sequence++;
    if (berth__table_version() == 0)
        return;
    berth__thread.inside++;
    if (size >= atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed))
        request.site = berth__callsite_capture(return_address);
    berth__table_decide(&request, &decision);
    count_spills(&decision, size);
    berth__thread.inside--;
    ret->tag = decision.tag;
    ret->site = request.site;
    ret->table_version = decision.version;
    ret->rule = decision.rule;
}

int berth__cuda_describe(const void *p, struct berth_block_info *ret)
{
    static __thread char rule_name[BERTH_NAME_MAX];
    struct berth_block_view view;

    if (berth__pool_find((uintptr_t)p, &view) < 0)
        return -ENOENT;
    ret->base = (const void *)view.base;
    ret->requested = view.requested;
    ret->held = view.held;
    ret->tag = view.tag;
    ret->tier = berth__tier(BERTH_TIER_DEVICE)->name;
    ret->rule = view.rule == BERTH_RULE_NONE
                    ? ""
                    : berth__table_rule_name(view.table_version, view.rule, rule_name);
    return 0;
}
