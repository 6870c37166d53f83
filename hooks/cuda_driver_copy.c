/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies from host memory: the driver's own in all, with the program's arguments. What they fill is
 * told to the classifier, when that is on; else they are a jump. Copies that are captured do
 * nothing yet and tell nothing; those of arrays, rectangles, batches and between contexts are not
 * looked at. The names without a version are of CUDA 2, with 32-bit addresses.
 */
#include "alloc/pool.h"
#include "alloc/pool_class.h"
#include "hooks/cuda_driver_export.h"

EXPORT(cuMemcpyHtoD_v2);
EXPORT(cuMemcpyHtoD_v2_ptds);
EXPORT(cuMemcpyHtoDAsync_v2);
EXPORT(cuMemcpyHtoDAsync_v2_ptsz);
EXPORT(cuMemcpy);
EXPORT(cuMemcpy_ptds);
EXPORT(cuMemcpyAsync);
EXPORT(cuMemcpyAsync_ptsz);

enum { ATTRIBUTE_MEMORY_TYPE = 2, MEMORY_TYPE_DEVICE = 2 };

static berth_cu_result note(berth_cu_result result, berth_cu_address to, size_t size)
{
    if (result == BERTH_CU_SUCCESS && !berth__device_capturing())
        berth__pool_class_filled((uintptr_t)to, size);
    return result;
}

/* The driver fails for an address that it does not know: ordinary host memory. */
static bool is_device(berth_cu_address address)
{
    struct berth_block_view view;
    unsigned type = 0;

    if (berth__pool_find((uintptr_t)address, &view) == 0)
        return true;
    return berth__driver.cuPointerGetAttribute &&
           berth__driver.cuPointerGetAttribute(&type, ATTRIBUTE_MEMORY_TYPE, address) ==
               BERTH_CU_SUCCESS &&
           type == MEMORY_TYPE_DEVICE;
}

/* Where the addresses alone say between what is copied. */
static berth_cu_result note_unless_device(berth_cu_result result, berth_cu_address to,
                                          berth_cu_address from, size_t size)
{
    if (result == BERTH_CU_SUCCESS && berth__pool_class_has((uintptr_t)to) && !is_device(from))
        note(result, to, size);
    return result;
}

/* cuMemcpyHtoD, and with the stream of each thread in place of the legacy one. */
berth_cu_result berth__hook_cuMemcpyHtoD_v2(berth_cu_address to, const void *from, size_t size)
{
    NEED(cuMemcpyHtoD_v2);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyHtoD_v2(to, from, size);
    return note(berth__driver.cuMemcpyHtoD_v2(to, from, size), to, size);
}

berth_cu_result berth__hook_cuMemcpyHtoD_v2_ptds(berth_cu_address to, const void *from, size_t size)
{
    NEED(cuMemcpyHtoD_v2_ptds);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyHtoD_v2_ptds(to, from, size);
    return note(berth__driver.cuMemcpyHtoD_v2_ptds(to, from, size), to, size);
}

/* cuMemcpyHtoDAsync: the bytes are on their way when it returns. */
berth_cu_result berth__hook_cuMemcpyHtoDAsync_v2(berth_cu_address to, const void *from, size_t size,
                                                 berth_cu_stream stream)
{
    NEED(cuMemcpyHtoDAsync_v2);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyHtoDAsync_v2(to, from, size, stream);
    return note(berth__driver.cuMemcpyHtoDAsync_v2(to, from, size, stream), to, size);
}

berth_cu_result berth__hook_cuMemcpyHtoDAsync_v2_ptsz(berth_cu_address to, const void *from,
                                                      size_t size, berth_cu_stream stream)
{
    NEED(cuMemcpyHtoDAsync_v2_ptsz);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyHtoDAsync_v2_ptsz(to, from, size, stream);
    return note(berth__driver.cuMemcpyHtoDAsync_v2_ptsz(to, from, size, stream), to, size);
}

/* cuMemcpy: between any two unified addresses. */
berth_cu_result berth__hook_cuMemcpy(berth_cu_address to, berth_cu_address from, size_t size)
{
    NEED(cuMemcpy);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpy(to, from, size);
    return note_unless_device(berth__driver.cuMemcpy(to, from, size), to, from, size);
}

berth_cu_result berth__hook_cuMemcpy_ptds(berth_cu_address to, berth_cu_address from, size_t size)
{
    NEED(cuMemcpy_ptds);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpy_ptds(to, from, size);
    return note_unless_device(berth__driver.cuMemcpy_ptds(to, from, size), to, from, size);
}

/* cuMemcpyAsync: the same in the order of a stream. */
berth_cu_result berth__hook_cuMemcpyAsync(berth_cu_address to, berth_cu_address from, size_t size,
                                          berth_cu_stream stream)
{
    NEED(cuMemcpyAsync);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyAsync(to, from, size, stream);
    return note_unless_device(berth__driver.cuMemcpyAsync(to, from, size, stream), to, from, size);
}

berth_cu_result berth__hook_cuMemcpyAsync_ptsz(berth_cu_address to, berth_cu_address from,
                                               size_t size, berth_cu_stream stream)
{
    NEED(cuMemcpyAsync_ptsz);
    if (BERTH_LIKELY(!berth__pool_class_on))
        return berth__driver.cuMemcpyAsync_ptsz(to, from, size, stream);
    return note_unless_device(berth__driver.cuMemcpyAsync_ptsz(to, from, size, stream), to, from,
                              size);
}
