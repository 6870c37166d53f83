/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_pages.h"

#include <errno.h>
#include <fcntl.h>
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

void berth__file_pages_single(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* returns its error */
}

void berth__file_pages_read_ahead(void *address, size_t size)
{
    int saved_errno = errno;

    /* With this the kernel reads ahead as it would for read(), which knows how the file is opened;
     * what it reads around a fault otherwise, it keeps in large pieces. */
    madvise(address, size, MADV_SEQUENTIAL);
    errno = saved_errno;
}
