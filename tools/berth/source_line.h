/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source lines of a process's code, from the debug information of the files that it has loaded.
 *
 * A file counts only if it still is what the process loaded: its build id must be the same; the
 * program itself is read through /proc, and is it by itself. What reads is loaded when the first
 * line is wanted (line_reader.h); built without libdw, there is none, and no line is known.
 */
#ifndef BERTH_TOOLS_SOURCE_LINE_H
#define BERTH_TOOLS_SOURCE_LINE_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

struct berth_source_lines;

/* For the process. Nothing is loaded yet. */
struct berth_source_lines *berth__source_lines_open(pid_t pid);
void berth__source_lines_close(struct berth_source_lines *lines);

/*
 * The line of the call that returns to `address`, as the file counts addresses, in the module of
 * this path ("" is the program itself). `build` is the hash of its build id, 0 where it has none.
 * "file.c:42", which the caller frees; NULL where it is not known. `lines` may be NULL.
 */
char *berth__source_line(struct berth_source_lines *lines, const char *path, uint64_t build,
                         uint64_t address);

/*
 * The function of that call, in its language, by the symbols of a debug file that lies apart: for a
 * module that the process has without them. The caller frees it; NULL where it is not known.
 */
char *berth__source_function(struct berth_source_lines *lines, const char *path, uint64_t build,
                             uint64_t address);

/*
 * The functions that a compiler has put into the one of `address` around that call, innermost
 * first: an array of objects with "name" and "at", where that was called ("file.c:42"), each null
 * where it is not known. Empty where there are none, or nothing is known; NULL without memory.
 */
json_t *berth__source_inlined(struct berth_source_lines *lines, const char *path, uint64_t build,
                              uint64_t address);

#endif
