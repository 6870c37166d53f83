/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processes that were killed, or became others by exec, left in the runtime directory: the
 * names of their sockets. `berth ps` removes all that it meets; each process that opens a socket
 * removes a few, so that a build of ten thousand compilers does not leave ten thousand names.
 */
#ifndef BERTH_IPC_LEFTOVERS_H
#define BERTH_IPC_LEFTOVERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether the process that made this name still runs; the name of one that is gone is removed. */
bool berth__leftovers_still_runs(const char *directory, const char *name, pid_t pid,
                                 uint64_t start);

/* Looks at up to `most` names of the directory, and removes those of dead processes. Allocates. */
void berth__leftovers_sweep(const char *directory, unsigned most);

#endif
