/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/relief.h"

#include "alloc/sandbox.h"
#include "pmem/arena.h"
#include "pmem/arena_control.h"
#include "pmem/jemalloc.h"
#include "pmem/overcommit.h"
#include "pmem/owed.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdint.h>

/*
 * What is owed to the movable home goes back as well. It is made writable before, for which there
 * may be room only when the rest is gone (vm.overcommit_memory = 2), and not for all of it at once.
 */
static void trim_arenas(void)
{
    uint64_t owed = UINT64_MAX;

    berth__arena_trim();
    while (berth__owed_bytes() != 0 && berth__owed_bytes() < owed) {
        owed = berth__owed_bytes();
        berth__owed_settle();
        berth__arena_trim();
    }
}

void berth__relief_trim(void)
{
    int saved_errno = errno;

    berth_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    trim_arenas();
    berth__arena_control_purge_own();
    errno = saved_errno;
}

bool berth__relief_try(size_t size)
{
    bool may_ask = !berth__sandbox_is_on();

    /* Others may set limits, too (prlimit(1) on a running process). */
    if (may_ask)
        berth__overcommit_see_limits();
    if (size > berth__overcommit_least_limit() || berth__overcommit_least_limit() == SIZE_MAX)
        return false;
    if (may_ask)
        berth__window_shed(size);
    berth__relief_trim();
    berth__overcommit_reserve();
    return true;
}
