/* SPDX-License-Identifier: Apache-2.0 */
/* Launches: a kernel's host function, run on the stream's thread. */
#include "call.h"
#include "context.h"
#include "module.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_THREADS_MAX 1024u

struct launch_shape {
    struct simk_dim grid, block;
    unsigned shared_bytes;
};

struct launch {
    simk_function *function;
    struct launch_shape shape;
    void **args;
    void *copies; /* the arguments and the array that points at them; or NULL */
};

static void launch_run(void *payload)
{
    const struct launch *launch = payload;

    launch->function(launch->shape.grid, launch->shape.block, launch->shape.shared_bytes,
                     launch->args);
}

static void launch_drop(void *payload)
{
    free(((struct launch *)payload)->copies);
}

/* Copies the arguments: the caller's array is gone when the kernel runs. */
static CUresult launch_copy_args(struct launch *launch, const struct kernel *kernel, void **args)
{
    size_t bytes = kernel->sizes_count * sizeof(void *);
    unsigned char *at;

    for (size_t i = 0; i < kernel->sizes_count; i++)
        bytes += (kernel->sizes[i] + 15) & ~(size_t)15;
    launch->copies = malloc(bytes + 16);
    if (!launch->copies)
        return CUDA_ERROR_OUT_OF_MEMORY;
    launch->args = launch->copies;
    at = (unsigned char *)launch->copies +
         ((kernel->sizes_count * sizeof(void *) + 15) & ~(size_t)15);
    for (size_t i = 0; i < kernel->sizes_count; i++) {
        launch->args[i] = at;
        memcpy(at, args[i], kernel->sizes[i]);
        at += (kernel->sizes[i] + 15) & ~(size_t)15;
    }
    return CUDA_SUCCESS;
}

static CUresult launch_submit(const struct kernel *kernel, const struct launch_shape *shape,
                              struct stream *stream, void **args)
{
    struct op *op =
        op_new(CU_GRAPH_NODE_TYPE_KERNEL, sizeof(struct launch), launch_run, launch_drop);
    struct launch *launch;
    CUresult result = CUDA_SUCCESS;

    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    launch = (struct launch *)(void *)op->payload;
    *launch = (struct launch){kernel->function, *shape, args, NULL};
    if (kernel->sizes && kernel->sizes_count && !args)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (kernel->sizes)
        result = launch_copy_args(launch, kernel, args);
    else if (stream->capture)
        result = CUDA_ERROR_NOT_SUPPORTED;
    if (result != CUDA_SUCCESS) {
        op_free(op);
        return result;
    }
    result = stream_submit(stream, op);
    /* Arguments of unknown size stay where they are: the caller waits. */
    if (result == CUDA_SUCCESS && !kernel->sizes)
        stream_wait(stream);
    return result;
}

static bool shape_is_valid(const struct launch_shape *shape)
{
    unsigned long long threads =
        (unsigned long long)shape->block.x * shape->block.y * shape->block.z;

    return shape->grid.x && shape->grid.y && shape->grid.z && threads &&
           threads <= BLOCK_THREADS_MAX && shape->grid.x <= 2147483647u &&
           shape->grid.y <= 65535u && shape->grid.z <= 65535u;
}

static CUresult launch_kernel(const void *handle, const struct launch_shape *shape,
                              CUstream stream_handle, void **args, void **extra)
{
    const struct kernel *kernel;
    struct stream *stream;
    CUresult result;

    if (!shape_is_valid(shape))
        return CUDA_ERROR_INVALID_VALUE;
    /* Arguments in one packed buffer are not simulated. */
    if (extra && extra[0])
        return CUDA_ERROR_NOT_SUPPORTED;
    state_lock();
    kernel = kernel_get(handle);
    result = kernel ? stream_resolve(stream_handle, &stream) : CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS)
        result = launch_submit(kernel, shape, stream, args);
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuLaunchKernel, _ptsz, CALL_INIT,
                 (CUfunction function, unsigned int grid_x, unsigned int grid_y,
                  unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                  unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **args,
                  void **extra),
                 (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
                  args, extra),
                 "%u, %u, %u, %u, %u, %u, %u", grid_x, grid_y, grid_z, block_x, block_y, block_z,
                 shared_bytes)
{
    struct launch_shape shape = {
        {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};

    return launch_kernel(function, &shape, stream, args, extra);
}

FAKE_STREAM_CALL(cuLaunchCooperativeKernel, _ptsz, CALL_INIT,
                 (CUfunction function, unsigned int grid_x, unsigned int grid_y,
                  unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                  unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **args),
                 (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
                  args),
                 "%u, %u, %u, %u, %u, %u, %u", grid_x, grid_y, grid_z, block_x, block_y, block_z,
                 shared_bytes)
{
    struct launch_shape shape = {
        {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};

    return launch_kernel(function, &shape, stream, args, NULL);
}

FAKE_STREAM_CALL(cuLaunchKernelEx, _ptsz, CALL_INIT,
                 (const CUlaunchConfig *config, CUfunction function, void **args, void **extra),
                 (config, function, args, extra), "%u", config ? config->gridDimX : 0)
{
    struct launch_shape shape;

    if (!config)
        return CUDA_ERROR_INVALID_VALUE;
    shape = (struct launch_shape){{config->gridDimX, config->gridDimY, config->gridDimZ},
                                  {config->blockDimX, config->blockDimY, config->blockDimZ},
                                  config->sharedMemBytes};
    return launch_kernel(function, &shape, config->hStream, args, extra);
}
