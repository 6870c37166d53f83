/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reads debug information for the tool: a library of its own, libberth-lines.so, as libdw and
 * what that is linked to take longer to load than most commands to run. source_line.c loads it when
 * the first line is wanted.
 */
#ifndef BERTH_TOOLS_LINE_READER_H
#define BERTH_TOOLS_LINE_READER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BERTH_LINE_READER_SYMBOL "berth_line_reader"

struct berth_lines;

/* The calls of source_line.h by these names; `lines` is what `open` gave. */
struct berth_line_reader {
    size_t size; /* of this structure: a library of another version has another one */
    struct berth_lines *(*open)(pid_t pid);
    void (*close)(struct berth_lines *lines);
    char *(*line)(struct berth_lines *lines, const char *path, uint64_t build, uint64_t address);
    char *(*function)(struct berth_lines *lines, const char *path, uint64_t build,
                      uint64_t address);
    json_t *(*inlined)(struct berth_lines *lines, const char *path, uint64_t build,
                       uint64_t address);
};

extern const struct berth_line_reader berth_line_reader;

#endif
