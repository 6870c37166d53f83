/* SPDX-License-Identifier: Apache-2.0 */
/* Multicast objects: no device here can have them, as none can without a
 * switch between devices. */
#include "call.h"
#include "device.h"
#include "log.h"

FAKE_CALL(cuMulticastCreate, CALL_INIT,
          (CUmemGenericAllocationHandle * ret_handle, const CUmulticastObjectProp *properties),
          (ret_handle, properties), "%s", "")
{
    return ret_handle && properties ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuMulticastAddDevice, CALL_INIT, (CUmemGenericAllocationHandle handle, CUdevice ordinal),
          (handle, ordinal), "%d", ordinal)
{
    return CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuMulticastBindMem, CALL_INIT,
          (CUmemGenericAllocationHandle handle, size_t offset, CUmemGenericAllocationHandle memory,
           size_t memory_offset, size_t size, unsigned long long flags),
          (handle, offset, memory, memory_offset, size, flags), "%zu, %zu, %zu", offset,
          memory_offset, size)
{
    return CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuMulticastBindAddr, CALL_INIT,
          (CUmemGenericAllocationHandle handle, size_t offset, CUdeviceptr pointer, size_t size,
           unsigned long long flags),
          (handle, offset, pointer, size, flags), "%zu, %s, %zu", offset, log_pointer(pointer),
          size)
{
    return CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuMulticastUnbind, CALL_INIT,
          (CUmemGenericAllocationHandle handle, CUdevice ordinal, size_t offset, size_t size),
          (handle, ordinal, offset, size), "%d, %zu, %zu", ordinal, offset, size)
{
    return CUDA_ERROR_INVALID_VALUE;
}
