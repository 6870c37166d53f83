/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

/* What <linux/magic.h> does not know. */
#define ZFS_MAGIC 0x2fc12fc1
#define BCACHEFS_MAGIC 0xca451a4e

/* btrfs asks for space before it looks whether the page is one of those that stay. */
#define BTRFS_MAJOR 6
#define BTRFS_MINOR 16

static bool is_since(int major, int minor)
{
    int found_major = 0, found_minor = 0;
    struct utsname name;

    return uname(&name) == 0 && sscanf(name.release, "%d.%d", &found_major, &found_minor) == 2 &&
           (found_major > major || (found_major == major && found_minor >= minor));
}

static bool set_in_place(int fd)
{
    int flags;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return false;
    flags |= FS_NOCOW_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

bool berth__file_pages_in_place(int fd)
{
    int saved_errno = errno;
    struct statfs fs;
    bool stays = true;

    if (fstatfs(fd, &fs) < 0)
        fs.f_type = 0;
    switch ((unsigned long)fs.f_type) {
    case BTRFS_SUPER_MAGIC:
        stays = set_in_place(fd) && is_since(BTRFS_MAJOR, BTRFS_MINOR);
        break;
    case OVERLAYFS_SUPER_MAGIC: /* what lies under it does not show */
        (void)set_in_place(fd);
        break;
    case ZFS_MAGIC:
    case BCACHEFS_MAGIC:
    case NILFS_SUPER_MAGIC:
        stays = false;
        break;
    default:
        break;
    }
    errno = saved_errno;
    return stays;
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
