/* SPDX-License-Identifier: Apache-2.0 */
/* An id list: token ids, growing at its end. {0} is an empty one. */
#ifndef BERTH_INFER_ID_LIST_H
#define BERTH_INFER_ID_LIST_H

#include <stddef.h>
#include <stdint.h>

struct berth_id_list {
    uint32_t *ids;
    size_t count;
    size_t capacity;
};

/* 0 or -ENOMEM; the list is unchanged then. */
int berth__id_list_append(struct berth_id_list *list, uint32_t id);
void berth__id_list_done(struct berth_id_list *list);

#endif
