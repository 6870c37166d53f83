/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread that waits in epoll with descriptors of its own (descriptors.h) is called by: a
 * signal to that thread alone, which it keeps blocked and reads from a descriptor. Whoever rings
 * needs no descriptor, so that a program that has none left, has changed its root, its namespaces
 * or its rights can ring. No handler is installed or called: a blocked signal that is sent to one
 * thread waits for that thread, whatever the program does about it elsewhere.
 */
#ifndef BERTH_IPC_DOORBELL_H
#define BERTH_IPC_DOORBELL_H

#include <stdatomic.h>
#include <sys/types.h>

struct berth_doorbell {
    int fd;               /* the waiting thread's alone; -1 where none can be had */
    _Atomic pid_t thread; /* 0 where there is no bell, or no more */
};

/* The waiting thread, which has all signals blocked. 0 or negative errno. */
int berth__doorbell_open(struct berth_doorbell *bell);
void berth__doorbell_close(struct berth_doorbell *bell);
/* The waiting thread: the descriptor is not readable any more, until somebody rings again. */
void berth__doorbell_hear(const struct berth_doorbell *bell);
/* Any thread of the process. 0 or negative errno; -ENOENT where there is no bell. */
int berth__doorbell_ring(const struct berth_doorbell *bell);

#endif
