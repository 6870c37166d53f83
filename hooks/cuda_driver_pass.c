/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation calls that the driver serves and Berth only accounts: pitched, managed, pinned and
 * registered memory. Sizes are bytes as the program asked for them.
 *
 * Before a call that takes memory the tier's capacity is asked; when the driver has no more, what
 * the pool caches on the device is given back and the call is made once more. Everything else is
 * the driver's own: arguments, errors, alignment, threads. Checklist 6, 7.
 */
#include "hooks/cuda_driver_pass.h"

#include "alloc/held_range.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_trace.h"

#define ATTACH_GLOBAL 1 /* CU_MEM_ATTACH_GLOBAL, cuda.h */

EXPORT(cuMemAllocPitch_v2);
EXPORT(cuMemAllocManaged);
EXPORT(cuMemAllocHost_v2);
EXPORT(cuMemHostAlloc);
EXPORT(cuMemFreeHost);
EXPORT(cuMemHostRegister);
EXPORT(cuMemHostRegister_v2);
EXPORT(cuMemHostUnregister);

/* The driver gave the bytes at `address`, or nothing: what was taken for them stays or goes back.
 */
static void keep(berth_cu_result result, struct berth_foreign foreign, uintptr_t address)
{
    berth_cu_context context = NULL;

    if (result != BERTH_CU_SUCCESS || address == 0) {
        berth__foreign_cancel(foreign.tier, foreign.size);
        return;
    }
    berth__device_current(&context);
    foreign.address = address;
    foreign.context = context;
    berth__foreign_add(&foreign);
}

static void account(berth_cu_result result, const struct berth_foreign *reserved, uintptr_t address)
{
    keep(result, *reserved, address);
    berth__foreign_settle(reserved);
}

/* The driver was asked to free what `foreign` says, and answered. */
static berth_cu_result settle(berth_cu_result result, bool is_foreign,
                              const struct berth_foreign *foreign)
{
    if (is_foreign && result == BERTH_CU_SUCCESS)
        berth__foreign_cancel(foreign->tier, foreign->size);
    else if (is_foreign)
        berth__foreign_restore(foreign);
    return result;
}

berth_cu_result berth__pass_alloc(berth_cu_address *address, size_t size,
                                  const void *return_address)
{
    struct berth_foreign foreign;
    berth_cu_result result;

    if (size == 0)
        return berth__driver.cuMemAlloc_v2(address, size);
    if (!berth__room_reserve(&foreign, BERTH_TIER_DEVICE, size, return_address))
        return BERTH_ROOM_REFUSED(size, berth__driver.cuMemAlloc_v2(address, size));
    do {
        result = berth__driver.cuMemAlloc_v2(address, size);
    } while (berth__room_was_made(result));
    account(result, &foreign, result == BERTH_CU_SUCCESS ? (uintptr_t)*address : 0);
    return result;
}

/* What drivers take for the pitch is a multiple of this; what they take is looked at afterwards. */
#define PITCH_LIKELY ((size_t)512)
#define PITCH_ELEMENT 4 /* bytes: a size of elements that is right */

/*
 * The rows take `real` bytes, and not what was reserved: what they take beyond that is reserved
 * besides, in `more`. False: there is no room for it.
 */
static bool fit(struct berth_foreign *foreign, uint64_t real, struct berth_foreign *more)
{
    *more = (struct berth_foreign){.tier = foreign->tier, .tag = foreign->tag};
    if (real <= foreign->size) {
        berth__foreign_cancel(foreign->tier, foreign->size - real);
    } else {
        more->size = real - foreign->size;
        if (berth__foreign_reserve(more) < 0) {
            more->size = 0;
            return false;
        }
    }
    foreign->size = real;
    return true;
}

/* Nothing is written: what the program's pointers are worth was looked at before. */
static berth_cu_result refused_pitch(size_t width, size_t height, unsigned element_size)
{
    size_t rows = BERTH_ROOM_TOO_MUCH(0) / (width ? width : 1), pitch;
    berth_cu_address address;

    if (width == 0 || height == 0)
        return berth__driver.cuMemAllocPitch_v2(&address, &pitch, width, height, element_size);
    return BERTH_ROOM_REFUSED_WITH(
        0, BERTH_CU_OUT_OF_MEMORY,
        berth__driver.cuMemAllocPitch_v2(&address, &pitch, width, rows, element_size),
        berth__driver.cuMemAllocPitch_v2(&address, &pitch, width, rows, PITCH_ELEMENT));
}

