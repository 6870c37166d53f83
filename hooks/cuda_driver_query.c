/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver says about an address, as of the program's own allocation and not of the segment
 * that Berth put it in; and the export of a block to other processes.
 *
 * The driver is asked first, so that errors are its own. An address of the pool that is in no live
 * block is not memory to the program: the driver is asked about an address that never is, and its
 * answer to that is the program's. Any thread.
 */
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_plan.h"
#include "alloc/pool_stream.h"
#include "alloc/tier_ops.h"
#include "hooks/cuda_driver_export.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

EXPORT(cuMemGetAddressRange_v2);
EXPORT(cuPointerGetAttribute);
EXPORT(cuPointerGetAttributes);
EXPORT(cuPointerSetAttribute);
EXPORT(cuIpcGetMemHandle);
EXPORT(cuMemGetHandleForAddressRange);

/* The live block that contains the address, of the pool or stream-ordered; as berth__pool_find().
 */
static int find_block(berth_cu_address address, struct berth_block_view *ret)
{
    int r = berth__pool_find((uintptr_t)address, ret);

    return r == -ENOENT ? berth__stream_find_block((uintptr_t)address, ret) : r;
}

/* CUpointer_attribute, cuda.h. */
enum {
    ATTRIBUTE_CONTEXT = 1,
    ATTRIBUTE_SYNC_MEMOPS = 6,
    ATTRIBUTE_BUFFER_ID = 7,
    ATTRIBUTE_IS_LEGACY_IPC_CAPABLE = 10,
    ATTRIBUTE_RANGE_START = 11,
    ATTRIBUTE_RANGE_SIZE = 12,
    ATTRIBUTE_MAPPING_SIZE = 18,
    ATTRIBUTE_MAPPING_BASE = 19
};

/*
 * cuMemGetAddressRange(base, size, address): the allocation that contains `address`, its size in
 * bytes as it was asked for. Either out argument may be NULL. cuda.h; checklist 17.
 */
berth_cu_result berth__hook_cuMemGetAddressRange_v2(berth_cu_address *base, size_t *size,
                                                    berth_cu_address address)
{
    struct berth_block_view view;
    berth_cu_result result;
    int r;

    NEED(cuMemGetAddressRange_v2);
    r = find_block(address, &view);
    if (r == -EFAULT)
        return berth__driver.cuMemGetAddressRange_v2(base, size, BERTH_NO_ADDRESS);
    result = berth__driver.cuMemGetAddressRange_v2(base, size, address);
    if (result != BERTH_CU_SUCCESS || r < 0)
        return result;
    if (base)
        *base = view.base;
    if (size)
        *size = view.requested;
    return result;
}

/*
 * A block in a range lies in a mapping for each of its GPU pages; what it was promised by
 * cuMemAlloc is one mapping that has all of it.
 */
static void correct_mapping(void *value, int attribute, const struct berth_block_view *view)
{
    berth_cu_address mask = view->page_size - 1, base = view->base & ~mask;
    size_t size = (size_t)(((view->base + view->held + mask) & ~mask) - base);

    if (attribute == ATTRIBUTE_MAPPING_BASE)
        memcpy(value, &base, sizeof(base));
    else
        memcpy(value, &size, sizeof(size));
}

/* Writes those attributes that differ between a block and its segment; cuda.h says their types. */
static void correct_attribute(void *value, int attribute, const struct berth_block_view *view)
{
    berth_cu_address address = view->base;
    size_t size = view->requested;
    unsigned long long id = view->id;
    unsigned sync_memops = view->is_sync_memops;

    switch (attribute) {
    case ATTRIBUTE_CONTEXT:
        /* GPU pages that were mapped have none; the block is its context's like any other. */
        if (view->page_size > 0)
            memcpy(value, &view->context, sizeof(view->context));
        break;
    case ATTRIBUTE_RANGE_START:
        memcpy(value, &address, sizeof(address));
        break;
    case ATTRIBUTE_RANGE_SIZE:
        memcpy(value, &size, sizeof(size));
        break;
    case ATTRIBUTE_BUFFER_ID:
        memcpy(value, &id, sizeof(id));
        break;
    case ATTRIBUTE_SYNC_MEMOPS:
        if (!view->is_stream_ordered)
            memcpy(value, &sync_memops, sizeof(sync_memops));
        break;
    case ATTRIBUTE_IS_LEGACY_IPC_CAPABLE:
        /* What cuIpcGetMemHandle below would refuse; the driver writes a bool. */
        if (!view->is_whole)
            memset(value, 0, sizeof(bool));
        break;
    case ATTRIBUTE_MAPPING_BASE:
    case ATTRIBUTE_MAPPING_SIZE:
        if (view->page_size > 0)
            correct_mapping(value, attribute, view);
        break;
    default:
        break;
    }
}

