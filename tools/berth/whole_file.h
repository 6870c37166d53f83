/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are written whole, or not at all. */
#ifndef BERTH_TOOLS_WHOLE_FILE_H
#define BERTH_TOOLS_WHOLE_FILE_H

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

#endif