/*
 * cuMemAllocPitch: rows of *pitch bytes, the driver's choice; accounted in tier `device` as pitch
 * times height. cuda.h, cuMemAllocPitch.
 */
berth_cu_result berth__hook_cuMemAllocPitch_v2(berth_cu_address *address, size_t *pitch,
                                               size_t width, size_t height, unsigned element_size)
{
    struct berth_foreign reserved, real, more = {.tier = BERTH_TIER_DEVICE};
    berth_cu_result result;
    uint64_t size;

    NEED(cuMemAllocPitch_v2);
    /* What the rows really take, the trace learns from the account. */
    TRACED_ALLOC(PITCH, cuMemAllocPitch_v2, *address, width * height, 0,
                 (address, pitch, width, height, element_size));
    if (!address || !pitch || width > SIZE_MAX - PITCH_LIKELY ||
        __builtin_mul_overflow((width + PITCH_LIKELY - 1) & ~(PITCH_LIKELY - 1), height, &size))
        return berth__driver.cuMemAllocPitch_v2(address, pitch, width, height, element_size);
    if (!berth__room_reserve(&reserved, BERTH_TIER_DEVICE, size, __builtin_return_address(0)))
        return refused_pitch(width, height, element_size);
    do {
        result = berth__driver.cuMemAllocPitch_v2(address, pitch, width, height, element_size);
    } while (berth__room_was_made(result));
    real = reserved;
    if (result == BERTH_CU_SUCCESS && !fit(&real, (uint64_t)*pitch * height, &more)) {
        berth__driver.cuMemFree_v2(*address);
        result = BERTH_CU_OUT_OF_MEMORY;
    }
    keep(result, real, result == BERTH_CU_SUCCESS ? (uintptr_t)*address : 0);
    /* The promises end when the account has the bytes: in between nobody finds room that is none.
     */
    berth__foreign_settle(&more);
    berth__foreign_settle(&reserved);
    return result;
}

static berth_cu_result refused_managed(size_t size, unsigned flags)
{
    size_t too_much = BERTH_ROOM_TOO_MUCH(size);
    berth_cu_address address;

    return BERTH_ROOM_REFUSED_WITH(
        size, berth__driver.cuMemAllocManaged(&address, size, flags),
        berth__driver.cuMemAllocManaged(&address, too_much, flags),
        berth__driver.cuMemAllocManaged(&address, too_much, ATTACH_GLOBAL));
}

/* cuMemAllocManaged: accounted in tier `pinned`, as memory that the driver pages. */
berth_cu_result berth__hook_cuMemAllocManaged(berth_cu_address *address, size_t size,
                                              unsigned flags)
{
    struct berth_foreign foreign;
    berth_cu_result result;

    NEED(cuMemAllocManaged);
    TRACED_ALLOC(MANAGED, cuMemAllocManaged, *address, size, 0, (address, size, flags));
    if (!address)
        return berth__driver.cuMemAllocManaged(address, size, flags);
    if (!berth__room_reserve(&foreign, BERTH_TIER_PINNED, size, __builtin_return_address(0)))
        return refused_managed(size, flags);
    do {
        result = berth__driver.cuMemAllocManaged(address, size, flags);
    } while (berth__room_was_made(result));
    account(result, &foreign, result == BERTH_CU_SUCCESS ? (uintptr_t)*address : 0);
    return result;
}

/* cuMemAllocHost: page-locked host memory; tier `pinned`. */
berth_cu_result berth__hook_cuMemAllocHost_v2(void **pointer, size_t size)
{
    struct berth_foreign foreign;
    berth_cu_result result;

    NEED(cuMemAllocHost_v2);
    TRACED_ALLOC(HOST, cuMemAllocHost_v2, *pointer, size, 0, (pointer, size));
    if (!pointer)
        return berth__driver.cuMemAllocHost_v2(pointer, size);
    if (!berth__room_reserve(&foreign, BERTH_TIER_PINNED, size, __builtin_return_address(0)))
        return BERTH_ROOM_REFUSED(size, berth__driver.cuMemAllocHost_v2(pointer, size));
    result = berth__driver.cuMemAllocHost_v2(pointer, size);
    account(result, &foreign, result == BERTH_CU_SUCCESS ? (uintptr_t)*pointer : 0);
    return result;
}