/*
 * cuPointerGetAttribute(value, attribute, address): start, size, buffer id (never used before),
 * synchronous copies and IPC capability are the block's; what tells of the mapping is the
 * segment's, as the driver says it. cuda.h; checklist 18.
 */
berth_cu_result berth__hook_cuPointerGetAttribute(void *value, int attribute,
                                                  berth_cu_address address)
{
    struct berth_block_view view;
    berth_cu_result result;
    int r;

    NEED(cuPointerGetAttribute);
    r = find_block(address, &view);
    result = berth__driver.cuPointerGetAttribute(value, attribute,
                                                 r == -EFAULT ? BERTH_NO_ADDRESS : address);
    if (r == 0 && attribute == ATTRIBUTE_CONTEXT && value && view.page_size > 0 &&
        result == BERTH_CU_INVALID_VALUE)
        result = BERTH_CU_SUCCESS;
    if (result == BERTH_CU_SUCCESS && r == 0)
        correct_attribute(value, attribute, &view);
    return result;
}

/*
 * cuPointerGetAttributes(count, attributes, values, address): the same for many. An address that is
 * no CUDA memory is no error; the driver then writes null values. cuda.h; checklist 18, 19.
 */
berth_cu_result berth__hook_cuPointerGetAttributes(unsigned count, int *attributes, void **values,
                                                   berth_cu_address address)
{
    struct berth_block_view view;
    berth_cu_result result;
    int r;

    NEED(cuPointerGetAttributes);
    r = find_block(address, &view);
    result = berth__driver.cuPointerGetAttributes(count, attributes, values,
                                                  r == -EFAULT ? BERTH_NO_ADDRESS : address);
    if (result != BERTH_CU_SUCCESS || r < 0)
        return result;
    for (unsigned i = 0; i < count; i++)
        if (values[i])
            correct_attribute(values[i], attributes[i], &view);
    return result;
}

/* Sets it where the block lies: in a range, each GPU page is an allocation of the driver's. */
static berth_cu_result set_attribute(const void *value, int attribute,
                                     const struct berth_block_view *view)
{
    berth_cu_address address = view->base, end = view->base + view->held;
    berth_cu_result result;

    do {
        result = berth__driver.cuPointerSetAttribute(value, attribute, address);
        address = view->page_size > 0 ? (address | (view->page_size - 1)) + 1 : end;
    } while (result == BERTH_CU_SUCCESS && address < end);
    return result;
}

/*
 * cuPointerSetAttribute(value, attribute, address): synchronous copies (an unsigned, 0 or 1) are a
 * property of the driver's allocation. Setting it for a block sets it for the segment, which makes
 * copies of the neighbours synchronous too: slower, never wrong. It is cleared there only when no
 * block wants it, and when the last one that does is freed. cuda.h; checklist 21.
 */
