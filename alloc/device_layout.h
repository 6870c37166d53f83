/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts and values of cuda.h, CUDA 13.0, that virtual memory management takes: for the files
 * device_*.c alone. Each is the same since it came, with CUDA 10.2.
 */
#ifndef BERTH_ALLOC_DEVICE_LAYOUT_H
#define BERTH_ALLOC_DEVICE_LAYOUT_H

#include "alloc/device.h"

#include <errno.h>

enum {
    BERTH_CU_ATTRIBUTE_VMM = 102, /* ..._VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    BERTH_CU_ALLOCATION_PINNED = 1,
    BERTH_CU_LOCATION_DEVICE = 1,
    BERTH_CU_ACCESS_NONE = 0,
    BERTH_CU_ACCESS_READ_WRITE = 3
};

struct berth_cu_location {
    int type, id;
};

/* CUmemAllocationProp. */
struct berth_cu_properties {
    int type, handle_types;
    struct berth_cu_location location;
    void *win32_metadata;
    unsigned char compression, gpu_direct_rdma;
    unsigned short usage;
    unsigned char reserved[4];
};
_Static_assert(sizeof(struct berth_cu_properties) == 32, "CUmemAllocationProp");

/* CUmemAccessDesc. */
struct berth_cu_access {
    struct berth_cu_location location;
    int flags;
};
_Static_assert(sizeof(struct berth_cu_access) == 12, "CUmemAccessDesc");

/* Leaves a function that the installed driver cannot serve. */
#define BERTH_DRIVER_NEED(name)                                                                    \
    do {                                                                                           \
        if (!berth__driver.name)                                                                   \
            return -ENOSYS;                                                                        \
    } while (0)

#endif
