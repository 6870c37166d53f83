/* SPDX-License-Identifier: Apache-2.0 */
/* Launches, in the two forms that compilers produce: by the host function, and by
 * a kernel handle between a push and a pop of the configuration. */
#include "image.h"

#include <string.h>

/* Named limit: launches whose arguments launch further kernels, nested. */
#define CONFIGURATIONS_MAX 32

struct configuration {
    dim3 grid, block;
    size_t shared_bytes;
    CUstream stream;
};

static __thread struct configuration configurations[CONFIGURATIONS_MAX];
static __thread unsigned configurations_count;

RUNTIME_EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                                    CUstream stream);
RUNTIME_EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                                    CUstream stream)
{
    /* Not zero: the compiled program then does not call the kernel. */
    if (configurations_count == CONFIGURATIONS_MAX)
        return runtime_result(cudaErrorInvalidConfiguration);
    configurations[configurations_count++] =
        (struct configuration){grid, block, shared_bytes, stream};
    return 0;
}

RUNTIME_EXPORT cudaError_t __cudaPopCallConfiguration(dim3 *ret_grid, dim3 *ret_block,
                                                      size_t *ret_shared_bytes, void *ret_stream);
RUNTIME_EXPORT cudaError_t __cudaPopCallConfiguration(dim3 *ret_grid, dim3 *ret_block,
                                                      size_t *ret_shared_bytes, void *ret_stream)
{
    const struct configuration *top;

    if (configurations_count == 0)
        return runtime_result(cudaErrorMissingConfiguration);
    top = &configurations[--configurations_count];
    *ret_grid = top->grid;
    *ret_block = top->block;
    *ret_shared_bytes = top->shared_bytes;
    memcpy(ret_stream, &top->stream, sizeof(top->stream));
    return cudaSuccess;
}

RUNTIME_CALL(__cudaGetKernel, runtime_enter, (CUkernel * ret_kernel, const void *host_function),
             (ret_kernel, host_function))
{
    return image_kernel(host_function, ret_kernel);
}

RUNTIME_CALL(cudaGetKernel, runtime_enter, (CUkernel * ret_kernel, const void *host_function),
             (ret_kernel, host_function))
{
    return ret_kernel ? image_kernel(host_function, ret_kernel) : cudaErrorInvalidValue;
}

RUNTIME_CALL(cudaGetFuncBySymbol, runtime_enter,
             (CUfunction * ret_function, const void *host_function), (ret_function, host_function))
{
    return ret_function ? image_kernel(host_function, (CUkernel *)(void *)ret_function)
                        : cudaErrorInvalidValue;
}

/* A kernel and a function are interchangeable for a launch. */
static cudaError_t launch(const struct driver_streams *d, CUkernel kernel, dim3 grid, dim3 block,
                          void **args, size_t shared_bytes, CUstream stream)
{
    cudaError_t error;

    if (!kernel)
        return cudaErrorInvalidDeviceFunction;
    error =
        from_driver(d->cuLaunchKernel((CUfunction)kernel, grid.x, grid.y, grid.z, block.x, block.y,
                                      block.z, (unsigned)shared_bytes, stream, args, NULL));
    return error == cudaErrorInvalidValue ? cudaErrorInvalidConfiguration : error;
}

RUNTIME_STREAM_CALL(__cudaLaunchKernel, _ptsz,
                    (CUkernel kernel, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                     CUstream stream),
                    (kernel, grid, block, args, shared_bytes, stream))
{
    return launch(d, kernel, grid, block, args, shared_bytes, stream);
}

RUNTIME_STREAM_CALL(cudaLaunchKernel, _ptsz,
                    (const void *host_function, dim3 grid, dim3 block, void **args,
                     size_t shared_bytes, CUstream stream),
                    (host_function, grid, block, args, shared_bytes, stream))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    return error == cudaSuccess ? launch(d, kernel, grid, block, args, shared_bytes, stream)
                                : error;
}

RUNTIME_STREAM_CALL(cudaLaunchCooperativeKernel, _ptsz,
                    (const void *host_function, dim3 grid, dim3 block, void **args,
                     size_t shared_bytes, CUstream stream),
                    (host_function, grid, block, args, shared_bytes, stream))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    return error == cudaSuccess ? launch(d, kernel, grid, block, args, shared_bytes, stream)
                                : error;
}

