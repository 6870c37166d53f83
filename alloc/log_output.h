/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where Berth's lines go: the program's stderr, which is its own. It may have no reader any more,
 * or one that waits for the program; it may be a file as large as the program may make it; and
 * behind the descriptor there may be something else by now, data that a line would spoil. A line
 * that cannot be written at once, and without a signal, is lost.
 */
#ifndef BERTH_ALLOC_LOG_OUTPUT_H
#define BERTH_ALLOC_LOG_OUTPUT_H

#include <stddef.h>

/*
 * Takes note of what stderr is. From then on what takes its place, where the program closes it and
 * opens something, is written to only if it is a terminal, or a file to whose end all is written
 * (O_APPEND). Once, before there are threads; later calls do nothing. Keeps errno.
 */
void berth__log_output_remember(void);

/* Writes a line of `size` bytes, whole or not at all as far as the kernel does that. Any thread, in
 * signal handlers, too; no cancellation point. errno may change. */
void berth__log_output(const char *line, size_t size);

#endif
