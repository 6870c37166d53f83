/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are written whole, or not at all. */
#ifndef BERTH_TOOLS_WHOLE_FILE_H
#define BERTH_TOOLS_WHOLE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Writes all bytes to a descriptor. 0 or negative errno. */
int berth__whole_file_write(int fd, const void *bytes, size_t size);

/*
 * Makes the file, or puts it in the place of the one that is there: under a name beside `path`
 * first, then renamed, so that whoever reads it meanwhile sees the old bytes or the new ones, and a
 * power failure leaves one of them. 0, or negative errno and nothing is changed.
 */
int berth__whole_file_replace(const char *path, mode_t mode, const void *bytes, size_t size);

/*
 * What somebody named as output: replaced as above, with the mode that any new file gets; what is
 * no regular file (a pipe, /dev/null) is written to, because replacing it would take it away from
 * everybody. 0 or negative errno.
 */
int berth__whole_file_output(const char *path, const void *bytes, size_t size);

/* The two decisions in that, for who writes the bytes in another way. */
bool berth__whole_file_is_special(const char *path);
mode_t berth__whole_file_mode(void);

#endif
