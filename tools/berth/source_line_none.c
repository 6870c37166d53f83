/* SPDX-License-Identifier: Apache-2.0 */
/* Built without libdw: no line is known. */
#include "tools/berth/source_line.h"

#include <stddef.h>

struct berth_source_lines *berth__source_lines_open(pid_t pid)
{
    (void)pid;
    return NULL;
}

void berth__source_lines_close(struct berth_source_lines *lines)
{
    (void)lines;
}

char *berth__source_line(struct berth_source_lines *lines, const char *path, uint64_t build,
                         uint64_t address)
{
    (void)lines;
    (void)path;
    (void)build;
    (void)address;
    return NULL;
}

char *berth__source_function(struct berth_source_lines *lines, const char *path, uint64_t build,
                             uint64_t address)
{
    return berth__source_line(lines, path, build, address);
}

json_t *berth__source_inlined(struct berth_source_lines *lines, const char *path, uint64_t build,
                              uint64_t address)
{
    (void)lines;
    (void)path;
    (void)build;
    (void)address;
    return json_array();
}
