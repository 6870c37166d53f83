/* SPDX-License-Identifier: Apache-2.0 */
/* The call log: one line per call, appended to the file that BERTH_FAKE_LOG
 * names. Only what is the same in each run is written, so that tests can
 * compare two logs: pointers appear as the number of their allocation. */
#ifndef BERTH_FAKE_LOG_H
#define BERTH_FAKE_LOG_H

#include <stdbool.h>
#include <stdint.h>

bool log_is_open(void);
void log_line(const char *name, const char *arguments, int result, const char *note);
/* "m7+256": the seventh allocation plus an offset; "host" for memory that the
 * driver does not know. One of a few per-thread buffers, overwritten in turn. */
const char *log_pointer(uint64_t address);

#endif
