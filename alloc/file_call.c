/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/file_call.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the kernel writes is what the C library shows, on machines of 64 bits. */
_Static_assert(sizeof(long) == 8, "struct stat is the kernel's");

static int stat_at(int at, const char *path, struct stat *ret, int flags)
{
    return (int)syscall(SYS_newfstatat, at, path, ret, flags);
}

int berth__fstat(int fd, struct stat *ret)
{
    return stat_at(fd, "", ret, AT_EMPTY_PATH);
}

int berth__stat(const char *path, struct stat *ret)
{
    return stat_at(AT_FDCWD, path, ret, 0);
}

int berth__lstat(const char *path, struct stat *ret)
{
    return stat_at(AT_FDCWD, path, ret, AT_SYMLINK_NOFOLLOW);
}

int berth__chmod(const char *path, mode_t mode)
{
    return (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

int berth__fchmod(int fd, mode_t mode)
{
    return (int)syscall(SYS_fchmod, fd, mode);
}

int berth__mkdir(const char *path, mode_t mode)
{
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int berth__unlink(const char *path)
{
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int berth__rename(const char *from, const char *to)
{
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

uid_t berth__geteuid(void)
{
    return (uid_t)syscall(SYS_geteuid);
}

int berth__bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return (int)syscall(SYS_bind, fd, address, size);
}

int berth__connect(int fd, const struct sockaddr *address, socklen_t size)
{
    return (int)syscall(SYS_connect, fd, address, size);
}