RUNTIME_STREAM_CALL(cudaLaunchKernelExC, _ptsz,
                    (const cudaLaunchConfig_t *config, const void *host_function, void **args),
                    (config, host_function, args))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    if (!config)
        return cudaErrorInvalidValue;
    return error == cudaSuccess ? launch(d, kernel, config->gridDim, config->blockDim, args,
                                         config->dynamicSmemBytes, config->stream)
                                : error;
}

static int function_attribute(CUkernel kernel, CUfunction_attribute which)
{
    int value = 0;

    driver.cuFuncGetAttribute(&value, which, (CUfunction)kernel);
    return value;
}

RUNTIME_CALL(cudaFuncGetAttributes, runtime_enter,
             (struct cudaFuncAttributes * ret_attributes, const void *host_function),
             (ret_attributes, host_function))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    if (!ret_attributes)
        return cudaErrorInvalidValue;
    if (error != cudaSuccess)
        return error;
    memset(ret_attributes, 0, sizeof(*ret_attributes));
    ret_attributes->maxThreadsPerBlock =
        function_attribute(kernel, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    ret_attributes->numRegs = function_attribute(kernel, CU_FUNC_ATTRIBUTE_NUM_REGS);
    ret_attributes->ptxVersion = function_attribute(kernel, CU_FUNC_ATTRIBUTE_PTX_VERSION);
    ret_attributes->binaryVersion = function_attribute(kernel, CU_FUNC_ATTRIBUTE_BINARY_VERSION);
    ret_attributes->maxDynamicSharedSizeBytes =
        function_attribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    return cudaSuccess;
}

RUNTIME_CALL(cudaFuncSetAttribute, runtime_enter,
             (const void *host_function, int attribute, int value),
             (host_function, attribute, value))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    return error == cudaSuccess ? from_driver(driver.cuFuncSetAttribute(
                                      (CUfunction)kernel, (CUfunction_attribute)attribute, value))
                                : error;
}

RUNTIME_CALL(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, runtime_enter,
             (int *ret_blocks, const void *host_function, int block_size, size_t shared_bytes,
              unsigned flags),
             (ret_blocks, host_function, block_size, shared_bytes, flags))
{
    CUkernel kernel = NULL;
    cudaError_t error = image_kernel(host_function, &kernel);

    return error == cudaSuccess
               ? from_driver(driver.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
                     ret_blocks, (CUfunction)kernel, block_size, shared_bytes, flags))
               : error;
}

RUNTIME_CALL(cudaOccupancyMaxActiveBlocksPerMultiprocessor, runtime_enter,
             (int *ret_blocks, const void *host_function, int block_size, size_t shared_bytes),
             (ret_blocks, host_function, block_size, shared_bytes))
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_body(ret_blocks, host_function,
                                                                       block_size, shared_bytes, 0);
}

/* Variables. */
RUNTIME_CALL(cudaGetSymbolAddress, runtime_enter, (void **ret_pointer, const void *variable),
             (ret_pointer, variable))
{
    return image_variable(variable, (CUdeviceptr *)(void *)ret_pointer, NULL);
}

RUNTIME_CALL(cudaGetSymbolSize, runtime_enter, (size_t * ret_size, const void *variable),
             (ret_size, variable))
{
    return image_variable(variable, NULL, ret_size);
}

RUNTIME_STREAM_CALL(cudaMemcpyToSymbol, _ptds,
                    (const void *variable, const void *from, size_t size, size_t offset, int kind),
                    (variable, from, size, offset, kind))
{
    CUdeviceptr to;
    cudaError_t error = image_variable(variable, &to, NULL);

    return error == cudaSuccess ? from_driver(d->cuMemcpy(to + offset, (CUdeviceptr)from, size))
                                : error;
}

RUNTIME_STREAM_CALL(cudaMemcpyFromSymbol, _ptds,
                    (void *to, const void *variable, size_t size, size_t offset, int kind),
                    (to, variable, size, offset, kind))
{
    CUdeviceptr from;
    cudaError_t error = image_variable(variable, &from, NULL);

    return error == cudaSuccess ? from_driver(d->cuMemcpy((CUdeviceptr)to, from + offset, size))
                                : error;
}
