/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread that waits in epoll with descriptors of its own (descriptors.h) is called by: a
 * signal to that thread alone, which it keeps blocked and has a descriptor tell of. Whoever rings
 * needs no descriptor, so that a program that has none left, has changed its root, its namespaces
 * or its rights can ring. No handler is installed or called: a blocked signal that is sent to one
 * thread waits for that thread, whatever the program does about it elsewhere.
 *
 * The descriptor is never read: that would take the program's own signals of this number, too,
 * those that are sent to the whole process and wait for a thread of the program's. So the bell
 * rings once for good, and is waited for by its edge; other signals may wake the thread in vain.
 */
#ifndef BERTH_IPC_DOORBELL_H
#define BERTH_IPC_DOORBELL_H

#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/types.h>

/* What the waiting thread's epoll asks for. */
#define BERTH_DOORBELL_EVENTS (EPOLLIN | EPOLLET)

struct berth_doorbell {
    int fd;               /* the waiting thread's alone; -1 where none can be had */
    _Atomic pid_t thread; /* 0 where there is no bell, or no more */
};

/* The waiting thread, which has all signals blocked. 0 or negative errno. */
int berth__doorbell_open(struct berth_doorbell *bell);
void berth__doorbell_close(struct berth_doorbell *bell);
/* Any thread of the process, again and again if in doubt. 0 or negative errno; -ENOENT where there
 * is no bell. */
int berth__doorbell_ring(const struct berth_doorbell *bell);

#endif
