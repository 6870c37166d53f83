/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool caches is room for the driver too. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_ROOM_H
#define BERTH_HOOKS_CUDA_DRIVER_ROOM_H

#include "alloc/device.h"
#include "alloc/options.h"
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

/*
 * What the program hears of a call that was to have `size` bytes and got no room: what the driver
 * says of a thread that may not ask at all, or that memory is out. No device has more than
 * BERTH_OPTION_DEVICE_MAX bytes: of such a size the driver itself, by `call`, knows what is wrong.
 */
#define BERTH_ROOM_REFUSED(size, call)                                                             \
    ((size) > BERTH_OPTION_DEVICE_MAX ? (call) : berth__room_refused())
berth_cu_result berth__room_refused(void);

/*
 * The same of a call with other arguments, which may be wrong: the driver says that first. It is
 * asked with BERTH_ROOM_TOO_MUCH(size) in place of the size, which it never has: `call` with the
 * program's arguments, `good` with such as are right. Where it has another answer for those than
 * that memory is out, nothing is learnt from the first.
 */
#define BERTH_ROOM_REFUSED_WITH(size, call, call_for_too_much, good)                               \
    ((size) > BERTH_OPTION_DEVICE_MAX   ? (call)                                                   \
     : (good) == BERTH_CU_OUT_OF_MEMORY ? (call_for_too_much)                                      \
                                        : berth__room_refused())
/* Aligned to no more than the size is. */
#define BERTH_ROOM_TOO_MUCH(size) ((size_t)(2 * BERTH_OPTION_DEVICE_MAX + (size)))

#endif
