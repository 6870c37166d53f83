/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread of a process under Berth: its socket, and the answers to its clients.
 *
 * It starts at the first of: cuInit succeeded, a block was placed by a rule, option
 * control=always; never before main, never under a lock of Berth's; all its signals are blocked.
 * A forked child has none until the same rule starts its own.
 */
#ifndef BERTH_IPC_CONTROL_H
#define BERTH_IPC_CONTROL_H

#include "alloc/types.h"

#include <stdbool.h>

/*
 * Starts the thread unless it runs or the option control=never. Cheap after the first call. 0, or
 * negative errno after one line on stderr; it is then not tried again in this process.
 */
int berth__control_start(void);

/*
 * Has the control thread look again at what it does unasked (shared_tier.h). Takes no lock for
 * longer than it takes to say so. False: there is no such thread, and none is starting.
 */
bool berth__control_wake(void);

/*
 * Ends the control thread and its socket, for a call that the kernel refuses to a process of
 * several threads, or that the C library makes in each of them and aborts where the answers differ.
 * They start again at the next occasion; berth__control_start() is one. Waits for them, 3 seconds
 * at most. False: there was nothing to end, or it did not.
 */
bool berth__control_pause(void);

/*
 * For a child that was forked without the C library's handlers, beside other threads: it has the
 * locks by which the C library makes threads as those had them, perhaps for ever. Nothing starts in
 * this process any more. Any signal's handler, too.
 */
void berth__control_stay_off(void);

/* $XDG_RUNTIME_DIR as it was before main, or "". */
const char *berth__control_runtime_directory(void);

/* Says that main has begun: a start that was asked for earlier happens now. */
void berth__control_main_begun(void);

/*
 * What the hooks call when a block was placed or cuInit succeeded: set by libberth.so's bootstrap
 * to berth__control_start, NULL when only the malloc side is loaded.
 */
extern BERTH_SHARED int (*berth__control_wanted)(void);

/*
 * What the hooks call before the program limits its system calls: to berth__control_pause, set and
 * NULL as above.
 */
extern BERTH_SHARED bool (*berth__control_unwanted)(void);

/* What the hooks call in such a child: to berth__control_stay_off, set and NULL as above. */
extern BERTH_SHARED void (*berth__control_impossible)(void);

/*
 * Loads the unwinder (hooks/callsite.h); called before a table that names call paths is installed.
 * Set by bootstrap; NULL: call paths are return addresses alone. Control thread only.
 */
extern int (*berth__control_load_callsite)(char *why, size_t why_size);

/*
 * Looks at what of the program goes past the hooks (hooks/binding.h), before that is asked for.
 * Set by bootstrap. Control thread only.
 */
extern void (*berth__control_look)(void);

#endif
