/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical device memory apart from addresses (CUDA's virtual memory management), and what lets
 * another process have it: a descriptor of the memory, or where that is not served, a legacy IPC
 * handle of an allocation. Devices are told apart by UUID, because each process numbers its own.
 *
 * Errors are those of device.h; -ENOSYS where the installed driver has no such function. Any
 * thread; needs a driver that is initialised. No lock may be held: all of them may block.
 */
#ifndef BERTH_ALLOC_DEVICE_VMM_H
#define BERTH_ALLOC_DEVICE_VMM_H

#include "alloc/device.h"

#define BERTH_DEVICE_UUID_SIZE 16

/* How many devices this process sees. */
int berth__device_count(int *ret);
int berth__device_uuid(int device, unsigned char ret[BERTH_DEVICE_UUID_SIZE]);
/* This process's number of the device. -ENODEV: it sees none with this UUID. */
int berth__device_of_uuid(const unsigned char uuid[BERTH_DEVICE_UUID_SIZE], int *ret);

/* Whether physical memory of the device can be shared by a descriptor. */
bool berth__device_shares_descriptors(int device);

/* What the sizes below are multiples of. */
int berth__device_granularity(int device, uint64_t *ret);

/* Physical memory that can be exported; it lives as long as a handle or a mapping of it does. */
int berth__device_physical_make(int device, uint64_t size, uint64_t *ret_handle);
int berth__device_physical_release(uint64_t handle);
/* The descriptor is the caller's, and closed at exec. */
int berth__device_physical_export(uint64_t handle, int *ret_fd);
int berth__device_physical_import(int fd, uint64_t *ret_handle);

/*
 * Gives physical memory an address, readable and writable on its device and on those that can reach
 * it as peers. The second undoes all of the first; what the driver keeps stays mapped.
 */
int berth__device_map(int device, uint64_t handle, uint64_t size, uintptr_t *ret_base);
int berth__device_unmap(uintptr_t base, uint64_t size);

/*
 * Legacy IPC, for a whole driver allocation, in a context that is current meanwhile. *ret_size is
 * how much the driver has mapped. The id tells whether an address still is the same allocation.
 */
int berth__device_ipc_export(berth_cu_context context, uintptr_t base,
                             struct berth_cu_ipc_handle *ret);
int berth__device_ipc_open(berth_cu_context context, const struct berth_cu_ipc_handle *handle,
                           uintptr_t *ret_base, uint64_t *ret_size);
int berth__device_ipc_close(berth_cu_context context, uintptr_t base);
int berth__device_alloc_in(berth_cu_context context, uint64_t size, uintptr_t *ret_base);
int berth__device_buffer_id(uintptr_t base, uint64_t *ret);

#endif
