/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread that waits in epoll with descriptors of its own (descriptors.h) is called by: an
 * abstract socket, which has no name in a file system, so that a program that has changed its root
 * or its rights can still ring. Whoever else rings wakes the thread for nothing.
 */
#ifndef BERTH_IPC_DOORBELL_H
#define BERTH_IPC_DOORBELL_H

#include <sys/socket.h>
#include <sys/un.h>

struct berth_doorbell {
    int fd; /* the waiting thread's */
    struct sockaddr_un address;
    socklen_t length; /* of the address */
};

/* 0 or negative errno. */
int berth__doorbell_open(struct berth_doorbell *bell);
void berth__doorbell_close(struct berth_doorbell *bell);
/* The waiting thread: the descriptor is not readable any more, until somebody rings again. */
void berth__doorbell_hear(const struct berth_doorbell *bell);
/* Any thread of the process. Takes a descriptor for a moment. 0 or negative errno. */
int berth__doorbell_ring(const struct berth_doorbell *bell);

#endif
