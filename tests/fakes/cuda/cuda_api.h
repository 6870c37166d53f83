/* SPDX-License-Identifier: Apache-2.0 */
/* Every entry point that the simulated driver exports, by its exported name. */
#ifndef BERTH_FAKE_CUDA_API_H
#define BERTH_FAKE_CUDA_API_H

#include "cuda_abi.h"

#include <stdbool.h>

/* state.c */
CUresult cuInit(unsigned int flags);
CUresult cuDriverGetVersion(int *ret_version);

/* device.c */
CUresult cuDeviceGetCount(int *ret_count);
CUresult cuDeviceGet(CUdevice *ret_device, int ordinal);
CUresult cuDeviceGetName(char *name, int length, CUdevice ordinal);
CUresult cuDeviceTotalMem_v2(size_t *ret_size, CUdevice ordinal);
CUresult cuDeviceGetUuid(CUuuid *ret_uuid, CUdevice ordinal);
CUresult cuDeviceGetUuid_v2(CUuuid *ret_uuid, CUdevice ordinal);
CUresult cuDeviceGetAttribute(int *ret_value, CUdevice_attribute attribute, CUdevice ordinal);
CUresult cuDeviceComputeCapability(int *ret_major, int *ret_minor, CUdevice ordinal);
CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice ordinal);
CUresult cuDeviceGetByPCIBusId(CUdevice *ret_device, const char *text);
CUresult cuDeviceCanAccessPeer(int *ret_can, CUdevice device, CUdevice peer);

/* context.c */
CUresult cuDevicePrimaryCtxRetain(CUcontext *ret_context, CUdevice ordinal);
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal);
CUresult cuDevicePrimaryCtxReset_v2(CUdevice ordinal);
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned int flags);
CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned int *ret_flags, int *ret_active);
CUresult cuCtxCreate_v2(CUcontext *ret_context, unsigned int flags, CUdevice ordinal);
CUresult cuCtxCreate_v3(CUcontext *ret_context, void *params, int count, unsigned int flags,
                        CUdevice ordinal);
CUresult cuCtxCreate_v4(CUcontext *ret_context, void *params, unsigned int flags, CUdevice ordinal);
CUresult cuCtxDestroy_v2(CUcontext context);
CUresult cuCtxPushCurrent_v2(CUcontext context);
CUresult cuCtxPopCurrent_v2(CUcontext *ret_context);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuCtxGetCurrent(CUcontext *ret_context);
CUresult cuCtxGetDevice(CUdevice *ret_device);
CUresult cuCtxGetDevice_v2(CUdevice *ret_device, CUcontext context);
CUresult cuCtxSynchronize(void);
CUresult cuCtxSynchronize_v2(CUcontext context);
CUresult cuCtxGetFlags(unsigned int *ret_flags);
CUresult cuCtxGetId(CUcontext context, unsigned long long *ret_id);
CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *ret_version);
CUresult cuCtxGetStreamPriorityRange(int *ret_least, int *ret_greatest);
CUresult cuCtxSetLimit(CUlimit limit, size_t value);
CUresult cuCtxGetLimit(size_t *ret_value, CUlimit limit);
CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags);
CUresult cuCtxDisablePeerAccess(CUcontext peer);
CUresult cuDevicePrimaryCtxRelease(CUdevice ordinal);
CUresult cuDevicePrimaryCtxReset(CUdevice ordinal);
CUresult cuDevicePrimaryCtxSetFlags(CUdevice ordinal, unsigned int flags);
CUresult cuCtxDestroy(CUcontext context);
CUresult cuCtxPushCurrent(CUcontext context);
CUresult cuCtxPopCurrent(CUcontext *ret_context);

/* green.c */
CUresult cuDeviceGetDevResource(CUdevice ordinal, CUdevResource *ret_resource, int type);
CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *ret_desc, CUdevResource *resources,
                                   unsigned int count);
CUresult cuGreenCtxCreate(CUgreenCtx *ret_green, CUdevResourceDesc desc, CUdevice ordinal,
                          unsigned int flags);
CUresult cuGreenCtxDestroy(CUgreenCtx green);
CUresult cuCtxFromGreenCtx(CUcontext *ret_context, CUgreenCtx green);
CUresult cuGreenCtxStreamCreate(CUstream *ret_stream, CUgreenCtx green, unsigned int flags,
                                int priority);

