/* SPDX-License-Identifier: Apache-2.0 */
#include "mapping.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line of /proc/self/smaps that begins a mapping; the others tell a number of it. */
static bool read_head(char *line, struct mapping *ret)
{
    uintptr_t start, end;
    uint64_t offset;
    char access[8];
    int path = 0;

    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %" SCNx64 " %*s %*s %n", &start, &end, access,
               &offset, &path) < 4 ||
        path == 0)
        return false;
    line[strcspn(line, "\n")] = '\0';
    ret->start = start;
    ret->end = end;
    ret->offset = offset;
    ret->shared = access[3] == 's';
    ret->huge_kib = 0;
    snprintf(ret->path, sizeof(ret->path), "%s", line + path);
    return true;
}

static void add_huge(const char *line, struct mapping *ret)
{
    static const char *const names[] = {"AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
                                        "Shared_Hugetlb:", "Private_Hugetlb:"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(line, names[i], strlen(names[i])) == 0)
            ret->huge_kib += strtoull(line + strlen(names[i]), NULL, 10);
}

int mapping_find(const void *p, struct mapping *ret)
{
    static const char flags[] = "VmFlags:";
    FILE *maps = fopen("/proc/self/smaps", "re");
    struct mapping mapping = {0};
    bool found = false;
    char *line = NULL;
    size_t room = 0;

    while (maps && getline(&line, &room, maps) > 0) {
        if (strncmp(line, flags, sizeof(flags) - 1) == 0 && mapping.start <= (uintptr_t)p &&
            (uintptr_t)p < mapping.end) {
            snprintf(mapping.flags, sizeof(mapping.flags), "%s", line + sizeof(flags) - 1);
            found = true;
            break;
        }
        if (!read_head(line, &mapping))
            add_huge(line, &mapping);
    }
    free(line);
    if (maps)
        fclose(maps);
    if (!found)
        return -ENOENT;
    *ret = mapping;
    return 0;
}

bool mapping_has_flag(const struct mapping *mapping, const char *flag)
{
    for (const char *at = mapping->flags; (at = strstr(at, flag)); at++)
        if (at > mapping->flags && at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n'))
            return true;
    return false;
}

int mapping_policy(const void *p, char *ret, unsigned ret_size)
{
    FILE *maps = fopen("/proc/self/numa_maps", "re");
    struct mapping mapping;
    uintptr_t start;
    char policy[64];
    char *line = NULL;
    size_t room = 0;
    int r = mapping_find(p, &mapping);

    /* A mapping that has one policy begins there and nowhere else. */
    while (r == 0 && maps && getline(&line, &room, maps) > 0) {
        if (sscanf(line, "%" SCNxPTR " %63s", &start, policy) != 2 || start != mapping.start)
            continue;
        snprintf(ret, ret_size, "%s", policy);
        break;
    }
    if (r == 0 && (!maps || feof(maps)))
        r = -ENOENT;
    free(line);
    if (maps)
        fclose(maps);
    return r;
}

uint64_t mapping_offset(const struct mapping *mapping, const void *p)
{
    return mapping->offset + ((uintptr_t)p - mapping->start);
}
