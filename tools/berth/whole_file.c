/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/whole_file.h"

#include "tools/berth/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel's */

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

/* What a link names, seen from where the link is; NULL where `path` is none. */
static char *link_target(const char *path)
{
    const char *slash = strrchr(path, '/');
    char target[PATH_MAX];
    ssize_t length = readlink(path, target, sizeof(target) - 1);

    if (length < 0)
        return NULL;
    target[length] = 0;
    return berth__tool_format("%.*s%s", target[0] != '/' && slash ? (int)(slash - path + 1) : 0,
                              path, target);
}

/*
 * The path without links, so that the file is replaced and not a link to it, also where there is
 * no file yet. NULL where links lead in a circle.
 */
static char *without_links(const char *path)
{
    char *at = berth__tool_strdup(path);

    for (unsigned links = 0; links < LINKS_MAX; links++) {
        char *real = realpath(at, NULL);
        char *next = real ? NULL : link_target(at);

        if (!real && !next)
            return at;
        free(at);
        if (real)
            return real;
        at = next;
    }
    free(at);
    return NULL;
}

int berth__whole_file_open(struct berth_whole_file *file, const char *path)
{
    struct stat st;
    int fd, r;

    *file = (struct berth_whole_file){.path = without_links(path)};
    if (!file->path)
        return -ELOOP;
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
