/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder, read without readdir(): that allocates, which the socket's thread does not
 * (ipc/buffer.h), nor who moves blocks.
 */
#ifndef BERTH_ALLOC_FOLDER_H
#define BERTH_ALLOC_FOLDER_H

#include <stdbool.h>

/*
 * Calls `look` with each name in the folder that `fd` is open on, hidden ones left out, until it
 * answers false.
 */
void berth__folder_read(int fd, bool (*look)(void *context, const char *name), void *context);

#endif
