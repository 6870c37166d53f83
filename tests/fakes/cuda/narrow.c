/* SPDX-License-Identifier: Apache-2.0 */
/* The first ABI of the memory calls, from the time of 32-bit device pointers.
 * A driver still exports them under the names without suffix, which is why a
 * caller that looks up "cuMemAlloc" by dlsym does not get the modern function.
 * QUESTION(gpu): what do they answer on a 64-bit system? No address of this
 * device fits 32 bits, so: NOT_SUPPORTED. */
#include "call.h"
#include "context.h"
#include "device.h"

FAKE_CALL(cuMemAlloc, CALL_INIT, (unsigned int *ret_pointer, unsigned int size),
          (ret_pointer, size), "%u", size)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

FAKE_CALL(cuMemAllocPitch, CALL_INIT,
          (unsigned int *ret_pointer, unsigned int *ret_pitch, unsigned int width,
           unsigned int height, unsigned int element),
          (ret_pointer, ret_pitch, width, height, element), "%u, %u, %u", width, height, element)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

FAKE_CALL(cuMemFree, CALL_INIT, (unsigned int pointer), (pointer), "%u", pointer)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

FAKE_CALL(cuMemGetAddressRange, CALL_INIT,
          (unsigned int *ret_base, unsigned int *ret_size, unsigned int pointer),
          (ret_base, ret_size, pointer), "%u", pointer)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

static unsigned int saturate(uint64_t size)
{
    return size > UINT32_MAX ? UINT32_MAX : (unsigned int)size;
}

FAKE_CALL(cuMemGetInfo, CALL_INIT, (unsigned int *ret_free, unsigned int *ret_total),
          (ret_free, ret_total), "%s", "")
{
    struct context *context;
    CUresult result;

    if (!ret_free || !ret_total)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS) {
        *ret_free = saturate(context->device->capacity - context->device->used);
        *ret_total = saturate(context->device->capacity);
    }
    state_unlock();
    return result;
}
