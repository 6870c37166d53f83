/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* The primary contexts that the runtime has retained, by device. */
static CUcontext *primaries;
static int primaries_count;
static __thread int thread_device;

cudaError_t runtime_init(void)
{
    static atomic_bool is_up;
    cudaError_t error;

    if (atomic_load_explicit(&is_up, memory_order_acquire))
        return cudaSuccess;
    error = driver_load();
    if (error == cudaSuccess)
        error = from_driver(driver.cuInit(0));
    if (error == cudaSuccess)
        atomic_store_explicit(&is_up, true, memory_order_release);
    return error;
}

static cudaError_t primaries_make(void)
{
    int count;
    cudaError_t error;

    if (primaries)
        return cudaSuccess;
    error = from_driver(driver.cuDeviceGetCount(&count));
    if (error != cudaSuccess)
        return error;
    primaries = calloc((size_t)count + 1, sizeof(CUcontext));
    if (!primaries)
        return cudaErrorMemoryAllocation;
    primaries_count = count;
    return cudaSuccess;
}

static cudaError_t primary_get(int device, CUcontext *ret_context)
{
    cudaError_t error;

    pthread_mutex_lock(&mutex);
    error = primaries_make();
    if (error == cudaSuccess && (device < 0 || device >= primaries_count))
        error = cudaErrorInvalidDevice;
    if (error == cudaSuccess && !primaries[device])
        error = from_driver(driver.cuDevicePrimaryCtxRetain(&primaries[device], device));
    if (error == cudaSuccess)
        *ret_context = primaries[device];
    pthread_mutex_unlock(&mutex);
    return error;
}

static cudaError_t device_make_current(int device)
{
    CUcontext context;
    cudaError_t error = primary_get(device, &context);

    if (error == cudaSuccess)
        error = from_driver(driver.cuCtxSetCurrent(context));
    return error;
}

/* A context that the program made current itself is used as it is. */
cudaError_t runtime_enter(void)
{
    CUcontext context = NULL;
    cudaError_t error = runtime_init();

    if (error == cudaSuccess)
        error = from_driver(driver.cuCtxGetCurrent(&context));
    if (error == cudaSuccess && !context)
        error = device_make_current(thread_device);
    return error;
}

RUNTIME_CALL(cudaGetDeviceCount, runtime_init, (int *ret_count), (ret_count))
{
    return from_driver(driver.cuDeviceGetCount(ret_count));
}

RUNTIME_CALL(cudaGetDevice, runtime_init, (int *ret_device), (ret_device))
{
    if (!ret_device)
        return cudaErrorInvalidValue;
    if (driver.cuCtxGetDevice(ret_device) != CUDA_SUCCESS)
        *ret_device = thread_device;
    return cudaSuccess;
}

RUNTIME_CALL(cudaSetDevice, runtime_init, (int device), (device))
{
    cudaError_t error = device_make_current(device);

    if (error == cudaSuccess)
        thread_device = device;
    return error;
}

RUNTIME_CALL(cudaInitDevice, runtime_init, (int device, unsigned device_flags, unsigned flags),
             (device, device_flags, flags))
{
    CUcontext context;

    return primary_get(device, &context);
}

RUNTIME_CALL(cudaSetDeviceFlags, runtime_init, (unsigned flags), (flags))
{
    return from_driver(driver.cuDevicePrimaryCtxSetFlags(thread_device, flags));
}

RUNTIME_CALL(cudaGetDeviceFlags, runtime_init, (unsigned *ret_flags), (ret_flags))
{
    int active;

    return from_driver(driver.cuDevicePrimaryCtxGetState(thread_device, ret_flags, &active));
}

RUNTIME_CALL(cudaDeviceSynchronize, runtime_enter, (void), ())
{
    return from_driver(driver.cuCtxSynchronize());
}

RUNTIME_CALL(cudaDeviceReset, runtime_enter, (void), ())
{
    return from_driver(driver.cuDevicePrimaryCtxReset(thread_device));
}

RUNTIME_CALL(cudaDeviceGetAttribute, runtime_init, (int *ret_value, int attribute, int device),
             (ret_value, attribute, device))
{
    return from_driver(
        driver.cuDeviceGetAttribute(ret_value, (CUdevice_attribute)attribute, device));
}

RUNTIME_CALL(cudaDriverGetVersion, driver_load, (int *ret_version), (ret_version))
{
    return from_driver(driver.cuDriverGetVersion(ret_version));
}

RUNTIME_EXPORT cudaError_t cudaRuntimeGetVersion(int *ret_version);
RUNTIME_EXPORT cudaError_t cudaRuntimeGetVersion(int *ret_version)
{
    if (!ret_version)
        return runtime_result(cudaErrorInvalidValue);
    *ret_version = RUNTIME_VERSION;
    return cudaSuccess;
}

static int attribute(int device, CUdevice_attribute which)
{
    int value = 0;

    driver.cuDeviceGetAttribute(&value, which, device);
    return value;
}

