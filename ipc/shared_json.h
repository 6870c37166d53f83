/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments and shared tiers as JSON: the operations shared.* of berth-protocol(7).
 *
 * Each takes the request and adds to the answer. 0, -ENOMEM, or -EINVAL after saying why. Control
 * thread only.
 */
#ifndef BERTH_IPC_SHARED_JSON_H
#define BERTH_IPC_SHARED_JSON_H

#include "ipc/failure.h"
#include "ipc/server.h"

#include <jansson.h>

/* "name", "size", "device" (default 0): makes a segment. Adds what it became. */
int berth__shared_json_create(const json_t *request, json_t *reply, struct berth_failure *failure);
/* "name": forgets one. */
int berth__shared_json_drop(const json_t *request, struct berth_failure *failure);
/* Adds "segments" and "tiers". */
int berth__shared_json_list(json_t *reply);

/*
 * "name": gives a segment out. Its descriptor goes by exchange->handover; while that is NULL, only
 * asks for it.
 */
int berth__shared_json_open(const json_t *request, struct berth_exchange *exchange, json_t *reply,
                            struct berth_failure *failure);

/* "tier", and what the policy does not say or is to say otherwise: "from", "name", "offset",
 * "size". */
int berth__shared_json_attach(const json_t *request, struct berth_failure *failure);
/* "tier". */
int berth__shared_json_detach(const json_t *request, struct berth_failure *failure);

#endif
