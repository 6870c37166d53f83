/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room on the device: calls for which the driver takes device memory of its own accord, for
 * code, contexts, streams, events, graphs and what a kernel needs besides its arguments. None is
 * accounted; but what the pool caches must never be why one is refused. When the driver says that
 * memory is out, the cache is given back and the same call is made again; the last answer is the
 * program's.
 *
 * Arguments, errors and threads are the driver's, as cuda.h of CUDA 13.0 states them for each name;
 * Berth looks at the result only, which costs nothing where it is success.
 */
#include "hooks/cuda_driver_room.h"

#include "alloc/device_context.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_stream.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_tag.h"

#include <string.h>

bool berth__room_was_made(berth_cu_result result)
{
    int device;

    if (BERTH_LIKELY(result != BERTH_CU_OUT_OF_MEMORY))
        return false;
    if (berth__device_of_current(&device) == 0 &&
        (berth__pool_release_cached(device) > 0 || berth__stream_release(device) > 0))
        return true;
    return berth__pool_release_cached(BERTH_POOL_ALL_DEVICES) > 0 ||
           berth__stream_release(BERTH_POOL_ALL_DEVICES) > 0;
}

bool berth__room_reserve(struct berth_foreign *ret, berth_tier_id tier, uint64_t size,
                         const void *return_address)
{
    *ret = (struct berth_foreign){
        .size = size,
        .tier = tier,
        .tag = berth__cuda_tag(size, return_address),
    };
    return berth__foreign_reserve(ret) == 0;
}

berth_cu_result berth__room_refused(void)
{
    berth_cu_device device;
    berth_cu_result result =
        berth__driver.cuCtxGetDevice ? berth__driver.cuCtxGetDevice(&device) : BERTH_CU_SUCCESS;

    return result == BERTH_CU_SUCCESS ? BERTH_CU_OUT_OF_MEMORY : result;
}

/* Defines and exports the wrapper of `name`, which does `before` and `after` around the call. */
#define WRAP(name, before, after, parameters, arguments)                                           \
    EXPORT(name);                                                                                  \
    berth_cu_result berth__hook_##name parameters                                                  \
    {                                                                                              \
        berth_cu_result result;                                                                    \
                                                                                                   \
        NEED(name);                                                                                \
        before;                                                                                    \
        do {                                                                                       \
            result = berth__driver.name arguments;                                                 \
        } while (berth__room_was_made(result));                                                    \
        after;                                                                                     \
        return result;                                                                             \
    }

#define RETRY(name, parameters, arguments) WRAP(name, (void)0, (void)0, parameters, arguments)

/* For a call that queues work in `stream`, where 0 means another one than by other names. */
#define RETRY_IN(name, stream, of_zero, parameters, arguments)                                     \
    WRAP(name, berth__order_saw((stream) ? (stream) : (of_zero)), (void)0, parameters, arguments)

/* For a call that makes the context current that it creates. */
#define RETRY_CONTEXT(name, parameters, arguments)                                                 \
    WRAP(name, (void)0, berth__context_changed(), parameters, arguments)

/* Code and its global variables; where loading is lazy, at the first question for a function. */
RETRY(cuModuleLoad, (void **module, const char *path), (module, path))
RETRY(cuModuleLoadData, (void **module, const void *image), (module, image))
RETRY(cuModuleLoadDataEx,
      (void **module, const void *image, unsigned count, void *options, void **values),
      (module, image, count, options, values))
RETRY(cuModuleLoadFatBinary, (void **module, const void *image), (module, image))
RETRY(cuModuleGetFunction, (void **function, void *module, const char *name),
      (function, module, name))
RETRY(cuLibraryLoadData,
      (void **library, const void *code, void *jit_options, void **jit_values, unsigned jit_count,
       void *options, void **values, unsigned count),
      (library, code, jit_options, jit_values, jit_count, options, values, count))
RETRY(cuLibraryLoadFromFile,
      (void **library, const char *path, void *jit_options, void **jit_values, unsigned jit_count,
       void *options, void **values, unsigned count),
      (library, path, jit_options, jit_values, jit_count, options, values, count))
RETRY(cuLibraryGetModule, (void **module, void *library), (module, library))
RETRY(cuKernelGetFunction, (void **function, void *kernel), (function, kernel))
RETRY(cuModuleGetGlobal_v2,
      (berth_cu_address * address, size_t *size, void *module, const char *name),
      (address, size, module, name))
RETRY(cuLibraryGetGlobal,
      (berth_cu_address * address, size_t *size, void *library, const char *name),
      (address, size, library, name))
RETRY(cuLibraryGetManaged,
      (berth_cu_address * address, size_t *size, void *library, const char *name),
      (address, size, library, name))
RETRY(cuFuncLoad, (void *function), (function))

/*
 * Contexts, by their names of CUDA 2.0, 3.2, 11.4 and 12.5, and those for OpenGL and VDPAU
 * (cudaGL.h, cudaVDPAU.h; of the latter's arguments the last is a function).
 */
RETRY_CONTEXT(cuCtxCreate, (berth_cu_context * context, unsigned flags, berth_cu_device device),
              (context, flags, device))
RETRY_CONTEXT(cuGLCtxCreate, (berth_cu_context * context, unsigned flags, berth_cu_device device),
              (context, flags, device))
RETRY_CONTEXT(cuGLCtxCreate_v2,
              (berth_cu_context * context, unsigned flags, berth_cu_device device),
              (context, flags, device))
