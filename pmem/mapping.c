/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/mapping.h"

#include "pmem/move_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* One mapping of many, by address (Linux 6.11; struct procmap_query of include/uapi/linux/fs.h). */
struct mapping_query {
    uint64_t size, flags, address;
    uint64_t start, end, mapping_flags, page_size, offset, inode;
    uint32_t device_major, device_minor, name_size, build_id_size;
    uint64_t name, build_id;
};
#define QUERY_MAPPING _IOWR('f', 17, struct mapping_query)
#define MAPPING_READABLE 0x01
#define MAPPING_WRITABLE 0x02
#define MAPPING_EXECUTABLE 0x04
#define MAPPING_SHARED 0x08
#define MAPPING_ALL (MAPPING_READABLE | MAPPING_WRITABLE | MAPPING_EXECUTABLE | MAPPING_SHARED)

/* What is read of /proc/self/maps at a time: many lines. */
#define TEXT_SIZE ((size_t)64 << 10)

/* What is looked for, and how far it was found. */
struct search {
    uintptr_t next, end; /* from here on it is not known */
    unsigned wanted;     /* flags */
    bool whole;          /* all of it must be one mapping */
};

/* 0; -EINVAL; -ENOTTY: this kernel has no such call. */
static int search_by_query(int fd, struct search *search)
{
    if (berth__move_fault(BERTH_CALL_QUERY) < 0)
        return -ENOTTY;
    while (search->next < search->end) {
        struct mapping_query query = {.size = sizeof(query), .address = search->next};

        if (ioctl(fd, QUERY_MAPPING, &query) < 0)
            return errno == ENOENT ? -EINVAL : -errno;
        if (search->whole && query.end < search->end)
            return -EINVAL;
        if ((query.mapping_flags & MAPPING_ALL) != search->wanted)
            return -EINVAL;
        search->next = query.end;
    }
    return 0;
}

static uintptr_t read_hex(const char **text)
{
    uintptr_t value = 0;

    for (;; ++*text) {
        char c = **text;

        if (c >= '0' && c <= '9')
            value = value << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return value;
    }
}

/* One line of /proc/self/maps: "start-end rwxs ...". 0 or -EINVAL. */
static int search_line(const char *line, struct search *search)
{
    uintptr_t start = read_hex(&line);
    uintptr_t end;
    unsigned flags;

    if (*line++ != '-')
        return -EINVAL;
    end = read_hex(&line);
    if (*line++ != ' ' || end <= search->next || search->next >= search->end)
        return 0;
    flags = (line[0] == 'r' ? MAPPING_READABLE : 0) | (line[1] == 'w' ? MAPPING_WRITABLE : 0) |
            (line[2] == 'x' ? MAPPING_EXECUTABLE : 0) | (line[3] == 's' ? MAPPING_SHARED : 0);
    if (search->whole && end < search->end)
        return -EINVAL;
    if (start > search->next || flags != search->wanted)
        return -EINVAL;
    search->next = end;
    return 0;
}

static int search_text(int fd, char *text, struct search *search)
{
    size_t kept = 0;
    int r = 0;

    while (r == 0 && search->next < search->end) {
        ssize_t n = read(fd, text + kept, TEXT_SIZE - 1 - kept);
        char *line = text;
        char *newline;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EINVAL;
        text[kept + (size_t)n] = '\0';
        for (; r == 0 && (newline = strchr(line, '\n')); line = newline + 1)
            r = search_line(line, search);
        kept = strlen(line);
        memmove(text, line, kept);
    }
    return r;
}

static int search_by_text(int fd, struct search *search)
{
    char *text = mmap(NULL, TEXT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r;

    if (text == MAP_FAILED)
        return -errno;
    r = search_text(fd, text, search);
    munmap(text, TEXT_SIZE);
    return r;
}

/* Asks nothing of the kernel but whether part of the range is locked (msync(2), EBUSY). */
static int check_locked(const void *address, size_t size)
{
    if (msync((void *)address, size, MS_ASYNC | MS_INVALIDATE) == 0)
        return 0;
    if (errno == EBUSY)
        return -EPERM;
    return errno == ENOMEM ? -EINVAL : -errno;
}

/* For malloc() too, which is no cancellation point as open(), read() and close() are. */
static int look(struct search *search)
{
    int cancel_state, fd, r;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    r = fd < 0 ? -errno : search_by_query(fd, search);
    if (r == -ENOTTY)
        r = search_by_text(fd, search);
    if (fd >= 0)
        close(fd);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}

int berth__mapping_check_whole(const void *address, size_t size)
{
    struct search search = {
        .next = (uintptr_t)address,
        .end = (uintptr_t)address + size,
        .wanted = MAPPING_READABLE | MAPPING_WRITABLE | MAPPING_SHARED,
        .whole = true,
    };
    int saved_errno = errno;
    int r = look(&search);

    errno = saved_errno;
    return r;
}

int berth__mapping_check(const void *address, size_t size, bool is_shared)
{
    struct search search = {
        .next = (uintptr_t)address,
        .end = (uintptr_t)address + size,
        .wanted = MAPPING_READABLE | MAPPING_WRITABLE | (is_shared ? MAPPING_SHARED : 0),
    };
    int r = berth__move_fault(BERTH_CALL_LOOK);

    if (r == 0)
        r = look(&search);
    /* Last, because a lock is the quickest to come. */
    return r < 0 ? r : check_locked(address, size);
}
