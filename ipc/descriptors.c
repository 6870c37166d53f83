/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/descriptors.h"

#include "alloc/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

static bool close_other(void *context, const char *name)
{
    const int *list = context;
    int fd = atoi(name);

    if (fd != *list)
        close(fd);
    return true;
}

/* Before Linux 5.9 there is no call that leaves the table and empties the copy in one go. */
static int leave_by_hand(void)
{
    int list;

    if (unshare(CLONE_FILES) < 0)
        return -errno;
    list = open("/proc/thread-self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list < 0)
        return -errno;
    berth__folder_read(list, close_other, &list);
    close(list);
    return 0;
}

int berth__descriptors_leave(char *why, size_t why_size)
{
    int r = 0;

    if (syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE) < 0)
        r = leave_by_hand();
    if (r < 0) {
        snprintf(why, why_size, "a thread cannot have its own descriptors here: %s", strerror(-r));
        return r;
    }
    /* What is written to 0, 1 and 2 by mistake must not reach a client: these take no bytes. */
    for (int fd = 0; fd <= 2; fd++) {
        if (open("/", O_PATH | O_CLOEXEC) < 0) {
            r = -errno;
            snprintf(why, why_size, "/: %s", strerror(-r));
            return r;
        }
    }
    return 0;
}

bool berth__descriptors_program_ended(pid_t pid, int own_threads)
{
    char path[64], text[1024];
    const char *rest;
    char state = '?';
    int threads = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    rest = strrchr(text, ')');
    /* Fields 3 (state) and 20 (threads; the ended first one is still counted). */
    if (!rest ||
        sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d",
               &state, &threads) != 2)
        return false;
    return state == 'Z' && threads == own_threads + 1;
}
