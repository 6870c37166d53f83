/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled tables as files: where `berth run` keeps them for the program that it starts. */
#ifndef BERTH_TOOLS_TABLE_FILE_H
#define BERTH_TOOLS_TABLE_FILE_H

#include <stddef.h>

/*
 * Keeps a table in the runtime directory under a name made of its contents, so that the same policy
 * is kept once and a file in use never changes. 0 and the path, to be freed, which is NULL, after
 * one line, where there is no such directory; BERTH_EXIT_RUN_REFUSED after one line.
 */
int berth__table_file_keep(const void *bytes, size_t size, char **ret_path);

/* Reads a whole file, quietly: 0, or negative errno and nothing is changed. */
int berth__table_file_read(const char *path, void **ret_bytes, size_t *ret_size);

/* A sealed memory file with these bytes, or -1 after one line. */
int berth__table_file_seal(const void *bytes, size_t size);

#endif
