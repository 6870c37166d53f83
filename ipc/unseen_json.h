/* SPDX-License-Identifier: Apache-2.0 */
/* What of the program's use of the driver goes past Berth, as JSON. See alloc/unseen.h. */
#ifndef BERTH_IPC_UNSEEN_JSON_H
#define BERTH_IPC_UNSEEN_JSON_H

#include <jansson.h>

/* Adds "unseen" and "passes" to `object`. 0 or -ENOMEM. */
int berth__unseen_json_add(json_t *object);

#endif
