/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that the virtual driver exports: X(name, (parameters)). All return a CUresult. A name
 * that is not here is not found, by the loader or by cuGetProcAddress.
 */
#ifndef BERTH_TOOLS_VIRTUAL_CALLS_H
#define BERTH_TOOLS_VIRTUAL_CALLS_H

#include "tools/virtual/virtual.h"

struct virtual_stream;
struct virtual_pool;

#define VIRTUAL_CALLS(X)                                                                           \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuDriverGetVersion, (int *version))                                                          \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (int *device, int ordinal))                                                     \
    X(cuDeviceGetName, (char *name, int length, int device))                                       \
    X(cuDeviceTotalMem_v2, (size_t * bytes, int device))                                           \
    X(cuDeviceGetAttribute, (int *value, int attribute, int device))                               \
    X(cuDevicePrimaryCtxRetain, (struct virtual_context * *ret, int device))                       \
    X(cuDevicePrimaryCtxRelease_v2, (int device))                                                  \
    X(cuDevicePrimaryCtxReset_v2, (int device))                                                    \
    X(cuDevicePrimaryCtxGetState, (int device, unsigned *flags, int *active))                      \
    X(cuCtxSetCurrent, (struct virtual_context * context))                                         \
    X(cuCtxPushCurrent_v2, (struct virtual_context * context))                                     \
    X(cuCtxPopCurrent_v2, (struct virtual_context * *ret))                                         \
    X(cuCtxCreate_v2, (struct virtual_context * *ret, unsigned flags, int device))                 \
    X(cuCtxCreate_v3,                                                                              \
      (struct virtual_context * *ret, void *affinity, int count, unsigned flags, int device))      \
    X(cuCtxCreate_v4,                                                                              \
      (struct virtual_context * *ret, void *parameters, unsigned flags, int device))               \
    X(cuCtxDestroy_v2, (struct virtual_context * context))                                         \
    X(cuCtxGetCurrent, (struct virtual_context * *ret))                                            \
    X(cuCtxGetDevice, (int *device))                                                               \
    X(cuCtxGetId, (const struct virtual_context *context, unsigned long long *ret))                \
    X(cuCtxSynchronize, (void))                                                                    \
    X(cuCtxRecordEvent, (struct virtual_context * context, void *event))                           \
    X(cuCtxWaitEvent, (struct virtual_context * context, void *event))                             \
    X(cuMemAlloc_v2, (address_t * address, size_t size))                                           \
    X(cuMemAllocManaged, (address_t * address, size_t size, unsigned flags))                       \
    X(cuMemAllocPitch_v2,                                                                          \
      (address_t * address, size_t * pitch, size_t width, size_t height, unsigned element_size))   \
    X(cuMemFree_v2, (address_t address))                                                           \
    X(cuMemGetInfo_v2, (size_t * free_size, size_t * total_size))                                  \
    X(cuMemGetAddressRange_v2, (address_t * base, size_t * size, address_t address))               \
    X(cuMemHostAlloc, (void **pointer, size_t size, unsigned flags))                               \
    X(cuMemAllocHost_v2, (void **pointer, size_t size))                                            \
    X(cuMemFreeHost, (void *pointer))                                                              \
    X(cuMemHostRegister_v2, (void *pointer, size_t size, unsigned flags))                          \
    X(cuMemHostUnregister, (void *pointer))                                                        \
    X(cuMemAllocFromPoolAsync,                                                                     \
      (address_t * address, size_t size, struct virtual_pool * pool, void *stream))                \
    X(cuMemAllocFromPoolAsync_ptsz,                                                                \
      (address_t * address, size_t size, struct virtual_pool * pool, void *stream))                \
    X(cuMemAllocAsync, (address_t * address, size_t size, void *stream))                           \
    X(cuMemAllocAsync_ptsz, (address_t * address, size_t size, void *stream))                      \
    X(cuMemFreeAsync, (address_t address, void *stream))                                           \
    X(cuMemFreeAsync_ptsz, (address_t address, void *stream))                                      \
    X(cuDeviceGetDefaultMemPool, (struct virtual_pool * *pool, int device))                        \
    X(cuDeviceGetMemPool, (struct virtual_pool * *pool, int device))                               \
    X(cuDeviceSetMemPool, (int device, struct virtual_pool *pool))                                 \
    X(cuMemPoolCreate, (struct virtual_pool * *pool, const void *properties))                      \
    X(cuMemPoolDestroy, (struct virtual_pool * pool))                                              \
    X(cuMemPoolGetAttribute, (struct virtual_pool * pool, int attribute, void *value))             \
    X(cuMemPoolSetAttribute, (struct virtual_pool * pool, int attribute, void *value))             \
    X(cuMemPoolTrimTo, (struct virtual_pool * pool, size_t keep))                                  \
    X(cuMemPoolSetAccess, (struct virtual_pool * pool, const void *list, size_t count))            \
    X(cuMemGetAllocationGranularity, (size_t * granularity, const void *properties, int option))   \
    X(cuMemAddressReserve,                                                                         \
      (address_t * base, size_t size, size_t alignment, address_t wish, unsigned long long flags)) \
    X(cuMemAddressFree, (address_t base, size_t size))                                             \
    X(cuMemCreate,                                                                                 \
      (uint64_t * handle, size_t size, const void *properties, unsigned long long flags))          \
    X(cuMemRelease, (uint64_t handle))                                                             \
    X(cuMemMap,                                                                                    \
      (address_t base, size_t size, size_t offset, uint64_t handle, unsigned long long flags))     \
    X(cuMemUnmap, (address_t base, size_t size))                                                   \
    X(cuMemSetAccess, (address_t base, size_t size, const void *list, size_t count))               \
    X(cuStreamCreate, (struct virtual_stream * *stream, unsigned flags))                           \
    X(cuStreamCreateWithPriority, (struct virtual_stream * *stream, unsigned flags, int priority)) \
    X(cuStreamDestroy_v2, (struct virtual_stream * stream))                                        \
    X(cuStreamGetId, (const struct virtual_stream *stream, unsigned long long *id))                \
    X(cuStreamGetId_ptsz, (const struct virtual_stream *stream, unsigned long long *id))           \
    X(cuStreamGetCtx, (const struct virtual_stream *stream, struct virtual_context **context))     \
    X(cuStreamGetCtx_ptsz,                                                                         \
      (const struct virtual_stream *stream, struct virtual_context **context))                     \
    X(cuStreamSynchronize, (struct virtual_stream * stream))                                       \
    X(cuStreamSynchronize_ptsz, (struct virtual_stream * stream))                                  \
    X(cuStreamQuery, (struct virtual_stream * stream))                                             \
    X(cuStreamQuery_ptsz, (struct virtual_stream * stream))                                        \
    X(cuStreamIsCapturing, (struct virtual_stream * stream, int *status))                          \
    X(cuStreamIsCapturing_ptsz, (struct virtual_stream * stream, int *status))                     \
    X(cuStreamWaitEvent, (struct virtual_stream * stream, void *event, unsigned flags))            \
    X(cuStreamWaitEvent_ptsz, (struct virtual_stream * stream, void *event, unsigned flags))       \
    X(cuThreadExchangeStreamCaptureMode, (int *mode))                                              \
    X(cuEventCreate, (void **event, unsigned flags))                                               \
    X(cuEventDestroy_v2, (void *event))                                                            \
    X(cuEventRecord, (void *event, struct virtual_stream *stream))                                 \
    X(cuEventRecord_ptsz, (void *event, struct virtual_stream *stream))                            \
    X(cuEventQuery, (void *event))                                                                 \
    X(cuEventSynchronize, (void *event))

#define X(name, parameters) VIRTUAL_EXPORT int name parameters;
VIRTUAL_CALLS(X)
#undef X

#endif
