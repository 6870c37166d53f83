/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/memory_limit.h"

#include "pmem/sysfs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const char *berth__memory_limit_groups = "../proc/self/cgroup";

#define LIMIT_FILES 2

/*
 * The two kinds of groups, and what their files are called. Beyond `memory.high` a group is slowed
 * down until it can hardly run: to the process that is a limit as well.
 */
static const struct group_kind {
    const char *controller, *root, *limits[LIMIT_FILES], *usage, *cached[2];
} kinds[] = {
    {"",
     "fs/cgroup",
     {"memory.max", "memory.high"},
     "memory.current",
     {"\ninactive_file ", "\nactive_file "}},
    {"memory",
     "fs/cgroup/memory",
     {"memory.limit_in_bytes", NULL},
     "memory.usage_in_bytes",
     {"\ntotal_inactive_file ", "\ntotal_active_file "}},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

/* Version 1 has a number where there is no limit. */
#define NO_LIMIT (INT64_MAX >> 1)

/*
 * What is read lies beside the stack, which may be the smallest that a thread can have. The kernel
 * writes a group's path into a page (PATH_MAX), or fails.
 */
struct room {
    char line[3 << 11];
    char stat[1 << 13];
    uint64_t least;
};

/*
 * Half of what the group's files have in memory. Its shared memory (tmpfs) is not on these lists:
 * only swap would take it.
 */
static uint64_t read_cached(const struct group_kind *kind, int group, struct room *room)
{
    uint64_t bytes = 0;

    room->stat[0] = '\n';
    if (berth__sysfs_text_in(group, "memory.stat", room->stat + 1, sizeof(room->stat) - 1) < 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(room->stat, kind->cached[i]);

        if (at)
            bytes += strtoull(at + strlen(kind->cached[i]), NULL, 10);
    }
    return bytes / 2;
}

/* Less than all that it has left now, where one group has a limit, and it is to be seen. */
static void look_at(const struct group_kind *kind, int group, struct room *room)
{
    int64_t limit = NO_LIMIT, usage;
    uint64_t left;

    for (int i = 0; i < LIMIT_FILES; i++) {
        int64_t number;

        if (kind->limits[i] && berth__sysfs_number_in(group, kind->limits[i], &number) == 0 &&
            number >= 0 && number < limit)
            limit = number;
    }
    if (limit == NO_LIMIT || berth__sysfs_number_in(group, kind->usage, &usage) < 0 || usage < 0)
        return;
    left = usage < limit ? (uint64_t)(limit - usage) : 0;
    if (left < room->least)
        left += read_cached(kind, group, room);
    if (left < room->least)
        room->least = left;
}

/*
 * The groups from the root down to the process's own. In a container those between may not be seen,
 * but its own root is.
 */
static void look_down(const struct group_kind *kind, char *path, struct room *room)
{
    int group = berth__sysfs_directory(kind->root);

    while (group >= 0) {
        size_t length;
        int above = group;
        bool more;

        look_at(kind, group, room);
        path += strspn(path, "/");
        length = strcspn(path, "/");
        more = path[length] == '/';
        path[length] = '\0';
        group = length > 0 ? berth__sysfs_directory_in(above, path) : -1;
        berth__sysfs_close(above);
        path += length + more;
    }
}

/* The kind of "ID:CONTROLLER,CONTROLLER:PATH", or NULL for one without a limit of memory. */
static const struct group_kind *kind_of(const char *controllers, size_t length)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        size_t size = strlen(kinds[i].controller);
        const char *at = controllers;

        if (size == 0) {
            if (length == 0)
                return &kinds[i];
            continue;
        }
        while (at < controllers + length) {
            size_t n = strcspn(at, ",:");

            if (n == size && memcmp(at, kinds[i].controller, n) == 0)
                return &kinds[i];
            at += n + 1;
        }
    }
    return NULL;
}

/* A process has a line for each hierarchy of groups, in no order: the first version has a dozen. */
static void take_line(char *line, void *context)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    const struct group_kind *kind;

    if (!path)
        return;
    kind = kind_of(controllers + 1, (size_t)(path - controllers - 1));
    if (kind)
        look_down(kind, path + 1, context);
}

uint64_t berth__memory_limit_left(void)
{
    int saved_errno = errno;
    struct room *room =
        mmap(NULL, sizeof(*room), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t least = UINT64_MAX;

    if (room != MAP_FAILED) {
        room->least = UINT64_MAX;
        (void)berth__sysfs_lines(berth__memory_limit_groups, room->line, sizeof(room->line),
                                 take_line, room);
        least = room->least;
        munmap(room, sizeof(*room));
    }
    errno = saved_errno;
    return least;
}
