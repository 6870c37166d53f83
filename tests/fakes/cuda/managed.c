/* SPDX-License-Identifier: Apache-2.0 */
/* Managed memory beyond its allocation: hints. They change nothing that a
 * program can see here, but only managed memory may be given them. */
#include "call.h"
#include "device.h"
#include "log.h"
#include "mem.h"
#include "stream.h"

static bool range_is_managed(uint64_t address, uint64_t size)
{
    const struct mem *mem = mem_find(address);

    return mem && mem->kind == MEM_MANAGED && size && size <= mem->base + mem->size - address;
}

/* Devices, and -1 for the CPU. */
static bool target_is_valid(int device)
{
    return device == -1 || device_get(device);
}

static bool location_is_valid(const CUmemLocation *location)
{
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE)
        return device_get(location->id) != NULL;
    return location->type != CU_MEM_LOCATION_TYPE_NONE;
}

static CUresult advise(CUdeviceptr pointer, size_t size, int advice, bool target_valid)
{
    CUresult result;

    if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
        return CUDA_ERROR_INVALID_VALUE;
    /* Where the advice names no place the target is ignored. */
    if (advice > CU_MEM_ADVISE_UNSET_READ_MOSTLY &&
        advice != CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION && !target_valid)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    result = range_is_managed(pointer, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    state_unlock();
    return result;
}

FAKE_CALL(cuMemAdvise, CALL_INIT,
          (CUdeviceptr pointer, size_t size, CUmem_advise advice, CUdevice device),
          (pointer, size, advice, device), "%s, %zu, %d, %d", log_pointer(pointer), size,
          (int)advice, device)
{
    return advise(pointer, size, (int)advice, target_is_valid(device));
}

FAKE_CALL(cuMemAdvise_v2, CALL_INIT,
          (CUdeviceptr pointer, size_t size, CUmem_advise advice, CUmemLocation location),
          (pointer, size, advice, location), "%s, %zu, %d, %d", log_pointer(pointer), size,
          (int)advice, location.id)
{
    return advise(pointer, size, (int)advice, location_is_valid(&location));
}

/* The hint takes its place in the stream, and does nothing there. */
static CUresult hint_queue(CUdeviceptr pointer, size_t size, CUstream handle)
{
    struct stream *stream;
    struct op *op;
    CUresult result;

    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && !range_is_managed(pointer, size))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL);
        result = op ? stream_submit(stream, op) : CUDA_ERROR_OUT_OF_MEMORY;
    }
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuMemPrefetchAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr pointer, size_t size, CUdevice device, CUstream stream),
                 (pointer, size, device, stream), "%s, %zu, %d", log_pointer(pointer), size, device)
{
    if (!target_is_valid(device))
        return CUDA_ERROR_INVALID_DEVICE;
    return hint_queue(pointer, size, stream);
}

FAKE_STREAM_CALL(cuMemPrefetchAsync_v2, _ptsz, CALL_INIT,
                 (CUdeviceptr pointer, size_t size, CUmemLocation location, unsigned int flags,
                  CUstream stream),
                 (pointer, size, location, flags, stream), "%s, %zu, %d", log_pointer(pointer),
                 size, location.id)
{
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (!location_is_valid(&location))
        return CUDA_ERROR_INVALID_DEVICE;
    return hint_queue(pointer, size, stream);
}

FAKE_STREAM_CALL(cuStreamAttachMemAsync, _ptsz, CALL_INIT,
                 (CUstream stream, CUdeviceptr pointer, size_t size, unsigned int flags),
                 (stream, pointer, size, flags), "%s, %zu, %u", log_pointer(pointer), size, flags)
{
    if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST &&
        flags != CU_MEM_ATTACH_SINGLE)
        return CUDA_ERROR_INVALID_VALUE;
    /* Size 0 means the whole allocation. */
    return hint_queue(pointer, size ? size : 1, stream);
}