/* memory.c */
CUresult cuMemAlloc_v2(CUdeviceptr *ret_pointer, size_t size);
CUresult cuMemAllocManaged(CUdeviceptr *ret_pointer, size_t size, unsigned int flags);
CUresult cuMemAllocPitch_v2(CUdeviceptr *ret_pointer, size_t *ret_pitch, size_t width,
                            size_t height, unsigned int element);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuMemGetInfo_v2(size_t *ret_free, size_t *ret_total);
CUresult cuMemGetAddressRange_v2(CUdeviceptr *ret_base, size_t *ret_size, CUdeviceptr pointer);

/* dma_buf.c */
CUresult cuMemGetHandleForAddressRange(void *ret_handle, CUdeviceptr pointer, size_t size,
                                       CUmemRangeHandleType type, unsigned long long flags);

/* memory_host.c */
CUresult cuMemAllocHost_v2(void **ret_pointer, size_t size);
CUresult cuMemHostAlloc(void **ret_pointer, size_t size, unsigned int flags);
CUresult cuMemFreeHost(void *pointer);
CUresult cuMemHostRegister_v2(void *pointer, size_t size, unsigned int flags);
CUresult cuMemHostUnregister(void *pointer);
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *ret_pointer, void *pointer, unsigned int flags);
CUresult cuMemHostGetFlags(unsigned int *ret_flags, void *pointer);
CUresult cuMemAllocHost(void **ret_pointer, unsigned int size);
CUresult cuMemHostRegister(void *pointer, size_t size, unsigned int flags);

/* managed.c */
CUresult cuMemAdvise(CUdeviceptr pointer, size_t size, CUmem_advise advice, CUdevice device);
CUresult cuMemAdvise_v2(CUdeviceptr pointer, size_t size, CUmem_advise advice,
                        CUmemLocation location);
CUresult cuMemPrefetchAsync(CUdeviceptr pointer, size_t size, CUdevice device, CUstream stream);
CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr pointer, size_t size, CUdevice device,
                                 CUstream stream);
CUresult cuMemPrefetchAsync_v2(CUdeviceptr pointer, size_t size, CUmemLocation location,
                               unsigned int flags, CUstream stream);
CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr pointer, size_t size, CUmemLocation location,
                                    unsigned int flags, CUstream stream);
CUresult cuStreamAttachMemAsync(CUstream stream, CUdeviceptr pointer, size_t size,
                                unsigned int flags);
CUresult cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr pointer, size_t size,
                                     unsigned int flags);

/* narrow.c */
CUresult cuMemAlloc(unsigned int *ret_pointer, unsigned int size);
CUresult cuMemAllocPitch(unsigned int *ret_pointer, unsigned int *ret_pitch, unsigned int width,
                         unsigned int height, unsigned int element);
CUresult cuMemFree(unsigned int pointer);
CUresult cuMemGetAddressRange(unsigned int *ret_base, unsigned int *ret_size, unsigned int pointer);
CUresult cuMemGetInfo(unsigned int *ret_free, unsigned int *ret_total);

/* array.c */
CUresult cuArrayCreate_v2(CUarray *ret_array, const CUDA_ARRAY_DESCRIPTOR *descriptor);
CUresult cuArray3DCreate_v2(CUarray *ret_array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor);
CUresult cuArrayDestroy(CUarray array);
CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *ret_descriptor, CUarray array);
CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *ret_descriptor, CUarray array);
CUresult cuMipmappedArrayCreate(CUmipmappedArray *ret_array,
                                const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned int levels);
CUresult cuMipmappedArrayGetLevel(CUarray *ret_array, CUmipmappedArray array, unsigned int level);
CUresult cuMipmappedArrayDestroy(CUmipmappedArray array);

/* pointer.c */
CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer);
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *list, void **data,
                                CUdeviceptr pointer);
CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute,
                               CUdeviceptr pointer);

