/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private pools: memory for graphs that PyTorch captures. A graph may use a block whenever it is
 * launched, so a block of a private pool serves nobody else until the pool was released as often as
 * it was begun. Within the pool a block that was freed serves the same stream again, in its order.
 *
 * Each block has a driver allocation of its own, or is the pool's (alloc/pool.h) where nothing is
 * captured. Any thread; one lock, not held over a call of the driver.
 */
#ifndef BERTH_HOOKS_TORCH_POOL_H
#define BERTH_HOOKS_TORCH_POOL_H

#include "hooks/torch.h"

/* Allocations of the device that belong to the pool from now on: of streams under capture, and of
 * the calling thread. */
void berth__torch_pool_begin(int device, struct berth_torch_pool_id id);
/* False when it was not begun. */
bool berth__torch_pool_end(int device, struct berth_torch_pool_id id);
void berth__torch_pool_release(int device, struct berth_torch_pool_id id);

/*
 * A block of the pool that is open for the device and for this caller. 0, a driver's error, or
 * -ENOENT when none is open. The device's context is current.
 */
int berth__torch_pool_alloc(size_t size, int device, berth_cu_stream stream,
                            const void *return_address, uintptr_t *ret_address);
/* False when the block is of no private pool. */
bool berth__torch_pool_free(uintptr_t address);

#endif
