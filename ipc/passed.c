/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/passed.h"

#include "alloc/file_call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* More descriptors than this in one message are closed by the kernel, and the message is marked. */
#define RECEIVED_MAX 4

static void refuse(struct berth_passed *passed, const char *why)
{
    berth__passed_close(passed);
    passed->state = BERTH_PASSED_BAD;
    snprintf(passed->why, sizeof(passed->why), "%s", why);
}

static void take(struct berth_passed *passed, const int *fds, size_t count)
{
    if (count == 1 && passed->state == BERTH_PASSED_NONE) {
        passed->state = BERTH_PASSED_UNREAD;
        passed->fd = fds[0];
        snprintf(passed->path, sizeof(passed->path), "/proc/self/task/%d/fd/%d", (int)gettid(),
                 fds[0]);
        return;
    }
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    refuse(passed,
           "several descriptors were sent; expected one with a policy.apply or trace.start");
}

ssize_t berth__passed_receive(int fd, void *buffer, size_t size, struct berth_passed *passed)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(RECEIVED_MAX * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        int fds[RECEIVED_MAX];
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || count > RECEIVED_MAX)
            continue;
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
        take(passed, fds, count);
    }
    if (message.msg_flags & MSG_CTRUNC)
        refuse(
            passed,
            "a descriptor could not be received; expected one with a policy.apply or trace.start");
    return n;
}

void berth__passed_read(struct berth_passed *passed)
{
    const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int seals = fcntl(passed->fd, F_GET_SEALS);
    struct stat st;
    void *bytes;

    if (seals < 0) {
        refuse(passed, "the descriptor is not a memory file; expected a sealed memfd");
        return;
    }
    if ((seals & needed) != needed) {
        refuse(passed, "the memory file is not sealed; expected F_SEAL_SHRINK, F_SEAL_GROW and "
                       "F_SEAL_WRITE");
        return;
    }
    if (berth__fstat(passed->fd, &st) < 0 || st.st_size <= 0) {
        refuse(passed, "the memory file is empty; expected a compiled table");
        return;
    }
    if ((uint64_t)st.st_size > BERTH_SERVER_PASSED_MAX) {
        refuse(passed, "the memory file is larger than 16 MiB, the most there can be");
        return;
    }
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, passed->fd, 0);
    if (bytes == MAP_FAILED) {
        refuse(passed, "the memory file cannot be mapped; expected one that is readable");
        return;
    }
    passed->state = BERTH_PASSED_READ;
    passed->bytes = bytes;
    passed->size = (size_t)st.st_size;
}

void berth__passed_close(struct berth_passed *passed)
{
    if (passed->state == BERTH_PASSED_UNREAD || passed->state == BERTH_PASSED_READ)
        close(passed->fd);
    if (passed->state == BERTH_PASSED_READ)
        munmap((void *)passed->bytes, passed->size);
    memset(passed, 0, sizeof(*passed));
}
