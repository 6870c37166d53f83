/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/pin_source.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEXT_SIZE 4096
/* A ring does not tell what is registered while somebody registers or submits. */
#define RING_TRIES_MAX 100

struct search {
    int list, details;  /* the folders fd and fdinfo of the thread */
    const char *number; /* of the descriptor that is looked at */
    uintptr_t start, end;
    bool idle;
    char *why;
    size_t why_size;
};

static int found(const struct search *search, const char *what)
{
    snprintf(search->why, search->why_size, "%s (descriptor %.12s)", what, search->number);
    return 1;
}

/* "    0: 0x7f3338f10000/8192": memory that is registered with a ring. */
static bool line_overlaps(const struct search *search, const char *line)
{
    char *rest;
    unsigned long start, size;

    strtoul(line, &rest, 10);
    if (rest == line || strncmp(rest, ": 0x", 4) != 0)
        return false;
    start = strtoul(rest + 2, &rest, 16);
    size = *rest == '/' ? strtoul(rest + 1, NULL, 10) : 0;
    return start < search->end && search->start < start + size;
}

/* What a ring tells: 1 = part of the range is registered, 0 = none is; -EAGAIN = it does not say.
 */
static int read_ring(const struct search *search, int fd)
{
    bool in_list = false, told = false;
    char text[TEXT_SIZE];
    size_t kept = 0;
    ssize_t n;

    while ((n = read(fd, text + kept, sizeof(text) - 1 - kept)) > 0) {
        char *line = text, *newline;

        text[kept + (size_t)n] = '\0';
        for (; (newline = strchr(line, '\n')); line = newline + 1) {
            *newline = '\0';
            if (!isspace((unsigned char)line[0]))
                in_list = strncmp(line, "UserBufs:", 9) == 0;
            told |= in_list;
            if (in_list && line_overlaps(search, line))
                return 1;
        }
        kept = strlen(line);
        if (kept == sizeof(text) - 1) /* the path of a file, which is of no interest */
            kept = 0;
        memmove(text, line, kept);
    }
    if (n < 0)
        return -errno;
    return told ? 0 : -EAGAIN;
}

static int look_at_ring(const struct search *search)
{
    int r = -EAGAIN;

    if (!search->idle)
        return found(search, "an io_uring is open, whose I/O cannot be seen here");
    for (int i = 0; i < RING_TRIES_MAX && r == -EAGAIN; i++) {
        int fd = openat(search->details, search->number, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            return errno == ENOENT ? 0 : -errno;
        r = read_ring(search, fd);
        close(fd);
    }
    return r == 0 ? 0 : found(search, "an io_uring has them registered");
}

static int look_at_file(const struct search *search)
{
    char text[128];
    const char *flags;
    struct stat file;
    ssize_t n;
    int fd;

    if (search->idle)
        return 0;
    fd = openat(search->details, search->number, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    flags = strstr(text, "flags:");
    if (!flags || !(strtoul(flags + strlen("flags:"), NULL, 8) & O_DIRECT))
        return 0;
    /* Of a named pipe the flag means something else. */
    if (fstatat(search->list, search->number, &file, 0) == 0 && S_ISFIFO(file.st_mode))
        return 0;
    return found(search, "a file is open with O_DIRECT, whose I/O cannot be seen here");
}

static int look_at(struct search *search, const char *number)
{
    char target[32];
    ssize_t n = readlinkat(search->list, number, target, sizeof(target) - 1);

    if (n < 0) /* it was closed meanwhile */
        return 0;
    target[n] = '\0';
    search->number = number;
    if (strcmp(target, "anon_inode:[io_uring]") == 0)
        return look_at_ring(search);
    return target[0] == '/' ? look_at_file(search) : 0;
}

static int look_at_all(struct search *search)
{
    _Alignas(struct dirent64) char list[TEXT_SIZE];
    ssize_t n;
    int r = 0;

    /* Not readdir(), which allocates. */
    while (r == 0 && (n = syscall(SYS_getdents64, search->list, list, sizeof(list))) != 0) {
        if (n < 0)
            return -errno;
        for (ssize_t at = 0; at < n && r == 0;) {
            const struct dirent64 *entry = (const void *)(list + at);

            if (entry->d_name[0] != '.')
                r = look_at(search, entry->d_name);
            at += entry->d_reclen;
        }
    }
    return r;
}

static int open_folder(pid_t thread, const char *name)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)thread, name);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int berth__pin_source_find(pid_t thread, const void *p, size_t size, bool idle, char *why,
                           size_t why_size)
{
    struct search search = {
        .start = (uintptr_t)p,
        .end = (uintptr_t)p + size,
        .idle = idle,
        .why = why,
        .why_size = why_size,
    };
    int saved_errno = errno;
    int r = search.list = open_folder(thread, "fd");

    if (search.list >= 0) {
        r = search.details = open_folder(thread, "fdinfo");
        if (search.details >= 0) {
            r = look_at_all(&search);
            close(search.details);
        }
        close(search.list);
    }
    errno = saved_errno;
    return r;
}
