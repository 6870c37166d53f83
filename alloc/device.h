/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device: what Berth knows of the CUDA driver.
 *
 * The driver is never linked and never loaded by Berth. The hooks find it once the program has
 * loaded it, and bind the functions below to its own exports; tests bind them to a simulation. The
 * types repeat the driver's binary interface, so that nothing here needs the toolkit.
 *
 * Inside Berth errors are negative errno values. Each CUresult has exactly one of them, and back,
 * so that the driver's own answer survives the way through the pool: berth__device_error() and
 * berth__device_result() convert, and nothing else does.
 */
#ifndef BERTH_ALLOC_DEVICE_H
#define BERTH_ALLOC_DEVICE_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef int berth_cu_result;
typedef int berth_cu_device;
typedef unsigned long long berth_cu_address;
typedef struct berth_cu_opaque_context *berth_cu_context;
typedef struct berth_cu_opaque_stream *berth_cu_stream;
typedef struct berth_cu_opaque_event *berth_cu_event;
typedef struct berth_cu_opaque_pool *berth_cu_pool;
typedef struct berth_cu_opaque_graph *berth_cu_graph;

struct berth_cu_ipc_handle {
    char reserved[64];
};

/* The driver's codes that Berth itself answers with or looks for. */
enum {
    BERTH_CU_SUCCESS = 0,
    BERTH_CU_INVALID_VALUE = 1,
    BERTH_CU_OUT_OF_MEMORY = 2,
    BERTH_CU_NOT_INITIALIZED = 3,
    BERTH_CU_DEINITIALIZED = 4,
    BERTH_CU_NO_DEVICE = 100,
    BERTH_CU_INVALID_CONTEXT = 201,
    BERTH_CU_NOT_FOUND = 500,
    BERTH_CU_NOT_READY = 600,
    BERTH_CU_NOT_SUPPORTED = 801,
    BERTH_CU_CAPTURE_UNSUPPORTED = 900,
    BERTH_CU_CAPTURE_FIRST = 900, /* the codes that speak of stream capture */
    BERTH_CU_CAPTURE_LAST = 908
};

#define BERTH_CU_CAPTURE_RELAXED 2 /* CUstreamCaptureMode: unsafe calls are allowed */

/*
 * X(name, (parameters)): what Berth calls for its own purposes, and hooks do not wrap.
 */
#define BERTH_DRIVER_USED(X)                                                                       \
    X(cuCtxGetCurrent, (berth_cu_context * context))                                               \
    X(cuCtxGetDevice, (berth_cu_device * device))                                                  \
    X(cuCtxRecordEvent, (berth_cu_context context, berth_cu_event event))                          \
    X(cuEventQuery, (berth_cu_event event))                                                        \
    X(cuEventRecord, (berth_cu_event event, berth_cu_stream stream))                               \
    X(cuStreamWaitEvent, (berth_cu_stream stream, berth_cu_event event, unsigned flags))           \
    X(cuStreamQuery, (berth_cu_stream stream))                                                     \
    X(cuStreamGetFlags, (berth_cu_stream stream, unsigned *flags))                                 \
    X(cuStreamGetCtx, (berth_cu_stream stream, berth_cu_context * context))                        \
    X(cuStreamGetCtx_v2, (berth_cu_stream stream, berth_cu_context * context, void **green))       \
    X(cuStreamGetGreenCtx, (berth_cu_stream stream, void **green))                                 \
    X(cuDeviceGetMemPool, (berth_cu_pool * pool, berth_cu_device device))                          \
    X(cuDeviceGetDefaultMemPool, (berth_cu_pool * pool, berth_cu_device device))                   \
    X(cuDevicePrimaryCtxGetState, (berth_cu_device device, unsigned *flags, int *active))          \
    X(cuStreamIsCapturing, (berth_cu_stream stream, int *status))                                  \
    X(cuStreamIsCapturing_ptsz, (berth_cu_stream stream, int *status))                             \
    X(cuThreadExchangeStreamCaptureMode, (int *mode))                                              \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGetUuid, (void *uuid, berth_cu_device device))                                       \
    X(cuDeviceGetUuid_v2, (void *uuid, berth_cu_device device))                                    \
    X(cuDeviceGetAttribute, (int *value, int attribute, berth_cu_device device))                   \
    X(cuDeviceCanAccessPeer, (int *can, berth_cu_device device, berth_cu_device peer))             \
    X(cuMemGetAllocationGranularity, (size_t * granularity, const void *properties, int option))   \
    X(cuMemAddressReserve, (berth_cu_address * address, size_t size, size_t alignment,             \
                            berth_cu_address hint, uint64_t flags))                                \
    X(cuMemAddressFree, (berth_cu_address address, size_t size))                                   \
    X(cuMemExportToShareableHandle, (void *shareable, uint64_t handle, int type, uint64_t flags))  \
    X(cuMemImportFromShareableHandle, (uint64_t * handle, void *shareable, int type))              \
    X(cuIpcOpenMemHandle_v2,                                                                       \
      (berth_cu_address * address, struct berth_cu_ipc_handle handle, unsigned flags))             \
    X(cuIpcCloseMemHandle, (berth_cu_address address))                                             \
    X(cuCtxFromGreenCtx, (berth_cu_context * context, void *green))

