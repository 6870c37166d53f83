/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/device.h"

#include "alloc/device_context.h"
#include "alloc/pool_parts.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

struct berth_driver berth__driver;
_Atomic bool berth__device_is_initialised;
_Atomic int berth__device_captures;

/* Codes without an errno of their own are kept whole, far from errno's range. */
#define DEVICE_ERROR_BASE 0x10000

int berth__device_error(berth_cu_result result)
{
    switch (result) {
    case BERTH_CU_SUCCESS:
        return 0;
    case BERTH_CU_INVALID_VALUE:
        return -EINVAL;
    case BERTH_CU_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -(DEVICE_ERROR_BASE + result);
    }
}

berth_cu_result berth__device_result(int error)
{
    switch (error) {
    case 0:
        return BERTH_CU_SUCCESS;
    case -EINVAL:
        return BERTH_CU_INVALID_VALUE;
    case -ENOMEM:
    case -ENOSPC: /* a capacity of Berth's own is full: to the program, so is the device */
    case -EDQUOT: /* a limit is reached: the same */
        return BERTH_CU_OUT_OF_MEMORY;
    default:
        return -error - DEVICE_ERROR_BASE;
    }
}

bool berth__device_speaks_of_capture(int error)
{
    berth_cu_result result = berth__device_result(error);

    return result >= BERTH_CU_CAPTURE_FIRST && result <= BERTH_CU_CAPTURE_LAST;
}

int berth__device_current(berth_cu_context *ret)
{
    return berth__context_current(ret);
}

int berth__device_of_current(int *ret)
{
    berth_cu_device device = -1;
    int r;

    if (!berth__driver.cuCtxGetDevice)
        return -ENOSYS;
    r = berth__device_error(berth__driver.cuCtxGetDevice(&device));
    if (r == 0)
        *ret = device;
    return r;
}

/*
 * Held over calls of the driver, which may wait for the device, but wanted by nobody else than who
 * begins or ends a primary context of that device.
 */
static pthread_rwlock_t primary_locks[BERTH_DEVICE_SLOTS] = {
    [0 ... BERTH_DEVICE_SLOTS - 1] = PTHREAD_RWLOCK_INITIALIZER,
};
static __thread bool primary_is_held; /* any device's, by this thread */

bool berth__device_primary_hold(int device, bool is_ending)
{
    pthread_rwlock_t *lock = &primary_locks[berth__device_slot(device)];

    /* In a forked child the lock may be held by a thread that is not there. */
    if (primary_is_held || berth__pool_disabled())
        return false;
    if (is_ending)
        pthread_rwlock_wrlock(lock);
    else
        pthread_rwlock_rdlock(lock);
    primary_is_held = true;
    return true;
}

void berth__device_primary_let_go(int device, bool is_held)
{
    if (!is_held)
        return;
    primary_is_held = false;
    pthread_rwlock_unlock(&primary_locks[berth__device_slot(device)]);
}

static berth_cu_context primary_now(int device)
{
    const struct berth_driver *driver = &berth__driver;
    berth_cu_context context = NULL;
    unsigned flags = 0;
    int active = 0;

    if (!driver->cuDevicePrimaryCtxGetState || !driver->cuDevicePrimaryCtxRetain ||
        !driver->cuDevicePrimaryCtxRelease_v2 ||
        driver->cuDevicePrimaryCtxGetState(device, &flags, &active) != 0 || !active)
        return NULL;
    /* Retaining an active context only counts; the count is given back at once. */
    if (driver->cuDevicePrimaryCtxRetain(&context, device) != 0)
        return NULL;
    driver->cuDevicePrimaryCtxRelease_v2(device);
    return context;
}

berth_cu_context berth__device_primary(int device)
{
    /* One that ended between question and count would begin anew, and end by our release. */
    bool is_held = berth__device_primary_hold(device, false);
    berth_cu_context context = primary_now(device);

    berth__device_primary_let_go(device, is_held);
    return context;
}

/* How often the driver is asked to take back what must not stay. */
#define TRIES 3