/* copy.c */
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size);
CUresult cuMemcpy_ptds(CUdeviceptr to, CUdeviceptr from, size_t size);
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size);
CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr to, const void *from, size_t size);
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size);
CUresult cuMemcpyDtoH_v2_ptds(void *to, CUdeviceptr from, size_t size);
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size);
CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr to, CUdeviceptr from, size_t size);
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                      CUcontext from_context, size_t size);
CUresult cuMemcpyPeer_ptds(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                           CUcontext from_context, size_t size);
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyAsync_ptsz(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream);
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr to, const void *from, size_t size, CUstream stream);
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyDtoHAsync_v2_ptsz(void *to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream);
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                           CUcontext from_context, size_t size, CUstream stream);
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                CUcontext from_context, size_t size, CUstream stream);
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *box);
CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D *box);
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *box, CUstream stream);
CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D *box, CUstream stream);
CUresult cuMemcpyBatchAsync(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                            void *attributes, size_t *attribute_starts, size_t attributes_count,
                            size_t *ret_failed, CUstream stream);
CUresult cuMemcpyBatchAsync_ptsz(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                 void *attributes, size_t *attribute_starts,
                                 size_t attributes_count, size_t *ret_failed, CUstream stream);
CUresult cuMemcpyBatchAsync_v2(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                               void *attributes, size_t *attribute_starts, size_t attributes_count,
                               CUstream stream);
CUresult cuMemcpyBatchAsync_v2_ptsz(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                    void *attributes, size_t *attribute_starts,
                                    size_t attributes_count, CUstream stream);
CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *rows);
CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D *rows);
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *rows);
CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D *rows);
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *rows, CUstream stream);
CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D *rows, CUstream stream);

/* fill.c */
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count);
CUresult cuMemsetD8_v2_ptds(CUdeviceptr to, unsigned char value, size_t count);
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream);
CUresult cuMemsetD8Async_ptsz(CUdeviceptr to, unsigned char value, size_t count, CUstream stream);
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count);
CUresult cuMemsetD16_v2_ptds(CUdeviceptr to, unsigned short value, size_t count);
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream);
CUresult cuMemsetD16Async_ptsz(CUdeviceptr to, unsigned short value, size_t count, CUstream stream);
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count);
CUresult cuMemsetD32_v2_ptds(CUdeviceptr to, unsigned int value, size_t count);
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream);
CUresult cuMemsetD32Async_ptsz(CUdeviceptr to, unsigned int value, size_t count, CUstream stream);
CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                         size_t height);
CUresult cuMemsetD2D8_v2_ptds(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                              size_t height);
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                           size_t height, CUstream stream);
CUresult cuMemsetD2D8Async_ptsz(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                                size_t height, CUstream stream);
CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                          size_t height);
CUresult cuMemsetD2D16_v2_ptds(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                               size_t height);
CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                            size_t height, CUstream stream);
CUresult cuMemsetD2D16Async_ptsz(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                                 size_t height, CUstream stream);
CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                          size_t height);
CUresult cuMemsetD2D32_v2_ptds(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                               size_t height);
CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                            size_t height, CUstream stream);
CUresult cuMemsetD2D32Async_ptsz(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                                 size_t height, CUstream stream);

/* stream_calls.c */
CUresult cuStreamCreateWithPriority(CUstream *ret_stream, unsigned int flags, int priority);
CUresult cuStreamCreate(CUstream *ret_stream, unsigned int flags);
CUresult cuStreamDestroy_v2(CUstream handle);
CUresult cuStreamQuery(CUstream handle);
CUresult cuStreamQuery_ptsz(CUstream handle);
CUresult cuStreamSynchronize(CUstream handle);
CUresult cuStreamSynchronize_ptsz(CUstream handle);
CUresult cuStreamGetPriority(CUstream handle, int *ret_priority);
CUresult cuStreamGetPriority_ptsz(CUstream handle, int *ret_priority);
CUresult cuStreamGetFlags(CUstream handle, unsigned int *ret_flags);
CUresult cuStreamGetFlags_ptsz(CUstream handle, unsigned int *ret_flags);
CUresult cuStreamGetId(CUstream handle, unsigned long long *ret_id);
CUresult cuStreamGetId_ptsz(CUstream handle, unsigned long long *ret_id);
CUresult cuStreamGetCtx(CUstream handle, CUcontext *ret_context);
CUresult cuStreamGetCtx_ptsz(CUstream handle, CUcontext *ret_context);
CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext *ret_context, void **ret_green);
CUresult cuStreamGetCtx_v2_ptsz(CUstream handle, CUcontext *ret_context, void **ret_green);
CUresult cuStreamGetGreenCtx(CUstream handle, CUgreenCtx *ret_green);
CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *user);
CUresult cuLaunchHostFunc_ptsz(CUstream handle, CUhostFn function, void *user);
CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void *user,
                             unsigned int flags);
