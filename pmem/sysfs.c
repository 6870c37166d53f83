/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *berth__sysfs_root = "/sys";

static int full_path(const char *path, char full[BERTH_SYSFS_PATH_MAX])
{
    int n = snprintf(full, BERTH_SYSFS_PATH_MAX, "%s/%s", berth__sysfs_root, path);

    return n < 0 || n >= BERTH_SYSFS_PATH_MAX ? -ENAMETOOLONG : 0;
}

static ssize_t read_whole(int fd, char *text, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t n = syscall(SYS_read, fd, text + used, size - used);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

int berth__sysfs_text(const char *path, char *text, size_t size)
{
    char full[BERTH_SYSFS_PATH_MAX];
    int saved_errno = errno;
    ssize_t n;
    long fd;
    int r = full_path(path, full);

    if (r < 0)
        return r;
    fd = syscall(SYS_openat, AT_FDCWD, full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        r = -errno;
        errno = saved_errno;
        return r;
    }
    n = read_whole((int)fd, text, size - 1);
    syscall(SYS_close, (int)fd);
    errno = saved_errno;
    if (n < 0)
        return (int)n;
    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = '\0';
    return 0;
}

int berth__sysfs_number(const char *path, int64_t *ret)
{
    char text[64];
    char *end;
    int64_t number;
    int saved_errno = errno;
    int r = berth__sysfs_text(path, text, sizeof(text));

    if (r < 0)
        return r;
    errno = 0;
    number = strtoll(text, &end, 0);
    r = errno != 0 || end == text || *end != '\0' ? -EINVAL : 0;
    errno = saved_errno;
    if (r == 0)
        *ret = number;
    return r;
}

int berth__sysfs_link(const char *path, char *text, size_t size)
{
    char full[BERTH_SYSFS_PATH_MAX];
    char target[BERTH_SYSFS_PATH_MAX];
    const char *last;
    int saved_errno = errno;
    ssize_t n;
    int r = full_path(path, full);

    if (r < 0)
        return r;
    n = readlink(full, target, sizeof(target) - 1);
    r = n < 0 ? -errno : 0;
    errno = saved_errno;
    if (r < 0)
        return r;
    target[n] = '\0';
    last = strrchr(target, '/');
    snprintf(text, size, "%s", last ? last + 1 : target);
    return 0;
}
