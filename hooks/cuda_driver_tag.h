/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks for a device block, and what the table in force says of it. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_TAG_H
#define BERTH_HOOKS_CUDA_DRIVER_TAG_H

#include "alloc/pool.h"

/*
 * The tag of an allocation of `size` bytes that the driver serves, for the call that returns to
 * `return_address`. The calling thread's sequence number moves on.
 */
enum berth_tag berth__cuda_tag(uint64_t size, const void *return_address);

/*
 * The same as a request for a block in tier `device`, whatever places a rule names: memory whose
 * place is not Berth's to choose.
 */
void berth__cuda_request(uint64_t size, const void *return_address, struct berth_pool_request *ret);

/*
 * A block of the pool for that call: in the first place of the rule that has room, else in tier
 * `device`. Errors as berth__pool_alloc().
 */
int berth__cuda_alloc(uint64_t size, const void *return_address, uintptr_t *ret_address);

/* berth_describe() for device addresses; see alloc/describe.h. */
int berth__cuda_describe(const void *p, struct berth_block_info *ret);
/* The same with all that is known (alloc/describe.h). */
struct berth_block_detail;
int berth__cuda_detail(const void *p, struct berth_block_detail *ret);

#endif
