/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the device without memory, and GPU pages that are put behind them and taken away
 * again: CUDA's virtual memory management, as one process needs it for itself.
 *
 * Errors are those of device.h; -ENOSYS where the installed driver has no such function. None of
 * these needs a context. All may block: no lock is held by their callers.
 */
#ifndef BERTH_ALLOC_DEVICE_PAGES_H
#define BERTH_ALLOC_DEVICE_PAGES_H

#include "alloc/device.h"

/* Whether the driver has all of it, and the device too; then also the size of a GPU page. */
int berth__device_page_size(int device, uint64_t *ret);
/* Bytes of memory that the device has. */
int berth__device_total(int device, uint64_t *ret);

/* Addresses, in GPU pages; given back when nothing is mapped there any more. */
int berth__device_reserve(uint64_t size, uintptr_t *ret_base);
int berth__device_unreserve(uintptr_t base, uint64_t size);

/* `size` bytes of memory, which cannot be shared with other processes. */
int berth__device_page_make(int device, uint64_t size, uint64_t *ret_handle);
int berth__device_page_release(uint64_t handle);

/* Puts the whole of a page at an address; no device may touch it yet. */
int berth__device_page_map(uintptr_t address, uint64_t size, uint64_t handle);
/* Takes whole pages away from their addresses. */
int berth__device_pages_unmap(uintptr_t address, uint64_t size);
/* Lets a device read and write pages, or not any more. */
int berth__device_pages_open(uintptr_t address, uint64_t size, int device, bool is_open);

#endif
