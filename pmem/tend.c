/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tend.h"

#include "alloc/birth.h"
#include "alloc/thread.h"
#include "alloc/types.h"
#include "pmem/arena.h"
#include "pmem/fork.h"
#include "pmem/jemalloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

/* To look costs little here, and less is given back at once the more often. */
#define LOOK_EVERY_NS ((uint64_t)300 * 1000 * 1000)

/* When it is time again; later than any time: there is nothing to look after, a thread is at it. */
#define DUE_NEVER UINT64_MAX
#define DUE_BUSY (UINT64_MAX - 1)
static _Atomic uint64_t due = DUE_NEVER;

/* jemalloc's own handler of the event, and what it calls instead. */
BERTH_HIDDEN void berth_je_tcache_gc_event_handler(void *thread, uint64_t elapsed)
    __attribute__((weak));
BERTH_HIDDEN void berth_je_gc_event(void *thread, uint64_t elapsed);

void berth__tend_begin(void)
{
    uint64_t never = DUE_NEVER;

    atomic_compare_exchange_strong(&due, &never, berth__birth_now());
}

void berth__tend_in_child(void)
{
    uint64_t busy = DUE_BUSY;

    atomic_compare_exchange_strong(&due, &busy, berth__birth_now());
}

static __attribute__((noinline)) void tend(uint64_t was_due)
{
    int saved_errno = errno;
    uint64_t now = berth__birth_now();

    /* A child that Berth was not told of may soon call exec: its tiers are copied if it needs them.
     */
    if (now < was_due || berth__thread.inside || berth__fork_is_unmet() ||
        !atomic_compare_exchange_strong(&due, &was_due, DUE_BUSY))
        return;
    berth__thread.inside++;
    berth__arena_decay();
    atomic_store_explicit(&due, now + LOOK_EVERY_NS, memory_order_relaxed);
    berth__thread.inside--;
    errno = saved_errno;
}

/* Called by jemalloc where it holds no lock, after the block was found and before it is returned.
 */
void berth_je_gc_event(void *thread, uint64_t elapsed)
{
    uint64_t now_due = atomic_load_explicit(&due, memory_order_relaxed);

    berth_je_tcache_gc_event_handler(thread, elapsed);
    if (now_due < DUE_BUSY)
        tend(now_due);
}
