/* SPDX-License-Identifier: Apache-2.0 */
/* What wrappers need of other files, none of which plays a part in the tests of one file's. */
#include "alloc/pool_foreign.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_trace.h"
#include "hooks/real.h"

__thread struct berth_hook_traced berth__hook_traced __attribute__((tls_model("initial-exec")));
atomic_bool berth__real_is_bound = true;

bool berth__real_bind(void)
{
    return true;
}

berth_cu_result berth__room_refused(void)
{
    return BERTH_CU_OUT_OF_MEMORY;
}

bool berth__room_reserve(struct berth_foreign *ret, berth_tier_id tier, uint64_t size,
                         const void *return_address)
{
    *ret = (struct berth_foreign){.size = size, .tier = tier, .tag = BERTH_TAG_WEIGHT};
    return berth__foreign_reserve(ret) == 0;
}

bool berth__room_was_made(berth_cu_result result)
{
    return false;
}

void berth__hook_trace_alloc_begin(struct berth_hook_trace *trace, const void *return_address)
{
}

void berth__hook_trace_alloc_end(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                 uintptr_t address, uint64_t size, uint64_t stream)
{
}

void berth__hook_trace_free_begin(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                  uintptr_t address, uint64_t stream)
{
}

void berth__hook_trace_free_end(struct berth_hook_trace *trace)
{
}
