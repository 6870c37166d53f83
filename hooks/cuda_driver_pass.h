/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations that the driver serves and Berth only accounts. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_PASS_H
#define BERTH_HOOKS_CUDA_DRIVER_PASS_H

#include "alloc/device.h"

/* cuMemAlloc where the pool has no answer: the driver's, accounted in tier `device`. */
__attribute__((visibility("hidden"))) berth_cu_result
berth__pass_alloc(berth_cu_address *address, size_t size, const void *return_address);

#endif
