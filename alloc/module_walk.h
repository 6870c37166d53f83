/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks over the loader's list of modules, kept out of the way of fork().
 *
 * dl_iterate_phdr() holds a lock of the loader's that glibc does not reset in a forked child: when
 * another thread has it at the moment of the fork, the child hangs in its next walk or dlopen().
 * A program that never walks the list must not hang because Berth does. So whoever walks it for
 * Berth, which the unwinder may do at any trace, says so, and a fork waits for them; and a child in
 * which the lock is held nevertheless, by a dlopen() of the program's own, walks no more.
 *
 * Neither side waits for longer than BERTH_MODULE_WALK_WAIT_MS: going on is then the smaller harm.
 */
#ifndef BERTH_ALLOC_MODULE_WALK_H
#define BERTH_ALLOC_MODULE_WALK_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

#define BERTH_MODULE_WALK_WAIT_MS 200

/* False in a child that must not walk; otherwise berth__module_walk_end() is to follow. */
bool berth__module_walk_begin(void);
void berth__module_walk_end(void);

/*
 * Another number each time that something was opened or closed, in any namespace. Not the sum of
 * the two: glibc has dlpi_subs fall where dlmopen() adds more than one library to a namespace.
 */
static inline uint64_t berth__module_list_state(const struct dl_phdr_info *info)
{
    return (uint64_t)info->dlpi_adds << 32 | (uint32_t)info->dlpi_subs;
}

/*
 * Has fork() wait for walks, once per process; before threads exist, or on the
 * control thread. The earlier it is done the better: the program's own handlers, which may take
 * locks that a walking thread holds, then run before the fork waits. 0 or -ENOMEM.
 */
int berth__module_walk_watch_fork(void);

#endif
