/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/cuda_driver_trace.h"

#include "alloc/thread.h"
#include "hooks/callsite.h"

#include <string.h>

__thread struct berth_hook_traced berth__hook_traced;

void berth__hook_trace_alloc_begin(struct berth_hook_trace *trace, const void *return_address)
{
    memset(trace, 0, sizeof(*trace));
    if (berth__trace_wants_paths()) {
        berth__thread.inside++;
        trace->call.site = berth__callsite_capture(return_address);
        berth__thread.inside--;
    }
    berth__hook_traced.caller = return_address;
    berth__hook_traced.depth++;
}

static bool is_ordered(enum berth_trace_kind kind)
{
    return kind == BERTH_TRACE_ASYNC || kind == BERTH_TRACE_FROM_POOL;
}

/* What the account knows of the block; else what the call itself told. */
static void describe(struct berth_trace_call *call, uint64_t size)
{
    struct berth_block_row row;
    int device = -1;

    call->requested = size;
    call->held = size;
    if (berth__pool_row(call->address, &row, &device) == 0) {
        call->requested = row.requested;
        call->held = row.size;
        call->tag = (enum berth_tag)row.tag;
        if (row.site != 0)
            call->site = row.site;
        else if (call->site != 0)
            berth__pool_set_site(call->address, call->site);
    }
    if (device < 0)
        berth__device_of_current(&device);
    call->device = device < 0 ? 0 : device;
}

/* What the device has left: of interest where an allocation was refused. */
static uint64_t free_bytes(void)
{
    size_t free_size = 0, total_size = 0;

    if (!berth__driver.cuMemGetInfo_v2 ||
        berth__driver.cuMemGetInfo_v2(&free_size, &total_size) != BERTH_CU_SUCCESS)
        return 0;
    return free_size;
}

void berth__hook_trace_alloc_end(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                 uintptr_t address, uint64_t size, uint64_t stream)
{
    struct berth_trace_call *call = &trace->call;

    berth__hook_traced.depth--;
    call->kind = kind;
    call->address = address;
    call->stream = stream;
    call->action = trace->result == BERTH_CU_SUCCESS ? BERTH_TRACE_ALLOCATE : BERTH_TRACE_FAILURE;
    describe(call, size);
    if (call->action == BERTH_TRACE_FAILURE)
        call->held = free_bytes();
    /* What a stream-ordered call gives in a capture is the graph's, and comes when that runs. */
    if (is_ordered(kind) && berth__device_capturing())
        return;
    berth__trace_record(call);
}

void berth__hook_trace_free_begin(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                  uintptr_t address, uint64_t stream)
{
    memset(trace, 0, sizeof(*trace));
    trace->call.kind = kind;
    trace->call.address = address;
    trace->call.stream = stream;
    describe(&trace->call, 0);
    trace->call.site = 0;
    berth__trace_take(&trace->place);
    berth__hook_traced.depth++;
}

void berth__hook_trace_free_end(struct berth_hook_trace *trace)
{
    berth__hook_traced.depth--;
    trace->call.action = trace->result == BERTH_CU_SUCCESS && trace->call.address != 0 &&
                                 !(is_ordered(trace->call.kind) && berth__device_capturing())
                             ? BERTH_TRACE_FREE
                             : BERTH_TRACE_NOTHING;
    berth__trace_write(&trace->place, &trace->call);
}
