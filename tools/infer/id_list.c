/* SPDX-License-Identifier: Apache-2.0 */
#include "id_list.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 64

int berth__id_list_append(struct berth_id_list *list, uint32_t id)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : CAPACITY_MIN;
        uint32_t *grown = realloc(list->ids, capacity * sizeof(grown[0]));

        if (!grown)
            return -ENOMEM;
        list->ids = grown;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return 0;
}

void berth__id_list_done(struct berth_id_list *list)
{
    free(list->ids);
    *list = (struct berth_id_list){0};
}
