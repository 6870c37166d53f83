/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/folder.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_SIZE 4096

void berth__folder_read(int fd, bool (*look)(void *context, const char *name), void *context)
{
    _Alignas(struct dirent64) char list[LIST_SIZE];
    ssize_t n;

    while ((n = syscall(SYS_getdents64, fd, list, sizeof(list))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *entry = (const void *)(list + at);

            if (entry->d_name[0] != '.' && !look(context, entry->d_name))
                return;
            at += entry->d_reclen;
        }
    }
}
