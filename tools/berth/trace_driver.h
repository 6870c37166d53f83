/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA calls that a replay makes, loaded as any program loads them, so that what is preloaded
 * sees them.
 */
#ifndef BERTH_TOOLS_TRACE_DRIVER_H
#define BERTH_TOOLS_TRACE_DRIVER_H

#include "alloc/device.h"
#include "alloc/pool_walk.h"

#define BERTH_VIRTUAL_LIBRARY "libberth-virtual.so"

/* What the virtual driver tells of itself; see tools/virtual/virtual.h. */
struct berth_trace_counters {
    uint64_t allocations, frees;
    uint64_t used, used_peak;
    uint64_t maps, unmaps;
};

/* X(member, "name", (parameters)) */
#define BERTH_TRACE_CALLS(X)                                                                       \
    X(init, "cuInit", (unsigned flags))                                                            \
    X(device_get, "cuDeviceGet", (berth_cu_device * device, int ordinal))                          \
    X(retain, "cuDevicePrimaryCtxRetain", (berth_cu_context * context, berth_cu_device device))    \
    X(set_current, "cuCtxSetCurrent", (berth_cu_context context))                                  \
    X(synchronize, "cuCtxSynchronize", (void))                                                     \
    X(get_info, "cuMemGetInfo_v2", (size_t * free_size, size_t * total_size))                      \
    X(alloc, "cuMemAlloc_v2", (berth_cu_address * address, size_t size))                           \
    X(free, "cuMemFree_v2", (berth_cu_address address))                                            \
    X(alloc_managed, "cuMemAllocManaged",                                                          \
      (berth_cu_address * address, size_t size, unsigned flags))                                   \
    X(alloc_host, "cuMemHostAlloc", (void **pointer, size_t size, unsigned flags))                 \
    X(free_host, "cuMemFreeHost", (void *pointer))                                                 \
    X(alloc_async, "cuMemAllocAsync",                                                              \
      (berth_cu_address * address, size_t size, berth_cu_stream stream))                           \
    X(free_async, "cuMemFreeAsync", (berth_cu_address address, berth_cu_stream stream))            \
    X(stream_create, "cuStreamCreate", (berth_cu_stream * stream, unsigned flags))

struct berth_trace_driver {
#define X(member, name, parameters) berth_cu_result(*member) parameters;
    BERTH_TRACE_CALLS(X)
#undef X
    bool is_virtual;
    bool is_pool;                                       /* libberth.so is in front of it */
    void (*counters)(struct berth_trace_counters *ret); /* of the virtual driver; else NULL */
    void (*reset_peak)(void);
    const void *pool_stats; /* libberth.so's berth__tier_stats; NULL without it */
    int (*pool_walk)(berth_segment_visitor visit, void *context); /* its berth__pool_walk() */
};

/* Loads the driver of this path, and initialises it. 0, or BERTH_EXIT_FAILURE after one line. */
int berth__trace_driver_open(const char *path, struct berth_trace_driver *ret);

/*
 * Bytes that were taken from the device so far by this process; calls that took and gave them, and
 * of the virtual driver those that gave memory an address or took it away.
 */
struct berth_trace_usage {
    uint64_t reserved, allocations, frees, maps, unmaps;
};
void berth__trace_driver_usage(const struct berth_trace_driver *driver,
                               struct berth_trace_usage *ret);

#endif
