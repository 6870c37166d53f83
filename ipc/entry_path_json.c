/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/entry_path_json.h"

#include "alloc/entry_path.h"
#include "ipc/json.h"

#include <errno.h>

/* One path's functions with their calls; *ret_calls is their sum. */
static json_t *functions_json(enum berth_entry_path path, uint64_t *ret_calls)
{
    json_t *functions = json_object();

    *ret_calls = 0;
    for (unsigned i = 0; functions && i < BERTH_ENTRY_NAME_COUNT; i++) {
        uint64_t calls = berth__entry_calls(path, (enum berth_entry_name)i);

        *ret_calls += calls;
        if (calls > 0 &&
            json_object_set_new(functions, berth__entry_name_text((enum berth_entry_name)i),
                                json_integer((json_int_t)calls)) < 0) {
            json_decref(functions);
            return NULL;
        }
    }
    return functions;
}

int berth__entry_path_json_add(json_t *object)
{
    json_t *paths = json_array();

    for (unsigned i = 0; paths && i < BERTH_ENTRY_PATHS; i++) {
        enum berth_entry_path path = (enum berth_entry_path)i;
        uint64_t calls;
        json_t *functions = functions_json(path, &calls);

        if (functions && calls == 0) {
            json_decref(functions);
            continue;
        }
        if (json_array_append_new(
                paths, json_pack("{s:s,s:I,s:o}", "path", berth__entry_path_text(path), "calls",
                                 (json_int_t)calls, "functions", functions)) < 0) {
            json_decref(paths);
            paths = NULL;
        }
    }
    return json_object_set_new(object, "paths", paths) < 0 ? -ENOMEM : 0;
}
