/* SPDX-License-Identifier: Apache-2.0 */
/* Every call that the small runtime exports. */
#ifndef BERTH_FAKE_RUNTIME_API_H
#define BERTH_FAKE_RUNTIME_API_H

#include "runtime_abi.h"

/* error.c */
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
const char *cudaGetErrorName(cudaError_t value);
const char *cudaGetErrorString(cudaError_t value);

/* device.c */
cudaError_t cudaGetDeviceCount(int *ret_count);
cudaError_t cudaGetDevice(int *ret_device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags);
cudaError_t cudaSetDeviceFlags(unsigned flags);
cudaError_t cudaGetDeviceFlags(unsigned *ret_flags);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceReset(void);
cudaError_t cudaDeviceGetAttribute(int *ret_value, int attribute, int device);
cudaError_t cudaDriverGetVersion(int *ret_version);
cudaError_t cudaRuntimeGetVersion(int *ret_version);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *ret_prop, int device);
cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device);
cudaError_t cudaDeviceGetByPCIBusId(int *ret_device, const char *text);
cudaError_t cudaDeviceGetStreamPriorityRange(int *ret_least, int *ret_greatest);
cudaError_t cudaDeviceSetLimit(int limit, size_t value);
cudaError_t cudaDeviceGetLimit(size_t *ret_value, int limit);
cudaError_t cudaDeviceCanAccessPeer(int *ret_can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaDeviceDisablePeerAccess(int peer);

/* memory.c */
cudaError_t cudaMalloc(void **ret_pointer, size_t size);
cudaError_t cudaFree(void *pointer);
cudaError_t cudaMallocPitch(void **ret_pointer, size_t *ret_pitch, size_t width, size_t height);
cudaError_t cudaMallocManaged(void **ret_pointer, size_t size, unsigned flags);
cudaError_t cudaHostAlloc(void **ret_pointer, size_t size, unsigned flags);
cudaError_t cudaMallocHost(void **ret_pointer, size_t size);
cudaError_t cudaFreeHost(void *pointer);
cudaError_t cudaHostRegister(void *pointer, size_t size, unsigned flags);
cudaError_t cudaHostUnregister(void *pointer);
cudaError_t cudaHostGetDevicePointer(void **ret_pointer, void *pointer, unsigned flags);
cudaError_t cudaHostGetFlags(unsigned *ret_flags, void *pointer);
cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total);
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *ret_attributes,
                                     const void *pointer);
cudaError_t cudaIpcGetMemHandle(CUipcMemHandle *ret_handle, void *pointer);
cudaError_t cudaIpcOpenMemHandle(void **ret_pointer, CUipcMemHandle handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void *pointer);
cudaError_t cudaMallocAsync(void **ret_pointer, size_t size, CUstream stream);
cudaError_t cudaMallocAsync_ptsz(void **ret_pointer, size_t size, CUstream stream);
cudaError_t cudaMallocFromPoolAsync(void **ret_pointer, size_t size, CUmemoryPool pool,
                                    CUstream stream);
cudaError_t cudaMallocFromPoolAsync_ptsz(void **ret_pointer, size_t size, CUmemoryPool pool,
                                         CUstream stream);
cudaError_t cudaFreeAsync(void *pointer, CUstream stream);
cudaError_t cudaFreeAsync_ptsz(void *pointer, CUstream stream);
cudaError_t cudaDeviceGetDefaultMemPool(CUmemoryPool *ret_pool, int device);
cudaError_t cudaDeviceGetMemPool(CUmemoryPool *ret_pool, int device);
cudaError_t cudaDeviceSetMemPool(int device, CUmemoryPool pool);
cudaError_t cudaMemPoolCreate(CUmemoryPool *ret_pool, const CUmemPoolProps *props);
cudaError_t cudaMemPoolDestroy(CUmemoryPool pool);
cudaError_t cudaMemPoolTrimTo(CUmemoryPool pool, size_t keep);
cudaError_t cudaMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value);
cudaError_t cudaMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value);
cudaError_t cudaMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *list, size_t count);
cudaError_t cudaMemAdvise(const void *pointer, size_t size, int advice, CUmemLocation location);
cudaError_t cudaMemPrefetchAsync(const void *pointer, size_t size, CUmemLocation location,
                                 unsigned flags, CUstream stream);
cudaError_t cudaMemPrefetchAsync_ptsz(const void *pointer, size_t size, CUmemLocation location,
                                      unsigned flags, CUstream stream);

