/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's calls that wait for all work of a context or a stream. Berth adds nothing to them,
 * but learns what of stream-ordered memory is done: the driver gives it to the device then
 * (cuda.h, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD). Arguments and errors are the driver's. Any thread.
 */
#include "alloc/device_context.h"
#include "alloc/order.h"
#include "alloc/pool_stream.h"
#include "hooks/cuda_driver_export.h"

EXPORT(cuCtxSynchronize);
EXPORT(cuCtxSynchronize_v2);
EXPORT(cuStreamSynchronize);
EXPORT(cuStreamSynchronize_ptsz);

/*
 * After a wait for a context, or, where that is NULL, for the calling thread's. A green one is a
 * part of the device: what it waits for is not what memory of the primary one's streams was used
 * by.
 */
static berth_cu_result waited_for(berth_cu_result result, uint64_t begin, berth_cu_context context)
{
    if (begin == 0 || result != BERTH_CU_SUCCESS)
        return result;
    if (!context && (berth__context_current(&context) < 0 || !context))
        return result;
    if (berth__order_is_plain(context))
        berth__stream_wait_end(begin, context, NULL);
    return result;
}

berth_cu_result berth__hook_cuCtxSynchronize(void)
{
    uint64_t begin;

    NEED(cuCtxSynchronize);
    begin = berth__stream_wait_begin();
    return waited_for(berth__driver.cuCtxSynchronize(), begin, NULL);
}

/* cuCtxSynchronize, by its name of CUDA 13: of any context, where NULL is the current one. */
berth_cu_result berth__hook_cuCtxSynchronize_v2(berth_cu_context context)
{
    uint64_t begin;

    NEED(cuCtxSynchronize_v2);
    begin = berth__stream_wait_begin();
    return waited_for(berth__driver.cuCtxSynchronize_v2(context), begin, context);
}

static berth_cu_result synchronise(berth_cu_result (*function)(berth_cu_stream stream),
                                   berth_cu_stream stream, berth_cu_stream of_zero)
{
    uint64_t begin = berth__stream_wait_begin();
    berth_cu_result result = function(stream);

    if (result == BERTH_CU_SUCCESS)
        berth__stream_wait_end(begin, NULL, stream ? stream : of_zero);
    return result;
}

/* cuStreamSynchronize(stream), and the same for programs whose default stream is per thread. */
berth_cu_result berth__hook_cuStreamSynchronize(berth_cu_stream stream)
{
    NEED(cuStreamSynchronize);
    return synchronise(berth__driver.cuStreamSynchronize, stream, BERTH_STREAM_LEGACY);
}

berth_cu_result berth__hook_cuStreamSynchronize_ptsz(berth_cu_stream stream)
{
    NEED(cuStreamSynchronize_ptsz);
    return synchronise(berth__driver.cuStreamSynchronize_ptsz, stream, BERTH_STREAM_PER_THREAD);
}
