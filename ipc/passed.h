/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that clients send along (SCM_RIGHTS), and what may be read from them.
 *
 * Only a memory file that can neither shrink, grow nor be written any more is read: nothing else
 * can be relied on not to change, block or vanish under the reader.
 */
#ifndef BERTH_IPC_PASSED_H
#define BERTH_IPC_PASSED_H

#include "ipc/server.h"

/*
 * recvmsg: the bytes read, 0 at the end, or negative errno. A descriptor that came along is kept in
 * `passed`. If it holds one already, or several came, all are closed and `passed` turns BAD.
 */
ssize_t berth__passed_receive(int fd, void *buffer, size_t size, struct berth_passed *passed);

/* Maps what was passed: UNREAD becomes READ or BAD. */
void berth__passed_read(struct berth_passed *passed);

/* Gives it back: any state becomes NONE. */
void berth__passed_close(struct berth_passed *passed);

#endif
