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
/* Also the next one, where none is at the address. */
#define QUERY_OR_NEXT 0x10

/* What is read of /proc/self/maps at a time: many lines. */
#define TEXT_SIZE ((size_t)64 << 10)

/* Whom to tell of which mappings. */
struct visit {
    uintptr_t next, end; /* from here on nothing was told yet */
    unsigned wanted;     /* flags that they must have */
    berth_mapping_fn see;
    void *context;
};

/* 0; what was answered; -ENOTTY: this kernel has no such call. */
static int visit_by_query(int fd, struct visit *visit)
{
    if (berth__move_fault(BERTH_CALL_QUERY) < 0)
        return -ENOTTY;
    while (visit->next < visit->end) {
        struct mapping_query query = {
            .size = sizeof(query), .flags = QUERY_OR_NEXT | visit->wanted, .address = visit->next};
        struct berth_mapping mapping;
        int r;

        if (ioctl(fd, QUERY_MAPPING, &query) < 0)
            return errno == ENOENT ? 0 : -errno;
        if (query.start >= visit->end)
            break;
        mapping = (struct berth_mapping){query.start, query.end,
                                         (unsigned)query.mapping_flags & BERTH_MAPPING_ALL};
        r = visit->see(visit->context, &mapping);
        if (r != 0)
            return r;
        visit->next = query.end;
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

/* One line of /proc/self/maps: "start-end rwxs ...". 0, or what was answered. */
static int visit_line(const char *line, struct visit *visit)
{
    struct berth_mapping mapping = {.start = read_hex(&line)};

    if (*line++ != '-')
        return -EINVAL;
    mapping.end = read_hex(&line);
    if (*line++ != ' ' || mapping.end <= visit->next || mapping.start >= visit->end)
        return 0;
    mapping.flags = (line[0] == 'r' ? BERTH_MAPPING_READABLE : 0) |
                    (line[1] == 'w' ? BERTH_MAPPING_WRITABLE : 0) |
                    (line[2] == 'x' ? BERTH_MAPPING_EXECUTABLE : 0) |
                    (line[3] == 's' ? BERTH_MAPPING_SHARED : 0);
    visit->next = mapping.end;
    if ((mapping.flags & visit->wanted) != visit->wanted)
        return 0;
    return visit->see(visit->context, &mapping);
}

static int visit_text(int fd, char *text, struct visit *visit)
{
    size_t kept = 0;
    int r = 0;

    while (r == 0 && visit->next < visit->end) {
        ssize_t n = read(fd, text + kept, TEXT_SIZE - 1 - kept);
        char *line = text;
        char *newline;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        text[kept + (size_t)n] = '\0';
        for (; r == 0 && (newline = strchr(line, '\n')); line = newline + 1)
            r = visit_line(line, visit);
        kept = strlen(line);
        memmove(text, line, kept);
    }
    return r;
}

static int visit_by_text(int fd, struct visit *visit)
{
    char *text = mmap(NULL, TEXT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r;

    if (text == MAP_FAILED)
        return -errno;
    r = visit_text(fd, text, visit);
    munmap(text, TEXT_SIZE);
    return r;
}

/* For malloc() too, which is no cancellation point as open(), read() and close() are. */
static int visit_all(struct visit *visit)
{
    int cancel_state, fd, r;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    r = fd < 0 ? -errno : visit_by_query(fd, visit);
    if (r == -ENOTTY)
        r = visit_by_text(fd, visit);
    if (fd >= 0)
        close(fd);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}

int berth__mapping_each(uintptr_t start, uintptr_t end, unsigned wanted, berth_mapping_fn see,
                        void *context)
{
    struct visit visit = {start, end, wanted, see, context};
    int saved_errno = errno;
    int r = visit_all(&visit);

    errno = saved_errno;
    return r;
}

/* What is looked for, and how far it was found. */
struct search {
    uintptr_t next, end; /* from here on it is not known */
    unsigned wanted;     /* flags */
    bool whole;          /* all of it must be one mapping */
};

static int compare(void *context, const struct berth_mapping *mapping)
{
    struct search *search = context;

    if (mapping->start > search->next || mapping->flags != search->wanted ||
        (search->whole && mapping->end < search->end))
        return -EINVAL;
    search->next = mapping->end;
    return 0;
}

static int look(struct search *search)
{
    int r = berth__mapping_each(search->next, search->end, 0, compare, search);

    return r == 0 && search->next < search->end ? -EINVAL : r;
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

int berth__mapping_check_whole(const void *address, size_t size)
{
    struct search search = {
        .next = (uintptr_t)address,
        .end = (uintptr_t)address + size,
        .wanted = BERTH_MAPPING_READABLE | BERTH_MAPPING_WRITABLE | BERTH_MAPPING_SHARED,
        .whole = true,
    };

    return look(&search);
}

int berth__mapping_check(const void *address, size_t size, bool is_shared)
{
    struct search search = {
        .next = (uintptr_t)address,
        .end = (uintptr_t)address + size,
        .wanted = BERTH_MAPPING_READABLE | BERTH_MAPPING_WRITABLE |
                  (is_shared ? BERTH_MAPPING_SHARED : 0),
    };
    int r = berth__move_fault(BERTH_CALL_LOOK);

    if (r == 0)
        r = look(&search);
    /* Last, because a lock is the quickest to come. */
    return r < 0 ? r : check_locked(address, size);
}
