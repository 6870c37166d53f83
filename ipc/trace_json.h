/* SPDX-License-Identifier: Apache-2.0 */
/* Traces, as the operations trace.start, trace.stop and trace.state ask for them. Control thread.
 */
#ifndef BERTH_IPC_TRACE_JSON_H
#define BERTH_IPC_TRACE_JSON_H

#include "ipc/failure.h"
#include "ipc/server.h"

#include <jansson.h>
#include <stdbool.h>

/*
 * Begins a trace in the file that came along. 0, or -EINVAL with the failure filled in. Where call
 * paths are wanted and cannot be read, the reply's "call_paths" is false and "why" says why.
 */
int berth__trace_json_start(const struct berth_passed *passed, bool with_paths, json_t *reply,
                            struct berth_failure *failure);
int berth__trace_json_stop(json_t *reply, struct berth_failure *failure);
/* How a trace goes on. 0 or -ENOMEM. */
int berth__trace_json_state(json_t *reply);

#endif