/* X(name, (parameters)): what the hooks wrap, by the exact names that the driver exports. */
#define BERTH_DRIVER_HOOKED(X)                                                                     \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuGetProcAddress, (const char *symbol, void **function, int version, uint64_t flags))        \
    X(cuGetProcAddress_v2,                                                                         \
      (const char *symbol, void **function, int version, uint64_t flags, int *status))             \
    X(cuGetProcAddress_v2_ptsz,                                                                    \
      (const char *symbol, void **function, int version, uint64_t flags, int *status))             \
    X(cuMemAlloc_v2, (berth_cu_address * address, size_t size))                                    \
    X(cuMemFree_v2, (berth_cu_address address))                                                    \
    X(cuMemAllocPitch_v2, (berth_cu_address * address, size_t * pitch, size_t width,               \
                           size_t height, unsigned element_size))                                  \
    X(cuMemAllocManaged, (berth_cu_address * address, size_t size, unsigned flags))                \
    X(cuMemAllocHost_v2, (void **pointer, size_t size))                                            \
    X(cuMemHostAlloc, (void **pointer, size_t size, unsigned flags))                               \
    X(cuMemFreeHost, (void *pointer))                                                              \
    X(cuMemHostRegister, (void *pointer, size_t size, unsigned flags))                             \
    X(cuMemHostRegister_v2, (void *pointer, size_t size, unsigned flags))                          \
    X(cuMemHostUnregister, (void *pointer))                                                        \
    X(cuMemAllocAsync, (berth_cu_address * address, size_t size, berth_cu_stream stream))          \
    X(cuMemAllocAsync_ptsz, (berth_cu_address * address, size_t size, berth_cu_stream stream))     \
    X(cuMemAllocFromPoolAsync,                                                                     \
      (berth_cu_address * address, size_t size, berth_cu_pool pool, berth_cu_stream stream))       \
    X(cuMemAllocFromPoolAsync_ptsz,                                                                \
      (berth_cu_address * address, size_t size, berth_cu_pool pool, berth_cu_stream stream))       \
    X(cuMemFreeAsync, (berth_cu_address address, berth_cu_stream stream))                          \
    X(cuMemFreeAsync_ptsz, (berth_cu_address address, berth_cu_stream stream))                     \
    X(cuDeviceSetMemPool, (berth_cu_device device, berth_cu_pool pool))                            \
    X(cuMemSetMemPool, (void *location, int type, berth_cu_pool pool))                             \
    X(cuMemPoolCreate, (berth_cu_pool * pool, const void *properties))                             \
    X(cuMemPoolTrimTo, (berth_cu_pool pool, size_t keep))                                          \
    X(cuMemPoolSetAttribute, (berth_cu_pool pool, int attribute, void *value))                     \
    X(cuMemPoolGetAttribute, (berth_cu_pool pool, int attribute, void *value))                     \
    X(cuMemCreate, (uint64_t * handle, size_t size, const void *properties, uint64_t flags))       \
    X(cuMemRelease, (uint64_t handle))                                                             \
    X(cuMemMap,                                                                                    \
      (berth_cu_address address, size_t size, size_t offset, uint64_t handle, uint64_t flags))     \
    X(cuMemUnmap, (berth_cu_address address, size_t size))                                         \
    X(cuMemSetAccess,                                                                              \
      (berth_cu_address address, size_t size, const void *descriptors, size_t count))              \
    X(cuMemGetAccess, (unsigned long long *flags, const void *location, berth_cu_address address)) \
    X(cuMemRetainAllocationHandle, (uint64_t * handle, void *address))                             \
    X(cuMulticastCreate, (uint64_t * handle, const void *properties))                              \
    X(cuMulticastAddDevice, (uint64_t handle, berth_cu_device device))                             \
    X(cuMulticastBindMem, (uint64_t handle, size_t offset, uint64_t memory, size_t memory_offset,  \
                           size_t size, uint64_t flags))                                           \
    X(cuMulticastBindMem_v2, (uint64_t handle, berth_cu_device device, size_t offset,              \
                              uint64_t memory, size_t memory_offset, size_t size, uint64_t flags)) \
    X(cuMulticastBindAddr,                                                                         \
      (uint64_t handle, size_t offset, berth_cu_address address, size_t size, uint64_t flags))     \
    X(cuMulticastBindAddr_v2, (uint64_t handle, berth_cu_device device, size_t offset,             \
                               berth_cu_address address, size_t size, uint64_t flags))             \
    X(cuLogicalEndpointBindAddr, (uint64_t endpoint, berth_cu_device device, uint64_t offset,      \
                                  void *address, uint64_t size, uint64_t flags))                   \
    X(cuArrayCreate_v2, (void **array, const void *descriptor))                                    \
    X(cuArray3DCreate_v2, (void **array, const void *descriptor))                                  \
    X(cuArrayDestroy, (void *array))                                                               \
    X(cuMipmappedArrayCreate, (void **array, const void *descriptor, unsigned levels))             \
    X(cuMipmappedArrayDestroy, (void *array))                                                      \
    X(cuModuleLoad, (void **module, const char *path))                                             \
    X(cuModuleLoadData, (void **module, const void *image))                                        \
    X(cuModuleLoadDataEx,                                                                          \
      (void **module, const void *image, unsigned count, void *options, void **values))            \
    X(cuModuleLoadFatBinary, (void **module, const void *image))                                   \
    X(cuModuleGetFunction, (void **function, void *module, const char *name))                      \
    X(cuLibraryLoadData, (void **library, const void *code, void *jit_options, void **jit_values,  \
                          unsigned jit_count, void *options, void **values, unsigned count))       \
    X(cuLibraryLoadFromFile,                                                                       \
      (void **library, const char *path, void *jit_options, void **jit_values, unsigned jit_count, \
       void *options, void **values, unsigned count))                                              \
    X(cuLibraryGetModule, (void **module, void *library))                                          \
    X(cuKernelGetFunction, (void **function, void *kernel))                                        \
    X(cuModuleGetGlobal_v2,                                                                        \
      (berth_cu_address * address, size_t * size, void *module, const char *name))                 \
    X(cuLibraryGetGlobal,                                                                          \
      (berth_cu_address * address, size_t * size, void *library, const char *name))                \
    X(cuLibraryGetManaged,                                                                         \
      (berth_cu_address * address, size_t * size, void *library, const char *name))                \
    X(cuFuncLoad, (void *function))                                                                \
    X(cuCtxSynchronize, (void))                                                                    \
    X(cuCtxSynchronize_v2, (berth_cu_context context))                                             \
    X(cuStreamSynchronize, (berth_cu_stream stream))                                               \
    X(cuStreamSynchronize_ptsz, (berth_cu_stream stream))                                          \
    X(cuCtxSetCurrent, (berth_cu_context context))                                                 \
    X(cuCtxPushCurrent, (berth_cu_context context))                                                \
    X(cuCtxPushCurrent_v2, (berth_cu_context context))                                             \
    X(cuCtxPopCurrent, (berth_cu_context * context))                                               \
    X(cuCtxPopCurrent_v2, (berth_cu_context * context))                                            \
    X(cuGLCtxCreate, (berth_cu_context * context, unsigned flags, berth_cu_device device))         \
    X(cuGLCtxCreate_v2, (berth_cu_context * context, unsigned flags, berth_cu_device device))      \
    X(cuVDPAUCtxCreate, (berth_cu_context * context, unsigned flags, berth_cu_device device,       \
                         uint32_t display, void *get_address))                                     \
    X(cuVDPAUCtxCreate_v2, (berth_cu_context * context, unsigned flags, berth_cu_device device,    \
                            uint32_t display, void *get_address))                                  \
    X(cuCtxCreate, (berth_cu_context * context, unsigned flags, berth_cu_device device))           \
    X(cuCtxCreate_v2, (berth_cu_context * context, unsigned flags, berth_cu_device device))        \
    X(cuCtxCreate_v3, (berth_cu_context * context, void *affinity, int count, unsigned flags,      \
                       berth_cu_device device))                                                    \
    X(cuCtxCreate_v4,                                                                              \
      (berth_cu_context * context, void *parameters, unsigned flags, berth_cu_device device))      \
    X(cuGreenCtxCreate, (void **green, void *description, berth_cu_device device, unsigned flags)) \
    X(cuCtxSetLimit, (int limit, size_t value))                                                    \
    X(cuEventCreate, (berth_cu_event * event, unsigned flags))                                     \
    X(cuGreenCtxStreamCreate,                                                                      \
      (berth_cu_stream * stream, void *green, unsigned flags, int priority))                       \
    X(cuStreamCreate, (berth_cu_stream * stream, unsigned flags))                                  \
    X(cuStreamCreateWithPriority, (berth_cu_stream * stream, unsigned flags, int priority))        \
    X(cuGraphInstantiate_v2,                                                                       \
      (void **executable, berth_cu_graph graph, void **node, char *log, size_t size))              \
    X(cuGraphInstantiateWithFlags, (void **executable, berth_cu_graph graph, uint64_t flags))      \
    X(cuGraphInstantiateWithParams, (void **executable, berth_cu_graph graph, void *parameters))   \
    X(cuGraphInstantiateWithParams_ptsz,                                                           \
      (void **executable, berth_cu_graph graph, void *parameters))                                 \
    X(cuGraphExecUpdate,                                                                           \
      (void *executable, berth_cu_graph graph, void **node, int *update_result))                   \
    X(cuGraphExecUpdate_v2, (void *executable, berth_cu_graph graph, void *update_result))         \
    X(cuGraphUpload, (void *executable, berth_cu_stream stream))                                   \
    X(cuGraphUpload_ptsz, (void *executable, berth_cu_stream stream))                              \
    X(cuGraphLaunch, (void *executable, berth_cu_stream stream))                                   \
    X(cuGraphLaunch_ptsz, (void *executable, berth_cu_stream stream))                              \
    X(cuLaunchKernel,                                                                              \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,        \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,          \
       void **arguments, void **extra))                                                            \
    X(cuLaunchKernel_ptsz,                                                                         \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,        \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,          \
       void **arguments, void **extra))                                                            \
    X(cuLaunchCooperativeKernel,                                                                   \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,        \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,          \
       void **arguments))                                                                          \
    X(cuLaunchCooperativeKernel_ptsz,                                                              \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,        \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,          \
       void **arguments))                                                                          \
    X(cuLaunchKernelEx, (const void *config, void *function, void **arguments, void **extra))      \
    X(cuLaunchKernelEx_ptsz, (const void *config, void *function, void **arguments, void **extra)) \
    X(cuMemcpyHtoD_v2, (berth_cu_address to, const void *from, size_t size))                       \
    X(cuMemcpyHtoD_v2_ptds, (berth_cu_address to, const void *from, size_t size))                  \
    X(cuMemcpyHtoDAsync_v2,                                                                        \
      (berth_cu_address to, const void *from, size_t size, berth_cu_stream stream))                \
    X(cuMemcpyHtoDAsync_v2_ptsz,                                                                   \
      (berth_cu_address to, const void *from, size_t size, berth_cu_stream stream))                \
    X(cuMemcpy, (berth_cu_address to, berth_cu_address from, size_t size))                         \
    X(cuMemcpy_ptds, (berth_cu_address to, berth_cu_address from, size_t size))                    \
    X(cuMemcpyAsync,                                                                               \
      (berth_cu_address to, berth_cu_address from, size_t size, berth_cu_stream stream))           \
    X(cuMemcpyAsync_ptsz,                                                                          \
      (berth_cu_address to, berth_cu_address from, size_t size, berth_cu_stream stream))           \
    X(cuMemGetInfo_v2, (size_t * free_size, size_t * total_size))                                  \
    X(cuDeviceTotalMem_v2, (size_t * size, berth_cu_device device))                                \
    X(cuCtxEnablePeerAccess, (berth_cu_context peer, unsigned flags))                              \
    X(cuCtxDisablePeerAccess, (berth_cu_context peer))                                             \
    X(cuMemGetAddressRange_v2, (berth_cu_address * base, size_t * size, berth_cu_address address)) \
    X(cuPointerGetAttribute, (void *value, int attribute, berth_cu_address address))               \
    X(cuPointerGetAttributes,                                                                      \
      (unsigned count, int *attributes, void **values, berth_cu_address address))                  \
    X(cuPointerSetAttribute, (const void *value, int attribute, berth_cu_address address))         \
    X(cuIpcGetMemHandle, (struct berth_cu_ipc_handle * handle, berth_cu_address address))          \
    X(cuMemGetHandleForAddressRange,                                                               \
      (void *handle, berth_cu_address address, size_t size, int type, uint64_t flags))             \
    X(cuCtxDestroy, (berth_cu_context context))                                                    \
    X(cuCtxDestroy_v2, (berth_cu_context context))                                                 \
    X(cuCtxDetach, (berth_cu_context context))                                                     \
    X(cuDevicePrimaryCtxRetain, (berth_cu_context * context, berth_cu_device device))              \
    X(cuDevicePrimaryCtxReset, (berth_cu_device device))                                           \
    X(cuDevicePrimaryCtxReset_v2, (berth_cu_device device))                                        \
    X(cuDevicePrimaryCtxRelease, (berth_cu_device device))                                         \
    X(cuDevicePrimaryCtxRelease_v2, (berth_cu_device device))                                      \
    X(cuStreamBeginCapture, (berth_cu_stream stream))                                              \
    X(cuStreamBeginCapture_ptsz, (berth_cu_stream stream))                                         \
    X(cuStreamBeginCapture_v2, (berth_cu_stream stream, int mode))                                 \
    X(cuStreamBeginCapture_v2_ptsz, (berth_cu_stream stream, int mode))                            \
    X(cuStreamBeginCaptureToGraph, (berth_cu_stream stream, berth_cu_graph graph,                  \
                                    const void *nodes, const void *edges, size_t count, int mode)) \
    X(cuStreamBeginCaptureToGraph_ptsz,                                                            \
      (berth_cu_stream stream, berth_cu_graph graph, const void *nodes, const void *edges,         \
       size_t count, int mode))                                                                    \
    X(cuStreamBeginRecaptureToGraph,                                                               \
      (berth_cu_stream stream, int mode, berth_cu_graph graph, void *callback, void *user))        \
    X(cuStreamBeginRecaptureToGraph_ptsz,                                                          \
      (berth_cu_stream stream, int mode, berth_cu_graph graph, void *callback, void *user))        \
    X(cuStreamBeginCaptureToCig, (berth_cu_stream stream, void *parameters))                       \
    X(cuStreamBeginCaptureToCig_ptsz, (berth_cu_stream stream, void *parameters))                  \
    X(cuStreamEndCaptureToCig, (berth_cu_stream stream))                                           \
    X(cuStreamEndCaptureToCig_ptsz, (berth_cu_stream stream))                                      \
    X(cuGreenCtxDestroy, (void *green))                                                            \
    X(cuStreamDestroy, (berth_cu_stream stream))                                                   \
    X(cuStreamDestroy_v2, (berth_cu_stream stream))                                                \
    X(cuStreamEndCapture, (berth_cu_stream stream, berth_cu_graph * graph))                        \
    X(cuStreamEndCapture_ptsz, (berth_cu_stream stream, berth_cu_graph * graph))

