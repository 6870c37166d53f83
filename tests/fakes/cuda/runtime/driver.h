/* SPDX-License-Identifier: Apache-2.0 */
/* The driver, as the runtime reaches it: found as NVIDIA's runtime finds it,
 * by dlopen("libcuda.so.1"), one dlsym, and then cuGetProcAddress with names
 * without suffix and the version of each ABI. */
#ifndef BERTH_FAKE_RUNTIME_DRIVER_H
#define BERTH_FAKE_RUNTIME_DRIVER_H

#include "../cuda_api.h"
#include "runtime_abi.h"

/* DRIVER(name, version, exported): once per process. */
#define DRIVER_CALLS                                                                               \
    DRIVER(cuInit, 2000, cuInit)                                                                   \
    DRIVER(cuDriverGetVersion, 2020, cuDriverGetVersion)                                           \
    DRIVER(cuDeviceGet, 2000, cuDeviceGet)                                                         \
    DRIVER(cuDeviceGetCount, 2000, cuDeviceGetCount)                                               \
    DRIVER(cuDeviceGetName, 2000, cuDeviceGetName)                                                 \
    DRIVER(cuDeviceGetUuid, 11040, cuDeviceGetUuid_v2)                                             \
    DRIVER(cuDeviceTotalMem, 3020, cuDeviceTotalMem_v2)                                            \
    DRIVER(cuDeviceGetAttribute, 2000, cuDeviceGetAttribute)                                       \
    DRIVER(cuDeviceGetPCIBusId, 4010, cuDeviceGetPCIBusId)                                         \
    DRIVER(cuDeviceGetByPCIBusId, 4010, cuDeviceGetByPCIBusId)                                     \
    DRIVER(cuDeviceCanAccessPeer, 4000, cuDeviceCanAccessPeer)                                     \
    DRIVER(cuDevicePrimaryCtxRetain, 7000, cuDevicePrimaryCtxRetain)                               \
    DRIVER(cuDevicePrimaryCtxReset, 11000, cuDevicePrimaryCtxReset_v2)                             \
    DRIVER(cuDevicePrimaryCtxSetFlags, 11000, cuDevicePrimaryCtxSetFlags_v2)                       \
    DRIVER(cuDevicePrimaryCtxGetState, 7000, cuDevicePrimaryCtxGetState)                           \
    DRIVER(cuCtxGetCurrent, 4000, cuCtxGetCurrent)                                                 \
    DRIVER(cuCtxSetCurrent, 4000, cuCtxSetCurrent)                                                 \
    DRIVER(cuCtxGetDevice, 2000, cuCtxGetDevice)                                                   \
    DRIVER(cuCtxSynchronize, 2000, cuCtxSynchronize)                                               \
    DRIVER(cuCtxGetStreamPriorityRange, 5050, cuCtxGetStreamPriorityRange)                         \
    DRIVER(cuCtxSetLimit, 3010, cuCtxSetLimit)                                                     \
    DRIVER(cuCtxGetLimit, 3010, cuCtxGetLimit)                                                     \
    DRIVER(cuCtxEnablePeerAccess, 4000, cuCtxEnablePeerAccess)                                     \
    DRIVER(cuCtxDisablePeerAccess, 4000, cuCtxDisablePeerAccess)                                   \
    DRIVER(cuMemAlloc, 3020, cuMemAlloc_v2)                                                        \
    DRIVER(cuMemFree, 3020, cuMemFree_v2)                                                          \
    DRIVER(cuMemAllocPitch, 3020, cuMemAllocPitch_v2)                                              \
    DRIVER(cuMemAllocManaged, 6000, cuMemAllocManaged)                                             \
    DRIVER(cuMemAdvise, 12020, cuMemAdvise_v2)                                                     \
    DRIVER(cuMemHostAlloc, 2020, cuMemHostAlloc)                                                   \
    DRIVER(cuMemFreeHost, 2000, cuMemFreeHost)                                                     \
    DRIVER(cuMemHostRegister, 6050, cuMemHostRegister_v2)                                          \
    DRIVER(cuMemHostUnregister, 4000, cuMemHostUnregister)                                         \
    DRIVER(cuMemHostGetDevicePointer, 3020, cuMemHostGetDevicePointer_v2)                          \
    DRIVER(cuMemHostGetFlags, 2030, cuMemHostGetFlags)                                             \
    DRIVER(cuMemGetInfo, 3020, cuMemGetInfo_v2)                                                    \
    DRIVER(cuMemGetAddressRange, 3020, cuMemGetAddressRange_v2)                                    \
    DRIVER(cuPointerGetAttributes, 7000, cuPointerGetAttributes)                                   \
    DRIVER(cuIpcGetMemHandle, 4010, cuIpcGetMemHandle)                                             \
    DRIVER(cuIpcOpenMemHandle, 11000, cuIpcOpenMemHandle_v2)                                       \
    DRIVER(cuIpcCloseMemHandle, 4010, cuIpcCloseMemHandle)                                         \
    DRIVER(cuStreamCreateWithPriority, 5050, cuStreamCreateWithPriority)                           \
    DRIVER(cuStreamDestroy, 4000, cuStreamDestroy_v2)                                              \
    DRIVER(cuEventCreate, 2000, cuEventCreate)                                                     \
    DRIVER(cuEventDestroy, 4000, cuEventDestroy_v2)                                                \
    DRIVER(cuEventQuery, 2000, cuEventQuery)                                                       \
    DRIVER(cuEventSynchronize, 2000, cuEventSynchronize)                                           \
    DRIVER(cuEventElapsedTime, 2000, cuEventElapsedTime)                                           \
    DRIVER(cuThreadExchangeStreamCaptureMode, 10010, cuThreadExchangeStreamCaptureMode)            \
    DRIVER(cuGraphDestroy, 10000, cuGraphDestroy)                                                  \
    DRIVER(cuGraphGetNodes, 10000, cuGraphGetNodes)                                                \
    DRIVER(cuGraphExecDestroy, 10000, cuGraphExecDestroy)                                          \
    DRIVER(cuGraphInstantiateWithFlags, 11040, cuGraphInstantiateWithFlags)                        \
    DRIVER(cuDeviceGetDefaultMemPool, 11020, cuDeviceGetDefaultMemPool)                            \
    DRIVER(cuDeviceGetMemPool, 11020, cuDeviceGetMemPool)                                          \
    DRIVER(cuDeviceSetMemPool, 11020, cuDeviceSetMemPool)                                          \
    DRIVER(cuMemPoolCreate, 11020, cuMemPoolCreate)                                                \
    DRIVER(cuMemPoolDestroy, 11020, cuMemPoolDestroy)                                              \
    DRIVER(cuMemPoolTrimTo, 11020, cuMemPoolTrimTo)                                                \
    DRIVER(cuMemPoolSetAttribute, 11020, cuMemPoolSetAttribute)                                    \
    DRIVER(cuMemPoolGetAttribute, 11020, cuMemPoolGetAttribute)                                    \
    DRIVER(cuMemPoolSetAccess, 11020, cuMemPoolSetAccess)                                          \
    DRIVER(cuLibraryLoadData, 12000, cuLibraryLoadData)                                            \
    DRIVER(cuLibraryUnload, 12000, cuLibraryUnload)                                                \
    DRIVER(cuLibraryGetKernel, 12000, cuLibraryGetKernel)                                          \
    DRIVER(cuLibraryGetGlobal, 12000, cuLibraryGetGlobal)                                          \
    DRIVER(cuFuncGetAttribute, 2020, cuFuncGetAttribute)                                           \
    DRIVER(cuFuncSetAttribute, 9000, cuFuncSetAttribute)                                           \
    DRIVER(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, 7000,                             \
           cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)

