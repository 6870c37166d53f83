/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/plan_json.h"

#include "alloc/pool_plan.h"

#include <errno.h>

int berth__plan_json_add(json_t *object)
{
    struct berth_pool_plan_reading plan;
    json_t *json = json_null();

    if (berth__pool_plan_read(&plan))
        json = json_pack("{s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:I}", "peak", (json_int_t)plan.peak,
                         "max_live", (json_int_t)plan.max_live, "followed", plan.is_followed,
                         "hits", (json_int_t)plan.hits, "unknown", (json_int_t)plan.unknown,
                         "occupied", (json_int_t)plan.occupied, "resyncs", (json_int_t)plan.resyncs,
                         "lent", (json_int_t)plan.lent);
    return json_object_set_new(object, "plan", json) < 0 ? -ENOMEM : 0;
}
