/* SPDX-License-Identifier: Apache-2.0 */
/* Devices and contexts of the virtual driver. Semantics: cuda.h of CUDA 13.0, by each name. */
#include "tools/virtual/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_MAX 64

static struct virtual_context *contexts;
static struct virtual_context *primary[VIRTUAL_DEVICES_MAX];
static __thread struct virtual_context *stack[STACK_MAX];
static __thread unsigned depth;

struct virtual_context *virtual_current(void)
{
    return depth > 0 ? stack[depth - 1] : NULL;
}

int cuInit(unsigned flags)
{
    int result;

    pthread_mutex_lock(&virtual_lock);
    result = flags == 0 ? virtual_start() : CU_INVALID_VALUE;
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CU_SUCCESS;
}

static bool is_device(int device)
{
    return device >= 0 && device < virtual_device_count();
}

int cuDeviceGetCount(int *count)
{
    *count = virtual_device_count();
    return virtual_is_started() ? CU_SUCCESS : CU_NOT_INITIALIZED;
}

int cuDeviceGet(int *device, int ordinal)
{
    if (!virtual_is_started())
        return CU_NOT_INITIALIZED;
    if (!is_device(ordinal))
        return CU_INVALID_DEVICE;
    *device = ordinal;
    return CU_SUCCESS;
}

int cuDeviceGetName(char *name, int length, int device)
{
    if (!is_device(device))
        return CU_INVALID_DEVICE;
    snprintf(name, length > 0 ? (size_t)length : 0, "Berth virtual device");
    return CU_SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    if (!is_device(device))
        return CU_INVALID_DEVICE;
    *bytes = virtual_capacity();
    return CU_SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (!is_device(device))
        return CU_INVALID_DEVICE;
    switch (attribute) {
    case 41:  /* UNIFIED_ADDRESSING */
    case 83:  /* MANAGED_MEMORY */
    case 102: /* VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    case 115: /* MEMORY_POOLS_SUPPORTED */
        *value = 1;
        break;
    default:
        *value = 0;
        break;
    }
    return CU_SUCCESS;
}

static struct virtual_context *context_new(int device)
{
    struct virtual_context *context = calloc(1, sizeof(*context));

    if (!context)
        return NULL;
    context->device = device;
    context->next = contexts;
    contexts = context;
    return context;
}

static bool is_context(const struct virtual_context *context)
{
    const struct virtual_context *at = contexts;

    while (at && at != context)
        at = at->next;
    return at != NULL;
}

/* The record is kept, in no list: another thread may have it current. */
static void context_end(struct virtual_context *context)
{
    struct virtual_context **link = &contexts;

    virtual_ranges_drop(context);
    while (*link != context)
        link = &(*link)->next;
    *link = context->next;
    while (depth > 0 && stack[depth - 1] == context)
        depth--;
}

int cuDevicePrimaryCtxRetain(struct virtual_context **ret, int device)
{
    int result = CU_SUCCESS;

    if (!is_device(device))
        return virtual_is_started() ? CU_INVALID_DEVICE : CU_NOT_INITIALIZED;
    pthread_mutex_lock(&virtual_lock);
    if (!primary[device])
        primary[device] = context_new(device);
    if (primary[device]) {
        primary[device]->is_primary = true;
        primary[device]->retained++;
        *ret = primary[device];
    } else {
        result = CU_OUT_OF_MEMORY;
    }
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

static int primary_end(int device, bool at_once)
{
    int result = CU_SUCCESS;

    if (!is_device(device))
        return CU_INVALID_DEVICE;
    pthread_mutex_lock(&virtual_lock);
    if (!primary[device]) {
        result = at_once ? CU_SUCCESS : CU_INVALID_CONTEXT;
    } else if (at_once || --primary[device]->retained == 0) {
        context_end(primary[device]);
        primary[device] = NULL;
    }
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    return primary_end(device, false);
}

int cuDevicePrimaryCtxReset_v2(int device)
{
    return primary_end(device, true);
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    if (!is_device(device))
        return CU_INVALID_DEVICE;
    *flags = 0;
    *active = primary[device] != NULL;
    return CU_SUCCESS;
}

int cuCtxSetCurrent(struct virtual_context *context)
{
    if (!virtual_is_started())
        return CU_NOT_INITIALIZED;
    if (!context) {
        depth -= depth > 0;
        return CU_SUCCESS;
    }
    if (depth == 0)
        depth = 1;
    stack[depth - 1] = context;
    return CU_SUCCESS;
}

int cuCtxPushCurrent_v2(struct virtual_context *context)
{
    if (!context || depth == STACK_MAX)
        return CU_INVALID_CONTEXT;
    stack[depth++] = context;
    return CU_SUCCESS;
}

int cuCtxPopCurrent_v2(struct virtual_context **ret)
{
    if (depth == 0)
        return CU_INVALID_CONTEXT;
    depth--;
    if (ret)
        *ret = stack[depth];
    return CU_SUCCESS;
}

int cuCtxCreate_v2(struct virtual_context **ret, unsigned flags, int device)
{
    struct virtual_context *context;

    if (!is_device(device))
        return CU_INVALID_DEVICE;
    pthread_mutex_lock(&virtual_lock);
    context = context_new(device);
    pthread_mutex_unlock(&virtual_lock);
    if (!context)
        return CU_OUT_OF_MEMORY;
    *ret = context;
    return cuCtxPushCurrent_v2(context);
}

int cuCtxCreate_v3(struct virtual_context **ret, void *affinity, int count, unsigned flags,
                   int device)
{
    return cuCtxCreate_v2(ret, flags, device);
}

int cuCtxCreate_v4(struct virtual_context **ret, void *parameters, unsigned flags, int device)
{
    return cuCtxCreate_v2(ret, flags, device);
}

int cuCtxDestroy_v2(struct virtual_context *context)
{
    bool is_good;

    pthread_mutex_lock(&virtual_lock);
    is_good = is_context(context) && !context->is_primary;
    if (is_good)
        context_end(context);
    pthread_mutex_unlock(&virtual_lock);
    return is_good ? CU_SUCCESS : CU_INVALID_CONTEXT;
}

int cuCtxGetCurrent(struct virtual_context **ret)
{
    if (!virtual_is_started())
        return CU_NOT_INITIALIZED;
    *ret = virtual_current();
    return CU_SUCCESS;
}

int cuCtxGetDevice(int *device)
{
    const struct virtual_context *context = virtual_current();

    if (!context)
        return CU_INVALID_CONTEXT;
    *device = context->device;
    return CU_SUCCESS;
}

int cuCtxGetId(const struct virtual_context *context, unsigned long long *ret)
{
    *ret = (unsigned long long)(uintptr_t)(context ? context : virtual_current());
    return CU_SUCCESS;
}

int cuCtxSynchronize(void)
{
    return virtual_current() ? CU_SUCCESS : CU_INVALID_CONTEXT;
}
