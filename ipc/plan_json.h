/* SPDX-License-Identifier: Apache-2.0 */
/* How the process follows its plan, as JSON. See alloc/pool_plan.h. */
#ifndef BERTH_IPC_PLAN_JSON_H
#define BERTH_IPC_PLAN_JSON_H

#include <jansson.h>

/* Adds "plan" to `object`, null where there is none. 0 or -ENOMEM. */
int berth__plan_json_add(json_t *object);

#endif
