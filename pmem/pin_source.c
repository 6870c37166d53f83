/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/pin_source.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEXT_SIZE 4096
/* A ring does not tell what is registered while somebody registers or submits. */
#define RING_TRIES_MAX 100

struct search {
    pid_t thread;
    int list, details;  /* the folders fd and fdinfo of the thread */
    const char *number; /* of the descriptor that is looked at */
    uintptr_t start, end;
    enum berth_pins pins;
    char *why;
    size_t why_size;
};

static int found(const struct search *search, const char *what)
{
    snprintf(search->why, search->why_size, "%s (descriptor %.12s)", what, search->number);
    return 1;
}

/* The lines of a file of /proc, one after the other. */
struct lines {
    int fd;
    size_t start, end; /* of what is read and not told yet */
    bool skips;        /* the rest of a line that is longer than the text */
    int error;
    char text[TEXT_SIZE];
};

/* The next one, valid until the next call: of a very long one the beginning. NULL at the end. */
static char *next_line(struct lines *lines)
{
    for (;;) {
        char *line = lines->text + lines->start;
        char *newline = memchr(line, '\n', lines->end - lines->start);
        bool skips = lines->skips;
        ssize_t n;

        if (newline) {
            *newline = '\0';
            lines->start = (size_t)(newline + 1 - lines->text);
            lines->skips = false;
            if (skips)
                continue;
            return line;
        }
        memmove(lines->text, line, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
        if (lines->end == sizeof(lines->text) - 1) {
            lines->text[lines->end] = '\0';
            lines->end = 0;
            lines->skips = true;
            if (skips)
                continue;
            return lines->text;
        }
        n = read(lines->fd, lines->text + lines->end, sizeof(lines->text) - 1 - lines->end);
        if (n <= 0) {
            lines->error = n < 0 ? -errno : 0;
            return NULL;
        }
        lines->end += (size_t)n;
    }
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
    struct lines lines = {.fd = fd};
    bool in_list = false, told = false;
    const char *line;

    while ((line = next_line(&lines))) {
        if (!isspace((unsigned char)line[0]))
            in_list = strncmp(line, "UserBufs:", 9) == 0;
        told |= in_list;
        if (in_list && line_overlaps(search, line))
            return 1;
    }
    return lines.error < 0 || told ? lines.error : -EAGAIN;
}

static int look_at_ring(const struct search *search)
{
    int r = -EAGAIN;

    if (search->pins == BERTH_PINS_UNSEEN)
        return 0;
    if (search->pins == BERTH_PINS_ALL)
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

/* The number behind `name` in what is told of a descriptor, or -1. */
static long number_of(const char *text, const char *name, int base)
{
    const char *at = strstr(text, name);

    return at ? strtol(at + strlen(name), NULL, base) : -1;
}

/* Whether the mount is of no device: "ID PARENT MAJOR:MINOR ..." with major 0. Or negative errno.
 */
static int is_without_device(long mount)
{
    struct lines lines = {.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)};
    int without = 1; /* one that was unmounted meanwhile, or is another namespace's */
    char *line;

    if (lines.fd < 0)
        return -errno;
    while ((line = next_line(&lines)))
        if (strtol(line, &line, 10) == mount) {
            strtol(line, &line, 10);
            without = strtol(line, NULL, 10) == 0;
        }
    close(lines.fd);
    return lines.error < 0 ? lines.error : without;
}

static int look_at_file(const struct search *search)
{
    char text[256];
    long flags;
    ssize_t n;
    int fd, r;

    if (search->pins == BERTH_PINS_REGISTERED)
        return 0;
    fd = openat(search->details, search->number, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    flags = number_of(text, "flags:", 8);
    if (flags < 0 || !(flags & O_DIRECT))
        return 0;
    if (search->pins == BERTH_PINS_UNSEEN) {
        r = is_without_device(number_of(text, "mnt_id:", 10));
        if (r <= 0)
            return r;
    }
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

/* Calls `look` with each name of the folder, until it answers something else than 0. */
static int for_each_name(int folder, int (*look)(struct search *search, const char *name),
                         struct search *search)
{
    _Alignas(struct dirent64) char list[TEXT_SIZE];
    ssize_t n;
    int r = 0;

    /* Not readdir(), which allocates. */
    while (r == 0 && (n = syscall(SYS_getdents64, folder, list, sizeof(list))) != 0) {
        if (n < 0)
            return errno == ENOENT || errno == ESRCH ? 0 : -errno; /* of a thread that has ended */
        for (ssize_t at = 0; at < n && r == 0;) {
            const struct dirent64 *entry = (const void *)(list + at);

            if (entry->d_name[0] != '.')
                r = look(search, entry->d_name);
            at += entry->d_reclen;
        }
    }
    return r;
}

static int open_folder(const char *thread, const char *name)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%.12s/%s", thread, name);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The descriptors of one thread. */
static int look_at_thread(struct search *search, const char *thread)
{
    int r = search->list = open_folder(thread, "fd");

    if (search->list < 0)
        return r;
    r = search->details = open_folder(thread, "fdinfo");
    if (search->details >= 0) {
        r = for_each_name(search->list, look_at, search);
        close(search->details);
    }
    close(search->list);
    return r;
}

/* Those of a thread that has a table of its own (unshare(CLONE_FILES)). */
static int look_at_other_thread(struct search *search, const char *thread)
{
    long number = strtol(thread, NULL, 10);
    int r;

    /* Where the kernel, or a filter, does not compare them, they are looked at. */
    if (number == search->thread ||
        syscall(SYS_kcmp, number, search->thread, KCMP_FILES, 0, 0) == 0)
        return 0;
    r = look_at_thread(search, thread);
    return r == -ENOENT || r == -ESRCH ? 0 : r;
}

static int look_at_other_threads(struct search *search)
{
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (folder < 0)
        return -errno;
    r = for_each_name(folder, look_at_other_thread, search);
    close(folder);
    return r;
}

int berth__pin_source_find(pid_t thread, const void *p, size_t size, enum berth_pins pins,
                           char *why, size_t why_size)
{
    struct search search = {
        .thread = thread,
        .start = (uintptr_t)p,
        .end = (uintptr_t)p + size,
        .pins = pins,
        .why = why,
        .why_size = why_size,
    };
    int saved_errno = errno;
    char number[16];
    int r;

    snprintf(number, sizeof(number), "%d", (int)thread);
    r = look_at_thread(&search, number);
    if (r == 0)
        r = look_at_other_threads(&search);
    errno = saved_errno;
    return r;
}

static bool ends_with(const char *line, size_t length, const char *end)
{
    size_t size = strlen(end);

    return length >= size && memcmp(line + length - size, end, size) == 0;
}

int berth__pin_source_find_mapped(const char **ret_what)
{
    int saved_errno = errno;
    struct lines lines = {.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)};
    const char *what = NULL;
    const char *line;

    if (lines.fd < 0) {
        lines.error = -errno;
    } else {
        while (!what && (line = next_line(&lines))) {
            size_t length = strlen(line);

            if (ends_with(line, length, "/[aio] (deleted)"))
                what = "io_setup() was called, whose I/O cannot be seen here";
            else if (ends_with(line, length, "anon_inode:[io_uring]"))
                what = "an io_uring is mapped, whose I/O cannot be seen here";
        }
        close(lines.fd);
    }
    errno = saved_errno;
    if (what)
        *ret_what = what;
    return what ? 1 : lines.error;
}
