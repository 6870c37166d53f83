/* SPDX-License-Identifier: Apache-2.0 */
/* Green contexts: a context with a share of the device's processors. Here the
 * share is of no consequence; what counts is that work in it belongs to the
 * primary context too, and is waited for with that.
 * QUESTION(gpu): is memory that is allocated in a green context the primary
 * context's, and does it outlive the green one? Here: yes. */
#include "call.h"
#include "context.h"
#include "device.h"
#include "event.h"
#include "handle.h"
#include "stream.h"

#include <string.h>

/* The one descriptor there is: of all processors. */
struct dev_resource_desc {
    int unused;
};
static struct dev_resource_desc whole_device;

FAKE_CALL(cuDeviceGetDevResource, CALL_INIT, (CUdevice ordinal, CUdevResource *ret, int type),
          (ordinal, ret, type), "%d, %d", ordinal, type)
{
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    if (!ret || type != CU_DEV_RESOURCE_TYPE_SM)
        return CUDA_ERROR_INVALID_VALUE;
    memset(ret, 0, sizeof(*ret));
    ret->type = type;
    ret->sm.smCount = 8;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDevResourceGenerateDesc, CALL_INIT,
          (CUdevResourceDesc * ret, CUdevResource *resources, unsigned int count),
          (ret, resources, count), "%u", count)
{
    if (!ret || !resources || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    *ret = &whole_device;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuGreenCtxCreate, CALL_INIT,
          (CUgreenCtx * ret, CUdevResourceDesc desc, CUdevice ordinal, unsigned int flags),
          (ret, desc, ordinal, flags), "%d, %u", ordinal, flags)
{
    CUresult result;

    if (!ret || desc != &whole_device || flags != CU_GREEN_CTX_DEFAULT_STREAM)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_get(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    result = context_new_green(device_get(ordinal), ret);
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxFromGreenCtx, CALL_INIT, (CUcontext * ret, CUgreenCtx green), (ret, green), "%s", "")
{
    CUresult result;

    if (!ret)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_resolve(green, &green);
    if (result == CUDA_SUCCESS)
        *ret = green;
    state_unlock();
    return result;
}

FAKE_CALL(cuGreenCtxStreamCreate, CALL_INIT,
          (CUstream * ret_stream, CUgreenCtx green, unsigned int flags, int priority),
          (ret_stream, green, flags, priority), "%u, %d", flags, priority)
{
    CUresult result;

    if (!ret_stream || flags != CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = green ? context_resolve(green, &green) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        result = stream_create_in(green, ret_stream);
    state_unlock();
    return result;
}

FAKE_CALL(cuGreenCtxDestroy, CALL_INIT, (CUgreenCtx green), (green), "%s", "")
{
    CUresult result;

    state_lock();
    result = green ? context_resolve(green, &green) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        result = context_delete_green(green);
    state_unlock();
    return result;
}
