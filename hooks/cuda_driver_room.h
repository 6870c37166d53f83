/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool caches is room for the driver too. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_ROOM_H
#define BERTH_HOOKS_CUDA_DRIVER_ROOM_H

#include "alloc/device.h"
#include "alloc/types.h"

struct berth_foreign;

/*
 * Whether a call with this result is worth another try: memory was out, and the cache had something
 * to give back. Which device the call is about, a stream, a pool or an argument says; most often it
 * is the current one, which is tried first.
 */
bool berth__room_was_made(berth_cu_result result);

/*
 * Before the driver serves `size` bytes that are accounted in the tier, to the call that returns to
 * `return_address`: decides their tag, and does berth__foreign_reserve(). False: there is no room.
 */
bool berth__room_reserve(struct berth_foreign *ret, berth_tier_id tier, uint64_t size,
                         const void *return_address);

#endif
