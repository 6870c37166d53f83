/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor's way from the control thread, which shares the program's table of descriptors, to
 * the socket thread, which has one of its own (Note [Two threads] in control.c).
 *
 * The receiver is a datagram socket that the socket thread makes for one answer. The control thread
 * sends the descriptor there from a socket that lives for one call, so that nothing of Berth's
 * stays where the program could close, inherit or count it.
 */
#ifndef BERTH_IPC_HANDOVER_H
#define BERTH_IPC_HANDOVER_H

#include <sys/socket.h>
#include <sys/un.h>

struct berth_handover {
    int socket; /* in the socket thread's table */
    struct sockaddr_un address;
    socklen_t address_size;
};

/* Socket thread: makes a receiver; gives it up. 0 or negative errno. */
int berth__handover_open(struct berth_handover *handover);
void berth__handover_close(struct berth_handover *handover);

/* Control thread: sends a copy of `fd`, which stays the caller's. 0 or negative errno. */
int berth__handover_give(const struct berth_handover *handover, int fd);

/* Socket thread: takes what this very process has sent. -ENOENT: it has sent nothing. */
int berth__handover_take(const struct berth_handover *handover, int *ret_fd);

#endif
