/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/doorbell.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int berth__doorbell_open(struct berth_doorbell *bell)
{
    const struct sockaddr unnamed = {.sa_family = AF_UNIX};
    int r;

    memset(&bell->address, 0, sizeof(bell->address));
    bell->length = sizeof(bell->address);
    bell->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bell->fd < 0)
        return -errno;
    /* Without a name the kernel chooses one (unix(7), "Autobind"). */
    if (bind(bell->fd, &unnamed, sizeof(unnamed.sa_family)) == 0 &&
        getsockname(bell->fd, (struct sockaddr *)&bell->address, &bell->length) == 0)
        return 0;
    r = -errno;
    berth__doorbell_close(bell);
    return r;
}

void berth__doorbell_close(struct berth_doorbell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

void berth__doorbell_hear(const struct berth_doorbell *bell)
{
    char byte;

    while (recv(bell->fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0)
        ;
}

int berth__doorbell_ring(const struct berth_doorbell *bell)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = 0;

    if (fd < 0)
        return -errno;
    if (sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&bell->address,
               bell->length) < 0)
        r = -errno;
    close(fd);
    return r;
}
