/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capturing the call path of the current allocation.
 *
 * libunwind is loaded by an explicit handle (RTLD_LOCAL), never by NEEDED, so that its _Unwind_*
 * cannot replace the program's. Until it is loaded, or where it cannot be, a site is the hook's
 * return address alone.
 */
#ifndef BERTH_HOOKS_CALLSITE_H
#define BERTH_HOOKS_CALLSITE_H

#include "alloc/site.h"

#include <stdbool.h>

/*
 * Loads and warms the unwinder. Called by bootstrap or the control thread when a table with path
 * patterns is about to be installed: never inside an allocation. 0, or -ENOENT or -ENOMEM with one
 * sentence in `why`; sites are then return addresses.
 */
int berth__callsite_load(char *why, size_t why_size);

/*
 * The site of the call that returns to `return_address`, its frames from that one outwards; Berth's
 * own frames are left out. No lock is held and nothing is allocated. 0 when it cannot be had. The
 * return address alone in a child that cannot trace (alloc/module_walk.h), and before the unwinder
 * is loaded. The caller has raised berth__thread.inside: what a thread needs to know of its stack,
 * and libunwind's data, may be allocated by the C library.
 *
 * The path is read from the stack each time, by rules that are kept (hooks/frame_walk.h): some 2 ns
 * a frame. A cache of paths by return address and stack depth would be no faster by much, and
 * wrong: two paths of equal depth through one wrapper cannot be told apart by these, and a frame
 * that grows while it runs moves what lies below it. libunwind, which costs 8 ns a frame and 0.1 to
 * 0.3 ms in each thread that uses it first, has what is left: frames without tables, frames of
 * signals and of realigned stacks, other stacks than the thread's own.
 */
berth_site_id berth__callsite_capture(const void *return_address);

/*
 * The same for a small block, which a short-lived thread may ask for: what libunwind sets up in
 * each thread is not for a thread's first. The path is the return address alone then, where the
 * frame rules do not lead to its end.
 */
berth_site_id berth__callsite_capture_sample(const void *return_address);

/* Whether this thread's stack is known: a first capture asks the C library, which locks. */
bool berth__callsite_knows_stack(void);

#endif
