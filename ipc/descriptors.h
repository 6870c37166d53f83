/* SPDX-License-Identifier: Apache-2.0 */
/* A thread's own table of open descriptors, apart from that of the program around it. */
#ifndef BERTH_IPC_DESCRIPTORS_H
#define BERTH_IPC_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * The calling thread leaves the process's table of descriptors for one of its own, in which 0, 1
 * and 2 take no bytes and nothing else is open. 0, or negative errno with one sentence in `why`;
 * the thread must then open nothing.
 */
int berth__descriptors_leave(char *why, size_t why_size);

/*
 * Whether process `pid`'s first thread has ended and `own_threads` threads beside it are all that
 * is left.
 */
bool berth__descriptors_program_ended(pid_t pid, int own_threads);

#endif
