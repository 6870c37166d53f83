/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The current context of each thread, remembered, so that the driver need not be asked for it at
 * every allocation.
 *
 * The hooks say when a thread's context changes: those that switch it, for their thread; those that
 * end a context, for all threads. What is remembered is compared with the driver's answer whenever
 * a request leaves the fast path, and now and then on it. If they ever differ, a switch came by a
 * way that no hook sees: that is said once, and from then on the driver is asked each time.
 */
#ifndef BERTH_ALLOC_DEVICE_CONTEXT_H
#define BERTH_ALLOC_DEVICE_CONTEXT_H

#include "alloc/device.h"

/* Only the thread itself reads or writes it. */
struct berth_context_memory {
    berth_cu_context context;
    uint64_t generation; /* berth__context_generation when it was asked; 0: nothing is remembered */
    uint32_t uses_left;  /* before the driver is asked again in any case */
    bool is_watched;     /* the thread's end will be told; see berth__context_watch() */
    bool is_ending;
};

extern __thread struct berth_context_memory berth__context_memory
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Never 0. Another number means that everything remembered is void. */
extern _Atomic uint64_t berth__context_generation;

/*
 * Asks the driver, compares, and remembers. *ret_seen (may be NULL) says whether the answer is what
 * was remembered, or nothing was. Errors are the driver's; *ret is NULL for a thread without one.
 */
int berth__context_ask(berth_cu_context *ret, bool *ret_seen);

/* The calling thread's context, NULL when it has none. */
static inline int berth__context_current(berth_cu_context *ret)
{
    struct berth_context_memory *memory = &berth__context_memory;

    if (BERTH_UNLIKELY(memory->generation !=
                           atomic_load_explicit(&berth__context_generation, memory_order_acquire) ||
                       memory->uses_left == 0))
        return berth__context_ask(ret, NULL);
    memory->uses_left--;
    *ret = memory->context;
    return 0;
}

/* The calling thread's context, or that of any thread, may have changed. */
static inline void berth__context_changed(void)
{
    berth__context_memory.generation = 0;
}
void berth__context_changed_for_all(void);

/*
 * A thread's end takes its context from it, in a destructor of the driver's that no hook sees, and
 * destructors of the program's may allocate and free after that one: nothing is remembered for a
 * thread from then on. Destructors run in the order in which their keys were made, so this is to be
 * called before the driver is loaded.
 */
void berth__context_watch(void);

/*
 * From now on the driver is asked each time. At exit: the driver may have ended, and then its
 * answer is that (checklist 37).
 */
void berth__context_track_no_more(void);

/*
 * Whether the calling thread's context is a green one. Its memory is the primary context's, whose
 * work a free waits for, and outlives it; so the driver serves it (cuda.h, cuStreamGetCtx_v2 and
 * cuStreamGetGreenCtx).
 */
bool berth__context_is_green(void);

/* Whether contexts are remembered; for tests, which may also begin anew. */
bool berth__context_is_tracked(void);
void berth__context_track_again(void);

#endif
