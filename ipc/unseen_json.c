/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/unseen_json.h"

#include "alloc/unseen.h"
#include "ipc/json.h"

#include <errno.h>

int berth__unseen_json_add(json_t *object)
{
    json_t *list = json_array();

    for (unsigned i = 0; list && i < BERTH_UNSEEN_COUNT; i++) {
        enum berth_unseen what = (enum berth_unseen)i;
        uint64_t cases = berth__unseen_cases(what);

        if (cases == 0)
            continue;
        if (json_array_append_new(list, json_pack("{s:s,s:I,s:o}", "what", berth__unseen_name(what),
                                                  "cases", (json_int_t)cases, "example",
                                                  berth__json_text(berth__unseen_example(what)))) <
            0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (json_object_set_new(object, "unseen", list) < 0)
        return -ENOMEM;
    return json_object_set_new(object, "passes", json_boolean(berth__unseen_passes())) < 0 ? -ENOMEM
                                                                                           : 0;
}