RETRY_CONTEXT(cuVDPAUCtxCreate,
              (berth_cu_context * context, unsigned flags, berth_cu_device device, uint32_t display,
               void *get_address),
              (context, flags, device, display, get_address))
RETRY_CONTEXT(cuVDPAUCtxCreate_v2,
              (berth_cu_context * context, unsigned flags, berth_cu_device device, uint32_t display,
               void *get_address),
              (context, flags, device, display, get_address))
RETRY_CONTEXT(cuCtxCreate_v2, (berth_cu_context * context, unsigned flags, berth_cu_device device),
              (context, flags, device))
RETRY_CONTEXT(cuCtxCreate_v3,
              (berth_cu_context * context, void *affinity, int count, unsigned flags,
               berth_cu_device device),
              (context, affinity, count, flags, device))
RETRY_CONTEXT(cuCtxCreate_v4,
              (berth_cu_context * context, void *parameters, unsigned flags,
               berth_cu_device device),
              (context, parameters, flags, device))

/* Contexts that have a part of a device, and their streams; none becomes current. */
RETRY(cuGreenCtxCreate, (void **green, void *description, berth_cu_device device, unsigned flags),
      (green, description, device, flags))
RETRY(cuGreenCtxStreamCreate, (berth_cu_stream * stream, void *green, unsigned flags, int priority),
      (stream, green, flags, priority))

/* What a context has of stacks, of buffers, and of a heap that kernels allocate from. */
RETRY(cuCtxSetLimit, (int limit, size_t value), (limit, value))

RETRY(cuEventCreate, (berth_cu_event * event, unsigned flags), (event, flags))

/* Pools of the program's own, and memory that several devices write to at once. */
RETRY(cuMemPoolCreate, (berth_cu_pool * pool, const void *properties), (pool, properties))
RETRY(cuMulticastCreate, (uint64_t * handle, const void *properties), (handle, properties))
RETRY(cuMulticastAddDevice, (uint64_t handle, berth_cu_device device), (handle, device))
RETRY(cuMulticastBindMem,
      (uint64_t handle, size_t offset, uint64_t memory, size_t memory_offset, size_t size,
       uint64_t flags),
      (handle, offset, memory, memory_offset, size, flags))
RETRY(cuMulticastBindMem_v2,
      (uint64_t handle, berth_cu_device device, size_t offset, uint64_t memory,
       size_t memory_offset, size_t size, uint64_t flags),
      (handle, device, offset, memory, memory_offset, size, flags))

/* Graphs: their nodes, and the memory that they allocate, when made, uploaded or launched. */
RETRY(cuGraphInstantiate_v2,
      (void **executable, berth_cu_graph graph, void **node, char *log, size_t size),
      (executable, graph, node, log, size))
RETRY(cuGraphInstantiateWithFlags, (void **executable, berth_cu_graph graph, uint64_t flags),
      (executable, graph, flags))
RETRY(cuGraphInstantiateWithParams, (void **executable, berth_cu_graph graph, void *parameters),
      (executable, graph, parameters))
RETRY(cuGraphInstantiateWithParams_ptsz,
      (void **executable, berth_cu_graph graph, void *parameters), (executable, graph, parameters))
RETRY(cuGraphExecUpdate, (void *executable, berth_cu_graph graph, void **node, int *update_result),
      (executable, graph, node, update_result))
RETRY(cuGraphExecUpdate_v2, (void *executable, berth_cu_graph graph, void *update_result),
      (executable, graph, update_result))
RETRY(cuGraphUpload, (void *executable, berth_cu_stream stream), (executable, stream))
RETRY(cuGraphUpload_ptsz, (void *executable, berth_cu_stream stream), (executable, stream))
RETRY_IN(cuGraphLaunch, stream, BERTH_STREAM_LEGACY, (void *executable, berth_cu_stream stream),
         (executable, stream))
RETRY_IN(cuGraphLaunch_ptsz, stream, BERTH_STREAM_PER_THREAD,
         (void *executable, berth_cu_stream stream), (executable, stream))

/* Launches: code that is loaded lazily, local memory, stacks. Extents in threads and blocks. */
RETRY_IN(cuLaunchKernel, stream, BERTH_STREAM_LEGACY,
         (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
          unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,
          void **arguments, void **extra),
         (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
          arguments, extra))
RETRY_IN(cuLaunchKernel_ptsz, stream, BERTH_STREAM_PER_THREAD,
         (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
          unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,
          void **arguments, void **extra),
         (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
          arguments, extra))
RETRY_IN(cuLaunchCooperativeKernel, stream, BERTH_STREAM_LEGACY,
         (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
          unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,
          void **arguments),
         (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
          arguments))
RETRY_IN(cuLaunchCooperativeKernel_ptsz, stream, BERTH_STREAM_PER_THREAD,
         (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
          unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream,
          void **arguments),
         (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
          arguments))
/* CUlaunchConfig, cuda.h: seven numbers, then the stream. */
static berth_cu_stream stream_of(const void *config)
{
    berth_cu_stream stream = NULL;

    if (config)
        memcpy(&stream, (const char *)config + 8 * sizeof(unsigned), sizeof(stream));
    return stream;
}

RETRY_IN(cuLaunchKernelEx, stream_of(config), BERTH_STREAM_LEGACY,
         (const void *config, void *function, void **arguments, void **extra),
         (config, function, arguments, extra))
RETRY_IN(cuLaunchKernelEx_ptsz, stream_of(config), BERTH_STREAM_PER_THREAD,
         (const void *config, void *function, void **arguments, void **extra),
         (config, function, arguments, extra))