CUresult cuStreamAddCallback_ptsz(CUstream handle, CUstreamCallback callback, void *user,
                                  unsigned int flags);
CUresult cuStreamDestroy(CUstream handle);

/* event.c */
CUresult cuEventCreate(CUevent *ret_event, unsigned int flags);
CUresult cuEventDestroy_v2(CUevent event);
CUresult cuEventRecord(CUevent event, CUstream handle);
CUresult cuEventRecord_ptsz(CUevent event, CUstream handle);
CUresult cuEventRecordWithFlags(CUevent event, CUstream handle, unsigned int flags);
CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream handle, unsigned int flags);
CUresult cuEventQuery(CUevent event);
CUresult cuEventSynchronize(CUevent event);
CUresult cuEventElapsedTime(float *ret_ms, CUevent start, CUevent end);
CUresult cuEventElapsedTime_v2(float *ret_ms, CUevent start, CUevent end);
CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int flags);
CUresult cuStreamWaitEvent_ptsz(CUstream handle, CUevent event, unsigned int flags);
CUresult cuCtxRecordEvent(CUcontext context, CUevent event);
CUresult cuCtxWaitEvent(CUcontext context, CUevent event);
CUresult cuEventDestroy(CUevent event);

/* capture.c */
CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode);
CUresult cuStreamBeginCapture_v2_ptsz(CUstream handle, CUstreamCaptureMode mode);
CUresult cuStreamEndCapture(CUstream handle, CUgraph *ret_graph);
CUresult cuStreamEndCapture_ptsz(CUstream handle, CUgraph *ret_graph);
CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *ret_status);
CUresult cuStreamIsCapturing_ptsz(CUstream handle, CUstreamCaptureStatus *ret_status);
CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *ret_status,
                                cuuint64_t *ret_id);
CUresult cuStreamGetCaptureInfo_ptsz(CUstream handle, CUstreamCaptureStatus *ret_status,
                                     cuuint64_t *ret_id);
CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus *ret_status,
                                   cuuint64_t *ret_id, CUgraph *ret_graph,
                                   const CUgraphNode **ret_nodes, size_t *ret_count);
CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream handle, CUstreamCaptureStatus *ret_status,
                                        cuuint64_t *ret_id, CUgraph *ret_graph,
                                        const CUgraphNode **ret_nodes, size_t *ret_count);
CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus *ret_status,
                                   cuuint64_t *ret_id, CUgraph *ret_graph,
                                   const CUgraphNode **ret_nodes, const CUgraphEdgeData **ret_edges,
                                   size_t *ret_count);
CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream handle, CUstreamCaptureStatus *ret_status,
                                        cuuint64_t *ret_id, CUgraph *ret_graph,
                                        const CUgraphNode **ret_nodes,
                                        const CUgraphEdgeData **ret_edges, size_t *ret_count);
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode);
CUresult cuStreamBeginCaptureToGraph(CUstream handle, CUgraph graph, const CUgraphNode *nodes,
                                     const CUgraphEdgeData *edges, size_t count,
                                     CUstreamCaptureMode mode);
CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream handle, CUgraph graph, const CUgraphNode *nodes,
                                          const CUgraphEdgeData *edges, size_t count,
                                          CUstreamCaptureMode mode);
CUresult cuStreamBeginCapture(CUstream handle);
CUresult cuStreamBeginCapture_ptsz(CUstream handle);

/* graph.c */
CUresult cuGraphCreate(CUgraph *ret_graph, unsigned int flags);
CUresult cuGraphDestroy(CUgraph graph);
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count);
CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *ret_type);
CUresult cuGraphInstantiateWithFlags(CUgraphExec *ret_exec, CUgraph graph,
                                     unsigned long long flags);
CUresult cuGraphInstantiate_v2(CUgraphExec *ret_exec, CUgraph graph, CUgraphNode *ret_bad,
                               char *log, size_t log_size);
CUresult cuGraphExecDestroy(CUgraphExec exec);
CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *ret_node,
                           CUgraphExecUpdateResult *ret_update);
CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *ret);
CUresult cuGraphUpload(CUgraphExec exec, CUstream handle);
CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream handle);
CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle);
CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream handle);

/* graph_node.c */
CUresult cuGraphClone(CUgraph *ret_graph, CUgraph graph);
CUresult cuGraphAddEmptyNode(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                             size_t count);
CUresult cuGraphAddChildGraphNode(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                                  size_t count, CUgraph child);
CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *ret_graph);

/* graph_memory.c */
CUresult cuGraphAddMemAllocNode(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                                size_t count, CUDA_MEM_ALLOC_NODE_PARAMS *params);
CUresult cuGraphAddMemFreeNode(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                               size_t count, CUdeviceptr pointer);
CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *ret_pointer);
CUresult cuDeviceGraphMemTrim(CUdevice ordinal);
CUresult cuDeviceGetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute,
                                      void *value);
CUresult cuDeviceSetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute,
                                      void *value);

/* texture.c */
CUresult cuTexObjectCreate(CUtexObject *ret_texture, const CUDA_RESOURCE_DESC *resource,
                           const CUDA_TEXTURE_DESC *texture, const CUDA_RESOURCE_VIEW_DESC *view);
CUresult cuTexObjectDestroy(CUtexObject texture);
CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *ret_resource, CUtexObject texture);

/* external.c */
CUresult cuImportExternalMemory(CUexternalMemory *ret_memory,
                                const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *handle);
CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *ret_pointer, CUexternalMemory memory,
                                         const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer);
CUresult cuDestroyExternalMemory(CUexternalMemory memory);

/* multicast.c */
CUresult cuMulticastCreate(CUmemGenericAllocationHandle *ret_handle,
                           const CUmulticastObjectProp *properties);
CUresult cuMulticastAddDevice(CUmemGenericAllocationHandle handle, CUdevice ordinal);
CUresult cuMulticastBindMem(CUmemGenericAllocationHandle handle, size_t offset,
                            CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size,
                            unsigned long long flags);
CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle handle, size_t offset,
                             CUdeviceptr pointer, size_t size, unsigned long long flags);
CUresult cuMulticastUnbind(CUmemGenericAllocationHandle handle, CUdevice ordinal, size_t offset,
                           size_t size);

/* pool_calls.c */
CUresult cuMemAllocAsync(CUdeviceptr *ret_pointer, size_t size, CUstream stream);
CUresult cuMemAllocAsync_ptsz(CUdeviceptr *ret_pointer, size_t size, CUstream stream);
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *ret_pointer, size_t size, CUmemoryPool pool,
                                 CUstream stream);
CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *ret_pointer, size_t size, CUmemoryPool pool,
                                      CUstream stream);
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle);
CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream handle);
CUresult cuMemPoolCreate(CUmemoryPool *ret_pool, const CUmemPoolProps *props);
CUresult cuMemPoolDestroy(CUmemoryPool pool);
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep);
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value);
CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value);
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *list, size_t count);
CUresult cuMemPoolGetAccess(CUmemAccess_flags *ret_flags, CUmemoryPool pool,
                            CUmemLocation *location);
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *ret_pool, CUdevice ordinal);
CUresult cuDeviceGetMemPool(CUmemoryPool *ret_pool, CUdevice ordinal);
CUresult cuDeviceSetMemPool(CUdevice ordinal, CUmemoryPool pool);
CUresult cuMemGetDefaultMemPool(CUmemoryPool *ret_pool, CUmemLocation *location,
                                CUmemAllocationType type);
CUresult cuMemGetMemPool(CUmemoryPool *ret_pool, CUmemLocation *location, CUmemAllocationType type);
CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool);

/* vmm.c */
CUresult cuMemGetAllocationGranularity(size_t *ret_granularity, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option);
CUresult cuMemCreate(CUmemGenericAllocationHandle *ret_handle, size_t size,
                     const CUmemAllocationProp *prop, unsigned long long flags);
CUresult cuMemRelease(CUmemGenericAllocationHandle handle);
CUresult cuMemAddressReserve(CUdeviceptr *ret_pointer, size_t size, size_t alignment,
                             CUdeviceptr hint, unsigned long long flags);
