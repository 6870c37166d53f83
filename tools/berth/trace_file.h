/* SPDX-License-Identifier: Apache-2.0 */
/* Files of traces: a recording as a process leaves it (alloc/trace_record.h), or text (CSV). */
#ifndef BERTH_TOOLS_TRACE_FILE_H
#define BERTH_TOOLS_TRACE_FILE_H

#include "tools/berth/trace_csv.h"

/* Whether these are the first bytes of a recording. */
bool berth__trace_is_recording(const void *bytes, size_t size);

/*
 * Reads a recording, whole or cut short anywhere, into a fresh log, matched. 0, or -EINVAL with
 * "name: what is wrong; what was expected" in `why`; the log is then to be freed all the same.
 */
int berth__trace_recording_parse(const char *name, const void *bytes, size_t size,
                                 struct berth_trace_log *log, uint64_t *ret_started_real_ns,
                                 char why[BERTH_TRACE_WHY_MAX]);

/* Reads a file that must be a recording, called `name`. 0 or -EINVAL with the reason in `why`. */
int berth__trace_file_read_recording(const char *name, const char *path,
                                     struct berth_trace_log *log, uint64_t *ret_started_real_ns,
                                     char why[BERTH_TRACE_WHY_MAX]);

/* Reads a file of either form. 0, or BERTH_EXIT_FAILURE after one line. */
int berth__trace_file_read(const char *path, struct berth_trace_log *log);

/* Room for the path of any descriptor. */
#define BERTH_TRACE_HELD_MAX 32

/*
 * What can be read only once, a pipe, is copied into memory. In `ret_path` the path to read it by,
 * also for children, or an empty text: the file can be read as often as wanted by its own. 0, or
 * BERTH_EXIT_FAILURE after one line.
 */
int berth__trace_file_hold(const char *path, char ret_path[BERTH_TRACE_HELD_MAX]);

/* As berth__trace_file_read(), of what is called `name`. */
int berth__trace_file_read_as(const char *name, const char *path, struct berth_trace_log *log);

#endif
