/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
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

static int open_file(const char *path)
{
    char full[BERTH_SYSFS_PATH_MAX];
    int r = full_path(path, full);
    long fd;

    if (r < 0)
        return r;
    fd = syscall(SYS_openat, AT_FDCWD, full, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}

int berth__sysfs_text(const char *path, char *text, size_t size)
{
    int saved_errno = errno;
    int fd = open_file(path);
    ssize_t n;

    if (fd < 0) {
        errno = saved_errno;
        return fd;
    }
    n = read_whole(fd, text, size - 1);
    syscall(SYS_close, fd);
    errno = saved_errno;
    if (n < 0)
        return (int)n;
    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = '\0';
    return 0;
}

/* Hands over the whole lines of `used` bytes; how many bytes of the next one there are then. */
static size_t take_lines(char *text, size_t used, bool *is_cut,
                         void (*take)(char *line, void *context), void *context)
{
    char *line = text, *end;

    while ((end = memchr(line, '\n', (size_t)(text + used - line)))) {
        *end = '\0';
        if (!*is_cut)
            take(line, context);
        *is_cut = false;
        line = end + 1;
    }
    used = (size_t)(text + used - line);
    memmove(text, line, used);
    return used;
}

int berth__sysfs_lines(const char *path, char *line, size_t size,
                       void (*take)(char *line, void *context), void *context)
{
    int saved_errno = errno;
    int fd = open_file(path);
    bool is_cut = false;
    size_t used = 0;
    ssize_t n = fd;

    while (fd >= 0 && (n = read_whole(fd, line + used, size - 1 - used)) > 0) {
        used = take_lines(line, used + (size_t)n, &is_cut, take, context);
        if (used == size - 1) { /* all of it is one line, and there is more of that */
            is_cut = true;
            used = 0;
        }
    }
    if (n == 0 && used > 0 && !is_cut) {
        line[used] = '\0';
        take(line, context);
    }
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = saved_errno;
    return n < 0 ? (int)n : 0;
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