/* copy.c */
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, int kind);
cudaError_t cudaMemcpy_ptds(void *to, const void *from, size_t size, int kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, CUstream stream);
cudaError_t cudaMemcpyAsync_ptsz(void *to, const void *from, size_t size, int kind,
                                 CUstream stream);
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, int kind);
cudaError_t cudaMemcpy2D_ptds(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, int kind);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, int kind, CUstream stream);
cudaError_t cudaMemcpy2DAsync_ptsz(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                                   size_t width, size_t height, int kind, CUstream stream);
cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size);
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device,
                                size_t size, CUstream stream);
cudaError_t cudaMemset(void *to, int value, size_t size);
cudaError_t cudaMemset_ptds(void *to, int value, size_t size);
cudaError_t cudaMemsetAsync(void *to, int value, size_t size, CUstream stream);
cudaError_t cudaMemsetAsync_ptsz(void *to, int value, size_t size, CUstream stream);
cudaError_t cudaMemset2D(void *to, size_t pitch, int value, size_t width, size_t height);
cudaError_t cudaMemset2D_ptds(void *to, size_t pitch, int value, size_t width, size_t height);
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height,
                              CUstream stream);
cudaError_t cudaMemset2DAsync_ptsz(void *to, size_t pitch, int value, size_t width, size_t height,
                                   CUstream stream);

/* stream.c */
cudaError_t cudaStreamCreateWithPriority(CUstream *ret_stream, unsigned flags, int priority);
cudaError_t cudaStreamCreateWithFlags(CUstream *ret_stream, unsigned flags);
cudaError_t cudaStreamCreate(CUstream *ret_stream);
cudaError_t cudaStreamDestroy(CUstream stream);
cudaError_t cudaStreamQuery(CUstream stream);
cudaError_t cudaStreamQuery_ptsz(CUstream stream);
cudaError_t cudaStreamSynchronize(CUstream stream);
cudaError_t cudaStreamSynchronize_ptsz(CUstream stream);
cudaError_t cudaStreamGetPriority(CUstream stream, int *ret_priority);
cudaError_t cudaStreamGetPriority_ptsz(CUstream stream, int *ret_priority);
cudaError_t cudaStreamGetFlags(CUstream stream, unsigned *ret_flags);
cudaError_t cudaStreamGetFlags_ptsz(CUstream stream, unsigned *ret_flags);
cudaError_t cudaStreamGetId(CUstream stream, unsigned long long *ret_id);
cudaError_t cudaStreamGetId_ptsz(CUstream stream, unsigned long long *ret_id);
cudaError_t cudaStreamWaitEvent(CUstream stream, CUevent event, unsigned flags);
cudaError_t cudaStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned flags);
cudaError_t cudaStreamAddCallback(CUstream stream, CUstreamCallback callback, void *user,
                                  unsigned flags);
cudaError_t cudaStreamAddCallback_ptsz(CUstream stream, CUstreamCallback callback, void *user,
                                       unsigned flags);
cudaError_t cudaLaunchHostFunc(CUstream stream, CUhostFn function, void *user);
cudaError_t cudaLaunchHostFunc_ptsz(CUstream stream, CUhostFn function, void *user);
cudaError_t cudaEventCreateWithFlags(CUevent *ret_event, unsigned flags);
cudaError_t cudaEventCreate(CUevent *ret_event);
cudaError_t cudaEventDestroy(CUevent event);
cudaError_t cudaEventRecord(CUevent event, CUstream stream);
cudaError_t cudaEventRecord_ptsz(CUevent event, CUstream stream);
cudaError_t cudaEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags);
cudaError_t cudaEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned flags);
cudaError_t cudaEventQuery(CUevent event);
cudaError_t cudaEventSynchronize(CUevent event);
cudaError_t cudaEventElapsedTime(float *ret_ms, CUevent start, CUevent end);
cudaError_t cudaStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode);
cudaError_t cudaStreamBeginCapture_ptsz(CUstream stream, CUstreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(CUstream stream, CUgraph *ret_graph);
cudaError_t cudaStreamEndCapture_ptsz(CUstream stream, CUgraph *ret_graph);
cudaError_t cudaStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *ret_status);
cudaError_t cudaStreamIsCapturing_ptsz(CUstream stream, CUstreamCaptureStatus *ret_status);
cudaError_t cudaStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus *ret_status,
                                     cuuint64_t *ret_id, CUgraph *ret_graph,
                                     const CUgraphNode **ret_nodes,
                                     const CUgraphEdgeData **ret_edges, size_t *ret_count);
cudaError_t cudaStreamGetCaptureInfo_ptsz(CUstream stream, CUstreamCaptureStatus *ret_status,
                                          cuuint64_t *ret_id, CUgraph *ret_graph,
                                          const CUgraphNode **ret_nodes,
                                          const CUgraphEdgeData **ret_edges, size_t *ret_count);
