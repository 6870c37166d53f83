/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that allocate, by the path that they came by, as JSON. See alloc/entry_path.h. */
#ifndef BERTH_IPC_ENTRY_PATH_JSON_H
#define BERTH_IPC_ENTRY_PATH_JSON_H

#include <jansson.h>

/* Adds "paths" to `object`: only what was called. 0 or -ENOMEM. */
int berth__entry_path_json_add(json_t *object);

#endif
