/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a block is where it is, as JSON: what is recorded of it, and what each section and rule of
 * the table in force says of it now.
 */
#ifndef BERTH_IPC_EXPLAIN_JSON_H
#define BERTH_IPC_EXPLAIN_JSON_H

#include "ipc/failure.h"

#include <jansson.h>

/*
 * The operation "explain". The request has "address", or "site" with "side" and perhaps "size" and
 * "tag". 0, -EINVAL after saying why, or -ENOMEM.
 */
int berth__explain_json(const json_t *request, json_t *object, struct berth_failure *failure);

#endif
