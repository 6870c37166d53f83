/* SPDX-License-Identifier: Apache-2.0 */
/* Limits on device memory and giving it back, as the operations limit and trim ask for them. */
#ifndef BERTH_IPC_LIMIT_JSON_H
#define BERTH_IPC_LIMIT_JSON_H

#include "ipc/failure.h"

#include <jansson.h>

/* Adds "limits" to an object. 0 or -ENOMEM. Any thread. */
int berth__limit_json_add(json_t *object);

/*
 * Sets the limit that the request names, if it names one, and gives back what is over it. 0, or
 * -EINVAL with the failure filled in, or -ENOMEM. Control thread.
 */
int berth__limit_json_set(const json_t *request, json_t *reply, struct berth_failure *failure);

/* Gives back what is cached. As above. */
int berth__limit_json_trim(const json_t *request, json_t *reply, struct berth_failure *failure);

#endif