cudaError_t cudaThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode);
cudaError_t cudaGraphInstantiate(CUgraphExec *ret_exec, CUgraph graph, unsigned long long flags);
cudaError_t cudaGraphInstantiateWithFlags(CUgraphExec *ret_exec, CUgraph graph,
                                          unsigned long long flags);
cudaError_t cudaGraphLaunch(CUgraphExec exec, CUstream stream);
cudaError_t cudaGraphLaunch_ptsz(CUgraphExec exec, CUstream stream);
cudaError_t cudaGraphUpload(CUgraphExec exec, CUstream stream);
cudaError_t cudaGraphUpload_ptsz(CUgraphExec exec, CUstream stream);
cudaError_t cudaGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count);
cudaError_t cudaGraphDestroy(CUgraph graph);
cudaError_t cudaGraphExecDestroy(CUgraphExec exec);

/* launch.c */
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, CUstream stream);
cudaError_t __cudaPopCallConfiguration(dim3 *ret_grid, dim3 *ret_block, size_t *ret_shared_bytes,
                                       void *ret_stream);
cudaError_t __cudaGetKernel(CUkernel *ret_kernel, const void *host_function);
cudaError_t cudaGetKernel(CUkernel *ret_kernel, const void *host_function);
cudaError_t cudaGetFuncBySymbol(CUfunction *ret_function, const void *host_function);
cudaError_t __cudaLaunchKernel(CUkernel kernel, dim3 grid, dim3 block, void **args,
                               size_t shared_bytes, CUstream stream);
cudaError_t __cudaLaunchKernel_ptsz(CUkernel kernel, dim3 grid, dim3 block, void **args,
                                    size_t shared_bytes, CUstream stream);
cudaError_t cudaLaunchKernel(const void *host_function, dim3 grid, dim3 block, void **args,
                             size_t shared_bytes, CUstream stream);
cudaError_t cudaLaunchKernel_ptsz(const void *host_function, dim3 grid, dim3 block, void **args,
                                  size_t shared_bytes, CUstream stream);
cudaError_t cudaLaunchCooperativeKernel(const void *host_function, dim3 grid, dim3 block,
                                        void **args, size_t shared_bytes, CUstream stream);
cudaError_t cudaLaunchCooperativeKernel_ptsz(const void *host_function, dim3 grid, dim3 block,
                                             void **args, size_t shared_bytes, CUstream stream);
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *host_function,
                                void **args);
cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t *config, const void *host_function,
                                     void **args);
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *ret_attributes,
                                  const void *host_function);
cudaError_t cudaFuncSetAttribute(const void *host_function, int attribute, int value);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *ret_blocks,
                                                                   const void *host_function,
                                                                   int block_size,
                                                                   size_t shared_bytes,
                                                                   unsigned flags);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *ret_blocks,
                                                          const void *host_function, int block_size,
                                                          size_t shared_bytes);
cudaError_t cudaGetSymbolAddress(void **ret_pointer, const void *variable);
cudaError_t cudaGetSymbolSize(size_t *ret_size, const void *variable);
cudaError_t cudaMemcpyToSymbol(const void *variable, const void *from, size_t size, size_t offset,
                               int kind);
cudaError_t cudaMemcpyToSymbol_ptds(const void *variable, const void *from, size_t size,
                                    size_t offset, int kind);
cudaError_t cudaMemcpyFromSymbol(void *to, const void *variable, size_t size, size_t offset,
                                 int kind);
cudaError_t cudaMemcpyFromSymbol_ptds(void *to, const void *variable, size_t size, size_t offset,
                                      int kind);

/* image.c */
void **__cudaRegisterFatBinary(void *fatbin);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, void *thread, void *block, void *block_dim,
                            void *grid_dim, int *warp_size);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int is_extern,
                       size_t size, int constant, int global);
char __cudaInitModule(void **handle);

/* entry_point.c */
cudaError_t cudaGetDriverEntryPoint(const char *name, void **ret_entry, unsigned long long flags,
                                    CUdriverProcAddressQueryResult *ret_status);
cudaError_t cudaGetDriverEntryPoint_ptsz(const char *name, void **ret_entry,
                                         unsigned long long flags,
                                         CUdriverProcAddressQueryResult *ret_status);
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **ret_entry, unsigned version,
                                             unsigned long long flags,
                                             CUdriverProcAddressQueryResult *ret_status);
cudaError_t cudaGetDriverEntryPointByVersion_ptsz(const char *name, void **ret_entry,
                                                  unsigned version, unsigned long long flags,
                                                  CUdriverProcAddressQueryResult *ret_status);

#endif
