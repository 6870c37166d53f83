/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PyTorch's CUDAPluggableAllocator calls: an allocator of device memory by plain functions.
 *
 * The first two are what its class is made from; the others it takes by their addresses
 * (set_init_fn and so on). Memory is stream-ordered (alloc/pool_stream.h): a block that was freed
 * serves its own stream again at once. Between begin_allocate_to_pool and release_pool memory for a
 * graph comes from a private pool, whose blocks nobody else gets while the graph exists.
 *
 * A device is PyTorch's number of it, which is the driver's; its primary context is used. The
 * calling thread's context is what it was when a function returns. NULL is out of memory. Any
 * thread.
 */
#ifndef BERTH_HOOKS_TORCH_H
#define BERTH_HOOKS_TORCH_H

#include "alloc/device.h"

/* std::pair of two 64-bit numbers, as the C++ ABI passes it. */
struct berth_torch_pool_id {
    uint64_t first, second;
};

BERTH_EXPORT void *berth_torch_alloc(size_t size, int device, berth_cu_stream stream);
BERTH_EXPORT void berth_torch_free(void *block, size_t size, int device, berth_cu_stream stream);

BERTH_EXPORT void berth_torch_init(int device_count);
/* Gives everything cached back to the driver: torch.cuda.empty_cache(). */
BERTH_EXPORT void berth_torch_reset(void);
/* At most this part of the device's memory is live at once; 1 or more: no limit. */
BERTH_EXPORT void berth_torch_memory_fraction(double fraction, int device);
/* The start of the block that contains `block`, and its size. NULL is allowed for *size. */
BERTH_EXPORT void *berth_torch_base_alloc(void *block, size_t *size);
/* The stream uses the block too: once it is freed, it waits for what the stream was given. */
BERTH_EXPORT void berth_torch_record_stream(void *block, berth_cu_stream stream);
/* The stream does not use it any more. */
BERTH_EXPORT void berth_torch_erase_stream(void *block, berth_cu_stream stream);

/* `filter` is PyTorch's, and not called: the memory of streams that are captured is the pool's. */
BERTH_EXPORT void berth_torch_begin_allocate_to_pool(int device, struct berth_torch_pool_id id,
                                                     void *filter);
BERTH_EXPORT void berth_torch_end_allocate_to_pool(int device, struct berth_torch_pool_id id);
BERTH_EXPORT void berth_torch_release_pool(int device, struct berth_torch_pool_id id);

#endif