static berth_cu_result refused_host(size_t size, unsigned flags)
{
    size_t too_much = BERTH_ROOM_TOO_MUCH(size);
    void *pointer;

    return BERTH_ROOM_REFUSED_WITH(size, berth__driver.cuMemHostAlloc(&pointer, size, flags),
                                   berth__driver.cuMemHostAlloc(&pointer, too_much, flags),
                                   berth__driver.cuMemHostAlloc(&pointer, too_much, 0));
}

/* cuMemHostAlloc: the same with flags. */
berth_cu_result berth__hook_cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    struct berth_foreign foreign;
    berth_cu_result result;

    NEED(cuMemHostAlloc);
    TRACED_ALLOC(HOST, cuMemHostAlloc, *pointer, size, 0, (pointer, size, flags));
    if (!pointer)
        return berth__driver.cuMemHostAlloc(pointer, size, flags);
    if (!berth__room_reserve(&foreign, BERTH_TIER_PINNED, size, __builtin_return_address(0)))
        return refused_host(size, flags);
    result = berth__driver.cuMemHostAlloc(pointer, size, flags);
    account(result, &foreign, result == BERTH_CU_SUCCESS ? (uintptr_t)*pointer : 0);
    return result;
}

/* cuMemFreeHost: of the two above. */
berth_cu_result berth__hook_cuMemFreeHost(void *pointer)
{
    struct berth_foreign foreign;
    bool is_foreign;

    NEED(cuMemFreeHost);
    TRACED_FREE(HOST, cuMemFreeHost, pointer, 0, (pointer));
    is_foreign = berth__foreign_remove((uintptr_t)pointer, &foreign) == 0;
    return settle(berth__driver.cuMemFreeHost(pointer), is_foreign, &foreign);
}

typedef berth_cu_result (*register_function)(void *pointer, size_t size, unsigned flags);

static berth_cu_result host_register(register_function function, void *pointer, size_t size,
                                     unsigned flags, const void *return_address)
{
    struct berth_foreign foreign;
    berth_cu_result result;

    if (!berth__room_reserve(&foreign, BERTH_TIER_PINNED, size, return_address))
        return BERTH_ROOM_REFUSED(size, function(pointer, size, flags));
    /* Before the driver looks at the pages: from here on nobody exchanges them. */
    berth__held_range_add(pointer, size);
    result = function(pointer, size, flags);
    if (result != BERTH_CU_SUCCESS)
        berth__held_range_undo(pointer, size);
    account(result, &foreign, (uintptr_t)pointer);
    return result;
}

/* cuMemHostRegister (CUDA 4.0): page-locks the program's own memory; tier `pinned` besides. */
berth_cu_result berth__hook_cuMemHostRegister(void *pointer, size_t size, unsigned flags)
{
    NEED(cuMemHostRegister);
    TRACED_ALLOC(REGISTERED, cuMemHostRegister, pointer, size, 0, (pointer, size, flags));
    return host_register(berth__driver.cuMemHostRegister, pointer, size, flags,
                         __builtin_return_address(0));
}

/* cuMemHostRegister (CUDA 6.5). */
berth_cu_result berth__hook_cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags)
{
    NEED(cuMemHostRegister_v2);
    TRACED_ALLOC(REGISTERED, cuMemHostRegister_v2, pointer, size, 0, (pointer, size, flags));
    return host_register(berth__driver.cuMemHostRegister_v2, pointer, size, flags,
                         __builtin_return_address(0));
}

/* cuMemHostUnregister: of the two above. */
berth_cu_result berth__hook_cuMemHostUnregister(void *pointer)
{
    struct berth_foreign foreign;
    berth_cu_result result;
    bool is_foreign;

    NEED(cuMemHostUnregister);
    TRACED_FREE(REGISTERED, cuMemHostUnregister, pointer, 0, (pointer));
    is_foreign = berth__foreign_remove((uintptr_t)pointer, &foreign) == 0;
    result = berth__driver.cuMemHostUnregister(pointer);
    /* Another thread may have registered the address by now, with another size. */
    if (result == BERTH_CU_SUCCESS && is_foreign)
        berth__held_range_undo(pointer, foreign.size);
    else if (result == BERTH_CU_SUCCESS)
        berth__held_range_remove(pointer);
    return settle(result, is_foreign, &foreign);
}
