/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/handover.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* Room for the credentials that the kernel adds, and for more descriptors than were sent. */
union control_room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(4 * sizeof(int))];
};

int berth__handover_open(struct berth_handover *handover)
{
    const struct sockaddr_un unnamed = {.sun_family = AF_UNIX};
    const int on = 1;
    int r;

    handover->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (handover->socket < 0)
        return -errno;
    handover->address_size = sizeof(handover->address);
    /* An address without a name has the kernel choose a free one in the abstract namespace. */
    if (setsockopt(handover->socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
        bind(handover->socket, (const struct sockaddr *)&unnamed, sizeof(sa_family_t)) < 0 ||
        getsockname(handover->socket, (struct sockaddr *)&handover->address,
                    &handover->address_size) < 0) {
        r = -errno;
        berth__handover_close(handover);
        return r;
    }
    return 0;
}

void berth__handover_close(struct berth_handover *handover)
{
    if (handover->socket >= 0)
        close(handover->socket);
    handover->socket = -1;
}

int berth__handover_give(const struct berth_handover *handover, int fd)
{
    union control_room control = {0};
    char byte = 0;
    struct iovec vector = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_name = (void *)&handover->address,
                             .msg_namelen = handover->address_size,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int r = 0;

    if (from < 0)
        return -errno;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    if (sendmsg(from, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        r = -errno;
    close(from);
    return r;
}

/* What a message carried: the descriptor if this process sent exactly one, else -1. */
static int read_control(struct msghdr *message)
{
    int fd = -1;
    bool is_own = false;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        size_t size = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && size == sizeof(struct ucred)) {
            struct ucred sender;

            memcpy(&sender, CMSG_DATA(c), sizeof(sender));
            is_own = sender.pid == getpid();
        }
        if (c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < size / sizeof(int); i++) {
            if (fd >= 0)
                close(fd);
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        }
    }
    if (fd >= 0 && !is_own) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int berth__handover_take(const struct berth_handover *handover, int *ret_fd)
{
    /* Anybody may send to the address: what is not from this process is passed over. */
    for (;;) {
        union control_room control;
        char byte;
        struct iovec vector = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};
        int fd;

        if (recvmsg(handover->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN || errno == EWOULDBLOCK ? -ENOENT : -errno;
        }
        fd = read_control(&message);
        if (fd >= 0) {
            *ret_fd = fd;
            return 0;
        }
    }
}
