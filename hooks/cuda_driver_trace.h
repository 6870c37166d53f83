/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hook says to the trace. The one place is a hook's first line:
 *
 *     TRACED_ALLOC(DEVICE, cuMemAlloc_v2, address, size, 0, (address, size));
 *     TRACED_FREE(DEVICE, cuMemFree_v2, address, 0, (address));
 *
 * While nothing is traced that is a load and a branch. Else the hook is called once more from here,
 * with its arguments, and what it answers is recorded: an allocation after it was had, a free under
 * a number that was taken before.
 */
#ifndef BERTH_HOOKS_CUDA_DRIVER_TRACE_H
#define BERTH_HOOKS_CUDA_DRIVER_TRACE_H

#include "alloc/device.h"
#include "alloc/pool_walk.h"
#include "alloc/trace.h"

struct berth_hook_trace {
    struct berth_trace_call call;
    struct berth_trace_place place; /* of a free */
    int result;
};

/* The thread is in a hook that is traced already, and who has called that. */
struct berth_hook_traced {
    unsigned depth;
    const void *caller;
};
extern __thread struct berth_hook_traced berth__hook_traced
    __attribute__((tls_model("initial-exec")));

/* The program's own return address, also where the hook was called from here. */
static inline const void *berth__hook_caller(const void *return_address)
{
    return BERTH_UNLIKELY(berth__hook_traced.depth > 0) ? berth__hook_traced.caller
                                                        : return_address;
}

void berth__hook_trace_alloc_begin(struct berth_hook_trace *trace, const void *return_address);
void berth__hook_trace_alloc_end(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                 uintptr_t address, uint64_t size, uint64_t stream);
void berth__hook_trace_free_begin(struct berth_hook_trace *trace, enum berth_trace_kind kind,
                                  uintptr_t address, uint64_t stream);
void berth__hook_trace_free_end(struct berth_hook_trace *trace);

/* `address` is looked at after the call, and only when that succeeded. */
#define TRACED_ALLOC(kind, name, given_address, size, stream, arguments)                           \
    do {                                                                                           \
        if (berth__trace_on() && berth__hook_traced.depth == 0) {                                  \
            struct berth_hook_trace trace_;                                                        \
                                                                                                   \
            berth__hook_trace_alloc_begin(&trace_, __builtin_return_address(0));                   \
            trace_.result = berth__hook_##name arguments;                                          \
            berth__hook_trace_alloc_end(                                                           \
                &trace_, BERTH_TRACE_##kind,                                                       \
                trace_.result == BERTH_CU_SUCCESS ? (uintptr_t)(given_address) : 0,                \
                (uint64_t)(size), (uint64_t)(uintptr_t)(stream));                                  \
            return trace_.result;                                                                  \
        }                                                                                          \
    } while (0)

#define TRACED_FREE(kind, name, given_address, stream, arguments)                                  \
    do {                                                                                           \
        if (berth__trace_on() && berth__hook_traced.depth == 0) {                                  \
            struct berth_hook_trace trace_;                                                        \
                                                                                                   \
            berth__hook_trace_free_begin(&trace_, BERTH_TRACE_##kind, (uintptr_t)(given_address),  \
                                         (uint64_t)(uintptr_t)(stream));                           \
            trace_.result = berth__hook_##name arguments;                                          \
            berth__hook_trace_free_end(&trace_);                                                   \
            return trace_.result;                                                                  \
        }                                                                                          \
    } while (0)

#endif
