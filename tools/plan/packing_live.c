/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/plan/packing_live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int berth__packing_live_init(struct berth_packing_live *live, size_t most)
{
    *live = (struct berth_packing_live){
        .begin = malloc(most * sizeof(*live->begin)),
        .end = malloc(most * sizeof(*live->end)),
        .item = malloc(most * sizeof(*live->item)),
    };
    return live->begin && live->end && live->item ? 0 : -ENOMEM;
}

void berth__packing_live_done(struct berth_packing_live *live)
{
    free(live->begin);
    free(live->end);
    free(live->item);
}

/* The first that begins at or after `offset`. */
uint32_t berth__packing_live_find(const struct berth_packing_live *live, uint64_t offset)
{
    uint32_t low = 0, high = live->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (live->begin[middle] < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void berth__packing_live_insert(struct berth_packing_live *live, uint32_t at, uint64_t begin,
                                uint64_t end, uint32_t item)
{
    size_t rest = live->count++ - at;

    memmove(&live->begin[at + 1], &live->begin[at], rest * sizeof(*live->begin));
    memmove(&live->end[at + 1], &live->end[at], rest * sizeof(*live->end));
    memmove(&live->item[at + 1], &live->item[at], rest * sizeof(*live->item));
    live->begin[at] = begin;
    live->end[at] = end;
    live->item[at] = item;
}

void berth__packing_live_remove(struct berth_packing_live *live, uint32_t at)
{
    size_t rest = --live->count - at;

    memmove(&live->begin[at], &live->begin[at + 1], rest * sizeof(*live->begin));
    memmove(&live->end[at], &live->end[at + 1], rest * sizeof(*live->end));
    memmove(&live->item[at], &live->item[at + 1], rest * sizeof(*live->item));
}
