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

/*
 * Not by snprintf(), which takes 2 KiB of stack: a tier on tmpfs asks for what the machine has left
 * amid malloc(), which may be called in a signal's handler on a stack of 8 KiB.
 */
static int full_path(const char *path, char full[BERTH_SYSFS_PATH_MAX])
{
    size_t root = strlen(berth__sysfs_root), rest = strlen(path);

    if (root + 1 + rest >= BERTH_SYSFS_PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(full, berth__sysfs_root, root);
    full[root] = '/';
    memcpy(full + root + 1, path, rest + 1);
    return 0;
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

static int open_in(int directory, const char *name, int flags)
{
    long fd = syscall(SYS_openat, directory, name, flags | O_CLOEXEC);

    return fd < 0 ? -errno : (int)fd;
}

static int open_path(const char *path, int flags)
{
    char full[BERTH_SYSFS_PATH_MAX];
    int r = full_path(path, full);

    return r < 0 ? r : open_in(AT_FDCWD, full, flags);
}

/* Reads what `fd` is, or passes on the error that it is, and closes it. */
static int read_text(int fd, char *text, size_t size)
{
    ssize_t n;

    if (fd < 0)
        return fd;
    n = read_whole(fd, text, size - 1);
    syscall(SYS_close, fd);
    if (n < 0)
        return (int)n;
    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = '\0';
    return 0;
}

int berth__sysfs_text(const char *path, char *text, size_t size)
{
    int saved_errno = errno;
    int r = read_text(open_path(path, O_RDONLY), text, size);

    errno = saved_errno;
    return r;
}

int berth__sysfs_text_in(int directory, const char *name, char *text, size_t size)
{
    int saved_errno = errno;
    int r = read_text(open_in(directory, name, O_RDONLY), text, size);

    errno = saved_errno;
    return r;
}

int berth__sysfs_directory(const char *path)
{
    int saved_errno = errno;
    int fd = open_path(path, O_PATH | O_DIRECTORY);

    errno = saved_errno;
    return fd;
}

int berth__sysfs_directory_in(int directory, const char *name)
{
    int saved_errno = errno;
    int fd = open_in(directory, name, O_PATH | O_DIRECTORY);

    errno = saved_errno;
    return fd;
}

void berth__sysfs_close(int directory)
{
    int saved_errno = errno;

    syscall(SYS_close, directory);
    errno = saved_errno;
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
    int fd = open_path(path, O_RDONLY);
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

static int parse_number(const char *text, int64_t *ret)
{
    int saved_errno = errno;
    int64_t number;
    char *end;
    int r;

    errno = 0;
    number = strtoll(text, &end, 0);
    r = errno != 0 || end == text || *end != '\0' ? -EINVAL : 0;
    errno = saved_errno;
    if (r == 0)
        *ret = number;
    return r;
}

int berth__sysfs_number(const char *path, int64_t *ret)
{
    char text[64];
    int r = berth__sysfs_text(path, text, sizeof(text));

    return r < 0 ? r : parse_number(text, ret);
}

int berth__sysfs_number_in(int directory, const char *name, int64_t *ret)
{
    char text[64];
    int r = berth__sysfs_text_in(directory, name, text, sizeof(text));

    return r < 0 ? r : parse_number(text, ret);
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
