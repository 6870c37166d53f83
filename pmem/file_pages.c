/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_pages.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>

void berth__file_pages_in_place(int fd)
{
    int saved_errno = errno;
    struct statfs fs;
    int flags;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC &&
        ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    errno = saved_errno;
}

void berth__file_pages_single(void *address, size_t size)
{
    int saved_errno = errno;

    madvise(address, size, MADV_RANDOM);
    errno = saved_errno;
}
