/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that lives in namespaces of its own (a container): it has another number there, and its
 * socket lies in directories that it sees and we do not, but through /proc/PID/root.
 */
#ifndef BERTH_TOOLS_CONTAINER_H
#define BERTH_TOOLS_CONTAINER_H

#include "tools/berth/process.h"

/*
 * The socket of the process that has the number `pid` here. 0, or -ENOENT where it has none that
 * can be found; *ret is as berth__process_find() has it.
 */
int berth__container_find(pid_t pid, struct berth_process *ret);

#endif