berth_cu_result berth__hook_cuPointerSetAttribute(const void *value, int attribute,
                                                  berth_cu_address address)
{
    struct berth_block_view view;
    berth_cu_result result = BERTH_CU_SUCCESS;
    unsigned wanted;
    int r;

    NEED(cuPointerSetAttribute);
    r = find_block(address, &view);
    if (r == -EFAULT)
        address = BERTH_NO_ADDRESS;
    if (r == 0 && view.is_stream_ordered) {
        berth__stream_set_last(view.base);
        r = -ENOENT;
    }
    if (r < 0 || !value || attribute != ATTRIBUTE_SYNC_MEMOPS)
        return berth__driver.cuPointerSetAttribute(value, attribute, address);
    memcpy(&wanted, value, sizeof(wanted));
    if (berth__pool_set_sync_memops(view.base, wanted != 0))
        result = set_attribute(value, attribute, &view);
    if (result != BERTH_CU_SUCCESS)
        berth__pool_set_sync_memops(view.base, view.is_sync_memops);
    return result;
}

/*
 * cuIpcGetMemHandle(handle, address): only for a block with a driver allocation of its own, because
 * a handle names the whole of it. Such a block goes back to the driver when it is freed, so that
 * no importer ever sees other bytes. A smaller block, or a borrowed one: CUDA_ERROR_INVALID_VALUE,
 * and one line that says what to do. cuda.h; checklist 22, 23, 26.
 */
berth_cu_result berth__hook_cuIpcGetMemHandle(struct berth_cu_ipc_handle *handle,
                                              berth_cu_address address)
{
    static atomic_int said, said_borrowed;
    struct berth_block_view view;
    berth_cu_result result;
    int r;

    NEED(cuIpcGetMemHandle);
    r = berth__pool_find((uintptr_t)address, &view);
    if (r == -EFAULT)
        address = BERTH_NO_ADDRESS;
    if (r == 0 && view.is_borrowed) {
        berth__log_once(&said_borrowed, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                        "an IPC handle of a block of tier %s was asked for and refused; the memory "
                        "is borrowed: expected the other process to borrow from the same segment",
                        berth__tier(view.tier)->name);
        return BERTH_CU_INVALID_VALUE;
    }
    if (r == 0 && !view.is_whole) {
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                        "an IPC handle of a block of %llu bytes was asked for and refused; %s",
                        (unsigned long long)view.requested,
                        view.requested < berth__option(BERTH_OPTION_IPC_MIN)
                            ? "blocks of at least the option ipc-min can be exported: "
                              "BERTH_OPTIONS=ipc-min=0"
                        : berth__pool_plan_size(view.context) > 0
                            ? "it may lie in the memory of the plan: only without BERTH_PLAN, and "
                              "with BERTH_OPTIONS=segments=own, has it one that can be exported"
                            : "it shares a segment: only with BERTH_OPTIONS=segments=own has it "
                              "one that can be exported");
        return BERTH_CU_INVALID_VALUE;
    }
    result = berth__driver.cuIpcGetMemHandle(handle, address);
    if (result == BERTH_CU_SUCCESS && r == 0)
        berth__pool_set_exported(view.base);
    return result;
}

/* Whether the range ends in the last of the host's pages that the block has bytes in. */
static bool ends_in_block(const struct berth_block_view *view, berth_cu_address address,
                          uint64_t size)
{
    uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;

    return size <= ((view->base + view->requested + mask) & ~mask) - address;
}

/*
 * cuMemGetHandleForAddressRange (a dma-buf, for devices of other makers): as above, and nothing
 * beyond the block. A range of a shared segment is given out as the driver does; when the block is
 * freed its bytes may serve the program again while the importer still has them, which a program
 * avoids by closing first.
 */
berth_cu_result berth__hook_cuMemGetHandleForAddressRange(void *handle, berth_cu_address address,
                                                          size_t size, int type, uint64_t flags)
{
    struct berth_block_view view;
    berth_cu_result result;
    int r;

    NEED(cuMemGetHandleForAddressRange);
    r = find_block(address, &view);
    if (r == -EFAULT || (r == 0 && !ends_in_block(&view, address, size)))
        address = BERTH_NO_ADDRESS;
    result = berth__driver.cuMemGetHandleForAddressRange(handle, address, size, type, flags);
    if (result == BERTH_CU_SUCCESS && r == 0 && view.is_stream_ordered)
        berth__stream_set_last(view.base);
    else if (result == BERTH_CU_SUCCESS && r == 0)
        berth__pool_set_exported(view.base);
    return result;
}
