/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/client.h"

#include "alloc/clock.h"
#include "alloc/file_call.h"
#include "ipc/address.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Waits for `events` until `deadline`. 0, -ETIMEDOUT or other negative errno. */
static int wait_for(const struct berth_client *client, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd entry = {.fd = client->fd, .events = events};
        int64_t left = deadline - berth__clock_ms();
        int r = poll(&entry, 1, left > 0 ? (int)left : 0);

        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r == 0 && left <= 0)
            return -ETIMEDOUT;
    }
}

/* recv() that keeps one descriptor; several are a mistake of the peer's. */
static ssize_t receive(struct berth_client *client, void *buffer, size_t size)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    unsigned extra = 0;

    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (client->received < 0)
                client->received = fd;
            else if (++extra)
                close(fd);
        }
    }
    if (extra > 0 || (message.msg_flags & MSG_CTRUNC)) {
        errno = EPROTO;
        return -1;
    }
    return n;
}

/* A copy of the next frame. */
static int read_frame(struct berth_client *client, int64_t deadline, char **ret_frame)
{
    char buffer[16384];
    const char *frame;
    size_t length;
    int r;

    while ((r = berth__wire_next(&client->in, &frame, &length)) == 0) {
        ssize_t n;

        r = wait_for(client, POLLIN, deadline);
        if (r < 0)
            return r;
        n = receive(client, buffer, sizeof(buffer));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EPIPE;
        r = berth__wire_feed(&client->in, buffer, (size_t)n);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return -EPROTO;
    *ret_frame = strndup(frame, length);
    return *ret_frame ? 0 : -ENOMEM;
}

/* Sends all bytes; the descriptor goes with the first of them. */
static int send_all(struct berth_client *client, const char *bytes, size_t length, int fd,
                    int64_t deadline)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};

    while (length > 0) {
        struct iovec vector = {.iov_base = (char *)bytes, .iov_len = length};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
        int r = wait_for(client, POLLOUT, deadline);
        ssize_t n;

        if (r < 0)
            return r;
        if (fd >= 0) {
            struct cmsghdr *header;

            message.msg_control = control.bytes;
            message.msg_controllen = sizeof(control.bytes);
            header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(header), &fd, sizeof(int));
        }
        n = sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return -errno;
        fd = -1;
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

/* A full queue of connections makes a non-blocking connect fail: it is tried until the deadline. */
static int connect_until(struct berth_client *client, const struct sockaddr_un *address,
                         int64_t deadline)
{
    while (berth__connect(client->fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        const struct timespec pause = {.tv_nsec = 1000000};

        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (berth__clock_ms() >= deadline)
            return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return 0;
}

int berth__client_connect(struct berth_client *client, const char *directory, const char *name,
                          int timeout_ms, char **ret_hello)
{
    int64_t deadline = berth__clock_ms() + timeout_ms;
    struct sockaddr_un address;
    int directory_fd;
    int r = berth__address_make(directory, name, &address, &directory_fd);

    if (r < 0)
        return r;
    berth__wire_init(&client->in);
    client->received = -1;
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = client->fd < 0 ? -errno : connect_until(client, &address, deadline);
    if (directory_fd >= 0)
        close(directory_fd);
    if (r == 0)
        r = read_frame(client, deadline, ret_hello);
    if (r < 0)
        berth__client_close(client);
    return r;
}

void berth__client_close(struct berth_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    if (client->fd >= 0 && client->received >= 0)
        close(client->received);
    client->fd = client->received = -1;
    berth__wire_done(&client->in);
}

int berth__client_request(struct berth_client *client, const char *frame, int fd, int timeout_ms,
                          char **ret_reply)
{
    int64_t deadline = berth__clock_ms() + timeout_ms;
    int r = send_all(client, frame, strlen(frame), fd, deadline);

    if (r == 0)
        r = send_all(client, "\n", 1, -1, deadline);
    if (r == 0)
        r = read_frame(client, deadline, ret_reply);
    return r;
}

int berth__client_request_descriptor(struct berth_client *client, const char *frame, int timeout_ms,
                                     char **ret_reply, int *ret_fd)
{
    int r = berth__client_request(client, frame, -1, timeout_ms, ret_reply);

    if (r < 0)
        return r;
    *ret_fd = client->received;
    client->received = -1;
    return 0;
}
