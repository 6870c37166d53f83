/* SPDX-License-Identifier: Apache-2.0 */
/* A backing: physical memory without an address, as cuMemCreate gives it. It
 * lives as long as a handle or a mapping does. One that may be exported is a
 * memfd of its own, so that the exported descriptor is the memory itself.
 * Synchronization: the state lock. */
#ifndef BERTH_FAKE_VMM_H
#define BERTH_FAKE_VMM_H

#include "cuda_abi.h"
#include "mem.h"

CUmemAllocationHandleType vmm_handle_types(const struct backing *backing);
CUmemAccess_flags vmm_access(const struct mem *mem, const struct device *device);

#endif
