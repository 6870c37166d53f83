/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of the socket: one connection, one request at a time, with deadlines.
 *
 * Frames are text here; what is in them is the caller's business.
 */
#ifndef BERTH_IPC_CLIENT_H
#define BERTH_IPC_CLIENT_H

#include "ipc/wire.h"

struct berth_client {
    int fd;
    struct berth_wire in;
    int received; /* a descriptor that came with what was read last; -1 = none */
};

/*
 * Connects and reads the greeting: *ret_hello, NUL-terminated, to be freed. 0, or negative errno:
 * -ECONNREFUSED when nobody listens there any more, -ETIMEDOUT when nobody answers in time,
 * -EPROTO when what answers does not speak in frames.
 */
int berth__client_connect(struct berth_client *client, const char *directory, const char *name,
                          int timeout_ms, char **ret_hello);
void berth__client_close(struct berth_client *client);

/*
 * Sends a frame (without its newline; a descriptor goes along unless `fd` is -1) and reads the next
 * one: *ret_reply, NUL-terminated, to be freed. Errors as above, and -EPIPE when the peer has
 * ended. After an error the connection is of no more use.
 */
int berth__client_request(struct berth_client *client, const char *frame, int fd, int timeout_ms,
                          char **ret_reply);

/*
 * The same for an answer with which a descriptor may come: *ret_fd, closed at exec, the caller's;
 * -1 when none came. -EPROTO when several did.
 */
int berth__client_request_descriptor(struct berth_client *client, const char *frame, int timeout_ms,
                                     char **ret_reply, int *ret_fd);

#endif
