/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/huge_pool.h"

#include "pmem/sysfs.h"
#include "pmem/window.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#define refuse(error, ...) (snprintf(why, why_size, __VA_ARGS__), (error))

bool berth__huge_pool_is_directory(const char *path)
{
    struct statfs fs;

    return path[0] && statfs(path, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC;
}

int64_t berth__huge_pool_number(uint64_t page, const char *name)
{
    char path[128];
    int64_t number = 0;

    snprintf(path, sizeof(path), "kernel/mm/hugepages/hugepages-%llukB/%s",
             (unsigned long long)page >> 10, name);
    berth__sysfs_number(path, &number);
    return number;
}

int64_t berth__huge_pool_pages(int fd, uint64_t *ret_page, char *why, size_t why_size)
{
    struct statfs fs;
    uint64_t page;
    int64_t pages;

    if (fstatfs(fd, &fs) < 0 || fs.f_bsize < (long)BERTH_OS_PAGE ||
        (fs.f_bsize & (fs.f_bsize - 1)) != 0)
        return refuse(-EIO, "the size of its pages is not known");
    page = (uint64_t)fs.f_bsize;
    pages = berth__huge_pool_number(page, "nr_hugepages") +
            berth__huge_pool_number(page, "nr_overcommit_hugepages");
    if (pages <= 0)
        return refuse(-ENOMEM, "none is reserved (/proc/sys/vm/nr_hugepages)");
    *ret_page = page;
    return pages;
}

int berth__huge_pool_open(char *why, size_t why_size)
{
    int fd = memfd_create("berth-huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING);

    if (fd < 0) {
        fd = -errno;
        return refuse(fd, "the kernel has none: %s", strerrordesc_np(-fd));
    }
    return fd;
}
