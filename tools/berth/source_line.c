/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/source_line.h"

#include "tools/berth/library.h"
#include "tools/berth/line_reader.h"
#include "tools/berth/tool.h"

#include <dlfcn.h>
#include <stdlib.h>

struct berth_source_lines {
    pid_t pid;
    const struct berth_line_reader *reader; /* NULL: none is loaded */
    struct berth_lines *lines;
    int looked;
};

struct berth_source_lines *berth__source_lines_open(pid_t pid)
{
    struct berth_source_lines *lines = berth__tool_realloc(NULL, sizeof(*lines));

    *lines = (struct berth_source_lines){.pid = pid};
    return lines;
}

void berth__source_lines_close(struct berth_source_lines *lines)
{
    if (lines && lines->reader)
        lines->reader->close(lines->lines);
    free(lines);
}

/* NULL where the tool was built without; what is there and cannot be loaded is told of. */
static const struct berth_line_reader *load_reader(void)
{
    const struct berth_line_reader *reader;
    char path[PATH_MAX];
    void *library;

    if (berth__library_find(BERTH_LIBRARY_LINES, path) < 0)
        return NULL;
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        berth__tool_fail("source lines are not shown: %s", dlerror());
        return NULL;
    }
    reader = dlsym(library, BERTH_LINE_READER_SYMBOL);
    if (reader && reader->size == sizeof(*reader))
        return reader;
    berth__tool_fail("source lines are not shown: %s is of another version", path);
    return NULL;
}

/* Whether there is a reader: the first that asks loads it. */
static int can_read(struct berth_source_lines *lines)
{
    if (!lines)
        return 0;
    if (!lines->looked) {
        lines->looked = 1;
        lines->reader = load_reader();
        if (lines->reader)
            lines->lines = lines->reader->open(lines->pid);
    }
    return lines->reader != NULL;
}

char *berth__source_line(struct berth_source_lines *lines, const char *path, uint64_t build,
                         uint64_t address)
{
    return can_read(lines) ? lines->reader->line(lines->lines, path, build, address) : NULL;
}

char *berth__source_function(struct berth_source_lines *lines, const char *path, uint64_t build,
                             uint64_t address)
{
    return can_read(lines) ? lines->reader->function(lines->lines, path, build, address) : NULL;
}

json_t *berth__source_inlined(struct berth_source_lines *lines, const char *path, uint64_t build,
                              uint64_t address)
{
    return can_read(lines) ? lines->reader->inlined(lines->lines, path, build, address)
                           : json_array();
}