CUresult cuMemAddressFree(CUdeviceptr pointer, size_t size);
CUresult cuMemMap(CUdeviceptr pointer, size_t size, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags);
CUresult cuMemUnmap(CUdeviceptr pointer, size_t size);
CUresult cuMemSetAccess(CUdeviceptr pointer, size_t size, const CUmemAccessDesc *list,
                        size_t count);
CUresult cuMemGetAccess(unsigned long long *ret_flags, const CUmemLocation *location,
                        CUdeviceptr pointer);
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *ret_handle, void *pointer);
CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *ret_prop,
                                                CUmemGenericAllocationHandle handle);
CUresult cuMemExportToShareableHandle(void *ret_handle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags);
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *ret_handle, void *os_handle,
                                        CUmemAllocationHandleType type);

/* ipc.c */
CUresult cuIpcGetMemHandle(CUipcMemHandle *ret_handle, CUdeviceptr pointer);
CUresult cuIpcOpenMemHandle(CUdeviceptr *ret_pointer, CUipcMemHandle handle, unsigned int flags);
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *ret_pointer, CUipcMemHandle handle, unsigned int flags);
CUresult cuIpcCloseMemHandle(CUdeviceptr pointer);

/* module.c */
CUresult cuModuleLoadData(CUmodule *ret_module, const void *image);
CUresult cuModuleLoadDataEx(CUmodule *ret_module, const void *image, unsigned int count,
                            void *options, void **values);
CUresult cuModuleLoadFatBinary(CUmodule *ret_module, const void *image);
CUresult cuModuleUnload(CUmodule module);
CUresult cuModuleGetFunction(CUfunction *ret_function, CUmodule module, const char *name);
CUresult cuModuleGetGlobal_v2(CUdeviceptr *ret_pointer, size_t *ret_size, CUmodule module,
                              const char *name);
CUresult cuModuleGetLoadingMode(int *ret_mode);
CUresult cuLibraryLoadData(CUlibrary *ret_library, const void *code, void *jit_options,
                           void **jit_values, unsigned int jit_count, void *options, void **values,
                           unsigned int count);
CUresult cuLibraryUnload(CUlibrary library);
CUresult cuLibraryGetKernel(CUkernel *ret_kernel, CUlibrary library, const char *name);
CUresult cuLibraryGetManaged(CUdeviceptr *ret_pointer, size_t *ret_size, CUlibrary library,
                             const char *name);
CUresult cuFuncLoad(CUfunction function);
CUresult cuLibraryGetGlobal(CUdeviceptr *ret_pointer, size_t *ret_size, CUlibrary library,
                            const char *name);
CUresult cuKernelGetFunction(CUfunction *ret_function, CUkernel kernel);
CUresult cuKernelGetName(const char **ret_name, CUkernel kernel);
CUresult cuFuncGetName(const char **ret_name, CUfunction function);
CUresult cuFuncGetAttribute(int *ret_value, CUfunction_attribute attribute, CUfunction function);
CUresult cuKernelGetAttribute(int *ret_value, CUfunction_attribute attribute, CUkernel kernel,
                              CUdevice device);
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value);
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel,
                              CUdevice device);
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *ret_blocks, CUfunction function,
                                                              int block_size, size_t shared,
                                                              unsigned int flags);
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *ret_blocks, CUfunction function,
                                                     int block_size, size_t shared);

/* launch.c */
CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                        unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                        unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                        void **args, void **extra);
CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                             unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                             unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                             void **args, void **extra);
CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                   unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                   unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                                   void **args);
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int grid_x,
                                        unsigned int grid_y, unsigned int grid_z,
                                        unsigned int block_x, unsigned int block_y,
                                        unsigned int block_z, unsigned int shared_bytes,
                                        CUstream stream, void **args);
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **args,
                          void **extra);
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **args,
                               void **extra);

/* proc_address.c */
CUresult cuGetProcAddress(const char *name, void **ret_entry, int version, cuuint64_t flags);
CUresult cuGetProcAddress_v2(const char *name, void **ret_entry, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *ret_status);
CUresult cuGetProcAddress_v2_ptsz(const char *name, void **ret_entry, int version, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult *ret_status);
CUresult cuGetExportTable(const void **ret_table, const CUuuid *id);

/* error.c */
CUresult cuGetErrorName(CUresult value, const char **ret_name);
CUresult cuGetErrorString(CUresult value, const char **ret_text);

#endif
