/* SPDX-License-Identifier: Apache-2.0 */
/* The operations move, move.state and move.cancel of berth-protocol(7). Control thread only. */
#ifndef BERTH_IPC_MOVE_JSON_H
#define BERTH_IPC_MOVE_JSON_H

#include "ipc/failure.h"
#include "ipc/json.h"

/* Each: 0; -EINVAL after berth__failure_set(); -ENOMEM. */
int berth__move_json_start(const json_t *request, json_t *reply, struct berth_failure *failure);
int berth__move_json_state(json_t *reply, struct berth_failure *failure);
int berth__move_json_cancel(json_t *reply, struct berth_failure *failure);

/* Adds "move" to the answer to doctor: what this process can move while it runs. */
int berth__move_json_probe(json_t *reply);

#endif
