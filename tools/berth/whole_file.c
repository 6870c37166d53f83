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

/* A file with a name beside the path. */
static int open_temporary(struct berth_whole_file *file)
{
    mode_t mask = umask(0);
    int fd;

    umask(mask);
    file->temporary = berth__tool_format("%s.XXXXXX", file->path);
    fd = mkostemp(file->temporary, O_CLOEXEC);
    if (fd >= 0 && fchmod(fd, 0666 & ~mask) == 0)
        return fd;
    if (fd >= 0) {
        int error = errno;

        close(fd);
        unlink(file->temporary);
        errno = error;
    }
    return -1;
}

int berth__whole_file_open(struct berth_whole_file *file, const char *path)
{
    /* Without the links, so that the file is replaced and not the link to it. */
    char *real = realpath(path, NULL);
    struct stat st;
    int fd, r;

    *file = (struct berth_whole_file){.path = berth__tool_strdup(real ? real : path)};
    free(real);
    /* By the name that was given: a pipe's own name under /proc leads nowhere. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    else
        fd = open_temporary(file);
    file->stream = fd < 0 ? NULL : fdopen(fd, "w");
    if (file->stream)
        return 0;
    r = -errno;
    free(file->temporary);
    free(file->path);
    return r;
}

int berth__whole_file_close(struct berth_whole_file *file)
{
    int r = fflush(file->stream) != 0 || ferror(file->stream) ? -(errno ? errno : EIO) : 0;

    if (r == 0 && file->temporary && fsync(fileno(file->stream)) < 0)
        r = -errno;
    if (fclose(file->stream) != 0 && r == 0)
        r = -errno;
    if (r == 0 && file->temporary && rename(file->temporary, file->path) < 0)
        r = -errno;
    if (r < 0 && file->temporary)
        unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    return r;
}

int berth__whole_file_output(const char *path, const void *bytes, size_t size)
{
    struct berth_whole_file file;
    int r = berth__whole_file_open(&file, path);

    if (r < 0)
        return r;
    fwrite(bytes, 1, size, file.stream);
    return berth__whole_file_close(&file);
}