/* Those whose stream 0 depends on how the caller was compiled: one table for
 * the legacy stream, one for per-thread streams. */
#define DRIVER_STREAM_CALLS                                                                        \
    DRIVER(cuMemcpy, 7000, cuMemcpy)                                                               \
    DRIVER(cuMemcpyHtoD, 7000, cuMemcpyHtoD_v2)                                                    \
    DRIVER(cuMemcpyDtoH, 7000, cuMemcpyDtoH_v2)                                                    \
    DRIVER(cuMemcpyDtoD, 7000, cuMemcpyDtoD_v2)                                                    \
    DRIVER(cuMemcpyPeer, 7000, cuMemcpyPeer)                                                       \
    DRIVER(cuMemcpy2DUnaligned, 7000, cuMemcpy2DUnaligned_v2)                                      \
    DRIVER(cuMemcpyAsync, 7000, cuMemcpyAsync)                                                     \
    DRIVER(cuMemcpyHtoDAsync, 7000, cuMemcpyHtoDAsync_v2)                                          \
    DRIVER(cuMemcpyDtoHAsync, 7000, cuMemcpyDtoHAsync_v2)                                          \
    DRIVER(cuMemcpyDtoDAsync, 7000, cuMemcpyDtoDAsync_v2)                                          \
    DRIVER(cuMemcpyPeerAsync, 7000, cuMemcpyPeerAsync)                                             \
    DRIVER(cuMemcpy2DAsync, 7000, cuMemcpy2DAsync_v2)                                              \
    DRIVER(cuMemsetD8, 7000, cuMemsetD8_v2)                                                        \
    DRIVER(cuMemsetD2D8, 7000, cuMemsetD2D8_v2)                                                    \
    DRIVER(cuMemsetD8Async, 7000, cuMemsetD8Async)                                                 \
    DRIVER(cuMemsetD2D8Async, 7000, cuMemsetD2D8Async)                                             \
    DRIVER(cuMemPrefetchAsync, 12020, cuMemPrefetchAsync_v2)                                       \
    DRIVER(cuMemAllocAsync, 11020, cuMemAllocAsync)                                                \
    DRIVER(cuMemFreeAsync, 11020, cuMemFreeAsync)                                                  \
    DRIVER(cuMemAllocFromPoolAsync, 11020, cuMemAllocFromPoolAsync)                                \
    DRIVER(cuStreamQuery, 7000, cuStreamQuery)                                                     \
    DRIVER(cuStreamSynchronize, 7000, cuStreamSynchronize)                                         \
    DRIVER(cuStreamGetPriority, 7000, cuStreamGetPriority)                                         \
    DRIVER(cuStreamGetFlags, 7000, cuStreamGetFlags)                                               \
    DRIVER(cuStreamGetId, 12000, cuStreamGetId)                                                    \
    DRIVER(cuStreamWaitEvent, 7000, cuStreamWaitEvent)                                             \
    DRIVER(cuStreamAddCallback, 7000, cuStreamAddCallback)                                         \
    DRIVER(cuLaunchHostFunc, 10000, cuLaunchHostFunc)                                              \
    DRIVER(cuEventRecord, 7000, cuEventRecord)                                                     \
    DRIVER(cuEventRecordWithFlags, 11010, cuEventRecordWithFlags)                                  \
    DRIVER(cuStreamBeginCapture, 10010, cuStreamBeginCapture_v2)                                   \
    DRIVER(cuStreamEndCapture, 10000, cuStreamEndCapture)                                          \
    DRIVER(cuStreamIsCapturing, 10000, cuStreamIsCapturing)                                        \
    DRIVER(cuStreamGetCaptureInfo, 12030, cuStreamGetCaptureInfo_v3)                               \
    DRIVER(cuGraphLaunch, 10000, cuGraphLaunch)                                                    \
    DRIVER(cuGraphUpload, 11010, cuGraphUpload)                                                    \
    DRIVER(cuLaunchKernel, 7000, cuLaunchKernel)                                                   \
    DRIVER(cuLaunchCooperativeKernel, 9000, cuLaunchCooperativeKernel)

struct driver {
#define DRIVER(name, version, exported) __typeof__(&exported) name;
    DRIVER_CALLS
#undef DRIVER
};

struct driver_streams {
#define DRIVER(name, version, exported) __typeof__(&exported) name;
    DRIVER_STREAM_CALLS
#undef DRIVER
};

extern struct driver driver;
/* [0]: stream 0 is the legacy stream; [1]: the thread's own. */
extern struct driver_streams driver_streams[2];
extern __typeof__(&cuGetProcAddress_v2) driver_resolve;

/* Loads the driver once, without cuInit. */
cudaError_t driver_load(void);

#endif
