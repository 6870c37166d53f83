/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks for a device block, and what the table in force says of it. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_TAG_H
#define BERTH_HOOKS_CUDA_DRIVER_TAG_H

#include "alloc/pool.h"

/*
 * Fills *ret for an allocation of `size` bytes by the call that returns to `return_address`. Takes
 * no lock and allocates nothing. The calling thread's sequence number moves on.
 */
void berth__cuda_request(uint64_t size, const void *return_address, struct berth_pool_request *ret);

/* berth_describe() for device addresses; see alloc/describe.h. */
int berth__cuda_describe(const void *p, struct berth_block_info *ret);

#endif