int berth__device_enter(berth_cu_context context, bool *ret_pushed)
{
    berth_cu_context current = NULL;
    int r = berth__device_current(&current);

    if (r < 0)
        return r;
    *ret_pushed = current != context;
    if (!*ret_pushed)
        return 0;
    berth__context_changed();
    return berth__device_error(berth__driver.cuCtxPushCurrent_v2(context));
}

void berth__device_leave(bool pushed)
{
    berth_cu_context ignored;

    if (!pushed)
        return;
    /* An error may have told of something else; what is not taken back is the program's context. */
    for (int i = 0; i < TRIES; i++)
        if (berth__driver.cuCtxPopCurrent_v2(&ignored) == BERTH_CU_SUCCESS)
            break;
    berth__context_changed();
}

int berth__device_alloc(uint64_t size, uintptr_t *ret)
{
    berth_cu_address address = 0;
    int r = berth__device_error(berth__driver.cuMemAlloc_v2(&address, size));

    if (r == 0)
        *ret = (uintptr_t)address;
    return r;
}

/*
 * A driver that waits asleep may do so at a cancellation point. What the calling thread holds then
 * is out of all books: it ends later.
 */
static int call_uncancelled(berth_cu_context context, uintptr_t freed)
{
    bool pushed = false;
    int cancel_state;
    int r = berth__device_enter(context, &pushed);

    if (r < 0)
        return r;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    r = berth__device_error(freed ? berth__driver.cuMemFree_v2(freed)
                                  : berth__driver.cuCtxSynchronize());
    pthread_setcancelstate(cancel_state, NULL);
    berth__device_leave(pushed);
    return r;
}

int berth__device_free(berth_cu_context context, uintptr_t address)
{
    return call_uncancelled(context, address);
}

int berth__device_left(uint64_t *ret)
{
    size_t left = 0, total = 0;
    int r;

    if (!berth__driver.cuMemGetInfo_v2)
        return -ENOSYS;
    r = berth__device_error(berth__driver.cuMemGetInfo_v2(&left, &total));
    if (r == 0)
        *ret = left;
    return r;
}

int berth__device_sync(berth_cu_context context)
{
    return call_uncancelled(context, 0);
}

struct berth_device_mode berth__device_relax(void)
{
    struct berth_device_mode before = {.mode = BERTH_CU_CAPTURE_RELAXED};

    before.is_set =
        berth__driver.cuThreadExchangeStreamCaptureMode &&
        berth__driver.cuThreadExchangeStreamCaptureMode(&before.mode) == BERTH_CU_SUCCESS;
    return before;
}

void berth__device_restore(struct berth_device_mode before)
{
    if (before.is_set)
        berth__driver.cuThreadExchangeStreamCaptureMode(&before.mode);
}

int berth__device_probe_capture(berth_cu_context context)
{
    berth_cu_address address = 0;
    bool pushed = false;
    berth_cu_result result;
    int r = berth__device_enter(context, &pushed);

    if (r < 0)
        return r;
    /* Allocating is as "potentially unsafe" as freeing, and can be taken back. */
    result = berth__driver.cuMemAlloc_v2(&address, 1);
    /* A free that fails may have told of something else: asked again, it gives the memory back. */
    for (int i = 0; result == 0 && i < TRIES; i++)
        if (berth__driver.cuMemFree_v2(address) == 0)
            break;
    berth__device_leave(pushed);
    if (result >= BERTH_CU_CAPTURE_FIRST && result <= BERTH_CU_CAPTURE_LAST)
        return berth__device_error(result);
    return 0;
}

static void tier_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    snprintf(text, text_size, "cuMemAlloc in the program's own contexts");
}

static const struct berth_tier_ops device_ops = {
    .describe = tier_describe,
};

/* A tier of a policy's own: the same memory, with an account and a capacity of its own. */
static int tier_make(struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, char *why, size_t why_size)
{
    tier->sides = BERTH_SIDE_DEVICE;
    tier->ops = &device_ops;
    return 0;
}

void berth__device_register(void)
{
    berth__tier(BERTH_TIER_DEVICE)->ops = &device_ops;
    berth__tier_set_maker(BERTH_KIND_DEVICE, tier_make);
    berth__context_watch();
}