/*
 * The driver's own functions, never Berth's wrappers; NULL where the installed driver has none.
 * Synchronization: filled in before `bound` is raised (release), and not changed afterwards.
 */
struct berth_driver {
#define X(name, parameters) berth_cu_result(*name) parameters;
    BERTH_DRIVER_USED(X)
    BERTH_DRIVER_HOOKED(X)
#undef X
};

extern struct berth_driver berth__driver;

/* Raised, with release order, when cuInit has succeeded in this process. Its children inherit it.
 */
extern _Atomic bool berth__device_is_initialised;

/* Gives the built-in tier `device`, and tiers of its kind, their operations. Bootstrap only. */
void berth__device_register(void);

/* Negative errno for a driver's code, 0 for success; and the reverse. One to one. */
int berth__device_error(berth_cu_result result);
berth_cu_result berth__device_result(int error);
/* Whether the driver refused something because a stream is being captured. */
bool berth__device_speaks_of_capture(int error);

/* The calling thread's context in *ret, NULL when it has none; see alloc/device_context.h. */
int berth__device_current(berth_cu_context *ret);
/* The device of the calling thread's context. */
int berth__device_of_current(int *ret);
/* The context that `device`'s primary one has now, NULL when it is not active. */
berth_cu_context berth__device_primary(int device);
/*
 * While a device's primary context is ending, as a hook sees it, none of it begins and nobody
 * counts its users, and the other way round: another device's has nothing to do with it. A thread
 * that holds one already goes on; what the first answers is to be given to the second. Devices with
 * the same slot share a lock.
 */
