/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded before Berth: while the file that REFUSING_WHILE names exists, no file is given space,
 * for the reason (an errno) that REFUSING_WITH says.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    static int (*real)(int, int, off64_t, off64_t);
    const char *file = getenv("REFUSING_WHILE");

    if (file && access(file, F_OK) == 0) {
        errno = atoi(getenv("REFUSING_WITH"));
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fallocate64");
    return real(fd, mode, offset, size);
}
