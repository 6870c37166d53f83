/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are written whole, or not at all. */
#ifndef BERTH_TOOLS_WHOLE_FILE_H
#define BERTH_TOOLS_WHOLE_FILE_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* A file on its way: what is written to `stream` is there once it is closed. */
struct berth_whole_file {
    FILE *stream;
    char *path;
    char *temporary; /* NULL: the bytes go to `path` itself */
};

/* Writes all bytes to a descriptor. 0 or negative errno. */
int berth__whole_file_write(int fd, const void *bytes, size_t size);

/*
 * Makes the file, or puts it in the place of the one that is there: under a name beside `path`
 * first, then renamed, so that whoever reads it meanwhile sees the old bytes or the new ones, and a
 * power failure leaves one of them. 0, or negative errno and nothing is changed.
 */
int berth__whole_file_replace(const char *path, mode_t mode, const void *bytes, size_t size);

/*
 * What a user names as output: replaced whole, with the rights of a new file, where it is a regular
 * one or none, or a link to one; what else it is (a pipe, /dev/null) is written to and stays what
 * it is. 0 or negative errno.
 */
int berth__whole_file_open(struct berth_whole_file *file, const char *path);

/* 0 and the file has all that was written, or negative errno and it is as it was before. */
int berth__whole_file_close(struct berth_whole_file *file);

/* Both at once. */
int berth__whole_file_output(const char *path, const void *bytes, size_t size);

#endif
