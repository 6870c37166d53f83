/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include "call.h"
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_NAME "Simulated GPU"

static struct device *devices;
static int devices_count;

CUresult device_init(void)
{
    int hardware[SETTINGS_DEVICES_MAX];
    int count = settings_visible(hardware);

    if (count == 0)
        return CUDA_ERROR_NO_DEVICE;
    devices = calloc((size_t)count, sizeof(*devices));
    if (!devices)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < count; i++) {
        devices[i].ordinal = i;
        devices[i].hardware = hardware[i];
        devices[i].capacity = settings_memory_size();
    }
    devices_count = count;
    return CUDA_SUCCESS;
}

int device_count(void)
{
    return devices_count;
}

struct device *device_get(int ordinal)
{
    return ordinal >= 0 && ordinal < devices_count ? &devices[ordinal] : NULL;
}

struct device *device_of_hardware(int hardware)
{
    for (int i = 0; i < devices_count; i++)
        if (devices[i].hardware == hardware)
            return &devices[i];
    return NULL;
}

CUresult device_take(struct device *device, uint64_t size)
{
    if (size > device->capacity - device->used)
        return CUDA_ERROR_OUT_OF_MEMORY;
    device->used += size;
    return CUDA_SUCCESS;
}

void device_give(struct device *device, uint64_t size)
{
    device->used -= size;
}

FAKE_CALL(cuDeviceGetCount, CALL_INIT, (int *ret_count), (ret_count), "%s", "")
{
    if (!ret_count)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_count = devices_count;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGet, CALL_INIT, (CUdevice * ret_device, int ordinal), (ret_device, ordinal), "%d",
          ordinal)
{
    if (!ret_device)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_device = ordinal;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGetName, CALL_INIT, (char *name, int length, CUdevice ordinal),
          (name, length, ordinal), "%d", ordinal)
{
    if (!name || length <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    snprintf(name, (size_t)length, DEVICE_NAME);
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceTotalMem_v2, CALL_INIT, (size_t * ret_size, CUdevice ordinal),
          (ret_size, ordinal), "%d", ordinal)
{
    if (!ret_size)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_size = device_get(ordinal)->capacity;
    return CUDA_SUCCESS;
}

static CUresult uuid_write(CUuuid *ret_uuid, int ordinal)
{
    if (!ret_uuid)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    memcpy(ret_uuid->bytes, "berth-fake-gpu-", 15);
    ret_uuid->bytes[15] = (char)('0' + device_get(ordinal)->hardware);
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGetUuid, CALL_INIT, (CUuuid * ret_uuid, CUdevice ordinal), (ret_uuid, ordinal),
          "%d", ordinal)
{
    return uuid_write(ret_uuid, ordinal);
}

FAKE_CALL(cuDeviceGetUuid_v2, CALL_INIT, (CUuuid * ret_uuid, CUdevice ordinal), (ret_uuid, ordinal),
          "%d", ordinal)
{
    return uuid_write(ret_uuid, ordinal);
}

static const struct attribute {
    short attribute;
    int value;
} attributes[] = {
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
    {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_PITCH, 2147483647},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
    {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 2},
    {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 64},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 4194304},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 102400},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 101376},
    {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 24},
    {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},

    {CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS, 1},
    {CU_DEVICE_ATTRIBUTE_NUMA_ID, -1},
    {CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
};

FAKE_CALL(cuDeviceGetAttribute, CALL_INIT,
          (int *ret_value, CUdevice_attribute attribute, CUdevice ordinal),
          (ret_value, attribute, ordinal), "%d, %d", (int)attribute, ordinal)
{
    int value = 0;

    if (!ret_value || attribute <= 0 || attribute >= CU_DEVICE_ATTRIBUTE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    /* An attribute that is not listed is a feature this device lacks: 0. */
    for (size_t i = 0; i < sizeof(attributes) / sizeof(*attributes); i++)
        if (attributes[i].attribute == (short)attribute)
            value = attributes[i].value;
    if (attribute == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
        value = device_get(ordinal)->hardware + 1;
    *ret_value = value;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceComputeCapability, CALL_INIT, (int *ret_major, int *ret_minor, CUdevice ordinal),
          (ret_major, ret_minor, ordinal), "%d", ordinal)
{
    if (!ret_major || !ret_minor)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_major = 9;
    *ret_minor = 0;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGetPCIBusId, CALL_INIT, (char *text, int length, CUdevice ordinal),
          (text, length, ordinal), "%d", ordinal)
{
    if (!text || length < 13)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    snprintf(text, (size_t)length, "0000:%02X:00.0", (unsigned)(device_get(ordinal)->hardware + 1));
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGetByPCIBusId, CALL_INIT, (CUdevice * ret_device, const char *text),
          (ret_device, text), "%s", text ? text : "0")
{
    const struct device *device;
    unsigned domain, bus;

    if (!ret_device || !text || sscanf(text, "%x:%x:", &domain, &bus) != 2)
        return CUDA_ERROR_INVALID_VALUE;
    device = domain == 0 ? device_of_hardware((int)bus - 1) : NULL;
    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_device = device->ordinal;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceCanAccessPeer, CALL_INIT, (int *ret_can, CUdevice device, CUdevice peer),
          (ret_can, device, peer), "%d, %d", device, peer)
{
    if (!ret_can)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(device) || !device_get(peer))
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_can = device != peer;
    return CUDA_SUCCESS;
}
