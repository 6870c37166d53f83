/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The living: buffers that live at one moment of a pass through time, by offset. Each step costs as
 * many moves as buffers live.
 */
#ifndef BERTH_TOOLS_PACKING_LIVE_H
#define BERTH_TOOLS_PACKING_LIVE_H

#include <stddef.h>
#include <stdint.h>

struct berth_packing_live {
    uint64_t *begin, *end;
    uint32_t *item;
    uint32_t count;
};

/* Room for `most` at once. 0 or -ENOMEM; to be ended by berth__packing_live_done() either way. */
int berth__packing_live_init(struct berth_packing_live *live, size_t most);
void berth__packing_live_done(struct berth_packing_live *live);

/* The first that begins at or after `offset`. */
uint32_t berth__packing_live_find(const struct berth_packing_live *live, uint64_t offset);
void berth__packing_live_insert(struct berth_packing_live *live, uint32_t at, uint64_t begin,
                                uint64_t end, uint32_t item);
void berth__packing_live_remove(struct berth_packing_live *live, uint32_t at);

#endif
