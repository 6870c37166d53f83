/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/memory_limit.h"

#include "pmem/sysfs.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *berth__memory_limit_groups = "../proc/self/cgroup";

/* The two kinds of groups, and what their files are called. */
static const struct group_kind {
    const char *controller, *root, *limit, *usage, *stat;
} kinds[] = {
    {"", "fs/cgroup", "memory.max", "memory.current", "\nfile "},
    {"memory", "fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "\ntotal_cache "},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

/* Version 1 has a number where there is no limit. */
#define NO_LIMIT (INT64_MAX >> 1)

/* Small: threads with the smallest stack come here. What is asked for stands at the beginning. */
#define LINE_SIZE 512
#define STAT_MAX 1024
#define PATH_SIZE 384

/* Half of what the group's files have in memory. */
static uint64_t read_cached(const struct group_kind *kind, const char *group)
{
    char path[PATH_SIZE + 64], text[STAT_MAX];
    const char *line;

    snprintf(path, sizeof(path), "%s%s/memory.stat", kind->root, group);
    text[0] = '\n';
    if (berth__sysfs_text(path, text + 1, sizeof(text) - 1) < 0)
        return 0;
    line = strstr(text, kind->stat);
    return line ? strtoull(line + strlen(kind->stat), NULL, 10) / 2 : 0;
}

/* What one group has left; UINT64_MAX where it has no limit, or is not to be seen. */
static uint64_t left_in(const struct group_kind *kind, const char *group)
{
    char path[PATH_SIZE + 64];
    int64_t limit, usage;
    uint64_t free_bytes;

    snprintf(path, sizeof(path), "%s%s/%s", kind->root, group, kind->limit);
    if (berth__sysfs_number(path, &limit) < 0 || limit < 0 || limit >= NO_LIMIT)
        return UINT64_MAX;
    snprintf(path, sizeof(path), "%s%s/%s", kind->root, group, kind->usage);
    if (berth__sysfs_number(path, &usage) < 0 || usage < 0)
        return UINT64_MAX;
    free_bytes = usage < limit ? (uint64_t)(limit - usage) : 0;
    return free_bytes + read_cached(kind, group);
}

/* The group and those above it; in a container they may not be seen, but its own root is. */
static uint64_t left_above(const struct group_kind *kind, char *group)
{
    uint64_t least = UINT64_MAX;

    for (;;) {
        uint64_t left = left_in(kind, group);
        char *slash = strrchr(group, '/');

        if (left < least)
            least = left;
        if (!slash)
            return least;
        *slash = '\0';
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

static uint64_t left_by_line(const char *line)
{
    const char *controllers = strchr(line, ':');
    const char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    const struct group_kind *kind;
    char group[PATH_SIZE];

    if (!path)
        return UINT64_MAX;
    kind = kind_of(controllers + 1, (size_t)(path - controllers - 1));
    if (!kind || snprintf(group, sizeof(group), "%s", path + 1) >= (int)sizeof(group))
        return UINT64_MAX;
    if (strcmp(group, "/") == 0)
        group[0] = '\0';
    return left_above(kind, group);
}

/* A process has a line for each hierarchy of groups, in no order: the first version has a dozen. */
static void take_line(char *line, void *context)
{
    uint64_t *least = context;
    uint64_t left = left_by_line(line);

    if (left < *least)
        *least = left;
}

uint64_t berth__memory_limit_left(void)
{
    char line[LINE_SIZE];
    uint64_t least = UINT64_MAX;

    (void)berth__sysfs_lines(berth__memory_limit_groups, line, sizeof(line), take_line, &least);
    return least;
}
