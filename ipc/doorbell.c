/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/doorbell.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One of the kinds that the kernel keeps once however often it is sent, so that no limit of queued
 * signals (RLIMIT_SIGPENDING) has a say; and harmless where it should come through after all. */
#define BELL_SIGNAL SIGURG

int berth__doorbell_open(struct berth_doorbell *bell)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, BELL_SIGNAL);
    bell->thread = 0;
    bell->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (bell->fd < 0)
        return -errno;
    bell->thread = gettid();
    return 0;
}

void berth__doorbell_close(struct berth_doorbell *bell)
{
    bell->thread = 0;
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

int berth__doorbell_ring(const struct berth_doorbell *bell)
{
    pid_t thread = bell->thread;

    if (thread == 0)
        return -ENOENT;
    return syscall(SYS_tgkill, getpid(), thread, BELL_SIGNAL) < 0 ? -errno : 0;
}
