/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/whole_file.h"

#include "tools/berth/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int berth__whole_file_write(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = write(fd, at, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

int berth__whole_file_replace(const char *path, mode_t mode, const void *bytes, size_t size)
{
    char *temporary = berth__tool_format("%s.XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    int r = fd < 0 ? -errno : berth__whole_file_write(fd, bytes, size);

    if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
        r = -errno;
    if (fd >= 0 && close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0 && fd >= 0)
        unlink(temporary);
    free(temporary);
    return r;
}

bool berth__whole_file_is_special(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

mode_t berth__whole_file_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return 0666 & ~mask;
}

int berth__whole_file_output(const char *path, const void *bytes, size_t size)
{
    int fd, r;

    if (!berth__whole_file_is_special(path))
        return berth__whole_file_replace(path, berth__whole_file_mode(), bytes, size);
    fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    r = berth__whole_file_write(fd, bytes, size);
    if (close(fd) < 0 && r == 0)
        r = -errno;
    return r;
}
