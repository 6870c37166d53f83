/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_lock.h"

#include "alloc/file_call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* /proc/locks is read in such pieces, whose lines are looked at one by one. */
#define PIECE 1024

/* The process of "1: FLOCK  ADVISORY  WRITE 123 00:06:42 0 EOF", if it is of this file; else 0. */
static int holder_in(const char *line, const char *file)
{
    const char *kind = strstr(line, "FLOCK");
    int pid = 0;
    char where[64];

    if (!kind || sscanf(kind, "FLOCK %*s %*s %d %63s", &pid, where) != 2)
        return 0;
    return strcmp(where, file) == 0 ? pid : 0;
}

/* Looks through all locks of the system; 0 where the kernel does not tell. */
static int find_holder(const char *file)
{
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC);
    char text[PIECE + 1];
    size_t used = 0;
    int pid = 0;
    long n;

    while (fd >= 0 && pid == 0 && (n = syscall(SYS_read, (int)fd, text + used, PIECE - used)) > 0) {
        char *line = text, *end;

        used += (size_t)n;
        text[used] = '\0';
        while (pid == 0 && (end = strchr(line, '\n'))) {
            *end = '\0';
            pid = holder_in(line, file);
            line = end + 1;
        }
        used -= (size_t)(line - text);
        memmove(text, line, used);
        if (used == PIECE)
            used = 0;
    }
    if (fd >= 0)
        syscall(SYS_close, (int)fd);
    return pid;
}

static int say_holder(int fd, char *why, size_t why_size)
{
    struct stat st;
    char file[64];
    int pid = 0;

    if (berth__fstat(fd, &st) == 0) {
        snprintf(file, sizeof(file), "%02x:%02x:%llu", major(st.st_dev), minor(st.st_dev),
                 (unsigned long long)st.st_ino);
        pid = find_holder(file);
    }
    if (pid > 0 && pid == getpid())
        snprintf(why, why_size, "another tier of this process uses it");
    else if (pid > 0)
        snprintf(why, why_size, "process %d uses it", pid);
    else
        snprintf(why, why_size, "another process uses it");
    return -EBUSY;
}

static int lock(int fd, char *why, size_t why_size)
{
    struct flock stores = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    int r;

    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return say_holder(fd, why, why_size);
        r = -errno;
        snprintf(why, why_size, "it cannot be locked: %s", strerrordesc_np(-r));
        return r;
    }
    if (fcntl(fd, F_OFD_SETLK, &stores) == 0 || (errno != EAGAIN && errno != EACCES))
        return 0;
    flock(fd, LOCK_UN);
    snprintf(why, why_size, "a process has it open as a persistent store");
    return -EBUSY;
}

int berth__file_lock(int fd, char *why, size_t why_size)
{
    int saved_errno = errno;
    int r = lock(fd, why, why_size);

    errno = saved_errno;
    return r;
}

void berth__file_unlock(int fd)
{
    struct flock stores = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 2};
    int saved_errno = errno;

    fcntl(fd, F_OFD_SETLK, &stores);
    flock(fd, LOCK_UN);
    errno = saved_errno;
}
