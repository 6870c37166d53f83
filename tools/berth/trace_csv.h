/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces as text: comma-separated values with a header line, in RMM's columns and further ones of
 * Berth's own.
 *
 *     Thread,Time,Action,Pointer,Size,Stream,Tag,Site,Device,Kind
 *
 * Columns are found by their names in any order and any case; only Action, Pointer and Size must be
 * there, and unknown ones are passed over. Time is in seconds or HH:MM:SS; `time_us` and `time_ns`
 * are in these units. An action is allocate, free or deallocate, or "allocate failure".
 */
#ifndef BERTH_TOOLS_TRACE_CSV_H
#define BERTH_TOOLS_TRACE_CSV_H

#include "tools/berth/trace_log.h"

#include <stddef.h>
#include <stdio.h>

/* Room for any reason. */
#define BERTH_TRACE_WHY_MAX 512

/*
 * Reads the text of a file into a fresh log, matched. 0, or -EINVAL with "name:line: what is wrong;
 * what was expected" in `why`; the log is then to be freed all the same.
 */
int berth__trace_csv_parse(const char *name, const char *text, size_t length,
                           struct berth_trace_log *log, char why[BERTH_TRACE_WHY_MAX]);

/* A longer line is no line of a trace. */
#define BERTH_TRACE_LINE_MAX ((size_t)1 << 20)

/*
 * Whether a text that goes on behind its first BERTH_TRACE_LINE_MAX bytes, which are here, begins
 * with a header line. 0, or -EINVAL with the reason in `why`.
 */
int berth__trace_csv_check_header(const char *name, const char *text, size_t length,
                                  char why[BERTH_TRACE_WHY_MAX]);

/* Writes a log. Whether it got out is for the caller to ask the stream. */
void berth__trace_csv_write(const struct berth_trace_log *log, uint64_t started_real_ns, FILE *out);

#endif