#define BERTH_DEVICE_SLOTS 64
static inline unsigned berth__device_slot(int device)
{
    return (unsigned)device % BERTH_DEVICE_SLOTS;
}
bool berth__device_primary_hold(int device, bool is_ending);
void berth__device_primary_let_go(int device, bool is_held);

/*
 * Makes `context` current unless it is; *ret_pushed says whether berth__device_leave() must undo
 * it.
 */
int berth__device_enter(berth_cu_context context, bool *ret_pushed);
void berth__device_leave(bool pushed);

/* One driver allocation in the calling thread's context. */
int berth__device_alloc(uint64_t size, uintptr_t *ret);
/*
 * The same verbs for a given context, whatever the calling thread's is; that stays current. They
 * may block until the device is idle: no lock is held by their callers.
 */
int berth__device_free(berth_cu_context context, uintptr_t address);
/* Bytes that the device of the calling thread's context has left, for any process. */
int berth__device_left(uint64_t *ret);
int berth__device_sync(berth_cu_context context);
/*
 * For calls of Berth's own, which are no part of what the program captures, in this thread or
 * another: from relax on the calling thread may make them while streams are captured, until restore
 * is given what relax returned.
 */
struct berth_device_mode {
    int mode;
    bool is_set; /* the driver knows of modes */
};
struct berth_device_mode berth__device_relax(void);
void berth__device_restore(struct berth_device_mode before);
/* Whether the driver lets this thread allocate while a stream is captured: 0, or its error. */
int berth__device_probe_capture(berth_cu_context context);

/*
 * How many stream captures are open in this process, as the begin and end hooks saw them. While it
 * is not 0, allocations and frees are the driver's own (checklist items 31 and 32).
 */
extern _Atomic int berth__device_captures;

static inline bool berth__device_capturing(void)
{
    return atomic_load_explicit(&berth__device_captures, memory_order_relaxed) > 0;
}

#endif
