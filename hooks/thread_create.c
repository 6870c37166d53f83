/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread_create(): a thread's stack counts against the process's limits (RLIMIT_AS, RLIMIT_DATA)
 * as what is kept for reuse does, which the C library's heap would have given back by then.
 */
#include "alloc/thread.h"
#include "alloc/types.h"
#include "pmem/relief.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

typedef __typeof__(pthread_create) *create_fn;

/* Any library's constructor may be the first to call. */
static create_fn find_next(void)
{
    static _Atomic(create_fn) next;
    create_fn found = atomic_load_explicit(&next, memory_order_relaxed);

    if (BERTH_UNLIKELY(!found)) {
        *(void **)&found = dlsym(RTLD_NEXT, "pthread_create");
        atomic_store_explicit(&next, found, memory_order_relaxed);
    }
    return found;
}

/* Whether there may be room for a stack now. Not for Berth's own threads, which it can do without.
 */
static __attribute__((noinline, cold)) bool make_room(void)
{
    bool r = berth__thread.inside++ == 0 && berth__relief_try(0);

    berth__thread.inside--;
    return r;
}

BERTH_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                void *(*run)(void *), void *argument)
{
    create_fn next = find_next();
    int r = next ? next(thread, attributes, run, argument) : EAGAIN;

    if (BERTH_UNLIKELY(r == EAGAIN) && next && make_room())
        r = next(thread, attributes, run, argument);
    return r;
}
