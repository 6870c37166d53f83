/* SPDX-License-Identifier: Apache-2.0 */
/* A device: a capacity, what of it is in use, its primary context and its
 * pools. Synchronization: the state lock. */
#ifndef BERTH_FAKE_DEVICE_H
#define BERTH_FAKE_DEVICE_H

#include "cuda_abi.h"

#include <stdbool.h>

struct device {
    int ordinal;
    int hardware; /* its number on this machine: what other processes know it by */
    uint64_t capacity;
    uint64_t used; /* multiples of the granule: segments, pools, VMM handles */
    struct context *primary;
    unsigned primary_retained;
    struct context *greens; /* green contexts, whose work is the primary one's too */
    unsigned primary_flags;
    struct pool *default_pool;
    struct pool *current_pool;
    struct pool *default_managed, *current_managed; /* of managed memory, as of CUDA 13 */
    uint64_t graph_used, graph_used_high;           /* bytes of memory of graphs */
};

CUresult device_init(void);
int device_count(void);
/* NULL for an ordinal that names none. */
struct device *device_get(int ordinal);
/* NULL for one that this process does not see. */
struct device *device_of_hardware(int hardware);
/* Takes capacity; OUT_OF_MEMORY leaves everything as it was. */
CUresult device_take(struct device *device, uint64_t size);
void device_give(struct device *device, uint64_t size);

#endif