static void prop_read_limits(struct cudaDeviceProp *prop, int device)
{
    prop->sharedMemPerBlock =
        (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    prop->sharedMemPerBlockOptin =
        (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    prop->sharedMemPerMultiprocessor =
        (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    prop->regsPerBlock = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    prop->regsPerMultiprocessor =
        attribute(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
    prop->warpSize = attribute(device, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    prop->memPitch = (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_MAX_PITCH);
    prop->maxThreadsPerBlock = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    prop->maxThreadsPerMultiProcessor =
        attribute(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    prop->maxBlocksPerMultiProcessor =
        attribute(device, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR);
    for (int i = 0; i < 3; i++) {
        prop->maxThreadsDim[i] =
            attribute(device, (CUdevice_attribute)(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i));
        prop->maxGridSize[i] =
            attribute(device, (CUdevice_attribute)(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i));
    }
    prop->totalConstMem = (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
    prop->textureAlignment = (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
    prop->texturePitchAlignment =
        (size_t)attribute(device, CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT);
}

static void prop_read_features(struct cudaDeviceProp *prop, int device)
{
    prop->major = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    prop->minor = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    prop->multiProcessorCount = attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    prop->canMapHostMemory = attribute(device, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
    prop->concurrentKernels = attribute(device, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS);
    prop->pciBusID = attribute(device, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
    prop->pciDeviceID = attribute(device, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID);
    prop->pciDomainID = attribute(device, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID);
    prop->asyncEngineCount = attribute(device, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
    prop->unifiedAddressing = attribute(device, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
    prop->memoryBusWidth = attribute(device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
    prop->l2CacheSize = attribute(device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    prop->streamPrioritiesSupported =
        attribute(device, CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED);
    prop->globalL1CacheSupported = attribute(device, CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED);
    prop->localL1CacheSupported = attribute(device, CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED);
    prop->managedMemory = attribute(device, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY);
    prop->computePreemptionSupported =
        attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED);
    prop->canUseHostPointerForRegisteredMem =
        attribute(device, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM);
    prop->hostRegisterSupported = attribute(device, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED);
    prop->memoryPoolsSupported = attribute(device, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
}

RUNTIME_CALL(cudaGetDeviceProperties, runtime_init, (struct cudaDeviceProp * ret_prop, int device),
             (ret_prop, device))
{
    CUresult result;

    if (!ret_prop)
        return cudaErrorInvalidValue;
    memset(ret_prop, 0, sizeof(*ret_prop));
    result = driver.cuDeviceGetName(ret_prop->name, sizeof(ret_prop->name), device);
    if (result == CUDA_SUCCESS)
        result = driver.cuDeviceTotalMem(&ret_prop->totalGlobalMem, device);
    if (result == CUDA_SUCCESS && driver.cuDeviceGetUuid)
        result = driver.cuDeviceGetUuid(&ret_prop->uuid, device);
    if (result != CUDA_SUCCESS)
        return from_driver(result);
    prop_read_limits(ret_prop, device);
    prop_read_features(ret_prop, device);
    return cudaSuccess;
}

RUNTIME_CALL(cudaDeviceGetPCIBusId, runtime_init, (char *text, int length, int device),
             (text, length, device))
{
    return from_driver(driver.cuDeviceGetPCIBusId(text, length, device));
}

RUNTIME_CALL(cudaDeviceGetByPCIBusId, runtime_init, (int *ret_device, const char *text),
             (ret_device, text))
{
    return from_driver(driver.cuDeviceGetByPCIBusId(ret_device, text));
}

RUNTIME_CALL(cudaDeviceGetStreamPriorityRange, runtime_enter, (int *ret_least, int *ret_greatest),
             (ret_least, ret_greatest))
{
    return from_driver(driver.cuCtxGetStreamPriorityRange(ret_least, ret_greatest));
}

RUNTIME_CALL(cudaDeviceSetLimit, runtime_enter, (int limit, size_t value), (limit, value))
{
    return from_driver(driver.cuCtxSetLimit((CUlimit)limit, value));
}

RUNTIME_CALL(cudaDeviceGetLimit, runtime_enter, (size_t * ret_value, int limit), (ret_value, limit))
{
    return from_driver(driver.cuCtxGetLimit(ret_value, (CUlimit)limit));
}

RUNTIME_CALL(cudaDeviceCanAccessPeer, runtime_init, (int *ret_can, int device, int peer),
             (ret_can, device, peer))
{
    return from_driver(driver.cuDeviceCanAccessPeer(ret_can, device, peer));
}

RUNTIME_CALL(cudaDeviceEnablePeerAccess, runtime_enter, (int peer, unsigned flags), (peer, flags))
{
    CUcontext context;
    cudaError_t error = primary_get(peer, &context);

    return error == cudaSuccess ? from_driver(driver.cuCtxEnablePeerAccess(context, flags)) : error;
}

RUNTIME_CALL(cudaDeviceDisablePeerAccess, runtime_enter, (int peer), (peer))
{
    CUcontext context;
    cudaError_t error = primary_get(peer, &context);

    return error == cudaSuccess ? from_driver(driver.cuCtxDisablePeerAccess(context)) : error;
}
